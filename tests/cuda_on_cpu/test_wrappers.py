"""csrc/*/cuda.cu made into a library of operators by g++, called through infogan_fast.ops on CPU tensors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_on_cpu.harness import HERE, ROOT, compile_library


@pytest.fixture(scope="module")
def library() -> Path:
    return compile_library()


def test_the_operators_of_the_cu_files(library: Path) -> None:
    path = os.pathsep.join([str(HERE.parent), str(ROOT), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-m", "cuda_on_cpu.wrappers", str(library)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
