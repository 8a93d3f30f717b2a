"""Some of the trials of tests/faults/trials.py, which by itself does all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="preloads a library")
def test_some_trials(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("trials.py")), "--share", "0.005"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("0 problems\n") and "a resumed run: " in done.stdout
