"""Training images: strokes drawn by this package, MNIST and Fashion-MNIST, or the user's own."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..errors import UserError
from . import idx, strokes
from .images import MIN_SIZE, load_array, load_folder, require_memory, spread

__all__ = ["BUILT_IN", "ImageSet", "load_images"]

BUILT_IN = ("strokes", *idx.PUBLISHED)
Split = Literal["train", "test"]

_STROKES_COUNT = {"train": 60_000, "test": 10_000}
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
    """

    images: Tensor
    labels: Tensor | None
    factors: dict[str, Tensor]
    name: str
    source: str
    label_names: tuple[str, ...] = ()


def load_images(
    name_or_path: str,
    *,
    data_dir: Path | None = None,
    split: Split = "train",
    image_size: int | None = None,
    channels: int | None = None,
    crop: bool = True,
    seed: int = 0,
    count: int | None = None,
) -> ImageSet:
    """Load training or test images.

    name_or_path: ``strokes`` (drawn here), ``mnist`` or ``fashion-mnist`` (read from data_dir or the cache
        folder, else downloaded), or the path of a folder of pictures, of a folder of IDX files, or of a .npy
        or .npz file.
    image_size: resize to this many pixels a side, at least 16; by default images keep their size, which must
        be square.
    channels: 1 (grey) or 3; by default what the images have.
    crop: cut the middle square out of what is not square before resizing; False stretches it.
    seed: the strokes' seed. Train and test indices of a seed are disjoint.
    count: this many images: the first strokes (default 60,000 and 10,000), evenly spaced ones of other data.

    Raises UserError naming the file, or the option, and the remedy.
    """
    if split not in ("train", "test"):
        raise UserError(f"split is {split!r}, expected 'train' or 'test'")
    if image_size is not None and image_size < MIN_SIZE:
        raise UserError(f"image size is {image_size}, expected at least {MIN_SIZE}")
    if channels not in (None, 1, 3):
        raise UserError(f"channels is {channels}, expected 1 (grey) or 3 (colour)")
    if count is not None and count < 1:
        raise UserError(f"count is {count}, expected at least 1")

    if name_or_path == "strokes":
        return _strokes(split, image_size or 28, channels or 1, seed, count or _STROKES_COUNT[split])
    if name_or_path in idx.PUBLISHED:
        pair = idx.load_published(name_or_path, split, data_dir)
        verified = "" if pair.owner else ", whose checksums are not the published ones"
        return _from_arrays(
            pair.images,
            pair.labels,
            name_or_path,
            f"from {pair.folder}{verified}",
            image_size,
            channels,
            crop,
            count,
        )

    path = Path(name_or_path).expanduser()
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
        is_idx = is_folder and any(kind == "images" for _, kind in idx.find_idx(path))
        if is_folder and not is_idx:
            files = load_folder(path, split, image_size, channels, crop, count)
            source = f"{path.name}: {len(files.images):,} {split} images from {path}"
            return ImageSet(
                _owned(files.images), _maybe(files.labels), {}, path.name, source, files.label_names
            )
    except OSError as error:
        raise UserError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from None
    if is_idx:
        pair = idx.read_pair(path, split)
        return _from_arrays(
            pair.images, pair.labels, path.name, f"from {path}", image_size, channels, crop, count
        )
    if is_file and path.suffix.lower() in (".npy", ".npz"):
        files = load_array(path, split)
        return _from_arrays(
            files.images, files.labels, path.name, f"from {path}", image_size, channels, crop, count
        )
    if is_file:
        raise UserError(
            f"{path}: expected a folder of pictures, a folder of IDX files, a .npy or a .npz file"
        )
    raise UserError(
        f"{name_or_path}: no such file or folder, and not one of {', '.join(BUILT_IN)}{_meant(path)}"
    )


def _strokes(split: Split, size: int, channels: int, seed: int, count: int) -> ImageSet:
    require_memory(count * channels * size * size, f"strokes: {count:,} images of {size} x {size}")
    first = strokes.TEST_INDEX if split == "test" else 0
    drawing = strokes.draw(seed, np.arange(first, first + count), size)
    factors = {name: torch.from_numpy(getattr(drawing, name)) for name in ("digit", "rotation", "width")}
    images = torch.from_numpy(drawing.images)[:, None].expand(-1, channels, -1, -1).contiguous()
    source = f"strokes: {count:,} {'' if split == 'train' else 'test '}images drawn from seed {seed}"
    return ImageSet(images, factors["digit"], factors, "strokes", source)


def _from_arrays(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64] | None,
    name: str,
    source: str,
    image_size: int | None,
    channels: int | None,
    crop: bool,
    count: int | None,
) -> ImageSet:
    """Bring uint8 [N, H, W] or [N, C, H, W] to the asked count, channels and size."""
    chosen = slice(None) if count is None else spread(len(images), count, name)
    images, labels = images[chosen], None if labels is None else labels[chosen]
    batch = _owned(images[:, None] if images.ndim == 3 else images)
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
    return ImageSet(batch, _maybe(labels), {}, name, f"{name}: {n:,} images {source}")


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


def _owned(images: NDArray[np.uint8]) -> Tensor:
    """A contiguous, writable tensor of these images."""
    return torch.from_numpy(np.require(images, requirements=["C", "W"]))


def _maybe(labels: NDArray[np.int64] | None) -> Tensor | None:
    return None if labels is None else torch.from_numpy(labels)


def _meant(path: Path) -> str:
    """What a mistyped name was probably meant to be: a built-in set, or a neighbour of the path."""
    candidates = difflib.get_close_matches(path.name.lower().replace("_", "-"), BUILT_IN, 1, 0.6)
    if not candidates and path.parent.is_dir():
        candidates = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], 1, 0.7)
        candidates = [str(path.parent / c) for c in candidates]
    return f"; did you mean {candidates[0]}?" if candidates else ""
