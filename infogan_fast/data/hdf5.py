"""HDF5 files of images, such as 3D Shapes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infogan_fast.data.arrays import Member, read_members
from infogan_fast.data.image_set import Files, Selection
from infogan_fast.data.trial import try_reading
from infogan_fast.errors import UserError
from infogan_fast.extras import extra

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SPARSE = 4  # rows that far apart, on average, are read chunk by chunk


def is_hdf5(path: Path) -> bool:
    """Whether a file has the signature of HDF5, at its beginning or after a block of the user's."""
    size, place = path.stat().st_size, 0
    with open(path, "rb") as file:
        while place < min(size, 1 << 20):
            file.seek(place)
            if file.read(len(_SIGNATURE)) == _SIGNATURE:
                return True
            place = max(512, 2 * place)
    return False


def load(path: Path, selection: Selection, *, of_matlab: bool = False) -> Files:
    """The selected images, labels and factors of a file whose top level holds data sets named as
    :func:`infogan_fast.data.arrays.read_members` says.

    Only the selected images are read, unless their range has to be found. Nothing outside of the file is.

    Args:
        of_matlab: whether MATLAB wrote the file: with the axes of its arrays reversed, and with images and
            labels along the last one.

    Raises:
        MissingSplitError: there is no such split.
        UserError: the file is damaged, or holds anything else. One that crashes the HDF5 library is found out
            by :func:`infogan_fast.data.trial.try_reading`.
    """
    h5py = extra("data", "h5py", f"{path}: reading it")
    read = _of_matlab if of_matlab else _member
    try_reading(path, lambda: _load(h5py, path, selection, read))
    return _load(h5py, path, selection, read)


def _load(h5py: Any, path: Path, selection: Selection, read: Callable[[Any, Any, str], Member]) -> Files:
    try:
        with h5py.File(path, "r") as file:
            members: dict[str, Callable[[], Member]] = {
                name: partial(read, h5py, file, name) for name in file if _is_own(h5py, file, name)
            }
            return read_members(members, path, selection)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a damaged file leads h5py to many kinds
        reason = " ".join(str(error or type(error).__name__).split())[:160]
        raise UserError(f"{path}: not a readable HDF5 file ({reason}); get this file again") from None


def _is_own(h5py: Any, file: Any, name: str) -> bool:
    """Whether this is a data set of this very file."""
    return isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file[name], h5py.Dataset)


def _member(h5py: Any, file: Any, name: str) -> Member:
    dataset = file[name]
    if dataset.external or dataset.is_virtual:
        raise UserError(
            f"{file.filename}: data set {name} lies in other files, which are not read; copy it here"
        )
    text = h5py.check_string_dtype(dataset.dtype) is not None
    if text:
        strings = dataset.asstr(errors="replace")
        return Member(dataset.shape, np.dtype("U1"), lambda rows: np.array(_rows(strings, rows), str))
    return Member(dataset.shape or (), dataset.dtype, lambda rows: _rows(dataset, rows))


def _of_matlab(h5py: Any, file: Any, name: str) -> Member:
    """What MATLAB calls an array [H, W, C, N], [H, W, N], [N, 1] or [1, N], as [N, C, H, W], [N, H, W] or
    [N]."""
    found = _member(h5py, file, name)  # [N, C, W, H], [N, W, H], [1, N] or [N, 1]
    if len(found.shape) == 2 and 1 in found.shape:
        count = max(found.shape)
        first = np.arange(found.shape[0])
        return Member((count,), found.dtype, lambda rows: found.read(first).reshape(count)[rows])
    if len(found.shape) < 3:
        return found
    shape = (*found.shape[:-2], found.shape[-1], found.shape[-2])
    return Member(shape, found.dtype, lambda rows: found.read(rows).swapaxes(-1, -2))


def _rows(dataset: Any, rows: NDArray[np.int64]) -> NDArray[Any]:
    if not len(rows):
        return np.empty((0, *dataset.shape[1:]) if hasattr(dataset, "shape") else (0,))
    first, last = int(rows[0]), int(rows[-1]) + 1
    if last - first <= _SPARSE * len(rows):
        block: NDArray[Any] = dataset[first:last]
        return block if last - first == len(rows) else block[rows - first]
    # A chunk is unpacked whole for each row of it that is read by itself.
    chunk = (getattr(dataset, "chunks", None) or (1,))[0]
    runs = np.split(rows, np.flatnonzero(np.diff(rows // chunk)) + 1)
    return np.concatenate([dataset[int(run[0]) : int(run[-1]) + 1][run - run[0]] for run in runs])
