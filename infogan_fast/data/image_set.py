"""A set of images, how it is selected, and how arrays are brought to its form."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from infogan_fast.constants import MIN_SIZE
from infogan_fast.errors import UserError

Split = Literal["train", "test"]
_RESIZE_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images on the CPU with what is known about them.

    images: uint8 [N, C, S, S], contiguous, C = 1 or 3, S >= 16.
    labels: int64 [N] or None. For evaluation; training reads none.
    factors: what strokes were drawn from, each [N]: ``digit`` int64, ``rotation`` float32 radians (positive
        anticlockwise), ``width`` float32 pixels. Empty for other data.
    label_names: the labels' names where subfolders gave them.
    source: one line for people, such as "strokes: 60,000 images drawn from seed 0".
    left_out: of files that cannot be read, the name and the reason, where these were to be skipped.
    """

    images: Tensor
    labels: Tensor | None
    factors: dict[str, Tensor]
    name: str
    source: str
    label_names: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selection:
    """Which images of a source to load, and in which form; see :func:`infogan_fast.data.load_images`."""

    split: Split = "train"
    data_dir: Path | None = None
    image_size: int | None = None
    channels: int | None = None
    crop: bool = True
    seed: int = 0
    count: int | None = None
    skip_damaged: bool = False

    def __post_init__(self) -> None:
        if self.split not in ("train", "test"):
            raise UserError(f"split is {self.split!r}, expected 'train' or 'test'")
        if self.image_size is not None and self.image_size < MIN_SIZE:
            raise UserError(f"image size is {self.image_size}, expected at least {MIN_SIZE}")
        if self.channels not in (None, 1, 3):
            raise UserError(f"channels is {self.channels}, expected 1 (grey) or 3 (colour)")
        if self.count is not None and self.count < 1:
            raise UserError(f"count is {self.count}, expected at least 1")


@dataclass(frozen=True)
class Files:
    """Images uint8, labels int64 [N] or None, and the labels' names where subfolders gave them."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    label_names: tuple[str, ...] = ()


def require_memory(size: int, name: str) -> None:
    """Raise UserError, its text beginning with ``name``, when ``size`` bytes are more than are free."""
    try:
        with open("/proc/meminfo") as file:
            free = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
            return
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > free:
        raise UserError(
            f"{name}, which take {size / 2**30:,.1f} GiB of memory, and {free / 2**30:,.1f} GiB are free; "
            f"use fewer images (--images) or a smaller --image-size"
        )


def spread(total: int, count: int | None, name: str) -> NDArray[np.int64]:
    """Indices of ``count`` of ``total`` images, evenly spaced: a sorted set keeps all of its classes."""
    if count is None:
        return np.arange(total)
    if count > total:
        raise UserError(f"{name}: has {total:,} images, --images asks for {count:,}")
    return np.arange(count) * total // count


def fitted(files: Files, name: str, source: str, selection: Selection) -> ImageSet:
    """The selected images of an array uint8 [N, H, W] or [N, C, H, W], in the selected size and channels.

    Raises:
        UserError: there are too few, they are not square or too small, or memory is short.
    """
    image_size, channels, crop = selection.image_size, selection.channels, selection.crop
    count = selection.count
    chosen = slice(None) if count is None else spread(len(files.images), count, name)
    images, labels = files.images[chosen], None if files.labels is None else files.labels[chosen]
    batch = owned(images[:, None] if images.ndim == 3 else images)
    n, colours, height, width = batch.shape
    if image_size is None and height != width:
        raise UserError(f"{name}: images are {width} x {height}, not square; choose a size with --image-size")
    if image_size is None and height < MIN_SIZE:
        raise UserError(
            f"{name}: images are {width} x {height}, expected at least {MIN_SIZE} x {MIN_SIZE}; "
            f"enlarge them with --image-size"
        )
    size, channels = image_size or height, channels or colours
    if (size, size, channels) != (height, width, colours):
        require_memory(n * channels * size * size, f"{name}: {n:,} images of {size} x {size}")
        result = torch.empty(n, channels, size, size, dtype=torch.uint8)
        for start in range(0, n, _RESIZE_CHUNK):
            part = slice(start, start + _RESIZE_CHUNK)
            result[part] = _resized(batch[part], channels, size, crop)
        batch = result
    return ImageSet(
        batch,
        None if labels is None else torch.from_numpy(labels),
        {},
        name,
        f"{name}: {n:,} images {source}",
        files.label_names,
    )


def _resized(batch: Tensor, channels: int, size: int, crop: bool) -> Tensor:
    if batch.shape[1] == 3 and channels == 1:  # luma of ITU-R BT.601, as Pillow converts colour to grey
        batch = (batch * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    height, width = batch.shape[2:]
    if crop and height != width:
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        batch = batch[:, :, top : top + side, left : left + side]
    if tuple(batch.shape[2:]) != (size, size):
        batch = functional.interpolate(batch.float(), (size, size), mode="bicubic", antialias=True)
    if batch.dtype != torch.uint8:
        batch = batch.round().clamp(0, 255).to(torch.uint8)
    return batch.expand(-1, channels, -1, -1)


def owned(images: NDArray[np.uint8]) -> Tensor:
    """A contiguous, writable tensor of these images."""
    return torch.from_numpy(np.require(images, requirements=["C", "W"]))
