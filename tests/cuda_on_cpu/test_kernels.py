"""The kernels' own source run on the CPU, plainly and under sanitizers: equal to the CPU operators,
in whatever order blocks, warps and lanes run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from cuda_on_cpu.cases import (
    DEFAULT,
    DTYPES,
    FAR,
    MIXED,
    SCHEDULES,
    WIDE,
    gather_cases,
    loss_cases,
    mixed_precision_cases,
    sample_cases,
)
from cuda_on_cpu.checks import (
    GatherCase,
    LossCase,
    SampleCase,
    Schedule,
    check_gather_images,
    check_infogan_loss,
    check_sample_latents,
    loss_inputs,
    name_of,
    run_infogan_loss,
)
from cuda_on_cpu.harness import ASAN, PLAIN, TSAN, Build, Runner
from cuda_on_cpu.patches import SMALL_GRID

from infogan_fast.latents import LatentSpec

Runners = Callable[..., Runner]

#: ThreadSanitizer keeps a thread's worth of state for every CUDA thread: few rows, or few blocks.
FEW_ROWS = {PLAIN: (1, 7, 31, 33, 127, 129), ASAN: (1, 31, 129), TSAN: (1, 33)}
ORDERS = {PLAIN: SCHEDULES, ASAN: SCHEDULES[1::2], TSAN: SCHEDULES[3:]}

builds = pytest.mark.parametrize("build", [PLAIN, ASAN, TSAN], ids=lambda build: build.name)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=name_of)


@builds
@dtypes
def test_sample_latents(runners: Runners, build: Build, dtype: torch.dtype) -> None:
    for case in sample_cases(dtype, FEW_ROWS[build]):
        check_sample_latents(runners(build, "sample_latents"), case, ORDERS[build])


@builds
def test_sample_latents_with_several_tiles_a_block(runners: Runners, build: Build) -> None:
    runner = runners(build, "sample_latents", SMALL_GRID)
    for case in (SampleCase(DEFAULT, 129), SampleCase(MIXED, 127, torch.bfloat16)):
        check_sample_latents(runner, case, ORDERS[build])


def test_sample_latents_with_the_largest_grid(runners: Runners) -> None:
    case = SampleCase("noise=1,cat=3,uniform=1", 16 * 4096 + 40)
    check_sample_latents(runners(PLAIN, "sample_latents"), case, [Schedule(2, 8)])


@builds
@dtypes
def test_gather_images(runners: Runners, build: Build, dtype: torch.dtype) -> None:
    for case in gather_cases(dtype):
        check_gather_images(runners(build, "gather_images"), case, ORDERS[build])


@builds
def test_gather_images_with_several_rows_a_block(runners: Runners, build: Build) -> None:
    runner = runners(build, "gather_images", SMALL_GRID)
    for case in (GatherCase(40, 784, 33), GatherCase(9, 31, 50, torch.bfloat16)):
        check_gather_images(runner, case, ORDERS[build])


@builds
def test_gather_images_from_far_apart(runners: Runners, build: Build) -> None:
    check_gather_images(runners(build, "gather_images"), FAR, ORDERS[build][-1:])


def test_gather_images_with_the_largest_grid(runners: Runners) -> None:
    check_gather_images(runners(PLAIN, "gather_images"), GatherCase(1000, 3, 4096 + 40), [Schedule(2, 8)])


@builds
@dtypes
def test_infogan_loss(runners: Runners, build: Build, dtype: torch.dtype) -> None:
    for case in loss_cases(dtype, FEW_ROWS[build]):
        check_infogan_loss(runners(build, "infogan_loss"), case, ORDERS[build])


@builds
def test_infogan_loss_with_float_gradients_of_half_inputs(runners: Runners, build: Build) -> None:
    for case in mixed_precision_cases(FEW_ROWS[build]):
        check_infogan_loss(runners(build, "infogan_loss"), case, ORDERS[build])


@builds
def test_infogan_loss_with_several_tiles_a_block(runners: Runners, build: Build) -> None:
    runner = runners(build, "infogan_loss", SMALL_GRID)
    for case in (LossCase(DEFAULT, 900, 500, 900), LossCase(MIXED, 10, 600, 800, torch.bfloat16)):
        check_infogan_loss(runner, case, ORDERS[build])


@pytest.mark.parametrize("latents", [DEFAULT, WIDE])
@pytest.mark.parametrize("wrong", [-1, 10**9])
def test_a_category_out_of_range_gives_nan_for_its_row_alone(
    runners: Runners, latents: str, wrong: int
) -> None:
    case = LossCase(latents, q_rows=33)
    right, bad = loss_inputs(case), 5
    assert right.categorical is not None
    categorical = right.categorical.clone()
    categorical[bad, 0] = wrong
    runner = runners(PLAIN, "infogan_loss")
    expected = run_infogan_loss(runner, case, right, Schedule())
    actual = run_infogan_loss(runner, case, replace(right, categorical=categorical), Schedule())
    size = LatentSpec.parse(latents).categorical_sizes[0]
    assert actual.grad_q[bad, :size].isnan().all()
    assert actual.terms[3].isnan() and actual.total.isnan()
    actual.grad_q[bad, :size] = expected.grad_q[bad, :size]
    assert torch.equal(actual.grad_q, expected.grad_q)
