"""Each alarm on rows that raise it and on rows that do not, and what training prints and records of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from networks.narrow import narrow

from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.networks.statistics import calibrated
from infogan_fast.pictures import samples
from infogan_fast.train import main as train_main
from infogan_fast.training import alarms
from infogan_fast.training.alarms import ALARMS, GRACE, HELD, AlarmMonitor, explained
from infogan_fast.training.step import TrainingStep

SPEC = LatentSpec.parse("noise=4,cat=10,uniform=1,normal=1,bernoulli=1")

#: Of a run that goes well.
GOOD: dict[str, Any] = {"d_real": 0.4, "d_fake": 0.4, "g": 1.5, "diversity": 0.9}
for _code, _entropy in ((code.name, code.entropy) for code in SPEC.codes):
    GOOD |= {f"L_{_code}": 0.5 * _entropy, f"H_{_code}": _entropy}
for _code in ("c2", "c3"):
    GOOD |= {f"mse_{_code}": 0.1, f"logvar_{_code}": -2.0}


def judged(rows: list[dict[str, Any]], every: int = 50, first: int = 0) -> list[list[str]]:
    """The alarms of rows that are ``every`` updates apart."""
    monitor = AlarmMonitor(SPEC)
    monitor.step = first
    steps = range(first + every, first + every * (len(rows) + 1), every)
    return [monitor({"step": step, **row})[0] for step, row in zip(steps, rows, strict=True)]


CASES = [
    ("code-ignored c1", {"L_c1": 0.11}, {"L_c1": 0.12}),
    ("code-ignored c1", {"L_c1": -0.5}, {"L_c1": 2.3}),
    ("code-ignored c2", {"mse_c2": 0.33}, {"mse_c2": 0.31}),
    ("code-ignored c3", {"mse_c3": 1.0}, {"mse_c3": 0.9}),
    ("code-ignored c4", {"L_c4": 0.02}, {"L_c4": 0.04}),
    ("sigma-collapsed c2", {"logvar_c2": -9.5}, {"logvar_c2": -8.0}),
    ("sigma-collapsed c3", {"logvar_c3": -10.0}, {"logvar_c3": 10.0}),
    ("d-won", {"d_real": 0.04, "d_fake": 0.05}, {"d_real": 0.06, "d_fake": 0.05}),
    ("d-won", {"g": 8.5}, {"g": 7.5}),
]


@pytest.mark.parametrize(("name", "bad", "fair"), CASES, ids=lambda value: str(value))
def test_what_holds_long_enough_raises(name: str, bad: dict[str, Any], fair: dict[str, Any]) -> None:
    after = [[] if i * 50 < HELD else [name] for i in range(1, 9)]
    assert judged([GOOD | bad] * 8, first=GRACE) == after
    assert judged([GOOD | fair] * 8, first=GRACE) == [[]] * 8
    # After a good row it starts again.
    assert judged([GOOD | bad] * 4 + [GOOD] + [GOOD | bad] * 3, first=GRACE) == [[]] * 8
    # It ends when it no longer holds.
    assert judged([GOOD | bad] * 8 + [GOOD], first=GRACE) == [*after, []]


def test_codes_are_not_judged_in_the_grace_period() -> None:
    found = judged([GOOD | {"L_c1": 0.0, "g": 9.0}] * 17)
    assert next(row for row in found if "d-won" in row) == ["d-won"]
    first = next(i for i, row in enumerate(found) if "code-ignored c1" in row)
    assert (first + 1) * 50 == GRACE + HELD


def test_a_row_speaks_of_all_updates_since_the_one_before() -> None:
    assert judged([GOOD | {"g": 9.0}], every=1000) == [["d-won"]]


def test_without_a_learned_sigma_none_collapses() -> None:
    row = {k: v for k, v in GOOD.items() if not k.startswith("logvar")}
    assert judged([row] * 9, first=GRACE) == [[]] * 9


def test_diversity_counts_from_one_look_to_the_next() -> None:
    unseen = {k: v for k, v in GOOD.items() if k != "diversity"}
    rows = [unseen | {"diversity": 0.2}, unseen, GOOD, unseen]
    assert judged(rows, first=GRACE) == [["g-collapsed"], ["g-collapsed"], [], []]
    assert judged(rows, first=0) == [[]] * 4
    assert judged([unseen | {"diversity": 0.3}] * 3, first=GRACE) == [[]] * 3


def test_an_alarm_is_new_once() -> None:
    monitor = AlarmMonitor(SPEC)
    bad, news = GOOD | {"g": 9.0}, []
    for step in range(250, 2000, 250):
        news += monitor({"step": step, **(GOOD if step == 1000 else bad)})[1]
    assert news == ["d-won"]


def test_every_alarm_is_explained() -> None:
    assert {name.split()[0] for name, *_ in CASES} | {"g-collapsed", "diverged"} == set(ALARMS)
    for name in ALARMS:
        wanted = f"{ALARMS[name].meaning}; try {ALARMS[name].remedy}"
        assert explained(f"{name} c2") == explained(name) == wanted


def test_diversity_tells_a_generator_that_repeats_itself() -> None:
    spec = LatentSpec.parse("noise=4,cat=3")
    generator = calibrated(InfoGAN(spec, 16, 1).generator, spec, batches=2)
    inputs = samples.draw_inputs(generator, spec, 256)
    made = samples.make_images(generator, inputs).permute(0, 2, 3, 1)
    assert samples.diversity(generator, spec, made) == pytest.approx(1.0)
    paler = made.double().sub(128).div(2).add(128).byte()
    assert samples.diversity(generator, spec, paler) == pytest.approx(4.0, rel=0.05)
    with torch.no_grad():
        generator.image.weight.zero_()
    assert samples.diversity(generator, spec, made) == 0.0
    assert samples.diversity(generator, spec, made[:2]) == 0.0
    assert samples.diversity(generator, spec, made[:1]) is None
    assert samples.diversity(generator, spec, made[:1].repeat(9, 1, 1, 1)) is None


def test_losses_that_have_exploded() -> None:
    fine = {"d_real": 900.0, "g": 7.0, "nll_c1": 30.0, "nll_c2": 5e4, "mse_c2": 0.3, "I_c1": 2.0, "D_c2": 1e6}
    assert alarms.exploded(fine) == {}
    for name in ("d_real", "g", "nll_c1", "mse_c2"):
        assert alarms.exploded({**fine, name: 1001.0}) == {name: 1001.0}
    for name in fine:
        assert list(alarms.exploded({**fine, name: math.nan})) == [name]


def test_training_prints_an_alarm_once_and_records_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(alarms, "HELD", 4)
    monkeypatch.setattr(alarms, "GRACE", 2)
    original = TrainingStep.take_metrics

    def take_metrics(self: TrainingStep) -> dict[str, float]:
        return original(self) | {"g": 9.0}

    monkeypatch.setattr(TrainingStep, "take_metrics", take_metrics)
    monkeypatch.setattr(samples, "diversity", lambda *_: 0.1)
    flags = ["--images", "40", "--image-size", "16", "--batch-size", "8", "--latents", "noise=4,cat=3"]
    flags += ["--network", narrow()]
    flags += ["--device", "cpu", "--log-every", "2", "--sample-every", "3", "--checkpoint-every", "1"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    # c1 may well be ignored, so soon.
    monkeypatch.setattr(alarms, "IGNORED", -100.0)
    assert train_main([*flags, "--steps", "8", "--out", str(whole)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("alarm     ") == 2
    assert f"alarm     d-won, update 4: {explained('d-won')}\n" in printed
    assert f"alarm     g-collapsed, update 4: {explained('g-collapsed')}\n" in printed

    def recorded(out: Path) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return [{k: row.get(k) for k in ("step", "alarms", "diversity")} for row in rows]

    table = recorded(whole)
    assert [row["alarms"] for row in table] == [[], *[["d-won", "g-collapsed"]] * 3]
    assert [row["diversity"] is None for row in table] == [True, False, False, False]

    # A resumed run reads what came before, and says nothing twice.
    assert train_main([*flags, "--steps", "6", "--out", str(parts)]) == 0
    (parts / "checkpoints" / "step-00000006.pt").unlink()
    capsys.readouterr()
    assert train_main(["--resume", str(parts), "--steps", "8"]) == 0
    assert "alarm     " not in capsys.readouterr().out
    assert recorded(parts) == table
