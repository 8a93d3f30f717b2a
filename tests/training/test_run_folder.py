"""Which folders a run may use."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from training.runs import rows, run

import infogan_fast
from infogan_fast.constants import INTERRUPTED
from infogan_fast.train import main as train_main
from infogan_fast.training import checkpoint


def make_run(folder: Path) -> None:
    assert run(folder, "--steps", "2") == 0


def not_a_run(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.txt").touch()


def a_file(folder: Path) -> None:
    folder.touch()


def another_program_s(folder: Path) -> None:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "best.bin").write_text("weights")
    (folder / "config.json").write_text('{"model_type": "bert"}')


@pytest.mark.parametrize(
    ("prepare", "flags", "message"),
    [
        (another_program_s, [], "is not empty and not a run"),
        (another_program_s, ["--overwrite"], "is not empty and not a run"),
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


def test_a_run_without_a_checkpoint_is_to_be_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Advice to resume it would end where resuming says that it cannot be."""
    out = tmp_path / "run"
    assert run(out, "--steps", "1") == 0
    for path in checkpoint.listed(out / "checkpoints"):
        path.unlink()
    assert train_main(["--resume", str(out)]) == 2
    assert "start again, with --overwrite" in capsys.readouterr().err
    assert run(out) == 2
    assert "holds a run without a checkpoint: replace it with --overwrite" in capsys.readouterr().err
    assert run(out, "--steps", "1", "--overwrite") == 0


def test_overwrite_replaces_a_run_and_nothing_else(tmp_path: Path) -> None:
    assert run(tmp_path, "--steps", "3") == 0
    (tmp_path / "notes.txt").touch()
    for name in ("traverse.png", "traverse.gif", "report.html", "evaluation.json"):  # of the run before
        (tmp_path / name).touch()
    assert run(tmp_path, "--steps", "2", "--overwrite") == 0
    assert not [path for path in tmp_path.iterdir() if path.stem in ("traverse", "report", "evaluation")]
    assert [row["step"] for row in rows(tmp_path)] == [2]
    assert os.listdir(tmp_path / "checkpoints") == ["step-00000002.pt"]
    assert (tmp_path / "notes.txt").exists()


def killed_at_its_start(folder: Path) -> None:
    for part in ("samples", "checkpoints"):
        (folder / part).mkdir(parents=True)
    for part in (".lock", ".writable", ".config.json.part"):
        (folder / part).touch()


def test_a_run_that_was_killed_at_its_start_is_begun_again(tmp_path: Path) -> None:
    killed_at_its_start(tmp_path / "run")
    assert run(tmp_path / "run", "--steps", "1") == 0


def test_an_overwriting_that_was_killed_leaves_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path, "--steps", "1") == 0
    unlink, calls = Path.unlink, iter(range(100))

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.parent == tmp_path and next(calls) == 1:
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        assert run(tmp_path, "--steps", "1", "--overwrite") == INTERRUPTED
    assert not (tmp_path / "metrics.jsonl").exists()
    assert run(tmp_path, "--steps", "1", "--overwrite") == 0


@pytest.mark.parametrize("name", ["samples", "checkpoints", "metrics.jsonl", "traversal.png"])
def test_links_in_a_run_are_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    assert run(out, "--steps", "1") == 0
    (out / name).rename(elsewhere)
    (out / name).symlink_to(elsewhere)

    def content() -> list[tuple[str, int]]:
        files = [elsewhere] if elsewhere.is_file() else sorted(elsewhere.iterdir())
        return [(path.name, path.stat().st_mtime_ns) for path in files]

    before = content()
    assert train_main(["--resume", str(out), "--steps", "2"]) == 2
    assert f"{out / name} is a symbolic link" in capsys.readouterr().err
    assert content() == before
    assert run(out, "--steps", "1", "--overwrite") == 0
    assert elsewhere.exists() and not (out / name).is_symlink()


def test_one_training_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert run(out, "--steps", "1") == 0
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from infogan_fast.training.lock import locked\n"
            "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()",
            str(out),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    capsys.readouterr()
    for command in (["--resume", str(out), "--steps", "2"], ["--out", str(out), "--overwrite"]):
        assert train_main(command) == 2
        error = capsys.readouterr().err
        assert f"{out}: process {holder.pid} on {platform.node()} is training into it" in error
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    infogan_fast.load_run(out)
    holder.kill()
    holder.communicate()
    assert train_main(["--resume", str(out), "--steps", "2"]) == 0
    assert not (out / ".lock").exists()


def test_a_training_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    assert run(tmp_path / "a" / "b", "--data", str(tmp_path / "nothing")) == 2
    assert os.listdir(tmp_path) == []


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


def test_the_disk_needs_room_for_whole_checkpoints_but_not_for_those_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--steps", "1") == 0
    (kept,) = (tmp_path / "checkpoints").iterdir()
    tensors = torch.utils._pytree.tree_leaves(checkpoint.load(kept)["training"])
    size = sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))
    beside = 50 << 20

    def free(count: float) -> None:
        usage = type("Usage", (), {"free": int(count * size) + beside})
        monkeypatch.setattr("shutil.disk_usage", lambda path: usage)

    free(3.9)  # with the one that is there, of the last three, the best, and one that is on its way
    assert train_main(["--resume", str(tmp_path), "--steps", "2"]) == 2
    assert run(tmp_path, "--steps", "1", "--overwrite") == 2
    assert kept.exists()
    assert "3 checkpoints need" in capsys.readouterr().err
    free(4.1)
    assert train_main(["--resume", str(tmp_path), "--steps", "2"]) == 0
    free(4.9)
    assert run(tmp_path / "new", "--steps", "1") == 2
    free(5.1)
    assert run(tmp_path / "new", "--steps", "1") == 0


def test_a_run_with_a_damaged_config_can_be_replaced(tmp_path: Path) -> None:
    assert run(tmp_path, "--steps", "1") == 0
    (tmp_path / "config.json").write_text("{")
    assert run(tmp_path, "--steps", "1", "--overwrite") == 0
