"""Training under the limits that a shell or a system sets."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from training.runs import rows, run

from infogan_fast.training import checkpoint


@contextmanager
def limited(kind: int, value: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def test_files_that_may_not_grow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with limited(resource.RLIMIT_FSIZE, 1 << 20):
        assert run(tmp_path, "--steps", "4", "--checkpoint-every", "2", "--log-every", "1") == 2
    printed = capsys.readouterr()
    path = tmp_path / "checkpoints" / "step-00000002.pt"
    assert f"{path}: the checkpoint cannot be written (File too large)" in printed.out
    assert printed.err.count("\n") == 1 and "step-00000004.pt: the checkpoint cannot be" in printed.err
    assert checkpoint.listed(tmp_path / "checkpoints") == []
    assert run(tmp_path, "--steps", "4", "--overwrite") == 0


@pytest.mark.parametrize("more", range(4))
def test_no_more_files_may_be_open(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: int) -> None:
    """Whatever cannot be opened is named; nothing half-written stays."""
    with open("/dev/null") as lowest:
        limit = lowest.fileno() + more
    with limited(resource.RLIMIT_NOFILE, limit):
        status = run(tmp_path / "run", "--steps", "2", "--checkpoint-every", "1")
    printed = capsys.readouterr()
    assert status in (0, 2) and (more > 0 or status == 2)
    assert status == 0 or ("Too many open files" in printed.err and printed.err.count("\n") == 1)
    assert not list(tmp_path.rglob(".*.part"))
    shutil.rmtree(tmp_path / "run", ignore_errors=True)


def test_a_clock_that_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Durations come from a clock that nobody sets."""
    clock = iter(range(2**31, 0, -(10**6)))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    assert run(tmp_path, "--steps", "4", "--log-every", "1") == 0
    seconds = [row["seconds"] for row in rows(tmp_path)]
    assert seconds == sorted(seconds) and 0 <= seconds[0] <= seconds[-1] < 600


def test_a_folder_that_becomes_read_only(tmp_path: Path) -> None:
    """As a user other than root, for whom permissions hold."""
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv, of util-linux")
    script = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from infogan_fast.training.loop import Loop
from training.runs import run
out = Path(sys.argv[1])
update = Loop._update
def locking(self):
    update(self)
    for folder in (out, out / "checkpoints", out / "samples"):
        folder.chmod(0o755 if self.done >= 4 else 0o555)
Loop._update = locking
raise SystemExit(run(out, "--steps", "4", "--checkpoint-every", "2", "--sample-every", "2"))
"""
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_mode & 0o005 != 0o005:
            parent.chmod(0o755)
    command = [sys.executable, "-c", script, str(folder / "run"), *sys.path]
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    probe = [
        sys.executable,
        "-c",
        "import sys; sys.path[:0] = sys.argv[1:]; import torch, infogan_fast",
        *sys.path,
    ]
    if (tried := subprocess.run([*user, *probe], capture_output=True, text=True)).returncode:
        pytest.skip(f"another user cannot run this Python: {tried.stderr.strip()[-100:]}")
    done = subprocess.run([*user, *command], capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    for what in ("a checkpoint", "a picture"):
        assert f"problem   {what} could not be written" in done.stdout
    assert [p.name for p in checkpoint.listed(folder / "run" / "checkpoints")] == ["step-00000004.pt"]
