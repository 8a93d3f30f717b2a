"""Calls of infogan_loss on every device and in every order of threads.

Gradients are the same bits, sums equal within rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from cuda_on_cpu.checks import EPSILON, ROWS, Schedule, close, name_of, same_bits
from cuda_on_cpu.kernels import Budget, KernelTests
from cuda_on_cpu.runner import Runner, given, poisoned, wanted
from operators.infogan_loss import reference
from operators.infogan_loss.mutants import MUTANTS, SMALL_GRID
from operators.specs import CATEGORICAL, CONTINUOUS, DEFAULT, MIDDLE, MIXED, NOISE, WIDE
from torch import Tensor

from infogan_fast import ops
from infogan_fast.latents import LatentSpec


@dataclass(frozen=True)
class LossCase:
    """One call of infogan_loss on drawn inputs.

    Args:
        real_rows, fake_rows, q_rows: 0 leaves the input out.
        fixed_log_variance: None where Q learns the variance.
        logit_stride: elements from one logit to the next.
        q_padding: columns of the tensor that q_output is a slice of, past its own.
        offset: bytes by which all inputs and gradients are misaligned.
        scale: of the logits and Q's output; large ones reach every clamp.
        with_sums: whether the terms are added to sums.
    """

    latents: str
    real_rows: int = 0
    fake_rows: int = 0
    q_rows: int = 0
    dtype: torch.dtype = torch.float32
    grad_dtype: torch.dtype | None = None
    fixed_log_variance: float | None = None
    grad_scale: float | None = None
    logit_stride: int = 1
    q_padding: int = 0
    offset: int = 0
    scale: float = 2.0
    with_sums: bool = True

    def __str__(self) -> str:
        rows = f"{self.real_rows}/{self.fake_rows}/{self.q_rows}"
        return f"{rows}x[{self.latents}] {name_of(self.dtype)}"

    @property
    def spec(self) -> LatentSpec:
        return LatentSpec.parse(self.latents)

    @property
    def n_log_variances(self) -> int:
        return len(self.spec.ordered_codes) if self.fixed_log_variance is None else 0

    @property
    def n_terms(self) -> int:
        return 3 + self.spec.n_codes + self.spec.n_continuous + self.n_log_variances

    @property
    def places(self) -> list[int]:
        """Backwards, with a gap; every third term is left out."""
        return [-1 if i % 3 == 1 else 2 * i + 1 for i in reversed(range(self.n_terms))]


@dataclass(frozen=True)
class LossInputs:
    """The tensors of a :class:`LossCase`; ``sums`` changes in a call."""

    real: Tensor | None
    fake: Tensor | None
    q: Tensor | None
    categorical: Tensor | None
    continuous: Tensor | None
    weights: ops.LossWeights
    grad_scale: Tensor | None
    sums: Tensor | None


class LossResult(NamedTuple):
    """What a call returns and changes."""

    loss: ops.InfoGANLoss
    sums: Tensor | None


@functools.cache
def loss_inputs(case: LossCase) -> LossInputs:
    """Draws the inputs of a case, the same ones each time."""
    spec = case.spec
    generator = torch.Generator().manual_seed(17)

    def draw(rows: int, columns: int, width: int) -> Tensor | None:
        if rows == 0:
            return None
        values = torch.randn(rows, width, generator=generator, dtype=torch.float64) * case.scale
        return values.clamp(-6e4, 6e4).to(case.dtype)[:, :columns]

    real, fake = (
        None if x is None else x[:, 0]
        for x in (draw(case.real_rows, 1, case.logit_stride), draw(case.fake_rows, 1, case.logit_stride))
    )
    q_dim = spec.q_dim(case.fixed_log_variance is None)
    q = draw(case.q_rows, q_dim, q_dim + case.q_padding)
    codes = ops.sample_latents(ops.rng_state(3), max(case.q_rows, 1), spec)
    return LossInputs(
        real,
        fake,
        q,
        None if q is None else codes.categorical,
        None if q is None else codes.continuous,
        ops.LossWeights(
            d_real=0.0 if real is None else 1.0,
            d_fake=0.0 if fake is None else 0.5,
            g=0.0 if fake is None else 0.25,
            codes=() if q is None else tuple(1.0 - 0.1 * i for i in range(spec.n_codes)),
        ),
        None if case.grad_scale is None else torch.tensor(case.grad_scale),
        torch.arange(2.0 * case.n_terms + 1, dtype=torch.float64) if case.with_sums else None,
    )


def _moved(tensor: Tensor | None, device: str, offset: int = 0) -> Tensor | None:
    """The same on a device, strides kept, `offset` bytes past the start of an allocation."""
    if tensor is None:
        return None
    extent = 1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    before = offset // tensor.element_size()
    memory = torch.full((before + extent,), float("nan"), dtype=tensor.dtype, device=device)
    moved = memory.as_strided(tensor.shape, tensor.stride(), before)
    moved.copy_(tensor)
    return moved


def score(case: LossCase, device: str = "cpu") -> LossResult:
    """Terms and gradients from the operator."""
    x = loss_inputs(case)
    sums = None if x.sums is None else x.sums.to(device, copy=True)
    loss = ops.infogan_loss(
        case.spec,
        weights=x.weights,
        real_logits=_moved(x.real, device, case.offset),
        fake_logits=_moved(x.fake, device, case.offset),
        q_output=_moved(x.q, device, case.offset),
        categorical=None if x.categorical is None else x.categorical.to(device),
        continuous=None if x.continuous is None else x.continuous.to(device),
        fixed_log_variance=case.fixed_log_variance,
        grad_scale=None if x.grad_scale is None else x.grad_scale.to(device),
        grad_dtype=case.grad_dtype,
        sums=sums,
        places=case.places if sums is not None else (),
    )
    return LossResult(loss, sums)


@functools.cache
def _expected_loss(case: LossCase) -> LossResult:
    spec, x = case.spec, loss_inputs(case)
    result = score(case)
    expected = result.loss
    leaves = [None if t is None else t.double().requires_grad_() for t in (x.real, x.fake, x.q)]
    terms, errors = reference.infogan_terms(
        spec, leaves[0], leaves[1], leaves[2], x.categorical, x.continuous, case.fixed_log_variance
    )
    tolerance = 1e-12 if case.dtype == torch.float64 else 2e-6
    close(expected.terms, torch.stack([*terms, *errors]).detach(), tolerance, "the CPU operator's terms")
    if x.sums is not None and result.sums is not None:
        added = torch.zeros_like(x.sums)
        for place, mean in zip(case.places, [*terms, *errors], strict=True):
            if place >= 0:
                added[place] += mean.detach()
        close(result.sums - x.sums, added, tolerance, "the CPU operator's sums")
    total = reference.infogan_total(terms, x.weights)
    total.backward()
    # A float gradient is a difference of parts of size weight / rows.
    tolerance = max(tolerance, EPSILON[case.grad_dtype or case.dtype] if case.dtype != torch.float64 else 0.0)
    for leaf, gradient in zip(leaves, expected[2:], strict=True):
        if leaf is not None and leaf.grad is not None:
            # A sample's share of the gradient is a difference of parts of size 1, whatever multiplies them.
            scale = case.grad_scale or 1.0
            right = (leaf.grad * scale).to(gradient.dtype).double()
            share = leaf.shape[0] / scale
            close(
                gradient.double() * share,
                right * share,
                tolerance,
                "the CPU operator's gradient of a sample, ",
            )
    return result


def compare_loss(result: LossResult, case: LossCase, what: str) -> None:
    """Raises AssertionError unless gradients are what is expected to the bit, and sums within rounding."""
    actual, sums = result
    expected, expected_sums = _expected_loss(case)
    tolerance = 1e-12 if case.dtype == torch.float64 else 2e-6
    for name in ("grad_real", "grad_fake", "grad_q"):
        value, right = getattr(actual, name), getattr(expected, name)
        if value.is_cuda and case.dtype == torch.float64:  # exp and log of doubles are each platform's own
            close(value.cpu(), right, tolerance, what + name)
        else:
            same_bits(value.cpu(), right, what + name)
    close(actual.terms.cpu(), expected.terms, tolerance, what + "terms")
    if expected_sums is not None:
        assert sums is not None
        close(sums.cpu(), expected_sums, tolerance, what + "sums")
    close(actual.total.cpu().reshape(1), expected.total.reshape(1), tolerance * 10, what + "total")


def run_infogan_loss(runner: Runner, case: LossCase, x: LossInputs, schedule: Schedule) -> LossResult:
    """Terms and gradients from the kernels."""
    spec = case.spec
    sizes, kinds, _ = spec.operator_arguments
    grad_dtype = case.grad_dtype or case.dtype
    accumulated = torch.float64 if case.dtype == torch.float64 else torch.float32
    blocks = max(1, *((rows + 31) // 32 for rows in (case.real_rows, case.fake_rows, case.q_rows)))
    gradients = [poisoned((0,) if t is None else tuple(t.shape), grad_dtype) for t in (x.real, x.fake, x.q)]
    terms, total = poisoned((case.n_terms,), accumulated), poisoned((1,), accumulated)
    sums = None if x.sums is None else x.sums.clone()
    weights = [x.weights.d_real, x.weights.d_fake, x.weights.g, *(x.weights.codes or (0.0,) * spec.n_codes)]
    runner(
        "/".join(dict.fromkeys(["infogan_loss", name_of(case.dtype), name_of(grad_dtype)])),
        given(x.real, case.offset),
        case.real_rows,
        0 if x.real is None else x.real.stride(0),
        given(x.fake, case.offset),
        case.fake_rows,
        0 if x.fake is None else x.fake.stride(0),
        given(x.q, case.offset),
        case.q_rows,
        0 if x.q is None else x.q.stride(0),
        spec.q_dim(case.fixed_log_variance is None),
        given(x.categorical if spec.n_categorical else None),
        given(x.continuous if spec.n_continuous else None),
        given(torch.tensor(sizes, dtype=torch.int64)),
        given(torch.tensor(kinds, dtype=torch.int64)),
        given(torch.tensor(weights, dtype=torch.float64)),
        int(case.fixed_log_variance is None),
        float(case.fixed_log_variance or 0.0),
        case.n_log_variances,
        given(x.grad_scale),
        None if sums is None else wanted(sums),
        given(torch.tensor(case.places, dtype=torch.int64)),
        *(wanted(gradient, case.offset) for gradient in gradients),
        wanted(poisoned((blocks * case.n_terms,), accumulated)),
        wanted(terms),
        wanted(total),
        seed=schedule.seed,
        resident_blocks=schedule.resident_blocks,
    )
    return LossResult(ops.InfoGANLoss(total, terms, *gradients), sums)


def check_infogan_loss(runner: Runner, case: LossCase, schedules: Sequence[Schedule]) -> None:
    """Raises AssertionError when the kernels' results differ from what is expected under any schedule."""
    first: Tensor | None = None
    for schedule in schedules:
        actual = run_infogan_loss(runner, case, loss_inputs(case), schedule)
        what = f"{case}, {schedule}: "
        compare_loss(actual, case, what)
        sums = torch.cat([actual.loss.terms, actual.loss.total])
        if first is not None:
            same_bits(sums, first, what + "[terms, total], which no order of execution may change, ")
        first = sums


def loss_cases(dtype: torch.dtype, rows: tuple[int, ...] = ROWS) -> list[LossCase]:
    """infogan_loss: the D step, the G step and both; sliced, strided and misaligned inputs; every clamp."""
    size = torch.empty(0, dtype=dtype).element_size()
    last = rows[-1]
    return [
        *(LossCase(DEFAULT, n, n, n, dtype) for n in rows),
        *(LossCase(MIXED, 0, n, n, dtype, fixed_log_variance=0.5) for n in rows[::2]),
        LossCase(NOISE, last, rows[0], 0, dtype),
        LossCase(MIXED, last, 0, last, dtype, grad_scale=1024.0),
        LossCase(CATEGORICAL, 0, last, rows[-2], dtype, with_sums=False),
        LossCase(CONTINUOUS, rows[0], 0, last, dtype, logit_stride=3),
        LossCase(DEFAULT, 0, 0, last, dtype, q_padding=5),
        LossCase(DEFAULT, last, rows[-2], last, dtype, offset=size, logit_stride=2),
        LossCase(MIDDLE, 0, 0, last, dtype),
        LossCase(MIDDLE, 0, 0, last, dtype, offset=8, q_padding=1),
        LossCase(WIDE, 0, last, rows[-2], dtype, q_padding=3),
        LossCase(MIXED, last, last, last, dtype, scale=1e4),
        LossCase(DEFAULT, 1025, 33, 1024, dtype),
        LossCase(DEFAULT, 1024, 1024, 512, dtype),
        *(mixed_precision_cases(dtype, rows) if size == 2 else []),
    ]


def mixed_precision_cases(dtype: torch.dtype, rows: tuple[int, ...]) -> list[LossCase]:
    """infogan_loss: half inputs with float gradients."""
    return [
        LossCase(latents, n, n, n, dtype, grad_dtype=torch.float32)
        for latents in (DEFAULT, MIDDLE, WIDE)
        for n in rows[::3] + rows[-1:]
    ]


KERNEL_TESTS = KernelTests(
    operator="infogan_loss",
    run=score,
    compare=compare_loss,
    check=check_infogan_loss,
    cases=loss_cases,
    largest_on_gpu=(LossCase(DEFAULT, 300_000, 200_000, 200_000),),
    several_tiles=(LossCase(DEFAULT, 900, 500, 900), LossCase(MIXED, 10, 600, 800, torch.bfloat16)),
    mutant_cases=(
        LossCase(DEFAULT, 500, 390, 900, q_padding=3),
        LossCase(DEFAULT, 0, 33, 129, torch.float16, offset=2),
        LossCase(MIDDLE, 0, 0, 260),
        LossCase(WIDE, 0, 0, 33),
        LossCase(MIXED, 0, 0, 260, scale=20.0, grad_scale=8.0),
        LossCase(MIXED, 40, 10, 150),
    ),
    mutants=MUTANTS,
    small_grid=SMALL_GRID,
    budgets={"infogan_loss_kernel": Budget(512, 512), "infogan_loss_finish_kernel": Budget(256, 256)},
    vectorised={"infogan_loss_kernel": {"LDG", "STG"}},
)
