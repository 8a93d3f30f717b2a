"""Calls of adam_update: the same bits on every device and in every order of threads."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from cuda_on_cpu.checks import ROWS, Schedule, close, name_of, same_bits
from cuda_on_cpu.kernels import Budget, KernelTests
from cuda_on_cpu.runner import Runner, given, wanted
from operators.adam_update import reference
from operators.adam_update.mutants import MUTANTS, SMALL_GRID
from torch import Tensor

from infogan_fast import ops

BETAS, EPS = (0.5, 0.999), 1e-8
LOW = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class AdamCase:
    """One call of adam_update on drawn tensors.

    Args:
        sizes: of the tensors; each lies on the next multiple of 8, with a gap of 8 more after every third.
        dtype: of the gradients; with a half type each third one is float32, as are the masters.
        rates: learning rates of the groups, which the tensors take in turn.
        twice: whether every second tensor has two gradients.
        averaged: elements of the moving average; 0 leaves it out.
        every: how many updates move it once.
        scale: of the gradients; None leaves grad_scale out.
        found_inf: None leaves it out.
        offset: bytes by which the gradients are misaligned.
        step: of the first group; each next one has half as many.
    """

    sizes: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    rates: tuple[float, ...] = (1e-3,)
    twice: bool = False
    averaged: int = 0
    every: int = 1
    scale: float | None = None
    found_inf: float | None = None
    offset: int = 0
    step: int = 7
    seed: int = 5

    def __str__(self) -> str:
        return f"{len(self.sizes)} tensors of {min(self.sizes)} to {max(self.sizes)} {name_of(self.dtype)}"

    @property
    def master_dtype(self) -> torch.dtype:
        return torch.float32 if self.dtype in LOW else self.dtype

    @property
    def places(self) -> list[int]:
        places, at = [], 0
        for i, size in enumerate(self.sizes):
            places.append(at)
            at = -(-(at + size) // 8) * 8 + (8 if i % 3 == 2 else 0)
        return places

    @property
    def groups(self) -> list[int]:
        return [i % len(self.rates) for i in range(len(self.sizes))]


@dataclass
class Buffers:
    """What a call updates; and the gradients of each tensor, one or two."""

    masters: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    steps: Tensor
    weights: Tensor | None
    average: Tensor | None

    def copy(self, device: str = "cpu") -> Buffers:
        copied: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            copied[field.name] = None if value is None else value.clone().to(device)
        return Buffers(**copied)


@functools.cache
def drawn(case: AdamCase) -> tuple[Buffers, tuple[tuple[Tensor, ...], ...]]:
    """The buffers before a call, and its gradients; the same ones each time."""
    generator = torch.Generator().manual_seed(case.seed)
    length = -(-(case.places[-1] + case.sizes[-1]) // 8) * 8 + 16

    def draw(n: int, dtype: torch.dtype) -> Tensor:
        return torch.randn(n, generator=generator, dtype=torch.float64).to(dtype)

    master = case.master_dtype
    buffers = Buffers(
        draw(length, master),
        draw(length, master) / 8,
        draw(length, master).square() / 8,
        torch.tensor([case.step // (group + 1) for group in range(len(case.rates))]),
        torch.full((length,), 3.0, dtype=case.dtype) if case.dtype in LOW else None,
        draw(case.averaged, master) if case.averaged else None,
    )
    gradients = []
    for i, size in enumerate(case.sizes):
        dtype = master if i % 3 == 2 else case.dtype
        count = 2 if case.twice and i % 2 == 1 else 1
        gradients.append(tuple(draw(size, dtype) * (case.scale or 1.0) for _ in range(count)))
    return buffers, tuple(gradients)


def _at(tensor: Tensor, device: str, offset: int) -> Tensor:
    """A copy on a device, `offset` bytes past the start of an allocation."""
    before = offset // tensor.element_size()
    memory = torch.empty(before + tensor.numel(), dtype=tensor.dtype, device=device)
    memory[before:] = tensor
    return memory[before:]


def update(case: AdamCase, device: str = "cpu") -> Buffers:
    """What the operator leaves."""
    before, gradients = drawn(case)
    buffers = before.copy(device)
    repeated = [(i, g) for i, several in enumerate(gradients) for g in several]
    ops.adam_update(
        buffers.masters,
        buffers.exp_avg,
        buffers.exp_avg_sq,
        buffers.steps,
        [_at(g, device, case.offset) for _, g in repeated],
        [case.places[i] for i, _ in repeated],
        [case.groups[i] for i, _ in repeated],
        case.rates,
        betas=BETAS,
        eps=EPS,
        weights=buffers.weights,
        average=buffers.average,
        average_decay=0.6,
        average_every=case.every,
        grad_scale=None if case.scale is None else torch.tensor(case.scale, device=device),
        found_inf=None if case.found_inf is None else torch.tensor(case.found_inf, device=device),
    )
    return buffers


def check_against_reference(result: Buffers, case: AdamCase) -> None:
    """Raises AssertionError unless the weights are those of the plain statement, and the gaps untouched."""
    before, gradients = drawn(case)
    expected = before.copy()
    if not case.found_inf:
        expected.steps += 1
        for i, (place, size) in enumerate(zip(case.places, case.sizes, strict=True)):
            at = slice(place, place + size)
            average = torch.zeros(len(expected.masters), dtype=torch.float64)
            if before.average is not None:
                average[: case.averaged] = before.average.double()
            group = case.groups[i]
            after = reference.adam(
                reference.Weight(
                    before.masters[at].double(),
                    before.exp_avg[at].double(),
                    before.exp_avg_sq[at].double(),
                    average[at],
                ),
                gradients[i],
                int(before.steps[group]) + 1,
                case.rates[group],
                BETAS,
                EPS,
                case.scale or 1.0,
                int(before.steps[0]) + 1,
                0.6,
                case.every,
            )
            expected.masters[at] = after.value.to(case.master_dtype)
            expected.exp_avg[at] = after.exp_avg.to(case.master_dtype)
            expected.exp_avg_sq[at] = after.exp_avg_sq.to(case.master_dtype)
            if expected.average is not None:
                covered = min(size, max(0, case.averaged - place))
                expected.average[place : place + covered] = after.average[:covered].to(case.master_dtype)
            if expected.weights is not None:
                expected.weights[at] = result.masters[at].to(case.dtype)
    tolerance = 1e-12 if case.dtype == torch.float64 else 3e-6
    same_bits(result.steps, expected.steps, f"{case}: steps")
    for name in ("masters", "exp_avg", "exp_avg_sq", "average"):
        if getattr(expected, name) is not None:
            close(getattr(result, name), getattr(expected, name), tolerance, f"{case}: {name}")
    if expected.weights is not None and result.weights is not None:
        same_bits(result.weights, expected.weights, f"{case}: weights")


@functools.cache
def _expected(case: AdamCase) -> Buffers:
    result = update(case)
    check_against_reference(result, case)
    return result


def compare_adam(result: Buffers, case: AdamCase, what: str) -> None:
    """Raises AssertionError unless every buffer is what the CPU operator leaves, to the bit."""
    expected = _expected(case)
    for field in fields(Buffers):
        actual, right = getattr(result, field.name), getattr(expected, field.name)
        if right is not None:
            same_bits(actual.cpu(), right, what + field.name)


def check_adam_update(runner: Runner, case: AdamCase, schedules: Sequence[Schedule]) -> None:
    """Raises AssertionError when the kernel's results differ from what is expected under any schedule."""
    before, gradients = drawn(case)
    for schedule in schedules:
        b = before.copy()
        tensors = []
        for i, several in enumerate(gradients):
            tensors += [
                given(several[0], case.offset),
                given(several[1], case.offset) if len(several) == 2 else None,
                case.places[i],
                case.sizes[i],
                case.groups[i],
                int(several[0].dtype != case.master_dtype),
            ]
        runner(
            f"adam_update/{name_of(case.dtype)}",
            wanted(b.masters),
            wanted(b.exp_avg),
            wanted(b.exp_avg_sq),
            None if b.weights is None else wanted(b.weights),
            None if b.average is None else wanted(b.average),
            case.averaged,
            wanted(b.steps),
            given(None if case.scale is None else torch.tensor(case.scale)),
            given(None if case.found_inf is None else torch.tensor(case.found_inf)),
            given(torch.tensor(case.rates, dtype=torch.float64)),
            *BETAS,
            EPS,
            0.6,
            case.every,
            len(case.sizes),
            *tensors,
            seed=schedule.seed,
            resident_blocks=schedule.resident_blocks,
        )
        compare_adam(b, case, f"{case}, {schedule}: ")


def adam_cases(dtype: torch.dtype, rows: tuple[int, ...] = ROWS) -> list[AdamCase]:
    """adam_update: whole vectors, tails and both; several groups, two gradients of a tensor, a moving average
    that ends within a tensor and moves in some updates, gradients off a 16-byte boundary, a scale, an
    overflow, a first step.
    """
    size = torch.empty(0, dtype=dtype).element_size()
    return [
        *(AdamCase((n,), dtype) for n in rows),
        AdamCase((9, 64, 1, 2100, 8), dtype, rates=(1e-3, 2e-4)),
        AdamCase((40, 17, 300), dtype, twice=True, scale=64.0),
        AdamCase((40, 19, 30), dtype, averaged=51, rates=(1e-3, 2e-3, 0.0)),
        AdamCase((40, 19), dtype, averaged=40, step=10**6),
        AdamCase((40, 19), dtype, averaged=40, every=4),
        AdamCase((40, 19), dtype, averaged=40, every=3),
        AdamCase((40, 19), dtype, averaged=40, every=3, step=19),
        AdamCase((40, 19), dtype, averaged=40, every=3, step=20),
        AdamCase((40, 19), dtype, averaged=40, every=5, step=10**6 - 1),
        AdamCase((40, 19), dtype, averaged=40, every=5, step=4, rates=(1e-3, 2e-4)),
        AdamCase((40, 19), dtype, offset=size, step=0),
        AdamCase((40, 19), dtype, averaged=48, found_inf=1.0),
        AdamCase((40, 19), dtype, found_inf=0.0, scale=0.5),
    ]


KERNEL_TESTS = KernelTests(
    operator="adam_update",
    run=update,
    compare=compare_adam,
    check=check_adam_update,
    cases=adam_cases,
    largest_on_gpu=(AdamCase((5_000_000, 13), torch.bfloat16, averaged=3_000_001),),
    several_tiles=(AdamCase((9000, 100, 3000), rates=(1e-3, 2e-3)), AdamCase((7000, 41), torch.bfloat16)),
    mutant_cases=(
        AdamCase(
            (2500, 17, 300, 12), torch.bfloat16, rates=(1e-3, 2e-3), twice=True, averaged=2510, scale=4.0
        ),
        AdamCase((5000, 19), torch.float64, offset=8),
        AdamCase((19, 30), torch.float16, found_inf=1.0),
        AdamCase((40, 19), averaged=40, every=3, step=19),
        AdamCase((40, 19), averaged=40, every=3, step=20),
        AdamCase((40, 19), averaged=40, every=5),
        AdamCase((40, 19), averaged=40, every=4, step=10**6 - 1),
    ),
    mutants=MUTANTS,
    small_grid=SMALL_GRID,
    budgets={"adam_update_kernel": Budget(256, 512)},
    vectorised={"adam_update_kernel": {"LDG", "STG"}},
)
