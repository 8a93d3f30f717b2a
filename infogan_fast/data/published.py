"""Published data sets in other formats than IDX: from data_dir or the cache folder, else downloaded there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infogan_fast.data import arrays, cifar, hdf5, mat
from infogan_fast.data.idx import cache_folder, fetch
from infogan_fast.data.image_set import Files, ImageSet, Selection, fitted
from infogan_fast.errors import MissingSplitError, UserError
from infogan_fast.runtime.files import expanded


@dataclass(frozen=True)
class Published:
    """A data set that others publish.

    files: by split, the name of the file and its MD5; a file may be of both.
    mirrors: what comes before the name.
    read: the images of a folder that has the files; None if it has none of this split.
    """

    title: str
    files: dict[str, tuple[str, str]]
    mirrors: tuple[str, ...]
    read: Callable[[Path, Selection, str], Files | None]


def _cifar(form: str) -> Callable[[Path, Selection, str], Files | None]:
    """A reader of a folder with CIFAR's own folders, or else its archive."""

    def read(folder: Path, selection: Selection, file: str) -> Files | None:
        for part in (
            folder,
            *(folder / f"{form}-{end}" for end in ("batches-py", "python", "batches-bin", "binary")),
        ):
            if part.is_dir() and part.name.startswith(form) and (batches := cifar.find(part)):
                return cifar.read(batches, selection)
        if not (folder / file).is_file():
            return None
        batches = cifar.find_archive(folder / file)
        if batches is None:
            raise UserError(f"{folder / file}: not the archive that is published; get this file again")
        return cifar.read(batches, selection)

    return read


def _svhn(folder: Path, selection: Selection, file: str) -> Files | None:
    return mat.read_folder(folder, selection) if (folder / file).is_file() else None


def _whole(load: Callable[[Path, Selection], Files]) -> Callable[[Path, Selection, str], Files | None]:
    """A reader of one file without splits."""

    def read(folder: Path, selection: Selection, file: str) -> Files | None:
        return load(folder / file, selection) if (folder / file).is_file() else None

    return read


_KRIZ = ("https://www.cs.toronto.edu/~kriz/",)
_TEN = ("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a")
_HUNDRED = ("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85")

PUBLISHED = {
    "cifar10": Published("CIFAR-10", {"train": _TEN, "test": _TEN}, _KRIZ, _cifar("cifar-10")),
    "cifar100": Published("CIFAR-100", {"train": _HUNDRED, "test": _HUNDRED}, _KRIZ, _cifar("cifar-100")),
    "svhn": Published(
        "SVHN",
        {
            "train": ("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
            "test": ("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
        },
        ("http://ufldl.stanford.edu/housenumbers/",),
        _svhn,
    ),
    "dsprites": Published(
        "dSprites",
        {
            "train": (
                "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
                "7da33b31b13a06f4b04a70402ce90c2e",
            )
        },
        ("https://github.com/google-deepmind/dsprites-dataset/raw/master/",),
        _whole(arrays.load_array),
    ),
    "shapes3d": Published(
        "3D Shapes",
        {"train": ("3dshapes.h5", "099a2078d58cec4daad0702c55d06868")},
        ("https://storage.googleapis.com/3d-shapes/",),
        _whole(hdf5.load),
    ),
}


def load(name: str, selection: Selection) -> ImageSet:
    """The images of a published data set; its files are looked for in data_dir and its folder NAME.

    Raises:
        MissingSplitError: it has no such split.
        UserError: the files cannot be downloaded, or not be read.
    """
    data, data_dir = PUBLISHED[name], selection.data_dir
    if selection.split not in data.files:
        raise MissingSplitError(f"{name}: {data.title} is published without a test split")
    file, md5 = data.files[selection.split]
    home = expanded(data_dir or cache_folder())
    places = [home / name] + ([home] if data_dir else [])
    for folder in places:
        if (files := data.read(folder, selection, file)) is not None:
            return fitted(files, name, f"from {folder}", selection)
    folder = places[0]
    fetch(name, data.title, {file: f"md5:{md5}"}, data.mirrors, folder)
    files = data.read(folder, selection, file)
    assert files is not None  # fetch has put it there
    return fitted(files, name, f"from {folder}", selection)
