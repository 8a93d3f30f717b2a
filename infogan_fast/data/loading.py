"""Loading images by a name, from a path or from memory."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from infogan_fast.data import archive, arrays, cifar, folder, hdf5, idx, mat, parquet
from infogan_fast.data.image_set import Files, ImageSet, Selection, Split, fitted
from infogan_fast.data.pixel_range import PixelRange
from infogan_fast.data.registry import IN_MEMORY, SOURCES, check_data_dir
from infogan_fast.errors import UserError
from infogan_fast.runtime.files import expanded


def load_images(
    data: Any,
    *,
    data_dir: Path | None = None,
    split: Split = "train",
    image_size: int | None = None,
    channels: int | None = None,
    crop: bool = True,
    seed: int = 0,
    count: int | None = None,
    skip_damaged: bool = False,
    background: str = "white",
    pixel_range: PixelRange | str | None = None,
    label: str | None = None,
) -> ImageSet:
    """Load training or test images.

    Args:
        data: the name of a source (``strokes`` and ``sprites``, drawn by this package; others such as
            ``mnist`` are read from data_dir or the cache folder, else downloaded); a path, see docs/data.md
            for the formats; or images in memory, see :func:`arrays.load_memory`.
        data_dir: folder of the files of a published source; no other data takes one.
        split: of a source or folder that has both; images in memory and .npy files have no test split.
        image_size: resize to this many pixels a side, at least 16; by default images keep their size, which
            must be square.
        channels: 1 (grey) or 3; by default what the images have.
        crop: cut the middle square out of what is not square before resizing; False stretches it.
        seed: of drawings. The training and test drawings of a seed are different ones.
        count: this many images: the first drawings (60,000 strokes or 100,000 sprites by default, and 10,000
            for a test), evenly spaced ones of other data.
        skip_damaged: leave out pictures that cannot be read, instead of raising a UserError.
        background: what transparent pictures are laid on: ``white``, ``black``, a grey from 0 to 255, or
            ``#rrggbb``.
        pixel_range: of arrays, the values of black and white, such as ``0..1``; by default what is found
            beyond doubt.
        label: which labels to take of data that has several; by default the first.

    Raises:
        MissingSplitError: the data has no such split.
        UserError: an argument is out of range, or the images cannot be loaded; the text names the file or the
            option, and the remedy.
    """
    if isinstance(pixel_range, str):
        pixel_range = PixelRange.parse(pixel_range)
    check_data_dir(str(data) if isinstance(data, (str, PathLike)) else IN_MEMORY, data_dir)
    _check_place(data_dir)
    selection = Selection(
        split, data_dir, image_size, channels, crop, seed, count, skip_damaged, background, pixel_range, label
    )
    images = _load(data, selection)
    if label is not None and (images.label != label or images.labels is None):
        raise UserError(f"{images.name}: has no labels called {label!r}; leave out --label")
    return images


def _check_place(data_dir: Path | None) -> None:
    """Refuse a mistyped folder, which a download would make."""
    if data_dir is None:
        return
    place = expanded(data_dir)
    if place.exists() and not place.is_dir():
        raise UserError(f"--data-dir {data_dir}: is a file; give the folder that it is in")
    if not place.parent.is_dir():
        raise UserError(
            f"--data-dir {data_dir}: there is no folder {place.parent}; create it for a download, or give "
            "the folder of the files"
        )


def _load(data: Any, selection: Selection) -> ImageSet:
    if not isinstance(data, (str, PathLike)):
        files, source = arrays.load_memory(data, selection)
        return fitted(files, IN_MEMORY, source, selection)
    name = str(data)
    if name == IN_MEMORY:
        raise UserError(
            f"{name} stands for images in memory, which infogan_fast.train(data=images) takes; write "
            f"./{name}, or the absolute path, for a folder of that name"
        )
    if not name:
        raise UserError(f"data is empty; expected one of {', '.join(SOURCES)}, or a path")
    if name in SOURCES:
        _check_no_range(name, selection)
        return SOURCES[name].load(selection)
    return _from_path(name, selection)


def _check_no_range(name: str, selection: Selection) -> None:
    if selection.pixel_range is not None:
        raise UserError(
            f"{name}: the range of its pixels is known; leave out --pixel-range {selection.pixel_range}"
        )


def _from_path(name: str, selection: Selection) -> ImageSet:
    path = expanded(name)
    try:
        if path.is_dir():
            _check_no_range(str(path), selection)
            return _from_folder(path, selection)
        if path.is_file():
            return _from_file(path, selection)
    except OSError as error:
        raise UserError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from None
    if path.exists():
        raise UserError(f"{name}: is neither a file nor a folder; give one of images")
    raise UserError(f"{name}: no such file or folder, and not one of {', '.join(SOURCES)}{_suggestion(path)}")


def _from_folder(path: Path, selection: Selection) -> ImageSet:
    if place := idx.folder_of_idx(path):
        return fitted(idx.read_pair(place, selection.split), path.name, f"from {place}", selection)
    if batches := cifar.find(path):
        return fitted(cifar.read(batches, selection), path.name, f"from {batches.path}", selection)
    if mat.is_svhn(path):
        return fitted(mat.read_folder(path, selection), path.name, f"from {path}", selection)
    if shards := parquet.find(path):
        return parquet.load(path, shards, selection)
    return folder.load(path, selection)


def _from_file(path: Path, selection: Selection) -> ImageSet:
    """Images of a file, whose format its content tells."""
    arrays_in: Callable[[Path, Selection], Files] | None = None
    if mat.is_mat_73(path):
        arrays_in = mat.load
    elif hdf5.is_hdf5(path):
        arrays_in = hdf5.load
    elif arrays.is_array(path):
        arrays_in = arrays.load_array
    if arrays_in is not None:
        return fitted(arrays_in(path, selection), path.name, f"from {path}", selection)
    _check_no_range(str(path), selection)
    if mat.is_mat(path):
        return fitted(mat.load(path, selection), path.name, f"from {path}", selection)
    if parquet.is_parquet(path):
        return parquet.load(path, (path,), selection)
    if batches := cifar.find_archive(path):
        return fitted(cifar.read(batches, selection), path.name, f"from {path}", selection)
    if archive.is_archive(path):
        return archive.load(path, selection)
    raise UserError(
        f"{path}: expected a folder or an archive (ZIP or TAR) of pictures, a folder of IDX or CIFAR "
        "files, or a NumPy, HDF5, MATLAB or Parquet file"
    )


def _suggestion(path: Path) -> str:
    """The source or the neighbour of the path that a mistyped name is closest to."""
    candidates = difflib.get_close_matches(path.name.lower().replace("_", "-"), SOURCES, 1, 0.6)
    if not candidates and path.parent.is_dir():
        candidates = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], 1, 0.7)
        candidates = [str(path.parent / c) for c in candidates]
    return f"; did you mean {candidates[0]}?" if candidates else ""
