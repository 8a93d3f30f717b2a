"""The legs bite: each planted bug of an operator is caught by the legs that it names."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from cuda_on_cpu import tables
from cuda_on_cpu.checks import Schedule
from cuda_on_cpu.harness import ASAN, PLAIN, TSAN, Build, compile_runner
from cuda_on_cpu.kernels import KernelTests, kernel_tests
from cuda_on_cpu.patches import Mutant, patched
from cuda_on_cpu.runner import KernelFault, Runner

CompiledMutants = dict[tuple[Mutant, Build], Future[Path]]

LEGS = (PLAIN, ASAN, TSAN)
SCHEDULES = {
    PLAIN: tuple(Schedule(seed, resident) for seed, resident in ((0, 1), (1, 3), (2, 3), (3, 2), (4, 3))),
    ASAN: (Schedule(3, 2),),
    TSAN: (Schedule(3, 3),),
}
PLANTED = [(tests, mutant) for tests in kernel_tests() for mutant in tests.mutants]


def check(tests: KernelTests, runner: Runner) -> None:
    for case in tests.mutant_cases:
        tests.check(runner, case, SCHEDULES[runner.build])


def compiled(tests: KernelTests, mutant: Mutant, build: Build) -> Path:
    return compile_runner(
        build, (tests.launcher,), patched([*tests.small_grid, mutant.patch]), tests.mutant_dtypes
    )


@functools.cache
def caught_without_a_bug(operator: str, build: Build) -> str | None:
    """What a leg reports of the kernels as they are: where it is not None, a caught mutant proves nothing."""
    tests = next(tests for tests in kernel_tests() if tests.operator == operator)
    program = compile_runner(build, (tests.launcher,), patched(tests.small_grid), tests.mutant_dtypes)
    with Runner(build, program) as runner:
        try:
            check(tests, runner)
        except AssertionError as error:
            return str(error)
    return None


@pytest.fixture(scope="module")
def programs(request: pytest.FixtureRequest) -> Iterator[CompiledMutants]:
    """The chosen mutants' programs, by mutant and leg, compiled ahead of the tests on all cores."""
    chosen = [
        (item.callspec.params["tests"], item.callspec.params["mutant"])
        for item in request.session.items
        if hasattr(item, "callspec") and "mutant" in item.callspec.params
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {
            (mutant, build): pool.submit(compiled, tests, mutant, build)
            for tests, mutant in chosen
            for build in legs_of(mutant)
        }


def legs_of(mutant: Mutant) -> list[Build]:
    """The plain leg, and those that must catch it."""
    return [build for build in LEGS if build == PLAIN or build in mutant.caught_by]


def in_short(error: AssertionError) -> str:
    """How a bug showed: the kind of report, or a wrong result."""
    if not isinstance(error, KernelFault):
        return "wrong result"
    kinds = (
        r"data race",
        r"[\w-]+-(?:overflow|poison|free)",
        r"misaligned address",
        r"out of bounds",
        r"simt: (divergent barrier|memory fault|a write \d+ bytes \w+)",
        r"has exited",
        r"waits at __syncthreads",
        r"different warp operations",
        r"lacks its own lane",
        r"no end within",
        r"(?:size vs\. prev_size|corrupted|invalid|double free)[\w ]*",
    )
    for kind in kinds:
        if found := re.search(kind, str(error)):
            return found[1] if found.lastindex else found[0]
    return "crash"


@pytest.mark.parametrize(("tests", "mutant"), PLANTED, ids=[f"{t}: {m.name}" for t, m in PLANTED])
def test_a_planted_bug_is_caught(tests: KernelTests, mutant: Mutant, programs: CompiledMutants) -> None:
    cells, missed = [], []
    for build in LEGS:
        cell = ""
        if build in legs_of(mutant):
            false_alarm = caught_without_a_bug(tests.operator, build)
            assert not false_alarm, f"without a planted bug {build.name} reports: {false_alarm}"
            with Runner(build, programs[mutant, build].result(), timeout=60) as runner:
                try:
                    check(tests, runner)
                    cell = "not seen"
                    if build in mutant.caught_by:
                        missed.append(build.name)
                except AssertionError as error:
                    cell = in_short(error)
        cells.append(cell)
    tables.add_mutant(tests.operator, mutant.name, (cells[0], cells[1], cells[2]))
    assert not missed, f"{mutant.name}: survives {', '.join(missed)}"
