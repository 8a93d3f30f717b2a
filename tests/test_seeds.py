"""Many seeds: what is trained where, what their figures are, and which run is chosen."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infogan_fast import seeds
from infogan_fast.analysis.run import load_run
from infogan_fast.config import parse
from infogan_fast.errors import UserError
from infogan_fast.runtime.device import usable_threads
from infogan_fast.training import checkpoint

FLAGS = ["--image-size", "16", "--batch-size", "8", "--latents", "noise=4,cat=2,uniform=2", "--device", "cpu"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled grey images without a test part."""
    draws = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "pictures.npz"
    np.savez(path, images=draws.integers(0, 256, (40, 16, 16), np.uint8), labels=np.arange(40) % 2)
    return path


@pytest.fixture(scope="module")
def finished(pictures: Path) -> Path:
    """Three seeds from 5 on; to be read only."""
    out = pictures.parent / "three"
    flags = ["--n", "3", "--first-seed", "5", "--jobs", "1", "--out", str(out), "--data", str(pictures)]
    assert seeds.main([*flags, *FLAGS, "--steps", "2"]) == 0
    return out


def test_every_seed_is_trained_evaluated_and_reported(finished: Path, pictures: Path) -> None:
    result = json.loads((finished / "seeds.json").read_text())
    assert [r["seed"] for r in result["seeds"]] == [5, 6, 7]
    for r in result["seeds"]:
        run = load_run(finished / f"seed-{r['seed']}", device="cpu")
        assert run.settings.seed == r["seed"]
        assert run.updates == r["updates"] == 2
        assert run.settings.threads == usable_threads()  # one job has them all
        evaluation = json.loads((finished / f"seed-{r['seed']}.json").read_text())
        assert r["figures"] == seeds.figures(evaluation)
        assert r["figures"]["c1 accuracy"] == evaluation["codes"]["c1"]["accuracy"] > 0
        rows = (finished / f"seed-{r['seed']}" / "metrics.jsonl").read_text().splitlines()
        assert r["seconds"] == json.loads(rows[-1])["seconds"]
        assert r["machine"] == json.loads((run.folder / "config.json").read_text())["machine"]
        assert f"writes    {run.folder}" in (finished / f"seed-{r['seed']}.log").read_text()
    assert result["summary"] == seeds.summary(result["seeds"])
    best = max(result["seeds"], key=lambda r: r["agreement"])
    assert result["selected"] == best["seed"]
    text = seeds.report(result, finished)
    assert f"by agreement with the others: {finished / best['run']}" in text
    assert result["settings"] == {
        "image_size": 16,
        "batch_size": 8,
        "latents": "noise=4,cat=2,uniform=2",
        "data": str(pictures),
        "steps": 2,
    }
    assert text.splitlines()[0].split() == ["seed", "5", "6", "7", "mean", "deviation", "min", "max"]


def test_the_same_command_does_nothing_twice(
    finished: Path, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = json.loads((finished / "seeds.json").read_text())
    monkeypatch.setattr(seeds.Programs, "run", lambda *_: pytest.fail("a program was started"))
    flags = ["--n", "3", "--first-seed", "5", "--out", str(finished), "--data", str(pictures)]
    assert seeds.main([*flags, *FLAGS, "--steps", "2"]) == 0
    assert json.loads((finished / "seeds.json").read_text()) == before
    assert seeds.report(before, finished) in capsys.readouterr().out


def test_other_settings_need_another_folder(
    finished: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--n", "3", "--out", str(finished), "--data", str(pictures), *FLAGS]
    assert seeds.main([*flags, "--steps", "2", "--lr-g", "0.1"]) == 2
    assert "is of other settings (lr_g differ)" in capsys.readouterr().err
    assert seeds.main(["--out", str(pictures.parent)]) == 2
    assert "is not of this command; name another folder with --out" in capsys.readouterr().err


def test_cut_off_runs_go_on(pictures: Path, tmp_path: Path) -> None:
    """An interruption leaves checkpoints, from which the same command goes on; a start that left none begins
    anew."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "infogan_fast.seeds", "--n", "2", "--jobs", "1", "--out", str(out)]
    command += ["--data", str(pictures), *FLAGS, "--log-every", "1"]
    with subprocess.Popen([*command, "--steps", "100000"], stdout=subprocess.PIPE, text=True) as program:
        rows = out / "seed-0" / "metrics.jsonl"
        deadline = time.monotonic() + 120
        while not (rows.exists() and rows.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.1)
        program.send_signal(signal.SIGINT)
        try:
            said, _ = program.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            program.send_signal(signal.SIGTERM)  # which ends what it has started, too
            raise
    assert program.returncode == 130
    assert "interrupted; the same command goes on" in said
    assert json.loads((out / "seeds.json").read_text())["seeds"] == []
    done = checkpoint.load(checkpoint.listed(out / "seed-0" / "checkpoints")[-1])["step"]
    assert done > 0
    assert not (out / "seed-1").exists()

    (out / "seed-1").mkdir()
    (out / "seed-1" / "config.json").write_text("{")
    (out / "seed-0.json").write_text("{}")  # an evaluation after fewer updates
    assert seeds.main([*command[3:], "--steps", str(done + 1)]) == 0
    result = json.loads((out / "seeds.json").read_text())
    assert [r["updates"] for r in result["seeds"]] == [done + 1] * 2
    assert f"from update {done:,}" in (out / "seed-0.log").read_text()
    assert result["selected"] is None  # of two, each agrees with the other as much


def test_a_failed_seed_is_told_and_tried_again(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    flags = ["--n", "2", "--jobs", "1", "--out", str(out), "--data", str(pictures), *FLAGS, "--steps", "1"]
    out.mkdir()
    seeds._write(out, parse(flags[6:]).given, {})
    (out / "seed-1").write_text("in the way")
    assert seeds.main(flags) == 1
    first, second = json.loads((out / "seeds.json").read_text())["seeds"]
    assert first["updates"] == 1
    assert second["failed"].startswith("infogan_fast.train: ")
    assert f"seed 1 FAILED: {second['failed']}" in capsys.readouterr().out
    (out / "seed-1").unlink()
    assert seeds.main(flags) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--n", "0"], "--n is 0; expected at least 1"),
        (["--jobs", "0"], "--jobs is 0; expected at least 1"),
        (["--jobs", "100000"], "--jobs is 100000; this process may use"),
        (["--seed", "3"], "--seed differs between the runs; use --first-seed and --n"),
        (["--threads", "3"], "--threads differs between the runs; use --jobs"),
        (["--resume", "here"], "--resume is of one run; leave it out"),
        (["--overwrite"], "--overwrite is of one run; leave it out"),
        (["--batch-size", "1"], "--batch-size is 1"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--first-seed", str(2**63 - 1)], f"--seed is {2**63 + 3}"),
    ],
)
def test_wrong_flags(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert seeds.main([*flags, "--device", "cpu", "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_damaged_seeds_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "seeds.json").write_text("[1]")
    assert seeds.main(["--out", str(tmp_path), "--device", "cpu"]) == 2
    assert "seeds.json: cannot be read" in capsys.readouterr().err


def test_threads_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "usable_threads", lambda: 7)
    cpu = torch.device("cpu")

    def shares(jobs: int | None, count: int) -> list[int | None]:
        return [slot.threads for slot in seeds.slots(jobs, count, cpu)]

    assert shares(None, 10) == [1] * 7
    assert shares(None, 3) == [3, 2, 2]
    assert shares(2, 10) == [4, 3]
    assert shares(7, 10) == [1] * 7
    assert shares(5, 1) == [7]
    with pytest.raises(UserError, match="may use 7 CPU threads, give at most that"):
        seeds.slots(8, 10, cpu)


def test_gpus_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def cards(jobs: int | None, count: int) -> list[str]:
        found = seeds.slots(jobs, count, torch.device("cuda"))
        assert all(slot.threads is None for slot in found)
        return [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in found]

    assert cards(None, 10) == ["0", "1", "2"]
    assert cards(None, 2) == ["0", "1"]
    assert cards(5, 10) == ["0", "1", "2", "0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert cards(None, 10) == ["4", "6"]


def test_a_program_gets_its_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "program"))
    # The sixth of its figures is a process's session: one of its own gets no signal of our terminal.
    (tmp_path / "program").write_text(
        "#!/bin/sh\necho $@ $OMP_NUM_THREADS $CUDA_VISIBLE_DEVICES $PWD\n"
        "[ $(cut -d' ' -f6 /proc/$$/stat) = $$ ] && echo alone; exit 4\n"
    )
    os.chmod(tmp_path / "program", 0o700)
    slot = seeds.Slot(3, {"CUDA_VISIBLE_DEVICES": "7"})
    assert seeds.Programs().run("train", ["--amp"], slot, tmp_path / "log") == 4
    assert (tmp_path / "log").read_text() == f"-m infogan_fast.train --amp 3 7 {Path.cwd()}\nalone\n"


def test_programs_run_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two seeds waits for the other to have begun, which one after the other never ends."""
    begun = threading.Barrier(2, timeout=30)

    def train(seed: int, *_: Any) -> dict[str, Any]:
        begun.wait()
        return {"seed": seed, "failed": "on purpose"}

    monkeypatch.setattr(seeds, "train_seed", train)
    monkeypatch.setattr(seeds, "usable_threads", lambda: 2)
    assert seeds.main(["--n", "2", "--device", "cpu", "--out", str(tmp_path / "out")]) == 1


def test_damage_of_one_seed_is_not_the_others(
    finished: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    path = checkpoint.listed(out / "seed-5" / "checkpoints")[-1]
    path.write_bytes(b"damaged")
    monkeypatch.setattr(seeds.Programs, "run", lambda *_: pytest.fail("a program was started"))
    flags = ["--n", "3", "--first-seed", "5", "--out", str(out), "--data", str(pictures)]
    assert seeds.main([*flags, *FLAGS, "--steps", "2"]) == 1
    first, *others = json.loads((out / "seeds.json").read_text())["seeds"]
    assert first["failed"].startswith(f"{path}: not a readable checkpoint")
    assert all("figures" in r for r in others)


def test_a_cut_off_evaluation_is_made_again(finished: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    evaluation = (out / "seed-5.json").read_text()
    (out / "seed-5.json").rename(out / "seed-5.json.part")
    (out / "seed-5.json.part").write_text("{")
    flags = ["--n", "3", "--first-seed", "5", "--jobs", "1", "--out", str(out), "--data", str(pictures)]
    assert seeds.main([*flags, *FLAGS, "--steps", "2"]) == 0
    assert json.loads((out / "seed-5.json").read_text())["codes"] == json.loads(evaluation)["codes"]
    assert not (out / "seed-5.json.part").exists()


@pytest.mark.parametrize(
    ("kind", "before", "stops"),
    [
        (signal.SIGHUP, signal.SIG_DFL, True),
        (signal.SIGHUP, signal.SIG_IGN, False),  # as nohup has it
        (signal.SIGINT, signal.SIG_IGN, True),  # as a shell's background has it
        (signal.SIGTERM, signal.SIG_DFL, True),
    ],
)
def test_signals_stop_the_programs(kind: signal.Signals, before: signal.Handlers, stops: bool) -> None:
    ours = signal.signal(kind, before)
    try:
        programs = seeds.Programs()
        with seeds._interruptible(programs):
            os.kill(os.getpid(), kind)
            assert programs.stopping.is_set() == stops
        assert signal.getsignal(kind) == before
    finally:
        signal.signal(kind, ours)


def evaluation(**codes: Any) -> dict[str, Any]:
    return {"codes": codes, "disentanglement": None}


def sweep(slant: float | None, thickness: float) -> dict[str, Any]:
    return {"slant": {"mean": slant}, "thickness": {"mean": thickness}}


def test_figures_match_codes_and_measures_one_to_one() -> None:
    found = seeds.figures(
        evaluation(
            c1={"kind": "categorical", "L": 2.2, "accuracy": 0.9, "nmi": 0.8},
            c2={"kind": "uniform", "L": 0.5, "sweeps": sweep(0.9, 0.8)},
            c3={"kind": "uniform", "L": 0.4, "sweeps": sweep(0.85, 0.3)},
        )
    )
    # c2 is the better of both in each, and goes with thickness, where c3 is no substitute.
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
    found = seeds.figures(
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


def test_summary() -> None:
    rows = [{"figures": {"x": x}} for x in (0.2, 0.4, 0.9)]
    assert seeds.summary(rows) == {
        "x": {"mean": pytest.approx(0.5), "deviation": pytest.approx(0.13**0.5), "min": 0.2, "max": 0.9}
    }
    assert seeds.summary(rows[:1])["x"]["deviation"] == 0
    assert seeds.summary([]) == {}


def test_agreement_chooses_and_labels_do_not(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that reads most as the others do is chosen, though its accuracy is the worst, and though the
    others are the same in codes that hold next to nothing."""
    draws = np.random.default_rng(0)
    truth, common = draws.integers(2, size=(500, 1)), draws.normal(size=(500, 2))
    moved = {5: 0.05, 6: 0.0, 7: 0.05}

    def read(run: Any, encoder: Any, images: Any) -> Any:
        seed = run.settings.seed
        answers = np.where(draws.random((500, 1)) < moved[seed], 1 - truth, truth)
        continuous = draws.normal(size=(500, 2)) if seed == 6 else common
        return type("Reading", (), {"categorical": answers, "continuous": continuous})

    monkeypatch.setattr(seeds, "read_images", read)
    out = shutil.copytree(finished, tmp_path / "out")
    rows = json.loads((out / "seeds.json").read_text())["seeds"]
    for r in rows:
        r["figures"]["c1 accuracy"] = moved[r["seed"]]  # 6 has the worst
    for least, selected in ((0.009, 6), (0.011, 5)):
        for r in rows:
            path = out / f"seed-{r['seed']}.json"
            evaluation = json.loads(path.read_text())
            for name, code in evaluation["codes"].items():
                code["L"] = 1.0 if name == "c1" else 0.0
                if name != "c1":
                    code["L_fitted"] = least
            path.write_text(json.dumps(evaluation))
        seeds.rank(rows, out, "cpu")
        result = seeds._write(tmp_path, {}, {r["seed"]: r for r in rows})
        assert result["selected"] == selected


def test_alarms_and_failures_are_reported() -> None:
    row = {"seed": 3, "run": "seed-3", "seconds": 60.0, "alarms": ["code-ignored c2"], "figures": {"x": 1.0}}
    rows = [row, {"seed": 4, "failed": "training diverged"}]
    text = seeds.report({"seeds": rows, "summary": seeds.summary([row]), "selected": None}, Path())
    assert "seed 3 ended with alarms: code-ignored c2" in text
    assert "seed 4 FAILED: training diverged" in text
    assert "none chosen: agreement takes at least 3 finished runs" in text
    many = [{**row, "seed": s, "agreement": s / 100} for s in range(30)]
    wide = seeds.report({"seeds": many, "summary": seeds.summary(many), "selected": 29}, Path())
    assert max(map(len, wide.splitlines())) < 110
