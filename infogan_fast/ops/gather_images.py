"""Batches of shuffled images, gathered by one kernel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from infogan_fast.ops.fakes import one_device
from infogan_fast.runtime import native

native.load()
_operator = torch.ops.infogan_fast.gather_images.default


class Gathered(NamedTuple):
    """What :func:`gather_images` returns."""

    batch: Tensor
    """[B, ...] as the images, the compute dtype, in [0, 1]; with a stride, the rows that were asked for."""
    indices: Tensor
    """[B] int64: which images they are."""


def gather_images(
    order_state: Tensor,
    images: Tensor,
    batch_size: int,
    *,
    dtype: torch.dtype = torch.float32,
    sample_offset: int = 0,
    sample_stride: int = 1,
    advance: bool = True,
) -> Gathered:
    """The next batch of a shuffled data set, as values in [0, 1], in one kernel.

    Epochs follow one another without a gap, each image exactly once in each: batch t of seed s is positions t
    * B to t * B + B - 1. The shuffle is a keyed bijection of the positions, a Feistel network with cycle
    walking (Black and Rogaway 2002, "Ciphers with arbitrary finite domains"), so nothing is stored and any
    batch can be had at once.

    Args:
        order_state: int64 [2] from :func:`rng_state`, on the images' device; its step is moved on by one in
            place.
        images: uint8 [N, ...], contiguous: the order in memory is the batch's.
        batch_size: B, at least 1; more than N is fine.
        dtype: float32, float16, bfloat16 or float64 of the batch; value / 255 rounded to float32, then to it.
        sample_offset, sample_stride: gather the batch's images offset, offset + stride, ... alone: a rank's
            share of them. The offset is in [0, B), the stride at least 1.
        advance: False leaves the state as it is.

    Raises:
        RuntimeError: an argument has the wrong shape, dtype, device or range; the text names it.
    """
    return Gathered._make(
        _operator(order_state, images, batch_size, dtype, sample_offset, sample_stride, advance)
    )


@torch.library.register_fake("infogan_fast::gather_images")
def _(
    order_state: Tensor,
    images: Tensor,
    batch_size: int,
    dtype: torch.dtype,
    sample_offset: int,
    sample_stride: int,
    advance: bool,
) -> tuple[Tensor, Tensor]:
    one_device("gather_images", order_state, images)
    rows = -(-(batch_size - sample_offset) // sample_stride)
    return (
        images.new_empty((rows, *images.shape[1:]), dtype=dtype),
        images.new_empty((rows,), dtype=torch.int64),
    )
