"""Studies of many seeds: independence, repeated evaluation, and the selection of a run."""

from __future__ import annotations

import json
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infogan_fast import seeds
from infogan_fast.analysis import seed_study
from infogan_fast.analysis.codes import Codes
from infogan_fast.analysis.run import Run
from infogan_fast.analysis.seed_study import SeedStudy
from infogan_fast.errors import UserError
from infogan_fast.runtime import processes
from infogan_fast.runtime.processes import ProcessPool


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("seed-5/checkpoints/step-00000002.pt", "damaged", "not a readable checkpoint"),
        ("seed-5.json", "{", "cannot be read (JSONDecodeError); delete it to evaluate again"),
        ("seed-5.json", '{"codes": 3}', "cannot be read (KeyError); delete it to evaluate again"),
        ("seed-5/metrics.jsonl", '{"step": 2}\n', "its last row is damaged; delete"),
        ("seed-5/metrics.jsonl", "\n", "its last row is damaged; delete"),
    ],
)
def test_damage_of_one_seed_does_not_affect_the_others(
    three_seeds: Path,
    seed_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: str,
    message: str,
) -> None:
    out = tmp_path / "out"
    shutil.copytree(three_seeds, out)
    path = out / name
    path.write_text(content)
    monkeypatch.setattr(ProcessPool, "run", lambda *_: pytest.fail("a subprocess was started"))
    flags = ["--n", "3", "--first-seed", "5", "--out", str(out)]
    assert seeds.main([*flags, *seed_flags, "--steps", "2"]) == 1
    first, *others = json.loads((out / "seeds.json").read_text())["seeds"]
    assert first["failed"].startswith(f"{path}: {message}")
    assert all("figures" in r for r in others)


def test_an_incomplete_evaluation_is_repeated(
    three_seeds: Path, seed_flags: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(three_seeds, out)
    evaluation = (out / "seed-5.json").read_text()
    (out / "seed-5.json").rename(out / "seed-5.json.part")
    (out / "seed-5.json.part").write_text("{")
    flags = ["--n", "3", "--first-seed", "5", "--jobs", "1", "--out", str(out)]
    assert seeds.main([*flags, *seed_flags, "--steps", "2"]) == 0
    assert json.loads((out / "seed-5.json").read_text())["codes"] == json.loads(evaluation)["codes"]
    assert not (out / "seed-5.json.part").exists()


def test_agreement_selects_and_labels_do_not(
    three_seeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run whose codes agree best with the others' is selected, although its accuracy is the worst and the
    others are equal in codes that hold almost no information.
    """
    draws = np.random.default_rng(0)
    truth, common = draws.integers(2, size=(500, 1)), draws.normal(size=(500, 2))
    changed = {5: 0.05, 6: 0.0, 7: 0.05}

    def read(run: Run, images: Any) -> Codes:
        seed = run.config.seed
        first = np.where(draws.random((500, 1)) < changed[seed], 1 - truth, truth)
        continuous = draws.normal(size=(500, 2)) if seed == 6 else common
        return {"c1": first[:, 0], "c2": continuous[:, 0], "c3": continuous[:, 1]}

    monkeypatch.setattr(seed_study, "read_images", read)
    out = shutil.copytree(three_seeds, tmp_path / "out")
    study = SeedStudy(out, [], {}, steps=2, device="cpu")
    rows = json.loads((out / "seeds.json").read_text())["seeds"]
    for r in rows:
        r["figures"]["c1 accuracy"] = changed[r["seed"]]  # 6 has the worst
    for least, selected in ((0.009, 6), (0.011, 5)):
        for r in rows:
            path = out / f"seed-{r['seed']}.json"
            evaluation = json.loads(path.read_text())
            for name, code in evaluation["codes"].items():
                code["L"], code["chance"] = float(name == "c1"), {"L": 0.0, "L_fitted": 0.0}
                if name != "c1":
                    code["L_fitted"] = least
            path.write_text(json.dumps(evaluation))
        study.rank(rows)
        assert study.save(rows)["selected"] == selected


def test_what_cannot_be_compared_is_told_next_to_the_figures(
    three_seeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(three_seeds, tmp_path / "out")
    flags = ["--report", "--out", str(out), "--device", "cpu"]

    def moved(*_: Any, **__: Any) -> Any:
        raise UserError("the images have moved")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "held_out", moved)
        assert seeds.main(flags) == 0
    said = capsys.readouterr().out
    assert "selected  none: the images have moved" in said and "none selected: the runs were not" in said
    assert "c1 accuracy" in said
    shutil.rmtree(out / "seed-7" / "checkpoints")
    assert seeds.main(flags) == 1
    found = json.loads((out / "seeds.json").read_text())
    assert ["figures" in row for row in found["seeds"]] == [True, True, False]
    assert "there is no checkpoint in" in found["seeds"][2]["failed"] and found["selected"] is None


def test_information_counts_from_what_a_code_has_by_chance() -> None:
    uniform = {"L": -0.18, "L_fitted": -0.17, "chance": {"L": -0.1765, "L_fitted": -0.1765}}
    assert not seed_study._is_informative(uniform)
    assert seed_study._is_informative(uniform | {"L_fitted": -0.15})
    assert not seed_study._is_informative({"L": 0.009, "chance": {"L": 0.0}})


def finished(folder: Path, seed: int, updates: int) -> dict[str, Any]:
    """What a finished seed leaves, as far as a study looks at it."""
    (folder / f"seed-{seed}").mkdir(exist_ok=True)
    (folder / f"seed-{seed}.json").write_text("{}")
    figures = {"c1 accuracy": 0.5}
    row = {"seed": seed, "run": f"seed-{seed}", "updates": updates, "figures": figures, "machine": {}}
    return row | {"seconds": 1.0, "alarms": []}


def test_a_study_keeps_the_seeds_that_other_commands_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, updates = tmp_path / "out", dict.fromkeys(range(9), 2)

    def train_seed(study: SeedStudy, seed: int, pool: ProcessPool) -> dict[str, Any]:
        updates[seed] = study.steps
        return finished(out, seed, study.steps)

    def finished_row(seed: int, run: Path, evaluation: Path) -> dict[str, Any]:
        return finished(out, seed, updates[seed])

    def rank(study: SeedStudy, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["agreement"] = float(-row["seed"])

    for name, value in (("train_seed", train_seed), ("rank", rank)):
        monkeypatch.setattr(SeedStudy, name, value)
    monkeypatch.setattr(seed_study, "finished_row", finished_row)

    def study(first: int, *flags: str) -> dict[str, Any]:
        common = ["--n", "2", "--first-seed", str(first), "--jobs", "1", "--device", "cpu", "--out", str(out)]
        assert seeds.main([*common, *flags]) == 0
        result: dict[str, Any] = json.loads((out / "seeds.json").read_text())
        return result

    assert [row["seed"] for row in study(2, "--steps", "2")["seeds"]] == [2, 3]
    both = study(4, "--steps", "2")
    assert [row["seed"] for row in both["seeds"]] == [2, 3, 4, 5] and both["selected"] == 2
    capsys.readouterr()
    longer = study(4, "--steps", "6")  # the others have fewer updates
    assert [row["seed"] for row in longer["seeds"]] == [4, 5] and longer["selected"] is None
    assert "left out  seed 2: has 2 of 6 updates" in capsys.readouterr().out
    assert seeds.main(["--report", "--out", str(out), "--device", "cpu"]) == 1
    reported = json.loads((out / "seeds.json").read_text())["seeds"]
    assert ["figures" in row for row in reported] == [False, False, True, True]
    assert reported[0]["failed"] == "has 2 of 6 updates"
    for flags, message in (
        (["--steps", "2"], "--steps is 2, and seed 4 in .* has 6 updates; give that or more"),
        (["--steps", "6", "--label", "digit"], r"has other settings \(label differ\)"),
    ):
        assert seeds.main(["--n", "2", "--jobs", "1", "--device", "cpu", "--out", str(out), *flags]) == 2
        assert re.search(message, capsys.readouterr().err)


def test_seeds_are_trained_in_parallel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two seeds waits for the other to start, which never ends if they run in sequence."""
    started = threading.Barrier(2, timeout=30)

    def train_seed(study: SeedStudy, seed: int, pool: ProcessPool) -> dict[str, Any]:
        started.wait()
        return {"seed": seed, "failed": "on purpose"}

    monkeypatch.setattr(SeedStudy, "train_seed", train_seed)
    monkeypatch.setattr(processes, "usable_threads", lambda: 2)
    assert seeds.main(["--n", "2", "--device", "cpu", "--out", str(tmp_path / "out")]) == 1
