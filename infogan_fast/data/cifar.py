"""CIFAR-10 and CIFAR-100, in the python and the binary form, as a folder or as the published archive."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from infogan_fast.data.image_set import Files, Selection, require_memory
from infogan_fast.data.labels import choose_label, within
from infogan_fast.errors import MissingSplitError, UserError

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class _Form:
    """The files of a form: those of each split, of the labels' names, and the labels by name in their order.

    labels: of an image, by the key in a python batch; in a binary record they come in reverse.
    names: by label, the key in the file of names, or that file.
    """

    splits: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, str]
    names: Mapping[str, str]
    meta: str | None


_TEN = tuple(f"data_batch_{i}" for i in range(1, 6))
_FORMS = (
    _Form(
        {"train": _TEN, "test": ("test_batch",)},
        {"label": "labels"},
        {"label": "label_names"},
        "batches.meta",
    ),
    _Form(
        {"train": ("train",), "test": ("test",)},
        {"fine": "fine_labels", "coarse": "coarse_labels"},
        {"fine": "fine_label_names", "coarse": "coarse_label_names"},
        "meta",
    ),
    _Form(
        {"train": tuple(f"{name}.bin" for name in _TEN), "test": ("test_batch.bin",)},
        {"label": ""},
        {"label": "batches.meta.txt"},
        None,
    ),
    _Form(
        {"train": ("train.bin",), "test": ("test.bin",)},
        {"fine": "", "coarse": ""},
        {"fine": "fine_label_names.txt", "coarse": "coarse_label_names.txt"},
        None,
    ),
)


@dataclass(frozen=True)
class Batches:
    """The files of one of the forms.

    path: of the folder or the archive.
    files: by name, what opens them.
    """

    path: Path
    form: _Form
    files: Mapping[str, Callable[[], bytes]]


def find(path: Path) -> Batches | None:
    """The CIFAR files of a folder, or of one in it; None without any.

    Raises:
        UserError: there are several folders of them.
    """
    below = [part for part in sorted(path.iterdir()) if part.is_dir() and not part.name.startswith(".")]
    if found := _in_folder(path):
        return found
    inside = [found for part in below if (found := _in_folder(part))]
    if len(inside) > 1:
        places = ", ".join(str(found.path) for found in inside)
        raise UserError(f"{path}: holds several data sets ({places}); name one of them")
    return inside[0] if inside else None


def _in_folder(folder: Path) -> Batches | None:
    for form in _FORMS:
        names = [name for split in form.splits.values() for name in split if (folder / name).is_file()]
        if names and all(_looks_right(folder / name, form) for name in names):
            others = [name for name in _names(form) if (folder / name).is_file()]
            return Batches(folder, form, {n: partial(_content, folder / n) for n in (*names, *others)})
    return None


def _looks_right(path: Path, form: _Form) -> bool:
    """Whether the beginning of a file, or its name where that says enough, is that of a batch."""
    if path.name.startswith(("data_batch_", "test_batch")):
        return True
    if form.meta is None:
        return path.stat().st_size % (_PIXELS + len(form.labels)) == 0
    with open(path, "rb") as file:
        return file.read(1) == pickle.PROTO  # what Python 2 wrote with protocol 2


def _content(path: Path) -> bytes:
    require_memory(path.stat().st_size, f"{path}: holds {path.stat().st_size:,} bytes")
    return path.read_bytes()


def _names(form: _Form) -> tuple[str, ...]:
    return (form.meta,) if form.meta else tuple(form.names.values())


def find_archive(path: Path) -> Batches | None:
    """The CIFAR files of a TAR archive, as it is published; None if the file is another."""
    try:
        with tarfile.open(path) as archive:
            first = archive.next()
            if first is None or not first.name.startswith("cifar-10"):
                return None
            members = {PurePosixPath(m.name).name: m for m in archive if m.isreg()}
    except Exception:  # a damaged archive leads to many kinds, which its own reader tells of
        return None
    for form in _FORMS:
        if any(name in members for split in form.splits.values() for name in split):
            known = {name for split in form.splits.values() for name in split} | set(_names(form))
            wanted = {name: member for name, member in members.items() if name in known}
            return Batches(path, form, {name: partial(_member, path, m) for name, m in wanted.items()})
    return None


def _member(path: Path, member: tarfile.TarInfo) -> bytes:
    require_memory(member.size, f"{path}: {member.name} has {member.size:,} bytes")
    try:
        with tarfile.open(path) as archive:
            file = archive.extractfile(member)
            assert file is not None
            return file.read()
    except Exception as error:  # a damaged archive leads to many kinds
        raise UserError(
            f"{path}: {member.name} cannot be read ({_reason(error)}); get this file again"
        ) from None


def read(batches: Batches, selection: Selection) -> Files:
    """Images uint8 [N, 3, 32, 32] of a split, and their labels: of CIFAR-100 fine ones, or ``coarse``.

    Pickles are read by :class:`_Unpickler`, which calls nothing.

    Raises:
        MissingSplitError: there are no files of this split.
        UserError: a file is missing, damaged, or has anything else in it.
    """
    form, wanted, path = batches.form, batches.form.splits[selection.split], batches.path
    missing = [name for name in wanted if name not in batches.files]
    if len(missing) == len(wanted):
        raise MissingSplitError(f"{path}: no {selection.split} images; expected {' and '.join(missing)}")
    if missing:
        raise UserError(f"{path}: holds no {' and no '.join(missing)}; get the whole data set again")
    label, note = choose_label(list(form.labels), selection.label, str(path))
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.int64]] = []
    for name in wanted:
        shown, content = f"{path / name}", batches.files[name]()
        found = _pickled(content, shown, form, label) if form.meta else _binary(content, shown, form, label)
        images.append(found[0])
        labels.append(found[1])
    numbers = np.concatenate(labels)
    names = _label_names(batches, label)
    within(numbers, names, str(path))
    pixels = sum(len(part) for part in images) * _PIXELS
    require_memory(pixels, f"{path}: holds {pixels // _PIXELS:,} images")
    return Files(np.concatenate(images).reshape(-1, 3, 32, 32), numbers, names, label, note=note)


def _pickled(
    content: bytes, shown: str, form: _Form, label: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch = _unpickled(content, shown)
    pixels, numbers = batch.get(b"data"), batch.get(form.labels[label].encode())
    if not isinstance(pixels, _Array) or not isinstance(numbers, list):
        raise UserError(f"{shown}: expected data and {form.labels[label]} in it; get this file again")
    images = pixels.values(shown)
    if images.ndim != 2 or images.shape[1] != _PIXELS or len(numbers) != len(images):
        raise UserError(
            f"{shown}: holds data of shape {images.shape} and {len(numbers):,} {form.labels[label]}, "
            f"expected {_PIXELS} values and one label an image; get this file again"
        )
    if not all(type(number) is int and 0 <= number < 100 for number in numbers):
        raise UserError(
            f"{shown}: {form.labels[label]} are not all whole numbers below 100; get this file again"
        )
    return images, np.array(numbers, np.int64)


def _binary(
    content: bytes, shown: str, form: _Form, label: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    record = _PIXELS + len(form.labels)
    if not content or len(content) % record:
        raise UserError(
            f"{shown}: has {len(content):,} bytes, expected a multiple of {record:,}; get this file again"
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, record)
    place = list(form.labels)[::-1].index(label)
    return rows[:, len(form.labels) :], rows[:, place].astype(np.int64)


def _label_names(batches: Batches, label: str) -> tuple[str, ...]:
    key, meta = batches.form.names[label], batches.form.meta
    file = meta or key
    if file not in batches.files:
        return ()
    shown, content = f"{batches.path / file}", batches.files[file]()
    if meta is None:
        names = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
        return tuple(name for name in names if name)
    found = _unpickled(content, shown).get(key.encode())
    if not isinstance(found, list) or not all(isinstance(name, bytes) for name in found):
        raise UserError(f"{shown}: expected {key} in it; get this file again")
    return tuple(name.decode("utf-8", "replace") for name in found)


class _Dtype:
    """What a pickle says of an array's type."""

    def __init__(self, code: Any = None, *rest: Any) -> None:
        self.code, self.state = code, None


class _Array:
    """What a pickle says of an array: its version, shape, type, order and bytes."""

    state: Any = None

    def values(self, shown: str) -> NDArray[np.uint8]:
        try:
            _, shape, dtype, fortran_order, content = self.state
            if not isinstance(dtype, _Dtype) or dtype.code not in (b"u1", "u1"):
                raise ValueError("the type is not uint8")
            flat = np.frombuffer(content, np.uint8)
            return flat.reshape(tuple(shape), order="F" if fortran_order else "C")
        except Exception as error:  # a pickle may have put anything there
            raise UserError(
                f"{shown}: its array cannot be read ({_reason(error)}); get this file again"
            ) from None


def _latin1(text: Any, codec: Any = None) -> bytes:
    """What ``_codecs.encode`` is called for in pickles of bytes."""
    if not isinstance(text, str) or codec not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("encodes a text in another way than latin1")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): lambda *_: _Array() for core in ("core", "_core")},
    ("numpy", "ndarray"): None,  # an argument of _reconstruct that nothing is done with
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _latin1,
}

#: What is not needed for containers and arrays, and allocates what it announces or makes other objects.
_REFUSED = (
    pickle.BYTEARRAY8,
    pickle.NEXT_BUFFER,
    pickle.READONLY_BUFFER,
    pickle.EXT1,
    pickle.EXT2,
    pickle.EXT4,
)


class _Unpickler(pickle._Unpickler):
    """Reads containers, numbers, texts and descriptions of arrays; all that it calls is in ``_ALLOWED``.

    It is Python's own and not the compiled one, whose table of references grows to the size that a pickle
    announces.
    """

    stack: list[Any]
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"names {module}.{name}, which is never loaded") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("names a persistent object")

    def load_build(self) -> None:
        """Give an array or a type its state; nothing else has any."""
        state = self.stack.pop()
        if type(self.stack[-1]) not in (_Array, _Dtype):
            raise pickle.UnpicklingError("sets the state of another object")
        self.stack[-1].state = state

    def refuse(self) -> None:
        raise pickle.UnpicklingError("holds objects of other kinds")

    dispatch[pickle.BUILD[0]] = load_build
    for _code in _REFUSED:
        dispatch[_code[0]] = refuse


def _unpickled(content: bytes, shown: str) -> dict[Any, Any]:
    try:
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle leads to any kind
        raise UserError(
            f"{shown}: not a CIFAR file in python form ({_reason(error)}); get this file again"
        ) from None
    if not isinstance(found, dict):
        raise UserError(f"{shown}: holds no table, expected data and labels; get this file again")
    return found


def _reason(error: Exception) -> str:
    return " ".join(str(error or type(error).__name__).split())[:160] or type(error).__name__
