"""MATLAB files as SVHN's cropped digits are published in, train_32x32.mat and test_32x32.mat: of version 5,
or of version 7.3, which are HDF5 files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infogan_fast.data import hdf5
from infogan_fast.data.image_set import Files, Selection, require_memory
from infogan_fast.data.labels import as_labels, choose_label
from infogan_fast.data.trial import try_reading
from infogan_fast.errors import MissingSplitError, UserError

_FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}


def is_mat(path: Path) -> bool:
    """Whether a file begins as MATLAB files of version 5 do: a text, the version, and the order of bytes."""
    with open(path, "rb") as file:
        header = file.read(128)
    return header[:6] == b"MATLAB" and header[124:] in (b"\x00\x01IM", b"\x01\x00MI")


def is_mat_73(path: Path) -> bool:
    """Whether a file begins as MATLAB files of version 7.3 do."""
    with open(path, "rb") as file:
        return file.read(10) == b"MATLAB 7.3"


def is_svhn(folder: Path) -> bool:
    """Whether a folder holds SVHN's cropped digits."""
    return any((folder / name).is_file() for name in _FILES.values())


def read_folder(folder: Path, selection: Selection) -> Files:
    """A split of SVHN's cropped digits.

    Raises:
        MissingSplitError: its file is not there.
        UserError: as :func:`load`.
    """
    path = folder / _FILES[selection.split]
    if not path.is_file():
        raise MissingSplitError(f"{folder}: no {selection.split} images; expected {path.name}")
    return _read(path, selection)


def load(path: Path, selection: Selection) -> Files:
    """Images uint8 from X [H, W, C, N], and labels from y [N, 1] or [1, N], where 10 stands for the digit 0.

    A file of version 7.3 may also hold what :func:`infogan_fast.data.arrays.read_members` names and takes,
    with the images along the last axis.

    Raises:
        MissingSplitError: the test split is asked for, and a file has one part.
        UserError: it holds anything else, or is damaged.
    """
    if selection.split == "test":
        raise MissingSplitError(
            f"{path}: one file has no test split; name the folder of {' and '.join(_FILES.values())}"
        )
    return _read(path, selection)


def _read(path: Path, selection: Selection) -> Files:
    if is_mat_73(path):
        files = hdf5.load(path, replace(selection, split="train"), of_matlab=True)
        return replace(files, labels=_digits(files.labels))
    if not is_mat(path):
        raise UserError(f"{path}: not a MATLAB file; save it with save('-v7'), or get it again")
    try_reading(path, lambda: _arrays(path, selection))
    return _arrays(path, selection)


def _digits(labels: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    """Labels from 1 to 10 as digits."""
    if labels is None or not labels.size or labels.min() < 1 or labels.max() != 10:
        return labels
    digits: NDArray[np.int64] = labels % 10
    return digits


def _arrays(path: Path, selection: Selection) -> Files:
    from scipy import io  # takes a while, and few runs need it

    try:
        headers = {name: (tuple(map(int, shape)), kind) for name, shape, kind in io.whosmat(str(path))}
        shape, kind = headers.get("X", ((), ""))
        if len(shape) != 4 or shape[2] not in (1, 3) or 0 in shape or kind != "uint8":
            found = ", ".join(f"{name} ({kind} {shape})" for name, (shape, kind) in headers.items())
            raise UserError(
                f"{path}: expected X of uint8 [H, W, C, N] with C = 1 or 3; found {found or 'nothing'}"
            )
        label, _ = choose_label(["label"] if "y" in headers else [], selection.label, str(path))
        read = ["X", "y"] if "y" in headers else ["X"]
        labels_of = headers["y"][0] if "y" in headers else ()
        size = math.prod(shape) + 8 * math.prod(labels_of)
        require_memory(2 * size, f"{path}: holds {shape[3]:,} images")  # read, then laid out by image
        arrays = io.loadmat(str(path), variable_names=read)
        images = arrays["X"]
        if images.shape != shape or images.dtype != np.uint8:
            raise ValueError("X is not as announced")
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:  # a damaged file leads SciPy to many kinds
        reason = " ".join(str(error or type(error).__name__).split())[:160]
        raise UserError(f"{path}: not a readable MATLAB file ({reason}); get this file again") from None
    labels = None
    if label:
        found = arrays["y"]
        labels, _ = as_labels(found[0] if found.shape[:1] == (1,) else found, len(images.T), str(path))
    return Files(images.transpose(3, 2, 0, 1), _digits(labels), label=label)
