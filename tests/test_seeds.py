"""The seeds command: runs, figures, resumption and errors."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from networks.narrow import narrow

from infogan_fast import seeds
from infogan_fast.analysis.run import load_run
from infogan_fast.analysis.seed_study import SeedStudy
from infogan_fast.analysis.seed_summary import figures, report, summary
from infogan_fast.request import parse
from infogan_fast.runtime.processes import ProcessPool
from infogan_fast.runtime.threads import usable_threads
from infogan_fast.training import checkpoint


def test_every_seed_is_trained_evaluated_and_reported(three_seeds: Path, grey_images: Path) -> None:
    result = json.loads((three_seeds / "seeds.json").read_text())
    assert [r["seed"] for r in result["seeds"]] == [5, 6, 7]
    for r in result["seeds"]:
        run = load_run(three_seeds / f"seed-{r['seed']}", device="cpu")
        assert run.config.seed == r["seed"]
        assert run.updates == r["updates"] == 2
        assert run.config.threads == usable_threads()  # a single job uses them all
        evaluation = json.loads((three_seeds / f"seed-{r['seed']}.json").read_text())
        assert r["figures"] == figures(evaluation)
        assert r["figures"]["c1 accuracy"] == evaluation["codes"]["c1"]["accuracy"] > 0
        rows = (three_seeds / f"seed-{r['seed']}" / "metrics.jsonl").read_text().splitlines()
        assert r["seconds"] == json.loads(rows[-1])["seconds"]
        assert r["machine"] == json.loads((run.folder / "config.json").read_text())["machine"]
        assert f"writes    {run.folder}" in (three_seeds / f"seed-{r['seed']}.log").read_text()
    assert result["summary"] == summary(result["seeds"])
    best = max(result["seeds"], key=lambda r: r["agreement"])
    assert result["selected"] == best["seed"]
    text = report(result, three_seeds)
    assert f"by agreement with the others: {three_seeds / best['run']}" in text
    assert result["settings"] == {
        "image_size": 16,
        "batch_size": 8,
        "network": narrow(),
        "latents": "noise=4,cat=2,uniform=2",
        "data": str(grey_images),
        "steps": 2,
    }
    assert text.splitlines()[0].split() == ["seed", "5", "6", "7", "mean", "deviation", "min", "max"]


def test_finished_seeds_are_not_repeated(
    three_seeds: Path,
    seed_flags: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = json.loads((three_seeds / "seeds.json").read_text())
    monkeypatch.setattr(ProcessPool, "run", lambda *_: pytest.fail("a subprocess was started"))
    flags = ["--n", "3", "--first-seed", "5", "--out", str(three_seeds)]
    assert seeds.main([*flags, *seed_flags, "--steps", "2"]) == 0
    assert json.loads((three_seeds / "seeds.json").read_text()) == before
    assert report(before, three_seeds) in capsys.readouterr().out


def test_shards_share_the_seeds_and_a_report_selects(
    seed_flags: list[str], three_seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two jobs of an array at the same time on one folder; the report is that of one command for all."""
    out = tmp_path / "out"
    shutil.copytree(three_seeds, out)
    before = json.loads((out / "seeds.json").read_text())
    for seed in (6, 7):
        (out / f"seed-{seed}.json").unlink()
    assert seeds.main(["--report", "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    assert "seed 6 FAILED: not finished" in printed and "none selected" in printed
    common = [sys.executable, "-m", "infogan_fast.seeds", "--n", "3", "--first-seed", "5", "--out", str(out)]
    jobs = [
        subprocess.Popen(
            [*common, *seed_flags, "--steps", "2", "--jobs", "1", "--shard", f"{i}/2"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    outputs = [job.communicate(timeout=600)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0]
    assert "seed 5 " in outputs[0] and "seed 7 " in outputs[0] and "seed 6 " not in outputs[0]
    assert "seed 6 " in outputs[1] and f"shard 1/2 ends; --report --out {out} reports all" in outputs[1]
    assert seeds.main(["--report", "--out", str(out), "--device", "cpu"]) == 0
    assert "selected without labels" in capsys.readouterr().out
    after = json.loads((out / "seeds.json").read_text())
    assert after["selected"] == before["selected"] and after["settings"] == before["settings"]


def test_shards_may_begin_at_the_same_time(tmp_path: Path) -> None:
    studies = [SeedStudy(tmp_path / "out", [], {"steps": 2}, 2, "cpu") for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(SeedStudy.prepare, studies))
    assert json.loads((tmp_path / "out" / "seeds.json").read_text())["settings"] == {"steps": 2}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--shard", "3/3"], "--shard is '3/3'; expected I/N with I from 0 to N - 1, such as 0/8"),
        (["--shard", "1"], "--shard is '1'; expected I/N"),
        (["--shard", "5/6", "--n", "5"], "--shard 5/6 of --n 5 seeds has none; give at most 5 shards"),
        (["--shard", "0/2", "--report"], "--shard trains a part of the seeds, --report reports all of them"),
        (["--report"], "--report needs --out OUT, the folder of the seeds"),
        (
            ["--report", "--out", "here", "--steps", "2"],
            "--report reads the settings in here; leave --steps out",
        ),
        (["--report", "--out", "nowhere"], "nowhere: there is no nowhere/seeds.json"),
    ],
)
def test_shards_that_cannot_be_are_refused(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert seeds.main(flags) == 2
    assert message in capsys.readouterr().err


def test_other_settings_need_another_folder(
    three_seeds: Path, grey_images: Path, seed_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--n", "3", "--out", str(three_seeds), *seed_flags]
    assert seeds.main([*flags, "--steps", "2", "--lr-g", "0.1"]) == 2
    assert "has other settings (lr_g differ)" in capsys.readouterr().err
    elsewhere = [str(grey_images.with_name("other.npz")) if f == str(grey_images) else f for f in flags]
    assert elsewhere != flags
    assert seeds.main([*elsewhere, "--steps", "2"]) == 2  # even if a single run would resume with it
    assert "has other settings (data differ)" in capsys.readouterr().err
    assert seeds.main(["--out", str(grey_images.parent)]) == 2
    assert "does not belong to this command; name another folder with --out" in capsys.readouterr().err


def test_interrupted_runs_are_resumed(seed_flags: list[str], tmp_path: Path) -> None:
    """The same command resumes a run from its checkpoint and restarts one without a checkpoint."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "infogan_fast.seeds", "--n", "2", "--jobs", "1", "--out", str(out)]
    command += [*seed_flags, "--log-every", "1"]
    with subprocess.Popen([*command, "--steps", "100000"], stdout=subprocess.PIPE, text=True) as program:
        rows = out / "seed-0" / "metrics.jsonl"
        deadline = time.monotonic() + 120
        while not (rows.exists() and rows.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.1)
        program.send_signal(signal.SIGINT)
        try:
            printed, _ = program.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            program.send_signal(signal.SIGTERM)  # which also ends its subprocesses
            raise
    assert program.returncode == 130
    assert "interrupted; run the same command again to continue" in printed
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
    assert result["selected"] is None  # of two, each agrees with the other equally


def test_a_failed_seed_is_reported_and_repeated(
    seed_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = [*seed_flags, "--steps", "1"]
    flags = ["--n", "2", "--jobs", "1", "--out", str(out), *options]
    out.mkdir()
    SeedStudy(out, [], parse(options).given, steps=1, device="cpu").save([])
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
        (["--resume", "here"], "--resume is for a single run; leave it out"),
        (["--overwrite"], "--overwrite is for a single run; leave it out"),
        (["--batch-size", "1"], "--batch-size is 1"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--first-seed", str(2**63 - 1)], f"--seed is {2**63 + 3}"),
    ],
)
def test_invalid_flags(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert seeds.main([*flags, "--device", "cpu", "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_damaged_seeds_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "seeds.json").write_text("[1]")
    assert seeds.main(["--out", str(tmp_path), "--device", "cpu"]) == 2
    assert "seeds.json: cannot be read" in capsys.readouterr().err
