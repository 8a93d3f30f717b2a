"""Batch normalisation by parts of the batch, with its (leaky) ReLU, in one pass each way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from infogan_fast.ops.fakes import one_device
from infogan_fast.ops.first_order import first_order, needed, where
from infogan_fast.runtime import native

native.load()
_operator = torch.ops.infogan_fast.batch_norm_act.default
_backward_operator = torch.ops.infogan_fast.batch_norm_act_backward.default
_sums_operator = torch.ops.infogan_fast.batch_norm_act_sums.default
_backward_sums_operator = torch.ops.infogan_fast.batch_norm_act_backward_sums.default


class RunningStatistics(NamedTuple):
    """The buffers of a ``torch.nn.BatchNorm``, updated in place."""

    mean: Tensor
    """[C], float32, or float64 for float64 inputs."""
    var: Tensor
    """[C], as ``mean``: unbiased."""
    batches: Tensor
    """[], int64: how many batches they have seen."""


def batch_norm_act(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    parts: Sequence[int] = (),
    running: RunningStatistics | None = None,
    eps: float = 1e-5,
    momentum: float = 0.1,
    slope: float = 0.0,
    add_up: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Batch normalisation with the batch's own statistics (Ioffe and Szegedy 2015, arXiv 1502.03167), then a
    (leaky) ReLU; differentiable, once, in x, weight and bias.

    Args:
        x: [N, C], contiguous, or [N, C, H, W] in channels_last format; float32, float16, bfloat16 or float64.
            Statistics are computed in float32, or float64 for float64.
        weight, bias: [C], float32, or float64 for float64 inputs.
        parts: numbers of rows that add up to N, at most 16: each part of the batch is normalised by its own
            statistics. One part by default.
        running: statistics that each part moves in turn; None for none.
        eps: added to the variance.
        momentum: by which a part moves the running statistics.
        slope: of the leaky ReLU, in [0, 1]; 0 is ReLU, 1 no activation.
        add_up: where processes share each part of the batch: adds to a float64 tensor, in place, those of the
            other processes. It is called once forward and once backward, with two sums a part and channel,
            and statistics are those of all processes' rows. The gradients of weight and bias remain those of
            this process's rows.

    Returns:
        As ``x``: shape, dtype and memory format.

    Raises:
        RuntimeError: an argument has the wrong shape, dtype, device or range; the text names it.
    """
    arguments = (x, weight, bias, *(running or (None, None, None)), parts, eps, momentum, slope)
    y: Tensor = _operator(*arguments, None)[0] if add_up is None else _Shared.apply(add_up, *arguments)
    return y


@torch.library.register_fake("infogan_fast::batch_norm_act")
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    batches: Tensor | None,
    parts: Sequence[int],
    eps: float,
    momentum: float,
    slope: float,
    sums: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    one_device("batch_norm_act", x, weight, bias, running_mean, running_var, batches, sums)
    statistics = (max(len(parts), 1), x.shape[1])
    return torch.empty_like(x), weight.new_empty(statistics), weight.new_empty(statistics)


@torch.library.register_fake("infogan_fast::batch_norm_act_backward")
def _(
    grad_y: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
    bias: Tensor,
    parts: Sequence[int],
    slope: float,
    of_weights: bool,
    sums: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    one_device("batch_norm_act_backward", grad_y, x, mean, rstd, weight, bias, sums)
    channels = x.shape[1] if of_weights else 0
    return torch.empty_like(x), weight.new_empty(channels), weight.new_empty(channels)


def _empty_sums(x: Tensor, parts: Sequence[int]) -> Tensor:
    return x.new_empty((max(len(parts), 1), 2 * x.shape[1] + 1), dtype=torch.float64)


@torch.library.register_fake("infogan_fast::batch_norm_act_sums")
def _(x: Tensor, parts: Sequence[int]) -> Tensor:
    return _empty_sums(x, parts)


@torch.library.register_fake("infogan_fast::batch_norm_act_backward_sums")
def _(
    grad_y: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
    bias: Tensor,
    parts: Sequence[int],
    slope: float,
) -> Tensor:
    one_device("batch_norm_act_backward_sums", grad_y, x, mean, rstd, weight, bias)
    return _empty_sums(x, parts)


class _BatchNormAct(torch.autograd.Function):
    # PyTorch registers autograd by name only for operators that change none of their arguments.
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        with torch._C._AutoDispatchBelowAutograd():
            y, mean, rstd = _operator(*arguments)
        x, weight, bias, *_, parts, _, _, slope, _ = arguments
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.parts, ctx.slope = parts, slope
        ctx.mark_non_differentiable(mean, rstd)
        ctx.set_materialize_grads(False)  # the statistics have none: zeros would be a kernel each
        return y, mean, rstd

    @staticmethod
    @first_order("batch_norm_act")
    def backward(ctx: Any, grad_y: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad_y is None:
            return (None,) * 11
        x, weight, bias, mean, rstd = ctx.saved_tensors
        wanted = needed(ctx.needs_input_grad[1:3], weight, bias)
        grad_x, grad_weight, grad_bias = _backward_operator(
            *(_like(grad_y, x), x, mean, rstd, weight, bias),
            *(ctx.parts, ctx.slope, any(wanted), None),
        )
        return grad_x, *where(wanted, grad_weight, grad_bias), *(None,) * 8


def _like(grad_y: Tensor, x: Tensor) -> Tensor:
    """The gradient in the memory format of x."""
    return grad_y.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.contiguous_format)


class _Shared(torch.autograd.Function):
    """With rows of each part in other processes."""

    @staticmethod
    def forward(ctx: Any, add_up: Callable[[Tensor], None], *arguments: Any) -> Tensor:
        x, weight, bias, *_, parts, _, _, slope = arguments
        sums = _sums_operator(x, parts)
        add_up(sums)
        y: Tensor
        y, mean, rstd = _operator(*arguments, sums)
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.add_up, ctx.parts, ctx.slope = add_up, parts, slope
        ctx.set_materialize_grads(False)
        return y

    @staticmethod
    @first_order("batch_norm_act")
    def backward(ctx: Any, grad_y: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad_y is None:
            return (None,) * 11
        x, weight, bias, mean, rstd = ctx.saved_tensors
        inputs = (_like(grad_y, x), x, mean, rstd, weight, bias, ctx.parts, ctx.slope)
        sums = _backward_sums_operator(*inputs)
        gradients: tuple[Tensor | None, ...] = (None, None)
        wanted = needed(ctx.needs_input_grad[2:4], weight, bias)
        if any(wanted):
            channels = len(weight)
            own = sums.sum(0)[:-1].to(weight.dtype)
            gradients = where(wanted, own[channels:], own[:channels])
        ctx.add_up(sums)
        grad_x = _backward_operator(*inputs, False, sums)[0]
        return None, grad_x, *gradients, *(None,) * 7


torch.library.impl("infogan_fast::batch_norm_act", "Autograd")(_BatchNormAct.apply)
