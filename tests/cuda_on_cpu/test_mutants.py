"""The legs bite: each of the planted bugs of mutants.py is caught by the legs that it names."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from cuda_on_cpu import tables
from cuda_on_cpu.cases import DEFAULT, FAR, MIDDLE, MIXED, WIDE
from cuda_on_cpu.checks import (
    GatherCase,
    LossCase,
    SampleCase,
    Schedule,
    check_gather_images,
    check_infogan_loss,
    check_sample_latents,
)
from cuda_on_cpu.harness import ASAN, HERE, PLAIN, TSAN, Build, KernelFault, Runner, compile_runner
from cuda_on_cpu.mutants import MUTANTS, Mutant
from cuda_on_cpu.patches import SMALL_GRID, patched

Programs = dict[tuple[Mutant, Build], Future[Path]]

LEGS = (PLAIN, ASAN, TSAN)
SCHEDULES = {
    PLAIN: tuple(Schedule(seed, resident) for seed, resident in ((0, 1), (1, 3), (2, 3), (3, 2), (4, 3))),
    ASAN: (Schedule(3, 2),),
    TSAN: (Schedule(3, 3),),
}
#: On the small grid: several blocks, several tiles a block, every path; the last of each is not a whole tile.
SAMPLE_CASES = (SampleCase(DEFAULT, 137), SampleCase(MIXED, 127, torch.bfloat16), SampleCase("noise=70", 33))
GATHER_CASES = (
    GatherCase(20, 31, 33),
    GatherCase(1, 2069, 9, torch.float16),
    GatherCase(7, 784, 9, offsets=(1, 0)),
    GatherCase(7, 784, 9, torch.float64, offsets=(0, 8)),
    GatherCase(50, 16, 37, torch.bfloat16, seed=-1, step=2**40 + 3, advance=False),
    FAR,
)
LOSS_CASES = (
    LossCase(DEFAULT, 500, 390, 900, q_padding=3),
    LossCase(DEFAULT, 0, 33, 129, torch.float16, offset=2),
    LossCase(MIDDLE, 0, 0, 260),
    LossCase(WIDE, 0, 0, 33),
    LossCase(MIXED, 0, 0, 260, scale=20.0, grad_scale=8.0),
)
CHECKS: dict[str, tuple[Callable[[Runner, Any, Sequence[Schedule]], None], tuple[Any, ...]]] = {
    "sample_latents": (check_sample_latents, SAMPLE_CASES),
    "gather_images": (check_gather_images, GATHER_CASES),
    "infogan_loss": (check_infogan_loss, LOSS_CASES),
}


def check(operator: str, runner: Runner) -> None:
    check_case, cases = CHECKS[operator]
    for case in cases:
        check_case(runner, case, SCHEDULES[runner.build])


def compiled(mutant: Mutant, build: Build) -> Path:
    return compile_runner(
        build, (HERE / f"case_{mutant.operator}.cpp",), patched([*SMALL_GRID, mutant.patch])
    )


@functools.cache
def caught_without_a_bug(operator: str, build: Build) -> str | None:
    """What a leg reports of the kernels as they are: where it is not None, a caught mutant proves nothing."""
    program = compile_runner(build, (HERE / f"case_{operator}.cpp",), patched(SMALL_GRID))
    with Runner(build, program) as runner:
        try:
            check(operator, runner)
        except AssertionError as error:
            return str(error)
    return None


@pytest.fixture(scope="module")
def programs(request: pytest.FixtureRequest) -> Iterator[Programs]:
    """The chosen mutants' programs, by mutant and leg, compiled ahead of the tests on all cores."""
    chosen = [
        item.callspec.params["mutant"]
        for item in request.session.items
        if hasattr(item, "callspec") and "mutant" in item.callspec.params
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {
            (mutant, build): pool.submit(compiled, mutant, build)
            for mutant in chosen
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


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.operator}: {mutant.name}")
def test_a_planted_bug_is_caught(mutant: Mutant, programs: Programs) -> None:
    cells, missed = [], []
    for build in LEGS:
        cell = ""
        if build in legs_of(mutant):
            false_alarm = caught_without_a_bug(mutant.operator, build)
            assert not false_alarm, f"without a planted bug {build.name} reports: {false_alarm}"
            with Runner(build, programs[mutant, build].result(), timeout=60) as runner:
                try:
                    check(mutant.operator, runner)
                    cell = "not seen"
                    if build in mutant.caught_by:
                        missed.append(build.name)
                except AssertionError as error:
                    cell = in_short(error)
        cells.append(cell)
    tables.add_mutant(mutant.operator, mutant.name, (cells[0], cells[1], cells[2]))
    assert not missed, f"{mutant.name}: survives {', '.join(missed)}"
