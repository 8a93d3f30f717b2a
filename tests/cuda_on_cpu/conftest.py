"""Fixtures of the legs that check CUDA kernels without a GPU, and the tables that they print at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `cuda_on_cpu` and `reference`

from cuda_on_cpu import harness, patches, tables


@pytest.fixture(scope="session", autouse=True)
def shim_or_skip(request: pytest.FixtureRequest) -> None:
    """Skips, and says what is missing, where the kernels cannot be compiled for the CPU."""
    missing = harness.why_not_here()
    if missing:
        pytest.skip(missing)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for title, lines in tables.lines().items():
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def runners() -> Iterator[Callable[..., harness.Runner]]:
    """A running program for a build, an operator and patches to its sources, compiled when asked for."""
    made: dict[tuple[harness.Build, str, tuple[patches.Patch, ...]], harness.Runner] = {}

    def get(build: harness.Build, operator: str, changes: tuple[patches.Patch, ...] = ()) -> harness.Runner:
        key = (build, operator, changes)
        if key not in made:
            sources = patches.patched(changes) if changes else harness.CSRC
            made[key] = harness.Runner(
                build, harness.compile_runner(build, (harness.HERE / f"case_{operator}.cpp",), sources)
            )
        return made[key]

    yield get
    for runner in made.values():
        runner.close()


@pytest.fixture(scope="session")
def toys() -> Iterator[dict[str, harness.Runner]]:
    """The toy kernels, by the name of the build."""
    builds = (harness.PLAIN, harness.ASAN, harness.TSAN)
    runners = {
        build.name: harness.Runner(build, harness.compile_runner(build, (harness.HERE / "toys.cpp",)))
        for build in builds
    }
    yield runners
    for runner in runners.values():
        runner.close()
