"""The evaluate command: its report, its JSON and its errors."""

from __future__ import annotations

import errno
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest

from infogan_fast import evaluate
from infogan_fast.analysis import evaluation
from infogan_fast.analysis.report import report


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command with fewer samples."""
    full = evaluation.evaluate
    monkeypatch.setattr(
        evaluation, "evaluate", lambda run, **options: full(run, samples=50, sweep_noises=1, **options)
    )


@pytest.mark.usefixtures("quick")
def test_report_and_json(strokes_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    flags = [str(strokes_run), "--images", "120", "--device", "cpu"]
    assert evaluate.main([*flags, "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    result = json.loads(out.read_text(), parse_constant=not_json)
    assert printed == report(result) + "\n"
    code = result["codes"]["c1"]
    line = next(line for line in printed.splitlines() if line.startswith("  c1   "))
    assert [cell.partition("±")[0] for cell in line.split()] == [
        *("c1", f"{code['L']:.3f}", "1.099"),
        *(f"{code[name]:.3f}" for name in ("accuracy", "nmi", "ari")),
    ]
    assert "120 test images drawn from seed 3: held out" in printed
    assert f"  MIG                  {result['disentanglement']['mig']:.3f}±" in printed
    assert "no beta_vae: there are 120 rows; give 1,000 or more" in printed
    assert "on 120 images: not comparable with published scores, which use 15,000" in printed
    assert evaluate.main([*flags, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out, parse_constant=not_json) == result


@pytest.mark.usefixtures("quick")
def test_an_earlier_file_stays_until_the_new_one_is_whole(
    strokes_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "evaluation.json"
    out.write_text("earlier")

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    flags = [str(strokes_run), "--device", "cpu", "--images", "100", "--no-quality"]
    assert evaluate.main([*flags, "--json", str(out)]) == 2
    assert f"--json {out}: cannot be written (No space left" in capsys.readouterr().err
    assert out.read_text() == "earlier" and list(tmp_path.iterdir()) == [out]


@pytest.mark.usefixtures("quick")
def test_a_pipe_and_a_link_are_written_through(strokes_run: Path, tmp_path: Path) -> None:
    flags = [str(strokes_run), "--device", "cpu", "--images", "100", "--no-quality"]
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    assert evaluate.main([*flags, "--json", str(tmp_path / "link.json")]) == 0
    assert (tmp_path / "link.json").is_symlink()
    written = json.loads((tmp_path / "real.json").read_text())
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as threads:
        content = threads.submit((tmp_path / "pipe").read_text)
        assert evaluate.main([*flags, "--json", str(tmp_path / "pipe")]) == 0
        assert json.loads(content.result(60)) == written
    assert (tmp_path / "pipe").is_fifo()


def not_json(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--images", "0"], "--images is 0; expected at least 1"),
        (["--images", "50"], "--images is 50; scores on known factors need at least 100"),
        (["--data", "nowhere"], "nowhere: no such file or folder"),
        (["--json", "no/folder/out.json"], "--json no/folder/out.json: there is no folder no/folder"),
        (["--json", "."], "--json .: is a folder; give the name of a file"),
        (["--seed", "-1"], "--seed is -1; expected 0 to 2**32 - 1"),
        (["--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("quick")
def test_invalid_flags(
    flags: list[str],
    message: str,
    strokes_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    images = [] if "--images" in flags else ["--images", "100"]
    assert evaluate.main([str(strokes_run), "--device", "cpu", *images, *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.usefixtures("quick")
def test_moved_data(colour_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = tmp_path / "moved.npz"
    shutil.copy(colour_run.parent / "data.npz", moved)
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    flags = [str(colour_run), "--device", "cpu"]
    assert evaluate.main([*flags, "--json", str(here)]) == 0
    assert evaluate.main([*flags, "--json", str(there), "--data", str(moved)]) == 0
    assert json.loads(there.read_text())["codes"] == json.loads(here.read_text())["codes"]
    shutil.move(colour_run.parent / "data.npz", colour_run.parent / "away.npz")
    try:
        assert evaluate.main(flags) == 2
        assert "data.npz: no such file or folder" in capsys.readouterr().err
    finally:
        shutil.move(colour_run.parent / "away.npz", colour_run.parent / "data.npz")
