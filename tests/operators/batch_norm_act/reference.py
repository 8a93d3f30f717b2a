"""What batch_norm_act computes, in PyTorch and float64, with gradients from autograd."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def batch_norm_act(
    x: Tensor, weight: Tensor, bias: Tensor, parts: Sequence[int], eps: float, slope: float
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """(y, mean of each part, biased variance of each part) of x [N, C, ...], all float64."""
    x, weight, bias = x.double(), weight.double(), bias.double()
    shape = (1, -1) + (1,) * (x.dim() - 2)
    outputs, means, variances = [], [], []
    for part in x.split(list(parts) or [len(x)]):
        values = part.transpose(0, 1).flatten(1)
        mean = values.mean(1)
        variance = ((values - mean[:, None]) ** 2).mean(1)
        scaled = (part - mean.view(shape)) / (variance.view(shape) + eps).sqrt() * weight.view(shape)
        scaled = scaled + bias.view(shape)
        outputs.append(torch.where(scaled > 0, scaled, slope * scaled))
        means.append(mean)
        variances.append(variance)
    return torch.cat(outputs), means, variances


def running(
    before: Tensor, values: Sequence[Tensor], counts: Sequence[int], momentum: float, unbiased: bool
) -> Tensor:
    """A running statistic after each part's value in turn; a variance counts as unbiased."""
    result = before.double()
    for value, count in zip(values, counts, strict=True):
        moved = value * count / (count - 1) if unbiased else value
        result = (1 - momentum) * result + momentum * moved
    return result
