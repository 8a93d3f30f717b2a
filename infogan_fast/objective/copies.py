"""Copies of real images for the terms of the objective to compare: the random state of the transformed ones,
which :func:`ops.transform_images` makes, and the adversarial ones.

The copy of image n at step t is a pure function of (seed, t, n), under another seed than the latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from infogan_fast import ops
from infogan_fast.latents import LatentSpec

# With the latents' seed the copies would follow the codes.
_SEED = 0x636F_7069_6573
_RADIUS = 1 / 14  # of adversarial copies, in root mean square of a pixel: 2 for an image of 28 x 28
_PROBE = 0.25  # of the radius: how far away the change of the answers is measured
_SHORTEST = 1e-30  # length of a vector that is divided by: within float32's normal numbers


def copy_state(seed: int, device: torch.device | str = "cpu") -> Tensor:
    """The random state of the copies, int64 [2], for a run's seed; see :func:`ops.rng_state`."""
    return ops.rng_state(seed ^ _SEED, device=device)


def adversarial(
    rng_state: Tensor,
    images: Tensor,
    spec: LatentSpec,
    q_of: Callable[[Tensor], Tensor],
    *,
    sample_offset: int,
) -> Tensor:
    """A copy of each image at a small distance from it, in about the direction in which Q's categorical
    answers change most (Miyato et al. 2018, algorithm 1, one iteration), without waiting for the device.

    Args:
        rng_state: of :func:`copy_state`, on the images' device; left as it is.
        images: [B, C, S, S], any floating dtype.
        spec: the latent specification that Q's outputs follow.
        q_of: images and probes, [2B, C, S, S], to Q's outputs, [2B, q_dim], differentiable in its input. Both
            parts should have batch statistics of their own.
        sample_offset: no smaller than the number of copies that are drawn by the same state.

    Returns:
        As ``images``: shape, dtype and memory format.
    """
    channels, height, width = images.shape[1:]
    dtype = torch.promote_types(images.dtype, torch.float32)
    noise = LatentSpec(noise_dim=channels * height * width, categorical_sizes=(), continuous_kinds=())
    drawn = ops.sample_latents(
        rng_state, len(images), noise, dtype=dtype, sample_offset=sample_offset, advance=False
    )
    radius, given = _RADIUS * math.sqrt(noise.noise_dim), images.detach().to(dtype)
    probes = (given + _PROBE * radius * _unit_vectors(drawn.inputs.view(images.shape))).requires_grad_()
    outputs = q_of(torch.cat([given, probes]).to(images.dtype))
    before, after = outputs.chunk(2)
    gradient = _divergence_gradient(spec, after, before)
    # Half precision has no such small numbers otherwise; the length does not count.
    gradient = torch.cat([torch.zeros_like(gradient), 1024.0 * gradient]).to(outputs.dtype)
    (direction,) = torch.autograd.grad(outputs, probes, gradient)
    return torch.empty_like(images).copy_(given + radius * _unit_vectors(direction))


def _divergence_gradient(spec: LatentSpec, answers: Tensor, targets: Tensor) -> Tensor:
    """Of the Kullback-Leibler divergence of Q's categorical answers from the targets, which count as
    constants, summed over codes; with respect to the answers, [B, q_dim], float32 or float64."""
    dtype = torch.promote_types(answers.dtype, torch.float32)
    gradient = torch.zeros_like(answers, dtype=dtype)
    for code in spec.categorical_codes:
        answer, target = (
            values.detach()[:, code.q_columns].to(dtype).softmax(1) for values in (answers, targets)
        )
        gradient[:, code.q_columns] = answer - target
    return gradient


def _unit_vectors(vectors: Tensor) -> Tensor:
    lengths = vectors.flatten(1).norm(dim=1).clamp_min(_SHORTEST)
    return vectors / lengths[:, None, None, None]
