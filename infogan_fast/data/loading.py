"""Loading images by a name, from a path or from memory."""

from __future__ import annotations

import difflib
from os import PathLike
from pathlib import Path
from typing import Any

from infogan_fast.data import arrays, folder, idx
from infogan_fast.data.image_set import ImageSet, Selection, Split, fitted
from infogan_fast.data.registry import IN_MEMORY, SOURCES
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
) -> ImageSet:
    """Load training or test images.

    Args:
        data: the name of a source (``strokes``, drawn by this package; ``mnist`` or ``fashion-mnist``, read
            from data_dir or the cache folder, else downloaded); the path of a folder of pictures, of a folder
            of IDX files, or of a .npy or .npz file; or images in memory, see :func:`arrays.load_memory`.
        data_dir: folder of the files of a published source.
        split: of a source or folder that has both; images in memory and .npy files have no test split.
        image_size: resize to this many pixels a side, at least 16; by default images keep their size, which
            must be square.
        channels: 1 (grey) or 3; by default what the images have.
        crop: cut the middle square out of what is not square before resizing; False stretches it.
        seed: of drawings. The training and test drawings of a seed are different ones.
        count: this many images: the first drawings (60,000 and 10,000 by default), evenly spaced ones of
            other data.
        skip_damaged: leave out pictures of a folder that cannot be read, instead of raising a UserError.

    Raises:
        MissingSplitError: the data has no such split.
        UserError: an argument is out of range, or the images cannot be loaded; the text names the file or the
            option, and the remedy.
    """
    selection = Selection(split, data_dir, image_size, channels, crop, seed, count, skip_damaged)
    if not isinstance(data, (str, PathLike)):
        files, source = arrays.load_memory(data, split)
        return fitted(files, IN_MEMORY, source, selection)
    name = str(data)
    if name == IN_MEMORY:
        raise UserError(
            f"{name} stands for images in memory, which infogan_fast.train(data=images) takes; write "
            f"./{name}, or the absolute path, for a folder of that name"
        )
    if not name:
        raise UserError(f"data is empty; expected one of {', '.join(SOURCES)}, or a path")
    return SOURCES[name].load(selection) if name in SOURCES else _from_path(name, selection)


def _from_path(name: str, selection: Selection) -> ImageSet:
    path = expanded(name)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
        of_idx = idx.folder_of_idx(path) if is_folder else None
        if is_folder and of_idx is None:
            return folder.load(path, selection)
    except OSError as error:
        raise UserError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from None
    if of_idx is not None:
        return fitted(idx.read_pair(of_idx, selection.split), path.name, f"from {of_idx}", selection)
    if is_file and path.suffix.lower() in (".npy", ".npz"):
        return fitted(arrays.load_array(path, selection.split), path.name, f"from {path}", selection)
    if is_file:
        raise UserError(
            f"{path}: expected a folder of pictures, a folder of IDX files, a .npy or a .npz file"
        )
    raise UserError(f"{name}: no such file or folder, and not one of {', '.join(SOURCES)}{_suggestion(path)}")


def _suggestion(path: Path) -> str:
    """The source or the neighbour of the path that a mistyped name is closest to."""
    candidates = difflib.get_close_matches(path.name.lower().replace("_", "-"), SOURCES, 1, 0.6)
    if not candidates and path.parent.is_dir():
        candidates = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], 1, 0.7)
        candidates = [str(path.parent / c) for c in candidates]
    return f"; did you mean {candidates[0]}?" if candidates else ""
