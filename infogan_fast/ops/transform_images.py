"""Randomly transformed copies of images, and how far each is turned, by one kernel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from infogan_fast.ops.fakes import one_device
from infogan_fast.runtime import native

native.load()
_operator = torch.ops.infogan_fast.transform_images.default


class Transformed(NamedTuple):
    """What :func:`transform_images` returns."""

    copies: Tensor
    """As the images: shape, dtype and memory format."""
    slants: Tensor
    """[B] float64, in [-1, 1]: by how much each copy turns an upright stroke anticlockwise, as a share of the
    largest angle there is, rotation + arctan(shear); 0 without both. A mirrored copy also mirrors the image's
    own slant."""


def transform_images(
    rng_state: Tensor,
    images: Tensor,
    *,
    rotation: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
    shift: float = 0.0,
    colour: float = 0.0,
    bend: float = 0.0,
    flip: bool = False,
    sample_offset: int = 0,
    sample_stride: int = 1,
    advance: bool = True,
) -> Transformed:
    """A copy of each image that is changed at random, uniformly within the ranges given.

    An image is mirrored, sheared, turned, scaled and shifted about its middle, in this order, then bent
    (elastic deformation, as Simard et al. 2003 use it), and read bilinearly; pixels from outside are those of
    the border. Then each channel is multiplied. The copy of image n is a pure function of (seed, step, n). It
    is computed in float32, or float64 for float64 images, and is not differentiable.

    Args:
        rng_state: int64 [2] from :func:`rng_state`, on the images' device; its step is moved on by one in
            place. Its seed must be another than that of the latents, whose numbers the copies would follow.
        images: [B, C, S, S] in [0, 1], contiguous or channels_last, C at most 3, S at most 32768; float32,
            float16, bfloat16 or float64.
        rotation: largest angle either way, in degrees, 0 to 180.
        scale: the size is times 1 - scale to 1 + scale; at least 0 and below 1.
        shear: a row at distance d above the middle is pushed aside by up to shear * d; 0 or more.
        shift: the largest shift along each axis, as a share of the side, 0 to 1.
        colour: each channel is times 1 - colour to 1 + colour and cut at 1; 0 to 1, where 0 cuts nothing.
        bend: the knots of a grid of 5 x 5 move by up to this share of the side along each axis, and what lies
            between them goes along, by cubic interpolation; 0 to 1.
        flip: mirror half of the copies left to right.
        sample_offset, sample_stride: image i has the copy of number offset + i * stride, so that the ranks of
            a job make those of one batch; the stride is at least 1.
        advance: False leaves the state as it is.

    Raises:
        RuntimeError: an argument has the wrong shape, dtype, device or range; the text names it.
    """
    ranges = (rotation, scale, shear, shift, colour, bend, flip)
    return Transformed._make(
        _operator(rng_state, images.detach(), *ranges, sample_offset, sample_stride, advance)
    )


@torch.library.register_fake("infogan_fast::transform_images")
def _(
    rng_state: Tensor,
    images: Tensor,
    rotation: float,
    scale: float,
    shear: float,
    shift: float,
    colour: float,
    bend: float,
    flip: bool,
    sample_offset: int,
    sample_stride: int,
    advance: bool,
) -> tuple[Tensor, Tensor]:
    one_device("transform_images", rng_state, images)
    return torch.empty_like(images), images.new_empty(images.shape[0], dtype=torch.float64)
