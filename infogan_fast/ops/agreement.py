"""How well Q's answers to images and to their copies agree: metrics and gradients in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from infogan_fast.latents import Code, LatentSpec
from infogan_fast.ops.fakes import one_device
from infogan_fast.runtime import native

native.load()
_operator = torch.ops.infogan_fast.agreement.default


@dataclass(frozen=True)
class Distance:
    """The distance of a code's answers to an image and its copy; weighted by 0 it is only measured.

    With mu and mu' the means of Q's Gaussians and v and v' their variances, it is mean (mu - mu' +
    slant_change * slant)^2 (1 / v + 1 / v') / 4, in nats: what the means contribute to the mean of both
    Kullback-Leibler divergences between the Gaussians. The variances count as constants, so that no answer
    agrees by being vague. No reward is given for varying over real images, which a code could only earn by
    telling classes apart.

    code: a uniform or normal code.
    weight: in the loss.
    slant_change: what a slant of 1 should add to the copy's mean.
    """

    code: Code
    weight: float
    slant_change: float = 0.0


@dataclass(frozen=True)
class Agreement:
    """The parts of the loss that :func:`agreement` computes.

    The consistency of each categorical code has the loss -consistency (I + balance H(m)). With p and p' Q's
    posteriors for B images and their copies, J is mean p p'^T made symmetric, as a moving average over
    batches, m its margin, I = sum J log(J / (m m^T)) and H(m) the entropy of m. Only this batch's part of J
    has a gradient, which is scaled as if it were the whole.

    Smoothness is the mean Kullback-Leibler divergence of the categorical answers to near copies from
    those to their images, which count as constants, summed over codes; it is not measured.

    consistency: its weight; 0 only measures it, None leaves it out.
    balance: weight of the margin's entropy.
    joint_ema: decay of the moving average, at least 0 and below 1; 0 takes each batch alone.
    joints: the average of each categorical code, [K, K], contiguous, float32 (float64 for float64 answers);
        updated in place, entries that are not finite left as they are. Needed with consistency.
    batch_joints: where processes share a batch: its joints over all of them, in order, [sum K * K],
        contiguous and in the joints' dtype; by default each process has those of its own answers.
    smoothness: its weight.
    distances: of uniform or normal codes.
    """

    consistency: float | None = None
    balance: float = 0.0
    joint_ema: float = 0.0
    joints: Sequence[Tensor] = ()
    batch_joints: Tensor | None = None
    smoothness: float = 0.0
    distances: tuple[Distance, ...] = ()


class Agreed(NamedTuple):
    """What :func:`agreement` returns."""

    metrics: Tensor
    """I of each categorical code in nats, 0 to log K, if consistency is measured; then each distance.
    float32, or float64 for float64 answers.
    """
    gradients: tuple[Tensor, ...]
    """[A + 2B, q_dim] each: the gradient of the weighted parts with respect to the answers, times each of
    ``grad_scales``; without scales, one gradient."""


def agreement(
    spec: LatentSpec,
    answers: Tensor,
    parts: Agreement,
    *,
    near_rows: int = 0,
    fixed_log_variance: float | None = None,
    slants: Tensor | None = None,
    grad_scales: Sequence[Tensor] = (),
    grad_dtype: torch.dtype | None = None,
    sums: Tensor | None = None,
    places: Sequence[int] = (),
) -> Agreed:
    """Measure how well Q's answers to images and to their copies agree, with the gradient of the loss.

    One launch on a GPU, for any batch; it is meant for batches of up to about a thousand images. Nothing is
    differentiated through the answers.

    Args:
        spec: the layout of the answers.
        answers: [A + 2B, spec.q_dim(fixed_log_variance is None)], float32, float16, bfloat16 or float64, rows
            of any stride: Q's outputs for near copies of the first A images, for B images, and for
            their B transformed copies in the same order. A learned log-variance is clamped to [-10, 10].
        parts: what to measure, and its weights.
        near_rows: A, at most B.
        fixed_log_variance: in [-10, 10]; None where Q learns the variance.
        slants: [B], float32 or float64, by how much each transformed copy leans more than its image; needed
            with a ``slant_change``.
        grad_scales: up to two float32 values on the device (a GradScaler's scales).
        grad_dtype: dtype of the gradients: the answers', which is the default, or float32.
        sums: [N], float64, contiguous; the metrics are added to it in place.
        places: for each metric, its index in ``sums``, or -1 to leave it out.

    Raises:
        RuntimeError: an argument is missing or has the wrong shape, dtype, device or range; the text names
            it.
    """
    if len(grad_scales) > 2:
        raise RuntimeError(f"agreement: grad_scales has {len(grad_scales)} entries; give at most 2")
    sizes, kinds, _ = spec.operator_arguments
    first, second = (*grad_scales, None, None)[:2]
    metrics, *gradients = _operator(
        answers.detach(),
        near_rows,
        sizes,
        kinds,
        fixed_log_variance is None,
        fixed_log_variance or 0.0,
        list(parts.joints),
        parts.batch_joints,
        parts.consistency,
        parts.balance,
        parts.joint_ema,
        parts.smoothness,
        [distance.code.index for distance in parts.distances],
        [distance.weight for distance in parts.distances],
        [distance.slant_change for distance in parts.distances],
        slants,
        first,
        second,
        grad_dtype,
        sums,
        places,
    )
    return Agreed(metrics, tuple(gradients[: max(1, len(grad_scales))]))


@torch.library.register_fake("infogan_fast::agreement")
def _(
    answers: Tensor,
    near_rows: int,
    categorical_sizes: Sequence[int],
    continuous_kinds: Sequence[int],
    learned_variance: bool,
    log_variance: float,
    joints: Sequence[Tensor],
    batch_joints: Tensor | None,
    consistency: float | None,
    balance: float,
    joint_ema: float,
    smoothness: float,
    distance_codes: Sequence[int],
    distance_weights: Sequence[float],
    slant_changes: Sequence[float],
    slants: Tensor | None,
    grad_scale: Tensor | None,
    second_grad_scale: Tensor | None,
    grad_dtype: torch.dtype | None,
    sums: Tensor | None,
    places: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    one_device("agreement", answers, joints, batch_joints, slants, grad_scale, second_grad_scale, sums)
    accumulated = torch.float64 if answers.dtype == torch.float64 else torch.float32
    n_metrics = (0 if consistency is None else len(categorical_sizes)) + len(distance_codes)
    dtype = grad_dtype or answers.dtype
    return (
        answers.new_empty((n_metrics,), dtype=accumulated),
        answers.new_empty(answers.shape, dtype=dtype),
        answers.new_empty((0,) if second_grad_scale is None else answers.shape, dtype=dtype),
    )
