"""Threads and OpenMP's waiting: what the process may use, set before PyTorch loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from infogan_fast.runtime.threads import usable_threads


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("max 100000\n", 4),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("900000 100000\n", 4),
        ("nonsense\n", 4),
        (None, 4),
    ],
)
def test_threads_stay_within_a_containers_share(tmp_path: Path, written: str | None, expected: int) -> None:
    if written is not None:
        (tmp_path / "cpu.max").write_text(written)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert usable_threads(tmp_path) == expected
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "4000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, "None"),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "door", ["infogan_fast.ops", "infogan_fast.training.session", "infogan_fast.analysis.run"]
)
def test_waiting_is_set_before_pytorch_loads(door: str, given: dict[str, str], expected: str) -> None:
    """Whatever is imported first: every command and the Python API import one of these."""
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    # A finder that is asked for torch first tells what was set by then.
    code = (
        "import os, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            print(os.environ.get('GOMP_SPINCOUNT'))\n"
        "            sys.exit()\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"import {door}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**kept, **given}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected
