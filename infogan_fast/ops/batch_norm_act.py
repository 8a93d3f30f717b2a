"""Batch normalisation by parts of the batch, with its (leaky) ReLU, in one pass each way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from infogan_fast.ops.fakes import one_device
from infogan_fast.ops.first_order import first_order
from infogan_fast.runtime import native

native.load()
_operator = torch.ops.infogan_fast.batch_norm_act.default
_backward_operator = torch.ops.infogan_fast.batch_norm_act_backward.default


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

    Returns:
        As ``x``: shape, dtype and memory format.

    Raises:
        RuntimeError: an argument has the wrong shape, dtype, device or range; the text names it.
    """
    y: Tensor = _operator(x, weight, bias, *(running or (None, None, None)), parts, eps, momentum, slope)[0]
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
) -> tuple[Tensor, Tensor, Tensor]:
    one_device("batch_norm_act", x, weight, bias, running_mean, running_var, batches)
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
) -> tuple[Tensor, Tensor, Tensor]:
    one_device("batch_norm_act_backward", grad_y, x, mean, rstd, weight, bias)
    channels = x.shape[1] if of_weights else 0
    return torch.empty_like(x), weight.new_empty(channels), weight.new_empty(channels)


class _BatchNormAct(torch.autograd.Function):
    # PyTorch registers autograd by name only for operators that change none of their arguments.
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        with torch._C._AutoDispatchBelowAutograd():
            y, mean, rstd = _operator(*arguments)
        x, weight, bias, *_, parts, _, _, slope = arguments
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.parts, ctx.slope = parts, slope
        ctx.mark_non_differentiable(mean, rstd)
        ctx.set_materialize_grads(False)  # the statistics have none: zeros would be a kernel each
        return y, mean, rstd

    @staticmethod
    @first_order("batch_norm_act")
    def backward(ctx: Any, grad_y: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad_y is None:
            return (None,) * 10
        x, weight, bias, mean, rstd = ctx.saved_tensors
        format = torch.channels_last if x.dim() == 4 else torch.contiguous_format
        # Autograd knows what the forward pass needed; weights frozen since then need nothing.
        of_weights = ctx.needs_input_grad[1] and weight.requires_grad
        grad_x, grad_weight, grad_bias = _backward_operator(
            *(grad_y.contiguous(memory_format=format), x, mean, rstd, weight, bias),
            *(ctx.parts, ctx.slope, of_weights),
        )
        gradients = (grad_weight, grad_bias) if of_weights else (None, None)
        return grad_x, *gradients, *(None,) * 7


torch.library.impl("infogan_fast::batch_norm_act", "Autograd")(_BatchNormAct.apply)
