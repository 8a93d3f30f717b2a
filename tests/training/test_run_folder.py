"""Which folders a run may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from training.runs import rows, run


def make_run(folder: Path) -> None:
    assert run(folder, "--steps", "2") == 0


def not_a_run(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.txt").touch()


def a_file(folder: Path) -> None:
    folder.touch()


@pytest.mark.parametrize(
    ("prepare", "flags", "message"),
    [
        (make_run, [], "holds a run: continue it with --resume"),
        (not_a_run, [], "is not empty and not a run"),
        (not_a_run, ["--overwrite"], "is not empty and not a run"),
        (a_file, [], "is a file; give a folder with --out"),
    ],
)
def test_folders_that_are_not_free(
    prepare: Callable[[Path], None],
    flags: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    prepare(out)
    capsys.readouterr()
    assert run(out, *flags) == 2
    assert message in capsys.readouterr().err


def test_overwrite_replaces_a_run_and_nothing_else(tmp_path: Path) -> None:
    assert run(tmp_path, "--steps", "3") == 0
    (tmp_path / "notes.txt").touch()
    assert run(tmp_path, "--steps", "2", "--overwrite") == 0
    assert [row["step"] for row in rows(tmp_path)] == [2]
    assert os.listdir(tmp_path / "checkpoints") == ["step-00000002.pt"]
    assert (tmp_path / "notes.txt").exists()


def test_unwritable_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run(tmp_path / "file" / "run") == 2
    assert "cannot be written" in capsys.readouterr().err
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1 << 20}))
    assert run(tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "1 MiB free" in error
    assert "--keep-checkpoints" in error
