"""Studies of many seeds: independence, repeated evaluation, and the selection of a run."""

from __future__ import annotations

import json
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
                code["L"] = 1.0 if name == "c1" else 0.0
                if name != "c1":
                    code["L_fitted"] = least
            path.write_text(json.dumps(evaluation))
        study.rank(rows)
        assert study.save(rows)["selected"] == selected


def test_seeds_are_trained_in_parallel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two seeds waits for the other to start, which never ends if they run in sequence."""
    started = threading.Barrier(2, timeout=30)

    def train_seed(study: SeedStudy, seed: int, pool: ProcessPool) -> dict[str, Any]:
        started.wait()
        return {"seed": seed, "failed": "on purpose"}

    monkeypatch.setattr(SeedStudy, "train_seed", train_seed)
    monkeypatch.setattr(processes, "usable_threads", lambda: 2)
    assert seeds.main(["--n", "2", "--device", "cpu", "--out", str(tmp_path / "out")]) == 1
