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
    sample_stride: int = 1,
) -> Tensor:
    """A copy of each image at a small distance from it, in about the direction in which Q's categorical
    answers change most (Miyato et al. 2018, algorithm 1, one iteration), without waiting for the device.

    Args:
        rng_state: of :func:`copy_state`, on the images' device; left as it is.
        images: [B, C, S, S], any floating dtype.
        spec: the latent specification that Q's outputs follow.
        q_of: images and probes, [2B, C, S, S], to Q's outputs, [2B, q_dim], differentiable in its input. Both
            parts should have batch statistics of their own.
        sample_offset, sample_stride: which samples of the state the noise of the images is; see
            :func:`ops.sample_latents`. No smaller than the number of copies that are drawn by the same state.

    Returns:
        As ``images``: shape, dtype and memory format.
    """
    channels, height, width = images.shape[1:]
    dtype = torch.promote_types(images.dtype, torch.float32)
    pixels = channels * height * width
    # The operator itself: a specification of latents has fewer columns than a large image has pixels.
    noise, *_ = torch.ops.infogan_fast.sample_latents(
        rng_state, len(images), pixels, False, [], [], None, dtype, sample_offset, sample_stride, False
    )
    radius, given = _RADIUS * math.sqrt(pixels), images.detach().to(dtype)
    probes = _moved(given, noise.view(images.shape), _PROBE * radius).requires_grad_()
    outputs = q_of(torch.cat([given, probes]).to(images.dtype))
    (direction,) = torch.autograd.grad(outputs, probes, _divergence_gradient(spec, outputs.detach()))
    return torch.empty_like(images).copy_(_moved(given, direction, radius))


def _divergence_gradient(spec: LatentSpec, outputs: Tensor) -> Tensor:
    """Of the Kullback-Leibler divergence of Q's categorical answers in the second half of its outputs from
    those in the first half, which count as constants, summed over codes; with respect to the outputs, in
    their dtype and times 1024."""
    count, dtype = len(outputs) // 2, torch.promote_types(outputs.dtype, torch.float32)
    gradient = torch.zeros_like(outputs)
    for code in spec.categorical_codes:
        # Half precision has no such small numbers otherwise.
        targets, answers = (1024.0 * outputs[:, code.q_columns].softmax(1, dtype=dtype)).split(count)
        gradient[count:, code.q_columns] = answers - targets
    return gradient


def _moved(images: Tensor, vectors: Tensor, distance: float) -> Tensor:
    """Each image, moved by so much in the direction of its vector."""
    lengths = torch.linalg.vector_norm(vectors, dim=(1, 2, 3), keepdim=True).clamp_min_(_SHORTEST)
    return torch.addcdiv(images, vectors, lengths, value=distance)
