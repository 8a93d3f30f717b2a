"""A set of images, how it is selected, and how arrays are brought to its form."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from infogan_fast.constants import MIN_SIZE
from infogan_fast.data.background import parse_background
from infogan_fast.data.pixel_range import PixelRange
from infogan_fast.errors import UserError
from infogan_fast.runtime.memory import free_memory

Split = Literal["train", "test"]
_RESIZE_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images on the CPU with what is known about them.

    images: uint8 [N, C, S, S], C = 1 or 3, S >= 16, in channels_last format, which training uses as it is.
    labels: int64 [N] or None. For evaluation; training reads none.
    factors: what strokes were drawn from, each [N]: ``digit`` int64, ``rotation`` float32 radians (positive
        anticlockwise), ``width`` float32 pixels; of sprites, those of :func:`sprites.factors`. Empty for
        other data.
    label_names: the labels' names where subfolders or the data set gave them.
    source: one line for people, such as "strokes: 60,000 images drawn from seed 0".
    left_out: of files that cannot be read, the name and the reason, where these were to be skipped.
    report: further lines for people: what was found, changed and left out.
    label: what the labels are, where the data has a name for that, such as "coarse".
    mapped: the map of the file that the images are in, and then they are not to be written.
    """

    images: Tensor
    labels: Tensor | None
    factors: dict[str, Tensor]
    name: str
    source: str
    label_names: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    report: tuple[str, ...] = ()
    label: str = ""
    mapped: mmap.mmap | None = None


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
    background: str = "white"
    pixel_range: PixelRange | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        parse_background(self.background)
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
    """Images uint8, and what :class:`ImageSet` says of them.

    note: what the source says besides, such as ", pixels from 0 to 1".
    chosen: whether these are the selected ones already.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    label_names: tuple[str, ...] = ()
    label: str = ""
    factors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    note: str = ""
    chosen: bool = False


def require_memory(size: int, name: str) -> None:
    """Raise UserError, its text beginning with ``name``, when ``size`` bytes are more than are free."""
    free = free_memory()
    if free is not None and size > free:
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


def one_of_each_part(total: int, count: int | None, name: str) -> NDArray[np.int64]:
    """Indices of ``count`` of ``total`` images, always the same ones: a random one of each of ``count`` equal
    parts. Evenly spaced rows of a table of all combinations of factors would have a part of these alone."""
    starts = spread(total, count, name)
    widths = np.diff(starts, append=total)
    return starts + (np.random.default_rng(0).random(len(starts)) * widths).astype(np.int64)


def fitted(files: Files, name: str, source: str, selection: Selection) -> ImageSet:
    """The selected images of an array uint8 [N, H, W] or [N, C, H, W], in the selected size and channels.

    Raises:
        UserError: there are too few, they are not square or too small, or memory is short.
    """
    image_size, channels, crop = selection.image_size, selection.channels, selection.crop
    count = None if files.chosen else selection.count
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
        result = torch.empty(n, size, size, channels, dtype=torch.uint8).permute(0, 3, 1, 2)
        for start in range(0, n, _RESIZE_CHUNK):
            part = slice(start, start + _RESIZE_CHUNK)
            result[part] = _resized(batch[part], channels, size, crop)
        batch = result
    report = [] if count is None else [f"selected {n:,} of {len(files.images):,}, evenly spaced"]
    if (height, width) != (size, size):
        how = "" if height == width else ", cut to the middle square" if crop else ", stretched"
        report.append(f"resized from {width} x {height} to {size} x {size}{how}")
    if channels != colours:
        report.append("turned grey from colour" if channels == 1 else "read as colour from grey")
    return ImageSet(
        batch,
        None if labels is None else torch.from_numpy(labels),
        {key: torch.from_numpy(values[chosen]) for key, values in files.factors.items()},
        name,
        f"{name}: {n:,} images {source}{files.note}",
        files.label_names,
        report=tuple(report),
        label=files.label,
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
    """A writable tensor of these images [N, C, H, W] in channels_last format; a copy only if it needs one."""
    last = np.require(images.transpose(0, 2, 3, 1), requirements=["C", "W"])
    return torch.from_numpy(last).permute(0, 3, 1, 2)
