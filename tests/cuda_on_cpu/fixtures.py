"""The running programs of the kernels, for the tests here and for those in an operator's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from cuda_on_cpu import harness, patches
from cuda_on_cpu.kernels import KernelTests
from cuda_on_cpu.runner import Runner

Runners = Callable[..., Runner]


def shim_or_skip() -> None:
    """Skip, and say what is missing, where the kernels cannot be compiled for the CPU."""
    missing = harness.why_not_here()
    if missing:
        pytest.skip(missing)


@pytest.fixture(scope="session")
def runners() -> Iterator[Runners]:
    """A running program for a build, an operator and patches to its sources, compiled when asked for."""
    shim_or_skip()
    made: dict[tuple[harness.Build, str, tuple[patches.Patch, ...]], Runner] = {}

    def get(build: harness.Build, tests: KernelTests, changes: tuple[patches.Patch, ...] = ()) -> Runner:
        key = (build, tests.operator, changes)
        if key not in made:
            sources = patches.patched(changes) if changes else harness.CSRC
            made[key] = Runner(build, harness.compile_runner(build, (tests.launcher,), sources))
        # One at a time: ThreadSanitizer keeps gigabytes of each program whose fibers it has seen.
        for other in made.values():
            if other is not made[key]:
                other.close()
        return made[key]

    yield get
    for runner in made.values():
        runner.close()
