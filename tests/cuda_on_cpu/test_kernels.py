"""The kernels' own source run on the CPU, plainly and under sanitizers.

Results equal the CPU operators', in whatever order blocks, warps and lanes run.
"""

from __future__ import annotations

import pytest
import torch
from cuda_on_cpu.checks import DTYPES, SCHEDULES, Schedule, name_of
from cuda_on_cpu.fixtures import Runners
from cuda_on_cpu.harness import ASAN, PLAIN, TSAN, Build
from cuda_on_cpu.kernels import KernelTests, kernel_tests

#: ThreadSanitizer keeps a thread's worth of state for every CUDA thread: few rows, or few blocks.
FEW_ROWS = {PLAIN: (1, 7, 31, 33, 127, 129), ASAN: (1, 31, 129), TSAN: (1, 33)}
ORDERS = {PLAIN: SCHEDULES, ASAN: SCHEDULES[1::2], TSAN: SCHEDULES[3:]}

operators = pytest.mark.parametrize("tests", kernel_tests(), ids=str)
builds = pytest.mark.parametrize("build", [PLAIN, ASAN, TSAN], ids=lambda build: build.name)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=name_of)


@operators
@builds
@dtypes
def test_cases(runners: Runners, tests: KernelTests, build: Build, dtype: torch.dtype) -> None:
    for case in tests.cases(dtype, FEW_ROWS[build]):
        tests.check(runners(build, tests), case, ORDERS[build])


@operators
@builds
def test_several_tiles_a_block(runners: Runners, tests: KernelTests, build: Build) -> None:
    for case in tests.several_tiles:
        tests.check(runners(build, tests, tests.small_grid), case, ORDERS[build])


@pytest.mark.parametrize("tests", [t for t in kernel_tests() if t.largest], ids=str)
def test_the_largest_grid(runners: Runners, tests: KernelTests) -> None:
    for case in tests.largest:
        tests.check(runners(PLAIN, tests), case, [Schedule(2, 8)])


@pytest.mark.parametrize("tests", [t for t in kernel_tests() if t.far], ids=str)
@builds
def test_memory_far_apart(runners: Runners, tests: KernelTests, build: Build) -> None:
    for case in tests.far:
        tests.check(runners(build, tests), case, ORDERS[build][-1:])
