"""Which checkpoint counts as the best, and that it is kept and found."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from training.runs import rows, run

import infogan_fast
from infogan_fast.errors import UserError
from infogan_fast.generate import main as generate_main
from infogan_fast.train import main as train_main
from infogan_fast.training import alarms, checkpoint
from infogan_fast.training.scores import Scores


def row(step: int, *bounds: float, alarms: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"step": step, "g": 9.0, **{f"L_c{i}": b for i, b in enumerate(bounds, 1)}, "alarms": list(alarms)}


def paths(*steps: int) -> list[Path]:
    return [checkpoint.checkpoint_path(Path(), step) for step in steps]


def best(rows: list[dict[str, Any]], *steps: int) -> int | None:
    found = Scores(rows).best(paths(*steps))
    return None if found is None else checkpoint.step_of(found)


def test_the_largest_sum_of_bounds_is_the_best() -> None:
    assert best([row(2, 1, 0.5), row(4, 1.2, 0.4), row(6, 1, 0.55)], 2, 4, 6) == 4
    assert best([row(2, 1, 0.5), row(4, 1.2, 0.4), row(6, 1, 0.55)], 2, 6) == 6


def test_bounds_count_relative_to_entropies() -> None:
    """A prior that is learned moves away from the one of largest entropy."""
    early, late = (
        row(2, 2.25, 0.5) | {"H_c1": 2.3, "H_c2": 0.7},
        row(4, 2.03, 0.5) | {"H_c1": 2.04, "H_c2": 0.7},
    )
    assert best([early, late], 2, 4) == 4


def test_of_equal_ones_the_last_is_the_best() -> None:
    assert best([row(2, 1), row(4, 1), row(6, 0.5)], 2, 4, 6) == 4


def test_an_alarm_comes_after_every_row_without_one() -> None:
    assert best([row(2, 0.1), row(4, 2, alarms=("g-collapsed",))], 2, 4) == 2
    assert best([row(2, 0.1, alarms=("d-won",)), row(4, 2, alarms=("d-won",))], 2, 4) == 4


def test_a_checkpoint_between_rows_has_the_score_of_the_row_before() -> None:
    rows = [row(3, 1), row(6, 2), row(9, 0)]
    assert best(rows, 1, 5, 8, 10) == 8
    assert best(rows, 1, 2) is None
    assert best([], 1) is None


def test_damaged_rows_have_no_score() -> None:
    damaged = [{"step": 4}, row(5, math.nan), row(6) | {"L_c1": "9"}, row(1, 99.0)]
    damaged += [row(6, 9.0) | {"H_c1": "9"}, row(6, 9.0) | {"H_c1": None}]
    assert best([row(3, 1.0), *damaged], 3, 7) == 7
    assert best([row(3, 1.0), row(4, 0.5), *damaged], 3, 7) == 3


def test_the_best_is_kept_and_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All but two of the rows have an alarm; a resumed run knows them."""
    judged = alarms.AlarmMonitor.__call__

    def judge(self: alarms.AlarmMonitor, row: dict[str, Any]) -> tuple[list[str], list[str]]:
        active, new = judged(self, row)
        return (active if row["step"] in (3, 4) else [*active, "d-won"]), new

    monkeypatch.setattr(alarms.AlarmMonitor, "__call__", judge)
    flags = ["--checkpoint-every", "1", "--log-every", "1", "--keep-checkpoints", "2"]
    assert run(tmp_path, "--steps", "5", *flags) == 0
    assert train_main(["--resume", str(tmp_path), "--steps", "9"]) == 0
    bounds = {r["step"]: sum(v for k, v in r.items() if k.startswith("L_c")) for r in rows(tmp_path)}
    wanted = max((3, 4), key=lambda step: bounds[step])
    kept = [checkpoint.step_of(path) for path in checkpoint.listed(tmp_path / "checkpoints")]
    assert kept == [wanted, 8, 9]
    assert infogan_fast.load_run(tmp_path).updates == 9
    assert infogan_fast.load_run(tmp_path, checkpoint_file="best").updates == wanted
    assert generate_main([str(tmp_path), "--checkpoint", "best", "--n", "1"]) == 0
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}))
    capsys.readouterr()
    with pytest.raises(UserError, match=r"best: there is no such checkpoint; .* has .*step-0"):
        infogan_fast.load_run(tmp_path, checkpoint_file="best")
