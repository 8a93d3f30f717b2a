"""The distance of Q's answers to an image and its copy, which two terms share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from infogan_fast.latents import Code
from infogan_fast.objective.term import Answers

if TYPE_CHECKING:
    from torch import Tensor


def add_distance_gradient(
    answers: Answers, gradient: Answers, code: Code, weight: float, offset: Tensor | None = None
) -> Tensor:
    """Add the gradient of ``weight`` times the distance of a code's two answers; returns the distance, [1].

    The distance is mean (mu - mu' + offset)^2 (1 / v + 1 / v') / 4, in nats: what the means contribute to the
    mean of both Kullback-Leibler divergences between Q's Gaussians. The variances v and v' count as
    constants, so that no answer agrees by being vague. No reward is given for varying over real images, which
    a code could only earn by telling classes apart.

    Args:
        answers, gradient: see :meth:`infogan_fast.objective.term.Term.add_gradient`.
        code: a uniform or normal code.
        weight: of the term.
        offset: [B], what to add to the difference; None for nothing.
    """
    import torch

    pairs = answers.pairs
    mean = pairs[:, code.q_columns].squeeze(1)
    real, copy = mean.chunk(2)
    if answers.log_variance is None:
        assert code.log_variance_column is not None
        log_variances = pairs[:, code.log_variance_column]
        precision = (-log_variances.clamp(-10.0, 10.0)).exp().unflatten(0, (2, -1)).mean(0)
    else:
        precision = torch.full_like(real, math.exp(-answers.log_variance))
    change = real - copy
    if offset is not None:
        change = change + offset.to(change.dtype)
    distance = (change.square() * precision).mean() / 2
    slope = (weight / len(real)) * change * precision
    gradient.pairs[:, code.q_columns] += torch.cat([slope, -slope])[:, None]
    return distance[None]
