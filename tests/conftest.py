"""What every test file shares: GPU tests are skipped, and said to be, where there is no GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from infogan_fast import _native
from infogan_fast.errors import NativeError


def pytest_report_header() -> list[str]:
    try:
        half = _native.load().__file__
        cuda = _native.cuda_missing() or "loaded"
    except NativeError as error:
        half, cuda = f"MISSING: {error}", "MISSING: it needs the CPU half"
    return [f"torch: {torch.__version__}", f"CPU half: {half}", f"CUDA half: {cuda}"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    without = [item for item in items if item.get_closest_marker("gpu")]
    for item in without:
        item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    config.stash[_without_gpu] = len(without)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if count := config.stash.get(_without_gpu, 0):
        terminalreporter.write_line(
            f"{count} GPU tests did NOT run: this machine has no CUDA device", yellow=True
        )


_without_gpu = pytest.StashKey[int]()


def _compiled() -> Any:
    return _native.load()


@pytest.fixture(params=["portable", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """The instruction set that the CPU kernels use in this test."""
    best = _compiled().isa()
    try:
        _compiled().set_isa(request.param)
    except ValueError as error:
        pytest.skip(str(error))
    yield request.param
    _compiled().set_isa(best)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device that the operators run on."""
    return torch.device(request.param)
