"""Calls of batch_norm_act, forward and backward, on every device and in every order of threads.

Sums have another order on each device: results agree within rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from cuda_on_cpu.checks import ROWS, Schedule, close, moved, name_of
from cuda_on_cpu.kernels import Budget, KernelTests
from cuda_on_cpu.runner import Argument, Runner, given, poisoned, wanted
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
        ranks: processes that share each part of the batch, taking turns.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    parts: tuple[int, ...] = ()
    slope: float = 0.1
    running: bool = True
    of_weights: bool = True
    offset: int = 0
    ranks: int = 1

    def __str__(self) -> str:
        shared = f" of {self.ranks} ranks" if self.ranks > 1 else ""
        return f"{list(self.shape)} in {list(self.parts) or 1} {name_of(self.dtype)}{shared}"

    @property
    def starts(self) -> list[int]:
        """Of each part, in rows of channels."""
        starts, spatial = [0], self.shape[2] * self.shape[3] if len(self.shape) == 4 else 1
        for part in self.parts or (self.shape[0],):
            starts.append(starts[-1] + part * spatial)
        return starts

    def share(self, rank: int) -> tuple[Tensor, list[int]]:
        """Which rows of x a rank has, and how many in each part."""
        rows, start = [], 0
        for part in self.parts or (self.shape[0],):
            rows.append(torch.arange(start + rank, start + part, self.ranks))
            start += part
        return torch.cat(rows), [len(own) for own in rows]

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


Running = tuple[Tensor, Tensor, Tensor] | tuple[None, None, None]
Three = tuple[Tensor, Tensor, Tensor]


class Calls(Protocol):
    """The four operators, or their kernels. The statistics are mean and rstd, then weight and bias."""

    def forward(
        self, x: Tensor, weights: Sequence[Tensor], running: Running, parts: list[int], sums: Tensor | None
    ) -> Three: ...

    def backward(
        self,
        grad_y: Tensor,
        x: Tensor,
        statistics: Sequence[Tensor],
        parts: list[int],
        of_weights: bool,
        sums: Tensor | None,
    ) -> Three: ...

    def sums(self, x: Tensor, parts: list[int]) -> Tensor: ...

    def backward_sums(
        self, grad_y: Tensor, x: Tensor, statistics: Sequence[Tensor], parts: list[int]
    ) -> Tensor: ...


@dataclass
class OperatorCalls:
    """The operators, on a device."""

    case: NormCase
    device: str

    def _moved(self, tensor: Tensor) -> Tensor:
        return moved(tensor, self.device, self.case.offset)

    def forward(
        self, x: Tensor, weights: Sequence[Tensor], running: Running, parts: list[int], sums: Tensor | None
    ) -> Three:
        result: Three = torch.ops.infogan_fast.batch_norm_act(
            self._moved(x), *weights, *running, parts, EPS, MOMENTUM, self.case.slope, sums
        )
        return result

    def backward(
        self,
        grad_y: Tensor,
        x: Tensor,
        statistics: Sequence[Tensor],
        parts: list[int],
        of_weights: bool,
        sums: Tensor | None,
    ) -> Three:
        result: Three = torch.ops.infogan_fast.batch_norm_act_backward(
            self._moved(grad_y), self._moved(x), *statistics, parts, self.case.slope, of_weights, sums
        )
        return result

    def sums(self, x: Tensor, parts: list[int]) -> Tensor:
        result: Tensor = torch.ops.infogan_fast.batch_norm_act_sums(self._moved(x), parts)
        return result

    def backward_sums(
        self, grad_y: Tensor, x: Tensor, statistics: Sequence[Tensor], parts: list[int]
    ) -> Tensor:
        result: Tensor = torch.ops.infogan_fast.batch_norm_act_backward_sums(
            self._moved(grad_y), self._moved(x), *statistics, parts, self.case.slope
        )
        return result


def normalise(case: NormCase, device: str = "cpu") -> NormResults:
    """The operators, forward and backward."""
    return both_ways(case, OperatorCalls(case, device), device)


def both_ways(case: NormCase, calls: Calls, device: str = "cpu") -> NormResults:
    """Forward and backward, of one process or of several in turn."""
    given_, channels = norm_inputs(case), case.shape[1]
    weights = given_.weight.to(device), given_.bias.to(device)

    def new_running() -> Three:
        batches = torch.full((1,), 5, dtype=torch.int64, device=device)
        mean, var = given_.running_mean.clone().to(device), given_.running_var.clone().to(device)
        return mean, var, batches

    kept, nothing = new_running(), (None, None, None)
    if case.ranks == 1:
        parts = list(case.parts)
        y, *moments = calls.forward(given_.x, weights, kept if case.running else nothing, parts, None)
        gradients = calls.backward(
            given_.grad_y, given_.x, (*moments, *weights), parts, case.of_weights, None
        )
        return NormResults(y, moments[0], moments[1], kept[0], kept[1], kept[2][0], *gradients)

    y, grad_x = torch.empty_like(given_.x, device=device), torch.empty_like(given_.x, device=device)
    shares = [case.share(rank) for rank in range(case.ranks)]
    xs, grads = ([_channels_last(values[rows]) for rows, _ in shares] for values in (given_.x, given_.grad_y))
    sums = _added([calls.sums(x, parts) for x, (_, parts) in zip(xs, shares, strict=True)])
    found = []
    for rank, (rows, parts) in enumerate(shares):
        running = kept if rank == 0 else new_running()
        output, *moments = calls.forward(xs[rank], weights, running if case.running else nothing, parts, sums)
        y[rows] = output
        found.append([*moments, *running])
    for others in found[1:]:
        for own, first in zip(others, found[0], strict=True):
            assert torch.equal(own, first), f"{case}: the ranks' statistics differ"
    statistics = (*found[0][:2], *weights)
    sums = _added(
        [
            calls.backward_sums(grads[rank], xs[rank], statistics, shares[rank][1])
            for rank in range(case.ranks)
        ]
    )
    for rank, (rows, parts) in enumerate(shares):
        grad_x[rows] = calls.backward(grads[rank], xs[rank], statistics, parts, False, sums)[0]
    of_weights = sums.sum(0).to(case.statistics_dtype) if case.of_weights else sums.new_empty(0)
    grad_weight, grad_bias = of_weights[channels : 2 * channels], of_weights[:channels]
    mean, rstd = found[0][:2]
    return NormResults(y, mean, rstd, kept[0], kept[1], kept[2][0], grad_x, grad_weight, grad_bias)


def _added(sums: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(sums)).sum(0)


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


@dataclass
class KernelCalls:
    """The kernels, in the order of a schedule."""

    runner: Runner
    case: NormCase
    schedule: Schedule

    def _run(self, operator: str, x: Tensor, parts: list[int], *arguments: Argument) -> None:
        channels, starts = self.case.shape[1], [0]
        for part in parts or [len(x)]:
            starts.append(starts[-1] + part * (x.numel() // len(x) // channels))
        vectors = channels % 8 == 0 and self.case.offset % 16 == 0
        self.runner(
            f"{operator}/{name_of(self.case.dtype)}",
            *(channels, int(vectors), given(torch.tensor(starts)), EPS, MOMENTUM, self.case.slope),
            *arguments,
            seed=self.schedule.seed,
            resident_blocks=self.schedule.resident_blocks,
        )

    def _poisoned(self, *shape: int) -> Tensor:
        return poisoned(shape, self.case.statistics_dtype)

    def _sums(self, parts: list[int]) -> Tensor:
        return poisoned((max(len(parts), 1), 2 * self.case.shape[1] + 1), torch.float64)

    def forward(
        self, x: Tensor, weights: Sequence[Tensor], running: Running, parts: list[int], sums: Tensor | None
    ) -> Three:
        y, (mean, rstd) = _like(x), (self._poisoned(max(len(parts), 1), x.shape[1]) for _ in range(2))
        self._run(
            "batch_norm_act",
            x,
            parts,
            given(x, self.case.offset),
            *map(given, weights),
            *(None if tensor is None else wanted(tensor) for tensor in running),
            *(given(sums), wanted(y, self.case.offset), wanted(mean), wanted(rstd)),
        )
        return y, mean, rstd

    def backward(
        self,
        grad_y: Tensor,
        x: Tensor,
        statistics: Sequence[Tensor],
        parts: list[int],
        of_weights: bool,
        sums: Tensor | None,
    ) -> Three:
        grad_x = _like(x)
        grad_weight, grad_bias = (self._poisoned(x.shape[1] if of_weights else 0) for _ in range(2))
        self._run(
            "batch_norm_act_backward",
            x,
            parts,
            given(grad_y, self.case.offset),
            *(given(x, self.case.offset), *map(given, statistics)),
            *(given(sums), wanted(grad_x, self.case.offset)),
            *((wanted(grad_weight), wanted(grad_bias)) if of_weights else (None, None)),
        )
        return grad_x, grad_weight, grad_bias

    def sums(self, x: Tensor, parts: list[int]) -> Tensor:
        sums = self._sums(parts)
        self._run("batch_norm_act_sums", x, parts, given(x, self.case.offset), wanted(sums))
        return sums

    def backward_sums(
        self, grad_y: Tensor, x: Tensor, statistics: Sequence[Tensor], parts: list[int]
    ) -> Tensor:
        sums = self._sums(parts)
        self._run(
            "batch_norm_act_backward_sums",
            x,
            parts,
            given(grad_y, self.case.offset),
            *(given(x, self.case.offset), *map(given, statistics), wanted(sums)),
        )
        return sums


def _like(x: Tensor) -> Tensor:
    return _channels_last(poisoned(tuple(x.shape), x.dtype))


def run_norm(runner: Runner, case: NormCase, schedule: Schedule) -> NormResults:
    """The kernels, forward and backward."""
    return both_ways(case, KernelCalls(runner, case, schedule))


def check_norm(runner: Runner, case: NormCase, schedules: Sequence[Schedule]) -> None:
    """Raises AssertionError when the kernels' results differ from what is expected under any schedule."""
    for schedule in schedules:
        compare_norm(run_norm(runner, case, schedule), case, f"{case}, {schedule}: ")


def norm_cases(dtype: torch.dtype, rows: tuple[int, ...] = ROWS) -> list[NormCase]:
    """batch_norm_act: vectors and maps, whole and partial tiles of channels, parts, slopes, no running
    statistics, frozen weights, rows off a 16-byte boundary, parts of few rows and of many, and several
    ranks.
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
        NormCase((13, 40), dtype, parts=(4, 9), ranks=2),
        NormCase((9, 16, 3, 5), dtype, parts=(3, 6), ranks=3, offset=size, running=False),
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
        NormCase((300, 33), torch.float64, parts=(60, 240), ranks=2),
    ),
    mutant_cases=(
        NormCase((25, 40, 4, 4), parts=(5, 20)),
        NormCase((14, 24), torch.bfloat16, parts=(4, 10), offset=2),
        NormCase((150, 33), torch.float64, running=False, of_weights=False),
        NormCase((110, 40), parts=(20, 90), ranks=2),
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
        "batch_norm_act_parts_kernel": Budget(256, 256),
    },
    vectorised={"batch_norm_act_rows_kernel": {"LDG", "STG"}},
)
