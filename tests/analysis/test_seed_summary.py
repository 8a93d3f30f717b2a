"""Figures of runs with different seeds, and their report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infogan_fast.analysis.seed_summary import figures, progress_line, report, summary


def evaluation(**codes: Any) -> dict[str, Any]:
    return {"codes": codes, "disentanglement": None}


def sweep(slant: float | None, thickness: float) -> dict[str, Any]:
    return {"slant": {"mean": slant}, "thickness": {"mean": thickness}}


def test_figures_match_codes_and_measures_one_to_one() -> None:
    found = figures(
        evaluation(
            c1={"kind": "categorical", "L": 2.2, "accuracy": 0.9, "nmi": 0.8},
            c2={"kind": "uniform", "L": 0.5, "sweeps": sweep(0.9, 0.8)},
            c3={"kind": "uniform", "L": 0.4, "sweeps": sweep(0.85, 0.3)},
        )
    )
    # c2 is better in both, and is assigned to thickness, for which c3 is no substitute.
    assert found == {
        "c1 L_I": 2.2,
        "c1 accuracy": 0.9,
        "c1 nmi": 0.8,
        "c2 L_I": 0.5,
        "c3 L_I": 0.4,
        "moves slant": 0.85,
        "moves thickness": 0.8,
    }


def test_figures_of_known_factors() -> None:
    factors = [{"rotation": {"rho": a}, "width": {"rho": b}} for a, b in ((0.1, -0.9), (-0.7, 0.2))]
    scores = ("mig", "sap", "dci_disentanglement", "factor_vae", "beta_vae")
    found = figures(
        {
            "codes": {
                "c1": {"kind": "uniform", "L": 0.1, "sweeps": sweep(None, 0.5), "factors": factors[0]},
                "c2": {"kind": "uniform", "L": 0.2, "sweeps": sweep(None, 0.1), "factors": factors[1]},
            },
            "disentanglement": {name: i / 10 for i, name in enumerate(scores)},
        }
    )
    assert found["reads rotation"] == 0.7
    assert found["reads width"] == 0.9
    assert found["moves thickness"] == 0.5
    assert found["moves slant"] == 0
    assert [found[name] for name in scores] == [0, 0.1, 0.2, 0.3, 0.4]


def test_figures_of_images_and_of_missing_scores() -> None:
    measured = {"coverage": {"value": 0.8}, "fid": {"value": 3.0}, "kid": {"value": 0.1}}
    scores = dict.fromkeys(("mig", "sap", "dci_disentanglement", "factor_vae"), 0.5) | {"beta_vae": None}
    colour = {"warmth": {"mean": 0.9}, "saturation": {"mean": 1.0}, "brightness": {"mean": 0.2}}
    found = figures(
        {
            "codes": {"c1": {"kind": "uniform", "L": 0.1, "sweeps": colour}},
            "disentanglement": scores,
            "quality": {"made": measured, "share_read": {"mean": 0.7}},
        }
    )
    assert "beta_vae" not in found and found["mig"] == 0.5
    assert (found["coverage"], found["fid"], found["share read"]) == (0.8, 3.0, 0.7)
    assert found["moves warmth"] == 0.9 and "moves saturation" not in found


def test_summary() -> None:
    rows = [{"figures": {"x": x}} for x in (0.2, 0.4, 0.9)]
    assert summary(rows) == {
        "x": {"mean": pytest.approx(0.5), "deviation": pytest.approx(0.13**0.5), "min": 0.2, "max": 0.9}
    }
    assert summary(rows[:1])["x"]["deviation"] == 0
    assert summary([]) == {}


def test_alarms_and_failures_are_reported() -> None:
    row = {"seed": 3, "run": "seed-3", "seconds": 60.0, "alarms": ["code-ignored c2"], "figures": {"x": 1.0}}
    rows = [row, {"seed": 4, "failed": "training diverged"}]
    text = report({"seeds": rows, "summary": summary([row]), "selected": None}, Path())
    assert "seed 3 ended with alarms: code-ignored c2" in text
    assert "seed 4 FAILED: training diverged" in text
    assert "none selected: agreement needs at least 3 finished runs" in text
    many = [{**row, "seed": s, "agreement": s / 100} for s in range(30)]
    wide = report({"seeds": many, "summary": summary(many), "selected": 29}, Path())
    assert max(map(len, wide.splitlines())) < 110


def test_progress_of_a_seed() -> None:
    row = {"seed": 3, "seconds": 90.0, "figures": {"c1 L_I": 2.25, **{f"x{i}": 0.5 for i in range(9)}}}
    line = progress_line(row, Path("out"))
    assert line.startswith("seed 3    c1 L_I 2.250, x0 0.500, ")
    assert line.endswith("x4 0.500; 1.5 minutes")
    failed = progress_line({"seed": 12, "failed": "training diverged"}, Path("out"))
    assert failed == f"seed 12   FAILED: training diverged; see {Path('out') / 'seed-12.log'}"
