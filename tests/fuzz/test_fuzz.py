"""What was ever found is tried again, and each reader and operator gets some inputs of a fuzzer's choice.

``python tests/fuzz/campaign.py --seconds 600`` looks for longer.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.readers import FOLDER, IN_MEMORY, READERS
from fuzz.structures import STRUCTURES

from infogan_fast.errors import UserError

HERE = Path(__file__).parent
SLOW = ["hdf5", "mat"]  # each input is read in a process of its own
FAST = [name for name in READERS if name not in SLOW]
FOUND = sorted(path for path in (HERE / "findings").glob("*/*") if path.is_file())


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
        monkeypatch.setenv(FOLDER, name)
        yield


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}/{path.name[:20]}")
def test_findings(path: Path) -> None:
    name = path.parent.name
    if name in STRUCTURES:
        STRUCTURES[name].hypothesis.fuzz_one_input(path.read_bytes())  # type: ignore[attr-defined]
        return
    with contextlib.suppress(UserError):
        READERS[name][0](path.read_bytes())


@pytest.mark.parametrize("name", READERS)
def test_inputs_to_begin_from(name: str) -> None:
    """They are good ones, but for the last of idx, so that mutations of them get far."""
    read, inputs = READERS[name]
    for data in inputs[: 2 if name == "idx" else None]:
        read(data)


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures(name: str) -> None:
    STRUCTURES[name]()


@pytest.mark.parametrize(("inputs", "names"), [(3000, FAST), (300, SLOW)], ids=["fast", "slow"])
def test_some_inputs_of_each_target(inputs: int, names: list[str], tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="needs atheris: pip install '.[dev]'")
    command = [sys.executable, str(HERE / "campaign.py"), "--inputs", str(inputs), "--seed", "1", *names]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(names) * inputs:,} inputs, 0 findings" in done.stdout
