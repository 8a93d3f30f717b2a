"""Adam for all tensors of a player, in one kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from infogan_fast.ops.fakes import one_device
from infogan_fast.runtime import native

native.load()
_operator = torch.ops.infogan_fast.adam_update.default

#: Where a tensor may begin in the flat buffers: a multiple of so many elements.
ALIGNMENT = 8


def adam_update(
    masters: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    steps: Tensor,
    gradients: Sequence[Tensor],
    places: Sequence[int],
    groups: Sequence[int],
    learning_rates: Sequence[float],
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weights: Tensor | None = None,
    average: Tensor | None = None,
    average_decay: float = 0.0,
    average_every: int = 1,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
) -> None:
    """One step of Adam (Kingma and Ba 2015, arXiv 1412.6980) for many tensors in flat buffers, in place.

    The same values as ``torch.optim.Adam``, computed in the masters' dtype, and in the same pass the copy
    of the weights in low precision and their moving average.

    Args:
        masters: [n], float32 or float64: the weights. Between the tensors there may be gaps.
        exp_avg, exp_avg_sq: [n], as ``masters``: the moments.
        steps: int64 [G]: updates that each group has had; moved on by one, in place.
        gradients: of each tensor, dense, in the order of its elements in memory; in the dtype of ``masters``
            or of ``weights``. Two that follow each other with the same place are added.
        places: where each tensor begins in the buffers: ascending multiples of 8.
        groups: the group of each tensor, 0 to G - 1.
        learning_rates: one a group.
        betas: the decays of the moments, in [0, 1).
        eps: added to the root of the second moment.
        weights: [n], bfloat16 or float16, written: the masters, rounded.
        average: [m], m <= n, as ``masters``, updated: the moving average of the first m weights. In update t
            of the first group, with e = average_every and s = max(9 e / (t + 10), 1 - average_decay^e), it
            becomes the weights if s >= 1, and else moves by s of the way if e divides t.
        average_decay: an update, in [0, 1).
        average_every: at least 1: most updates need not read and write an average that hardly moves.
        grad_scale: one float32 value on the device, by which the gradients are divided.
        found_inf: one float32 value on the device; where it is not 0, nothing is changed.

    Raises:
        RuntimeError: an argument has the wrong shape, dtype, device or range; the text names it.
    """
    _operator(
        masters,
        exp_avg,
        exp_avg_sq,
        steps,
        weights,
        average,
        gradients,
        places,
        groups,
        learning_rates,
        *betas,
        eps,
        average_decay,
        average_every,
        grad_scale,
        found_inf,
    )
    if not torch.compiler.is_compiling():
        # So that a backward pass which still needs the weights as they were says so.
        changed = (masters, exp_avg, exp_avg_sq, steps, weights, average)
        torch.autograd.graph.increment_version([tensor for tensor in changed if tensor is not None])


@torch.library.register_fake("infogan_fast::adam_update")
def _(
    masters: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    steps: Tensor,
    weights: Tensor | None,
    average: Tensor | None,
    gradients: Sequence[Tensor],
    places: Sequence[int],
    groups: Sequence[int],
    learning_rates: Sequence[float],
    beta1: float,
    beta2: float,
    eps: float,
    average_decay: float,
    average_every: int,
    grad_scale: Tensor | None,
    found_inf: Tensor | None,
) -> None:
    one_device(
        "adam_update", masters, exp_avg, exp_avg_sq, steps, weights, average, gradients, grad_scale, found_inf
    )
    return None
