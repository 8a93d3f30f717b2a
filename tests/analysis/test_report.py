"""The text of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infogan_fast.analysis.report import aligned, number, ranged, report


def result_of(codes: Mapping[str, Any]) -> dict[str, Any]:
    data = {"source": "x", "images": 2, "held_out": True, "why_not": None}
    about = {"run": "r", "updates": 1, "generator": "last weights", "data": data}
    return {**about, "codes": codes, "disentanglement": None, "quality": None}


def test_report_of_undefined_values_and_many_labels() -> None:
    sweep = {
        "mean": None,
        "agreeing": 0,
        "categories": 2,
        "rho": [None, None],
        "chance": 0.1,
        "interval": None,
    }
    scores = ("L", "accuracy", "nmi", "ari")
    unsure = {"chance": dict.fromkeys(scores, 0.1), "intervals": {**dict.fromkeys(scores), "nmi": [0.4, 0.6]}}
    labels = [f"label{i}" for i in range(30)]
    table = [[3, 1, *[0] * 28], [0] * 30]
    text = report(
        result_of(
            {
                "c1": {
                    "kind": "categorical",
                    **dict.fromkeys(("L", "H", "accuracy", "nmi", "ari"), 0.5),
                    **unsure,
                    "labels": labels,
                    "table": table,
                    "assignment": ["label0", None],
                },
                "c2": {
                    "kind": "uniform",
                    "L": 0.1,
                    "H": 0.69,
                    "sweeps": {"slant": sweep},
                    "moves": None,
                    **unsure,
                },
                "c3": {"kind": "bernoulli", "L": 0.1, "H": 0.69, **unsure},
            }
        )
    )
    assert "  0: label0 (0.75)" in text
    assert "label29" not in text
    assert "slant - (0/2)" in text
    assert "0.500±0.100" in text
    assert "c1 by chance" in text


def test_the_reach_of_an_interval_that_ends_at_a_bound() -> None:
    assert ranged(1.0, [0.986, 1.0]) == "1.000±0.014"
    assert ranged(0.5, [0.4, 0.6]) == "0.500±0.100"


def test_columns_are_aligned() -> None:
    assert aligned([["", "L_I"], ["c10", number(None)], ["c2", number(0.5)]]) == [
        "         L_I",
        "  c10      -",
        "  c2   0.500",
    ]
