"""Calls of sample_latents: the same bits on every device and in every order of threads."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from cuda_on_cpu.checks import EPSILON, ROWS, Schedule, close, name_of, same_bits
from cuda_on_cpu.kernels import Budget, KernelTests
from cuda_on_cpu.runner import Runner, given, poisoned, wanted
from operators.sample_latents import reference
from operators.sample_latents.mutants import MUTANTS, SMALL_GRID
from operators.specs import CATEGORICAL, CONTINUOUS, DEFAULT, MIXED, NOISE
from torch import Tensor

from infogan_fast import ops
from infogan_fast.latents import LatentSpec


@dataclass(frozen=True)
class SampleCase:
    """One call of sample_latents. `offsets`: bytes that inputs, categorical, continuous are misaligned by."""

    latents: str
    rows: int
    dtype: torch.dtype = torch.float32
    seed: int = 1234567890123
    step: int = 5
    sample_offset: int = 0
    sample_stride: int = 1
    advance: bool = True
    offsets: tuple[int, int, int] = (0, 0, 0)

    def __str__(self) -> str:
        return f"{self.rows}x[{self.latents}] {name_of(self.dtype)}"


def draw(case: SampleCase, device: str = "cpu") -> tuple[ops.Latents, Tensor]:
    """(latents, the state after it) from the operator."""
    state = ops.rng_state(case.seed, case.step, device)
    spec = LatentSpec.parse(case.latents)
    latents = ops.sample_latents(
        state,
        case.rows,
        spec,
        dtype=case.dtype,
        sample_offset=case.sample_offset,
        sample_stride=case.sample_stride,
        advance=case.advance,
    )
    return latents, state


@functools.cache
def _expected_sample(case: SampleCase) -> ops.Latents:
    expected, _ = draw(case)
    inputs, categorical, continuous = reference.sample_latents(
        LatentSpec.parse(case.latents),
        case.seed,
        case.step,
        case.rows,
        case.sample_offset,
        case.sample_stride,
    )
    close(expected.inputs, inputs, EPSILON[case.dtype], "the CPU operator's inputs")
    same_bits(expected.categorical, categorical, "the CPU operator's categorical")
    close(expected.continuous, continuous, EPSILON[case.dtype], "the CPU operator's continuous")
    return expected


def compare_latents(result: tuple[ops.Latents, Tensor], case: SampleCase, what: str) -> None:
    """Raises AssertionError unless latents and state are what is expected to the bit."""
    actual, state = result
    same_bits(state.cpu(), torch.tensor([case.seed, case.step + int(case.advance)]), what + "state")
    expected = _expected_sample(case)
    # The categories first: where they are wrong, so is what follows from them.
    for name in ("categorical", "inputs", "continuous"):
        same_bits(getattr(actual, name).cpu(), getattr(expected, name), what + name)


def check_sample_latents(runner: Runner, case: SampleCase, schedules: Sequence[Schedule]) -> None:
    """Raises AssertionError when the kernel's results differ from what is expected under any schedule."""
    spec = LatentSpec.parse(case.latents)
    sizes, kinds, cdf = spec.operator_arguments
    for schedule in schedules:
        state = torch.tensor([case.seed, case.step])
        latents = ops.Latents(
            poisoned((case.rows, spec.latent_dim), case.dtype),
            poisoned((case.rows, spec.n_categorical), torch.int32),
            poisoned((case.rows, spec.n_continuous), torch.float32),
        )
        runner(
            f"sample_latents/{name_of(case.dtype)}",
            wanted(state),
            case.rows,
            spec.noise_dim,
            int(spec.noise == "uniform"),
            given(torch.tensor(sizes, dtype=torch.int64)),
            given(torch.tensor(kinds, dtype=torch.int64)),
            given(None if cdf is None else torch.tensor(cdf, dtype=torch.float32)),
            case.sample_offset,
            case.sample_stride,
            int(case.advance),
            *(wanted(output, offset) for output, offset in zip(latents, case.offsets, strict=True)),
            seed=schedule.seed,
            resident_blocks=schedule.resident_blocks,
        )
        compare_latents((latents, state), case, f"{case}, {schedule}: ")


def sample_cases(dtype: torch.dtype, rows: tuple[int, ...] = ROWS) -> list[SampleCase]:
    """sample_latents: every specification, then offsets, large counters, a state that stays, and strides."""
    size = torch.empty(0, dtype=dtype).element_size()
    return [
        *(
            SampleCase(latents, n, dtype)
            for latents in (DEFAULT, MIXED, CATEGORICAL, CONTINUOUS, NOISE)
            for n in rows
        ),
        SampleCase(DEFAULT, rows[-1], dtype, seed=-1, step=2**47 + 2**33 + 1, sample_offset=2**40 + 3),
        SampleCase(MIXED, rows[-1], dtype, advance=False, offsets=(size, 4, 4)),
        SampleCase(MIXED, rows[-1], dtype, sample_offset=2, sample_stride=3),
        SampleCase(DEFAULT, rows[-1], dtype, sample_offset=2**33 + 1, sample_stride=2**31 - 1),
    ]


KERNEL_TESTS = KernelTests(
    operator="sample_latents",
    run=draw,
    compare=compare_latents,
    check=check_sample_latents,
    cases=sample_cases,
    largest=(SampleCase("noise=1,cat=3,uniform=1", 16 * 4096 + 40),),
    several_tiles=(SampleCase(DEFAULT, 129), SampleCase(MIXED, 127, torch.bfloat16)),
    # On the small grid: several blocks and tiles a block, every path; the last of each is not a whole tile.
    mutant_cases=(
        SampleCase(DEFAULT, 137),
        SampleCase(MIXED, 127, torch.bfloat16),
        SampleCase("noise=70", 33),
        SampleCase(MIXED, 33, sample_offset=1, sample_stride=2),
    ),
    mutants=MUTANTS,
    small_grid=SMALL_GRID,
    budgets={"sample_latents_kernel": Budget(256, 1024)},
)
