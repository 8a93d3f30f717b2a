"""Fixtures of the legs that check CUDA kernels without a GPU, and the tables that they print at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cuda_on_cpu import harness
from cuda_on_cpu.fixtures import runners, shim_or_skip
from cuda_on_cpu.runner import Runner

__all__ = ["runners"]


@pytest.fixture(scope="session", autouse=True)
def every_test_needs_the_shim() -> None:
    shim_or_skip()


@pytest.fixture(scope="session")
def toys() -> Iterator[dict[str, Runner]]:
    """The toy kernels, by the name of the build."""
    builds = (harness.PLAIN, harness.ASAN, harness.TSAN)
    running = {
        build.name: Runner(build, harness.compile_runner(build, (harness.HERE / "toys.cpp",)))
        for build in builds
    }
    yield running
    for runner in running.values():
        runner.close()
