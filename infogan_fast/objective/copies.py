"""Copies of real images for the terms of the objective to compare: transformed ones and adversarial ones.

The copy of image n at step t is a pure function of (seed, t, n): its random numbers come from the operator
that draws the latents, under another seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from infogan_fast import ops
from infogan_fast.latents import LatentSpec
from infogan_fast.objective.transformation import Transformation

# Angle, scale, shear, shift (x, y), mirror, gains of three channels: always all of them, so that changing one
# range leaves the other draws as they are.
_DRAWS = LatentSpec(noise_dim=0, categorical_sizes=(), continuous_kinds=("uniform",) * 9)
# With the latents' seed the copies would follow the codes.
_SEED = 0x636F_7069_6573
_RADIUS = 1 / 14  # of adversarial copies, in root mean square of a pixel: 2 for an image of 28 x 28
_PROBE = 0.25  # of the radius: how far away the change of the answers is measured
_SHORTEST = 1e-30  # length of a vector that is divided by: within float32's normal numbers


def copy_state(seed: int, device: torch.device | str = "cpu") -> Tensor:
    """The random state of the copies, int64 [2], for a run's seed; see :func:`ops.rng_state`."""
    return ops.rng_state(seed ^ _SEED, device=device)


def transformed(rng_state: Tensor, images: Tensor, transformation: Transformation) -> Tensor:
    """A transformed copy of each image, without waiting for the device.

    The copy of image n is a pure function of (seed, step, n). It is computed in float32, or float64 for
    float64 images, and is not differentiable.

    Args:
        rng_state: of :func:`copy_state`, on the images' device; its step is moved on by one in place.
        images: [B, C, S, S] in [0, 1], C up to 3, any floating dtype.
        transformation: the ranges to draw from.

    Returns:
        As ``images``: shape, dtype and memory format.
    """
    side, dtype = images.shape[-1], torch.promote_types(images.dtype, torch.float32)
    draws = ops.sample_latents(rng_state, len(images), _DRAWS).continuous.to(dtype)[:, :, None]
    t, turn = transformation, draws[:, 0] * math.radians(transformation.rotation)
    shrink = 1.0 / (1.0 + t.scale * draws[:, 1])
    sine, cosine, lean = turn.sin() * shrink, turn.cos() * shrink, t.shear * draws[:, 2]
    # From a place in the copy back to the image, in half sides from the middle, y downwards.
    centres = (2.0 * torch.arange(side, device=images.device, dtype=dtype) + 1.0) / side - 1.0
    x, y = centres - 2.0 * t.shift * draws[:, 3], centres - 2.0 * t.shift * draws[:, 4]
    from_x = torch.stack([(cosine - lean * sine) * x, sine * x], -1)
    from_y = torch.stack([(-sine - lean * cosine) * y, cosine * y], -1)
    grid = from_x[:, None] + from_y[:, :, None]
    if t.flip:
        grid[..., 0] *= torch.where(draws[:, 5, :, None] > 0, -1.0, 1.0)
    result = functional.grid_sample(
        images.detach().to(dtype), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    if t.colour:
        gains = 1.0 + t.colour * draws[:, 6 : 6 + images.shape[1], :, None]
        result = (result * gains).clamp_(max=1.0)
    return torch.empty_like(images).copy_(result)


def slants(rng_state: Tensor, count: int, transformation: Transformation) -> Tensor:
    """By how much each copy that :func:`transformed` makes next turns an upright stroke, anticlockwise.

    Args:
        rng_state: as it is before the copies; left as it is.
        count: B, of images.
        transformation: of the copies; it must have slants.

    Returns:
        [B], float64, in [-1, 1]: as a share of the largest angle there is, rotation + arctan(shear).
    """
    draws = ops.sample_latents(rng_state, count, _DRAWS, advance=False).continuous.double()
    rotation = math.radians(transformation.rotation)
    angles = rotation * draws[:, 0] + (transformation.shear * draws[:, 2]).atan()
    return angles / (rotation + math.atan(transformation.shear))


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
