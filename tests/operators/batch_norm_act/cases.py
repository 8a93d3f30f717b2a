"""Calls of batch_norm_act, forward and backward, on every device and in every order of threads.

Sums have another order on each device: results agree within rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from cuda_on_cpu.checks import ROWS, Schedule, close, moved, name_of
from cuda_on_cpu.kernels import Budget, KernelTests
from cuda_on_cpu.runner import Runner, given, poisoned, wanted
from operators.batch_norm_act import reference
from operators.batch_norm_act.mutants import MUTANTS, SMALL_GRID
from torch import Tensor

from infogan_fast.runtime import native

native.load()

EPS, MOMENTUM = 1e-5, 0.1
#: Of a result of this dtype: one rounding, and for float32 the order of sums.
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@dataclass(frozen=True)
class NormCase:
    """One call each way.

    Args:
        shape: of x, [N, C] or [N, C, H, W].
        parts: of the batch; empty for one.
        running: whether there are running statistics.
        of_weights: whether the gradients of weight and bias are asked for.
        offset: bytes by which x and the gradients are misaligned.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    parts: tuple[int, ...] = ()
    slope: float = 0.1
    running: bool = True
    of_weights: bool = True
    offset: int = 0

    def __str__(self) -> str:
        return f"{list(self.shape)} in {list(self.parts) or 1} {name_of(self.dtype)}"

    @property
    def starts(self) -> list[int]:
        """Of each part, in rows of channels."""
        starts, spatial = [0], self.shape[2] * self.shape[3] if len(self.shape) == 4 else 1
        for part in self.parts or (self.shape[0],):
            starts.append(starts[-1] + part * spatial)
        return starts

    @property
    def statistics_dtype(self) -> torch.dtype:
        return torch.float64 if self.dtype == torch.float64 else torch.float32


@dataclass
class NormInputs:
    """Of both calls."""

    x: Tensor
    grad_y: Tensor
    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor


@dataclass
class NormResults:
    """Of both calls; the gradients of weight and bias are empty where they are not asked for."""

    y: Tensor
    mean: Tensor
    rstd: Tensor
    running_mean: Tensor
    running_var: Tensor
    batches: Tensor
    grad_x: Tensor
    grad_weight: Tensor
    grad_bias: Tensor


@functools.cache
def norm_inputs(case: NormCase) -> NormInputs:
    """Draws the inputs of a case, the same ones each time; means far from 0 show a sloppy variance."""
    generator = torch.Generator().manual_seed(11)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    channels, statistics = case.shape[1], case.statistics_dtype
    by_channel = (1, channels) + (1,) * (len(case.shape) - 2)
    x = draw(*case.shape) * (0.5 + draw(*by_channel).abs()) + 3.0 * draw(*by_channel)
    return NormInputs(
        _channels_last(x.to(case.dtype)),
        _channels_last(draw(*case.shape).to(case.dtype)),
        (1.0 + 0.3 * draw(channels)).to(statistics),
        (0.3 * draw(channels)).to(statistics),
        draw(channels).to(statistics),
        draw(channels).abs().to(statistics),
    )


def _channels_last(tensor: Tensor) -> Tensor:
    format = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
    return tensor.contiguous(memory_format=format)


def normalise(case: NormCase, device: str = "cpu") -> NormResults:
    """The operator, forward and backward."""
    given_ = norm_inputs(case)
    x, grad_y = (moved(t, device, case.offset) for t in (given_.x, given_.grad_y))
    weight, bias = given_.weight.to(device), given_.bias.to(device)
    mean, var = given_.running_mean.clone().to(device), given_.running_var.clone().to(device)
    batches = torch.full((), 5, dtype=torch.int64, device=device)
    running = (mean, var, batches) if case.running else (None, None, None)
    operators = torch.ops.infogan_fast
    outputs = operators.batch_norm_act(x, weight, bias, *running, list(case.parts), EPS, MOMENTUM, case.slope)
    gradients = operators.batch_norm_act_backward(
        grad_y, x, *outputs[1:], weight, bias, list(case.parts), case.slope, case.of_weights
    )
    y, of_mean, of_rstd = outputs
    return NormResults(y, of_mean, of_rstd, mean, var, batches, *gradients)


@functools.cache
def _expected(case: NormCase) -> NormResults:
    """In float64."""
    given_ = norm_inputs(case)
    x, weight, bias = (t.double().requires_grad_() for t in (given_.x, given_.weight, given_.bias))
    y, means, variances = reference.batch_norm_act(x, weight, bias, case.parts, EPS, case.slope)
    grad_x, grad_weight, grad_bias = torch.autograd.grad(y, (x, weight, bias), given_.grad_y.double())
    counts = [end - start for start, end in zip(case.starts, case.starts[1:], strict=False)]
    mean, var, batches = given_.running_mean, given_.running_var, 5
    if case.running:
        mean = reference.running(mean, [m.detach() for m in means], counts, MOMENTUM, unbiased=False)
        var = reference.running(var, [v.detach() for v in variances], counts, MOMENTUM, unbiased=True)
        batches += len(counts)
    nothing = torch.empty(0, dtype=torch.float64)
    return NormResults(
        y.detach(),
        torch.stack(means).detach(),
        1 / (torch.stack(variances).detach() + EPS).sqrt(),
        mean,
        var,
        torch.tensor(batches),
        grad_x,
        grad_weight if case.of_weights else nothing,
        grad_bias if case.of_weights else nothing,
    )


def compare_norm(result: NormResults, case: NormCase, what: str) -> None:
    """Raises AssertionError unless the results are those of the plain statement within rounding."""
    expected = _expected(case)
    for field in fields(NormResults):
        actual, right = getattr(result, field.name).cpu(), getattr(expected, field.name)
        assert actual.shape == right.shape, f"{what}{field.name}: {actual.shape}, expected {right.shape}"
        sized = field.name in ("y", "grad_x")
        tolerance = TOLERANCE[case.dtype if sized else case.statistics_dtype]
        if field.name in ("grad_weight", "grad_bias"):
            tolerance *= case.starts[-1] ** 0.5  # sums over so many rows
        if right.numel():
            close(actual, right, tolerance, what + field.name)


def run_norm(runner: Runner, case: NormCase, schedule: Schedule) -> NormResults:
    """The kernels, forward and backward."""
    given_, channels = norm_inputs(case), case.shape[1]
    statistics = case.statistics_dtype
    mean, var = given_.running_mean.clone(), given_.running_var.clone()
    batches = torch.full((1,), 5, dtype=torch.int64)
    count = len(case.starts) - 1
    out = NormResults(
        _channels_last(poisoned(case.shape, case.dtype)),
        poisoned((count, channels), statistics),
        poisoned((count, channels), statistics),
        mean,
        var,
        batches,
        _channels_last(poisoned(case.shape, case.dtype)),
        poisoned((channels if case.of_weights else 0,), statistics),
        poisoned((channels if case.of_weights else 0,), statistics),
    )
    vectors = channels % 8 == 0 and case.offset % 16 == 0
    layout = (channels, int(vectors), given(torch.tensor(case.starts)), EPS, MOMENTUM, case.slope)
    order = {"seed": schedule.seed, "resident_blocks": schedule.resident_blocks}
    runner(
        f"batch_norm_act/{name_of(case.dtype)}",
        *layout,
        given(given_.x, case.offset),
        given(given_.weight),
        given(given_.bias),
        *((wanted(t) for t in (mean, var, batches)) if case.running else (None, None, None)),
        wanted(out.y, case.offset),
        wanted(out.mean),
        wanted(out.rstd),
        **order,
    )
    runner(
        f"batch_norm_act_backward/{name_of(case.dtype)}",
        *layout,
        given(given_.grad_y, case.offset),
        given(given_.x, case.offset),
        given(out.mean),
        given(out.rstd),
        given(given_.weight),
        given(given_.bias),
        wanted(out.grad_x, case.offset),
        *((wanted(t) for t in (out.grad_weight, out.grad_bias)) if case.of_weights else (None, None)),
        **order,
    )
    out.batches = batches[0]
    return out


def check_norm(runner: Runner, case: NormCase, schedules: Sequence[Schedule]) -> None:
    """Raises AssertionError when the kernels' results differ from what is expected under any schedule."""
    for schedule in schedules:
        compare_norm(run_norm(runner, case, schedule), case, f"{case}, {schedule}: ")


def norm_cases(dtype: torch.dtype, rows: tuple[int, ...] = ROWS) -> list[NormCase]:
    """batch_norm_act: vectors and maps, whole and partial tiles of channels, parts, slopes, no running
    statistics, frozen weights, rows off a 16-byte boundary, and parts of few rows and of many.
    """
    size = torch.empty(0, dtype=dtype).element_size()
    return [
        *(NormCase((n, 40), dtype) for n in rows if n > 1),
        *(NormCase((9, channels), dtype, slope=0.0) for channels in (1, 7, 8, 33)),
        NormCase((14, 24), dtype, parts=(4, 3, 7)),
        NormCase((6, 16, 3, 5), dtype, parts=(2, 4), slope=1.0),
        NormCase((9, 16), dtype, running=False, of_weights=False),
        NormCase((9, 16), dtype, offset=size),
        NormCase((600, 8), dtype, parts=(530, 70)),
        NormCase((15, 5, 6, 7), dtype, parts=(1, 14), running=False, of_weights=False),
    ]


KERNEL_TESTS = KernelTests(
    operator="batch_norm_act",
    run=normalise,
    compare=compare_norm,
    check=check_norm,
    cases=norm_cases,
    largest_on_gpu=(
        NormCase((256, 128, 28, 28), torch.bfloat16, parts=(128, 128)),
        NormCase((128, 6272), torch.bfloat16),
    ),
    several_tiles=(
        NormCase((30, 40, 4, 4), parts=(5, 25)),
        NormCase((300, 33), torch.bfloat16, parts=(60, 240)),
    ),
    mutant_cases=(
        NormCase((25, 40, 4, 4), parts=(5, 20)),
        NormCase((14, 24), torch.bfloat16, parts=(4, 10), offset=2),
        NormCase((150, 33), torch.float64, running=False, of_weights=False),
    ),
    mutants=MUTANTS,
    small_grid=SMALL_GRID,
    budgets={
        "batch_norm_act_kernel": Budget(256, 512),
        "batch_norm_act_moments_kernel": Budget(256, 512),
        "batch_norm_act_rows_kernel": Budget(256, 512),
        "batch_norm_act_backward_kernel": Budget(256, 256),
        "batch_norm_act_sums_kernel": Budget(256, 256),
        "batch_norm_act_gradients_kernel": Budget(256, 256),
    },
    vectorised={"batch_norm_act_rows_kernel": {"LDG", "STG"}},
)
