"""What adam_update computes, in PyTorch and float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Weight:
    """A weight with its moments and its moving average, float64."""

    value: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    average: Tensor


def adam(
    weight: Weight,
    gradients: Sequence[Tensor],
    step: int,
    learning_rate: float,
    betas: tuple[float, float],
    eps: float,
    scale: float,
    average_step: int,
    average_decay: float,
    average_every: int,
) -> Weight:
    """Update number ``step`` of a weight by the sum of these gradients, ``scale`` times too large."""
    gradient = torch.stack([g.double() for g in gradients]).sum(0) / scale
    first = betas[0] * weight.exp_avg + (1 - betas[0]) * gradient
    second = betas[1] * weight.exp_avg_sq + (1 - betas[1]) * gradient**2
    unbiased_first = first / (1 - betas[0] ** step)
    unbiased_second = second / (1 - betas[1] ** step)
    value = weight.value - learning_rate * unbiased_first / (unbiased_second.sqrt() + eps)
    average = weight.average
    share = max(9 * average_every / (average_step + 10), 1 - average_decay**average_every)
    if share >= 1:
        average = value
    elif average_step % average_every == 0:
        average = average + share * (value - average)
    return Weight(value, first, second, average)
