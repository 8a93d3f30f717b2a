"""Images in arrays: a .npy or .npz file, or arrays, tensors and datasets in memory."""

from __future__ import annotations

import hashlib
import math
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from infogan_fast.data import pictures
from infogan_fast.data.background import background_rgb
from infogan_fast.data.image_set import Files, Selection, one_of_each_part, require_memory
from infogan_fast.data.labels import as_labels, choose_label, without
from infogan_fast.data.pixel_range import PixelRange
from infogan_fast.errors import MissingSplitError, UserError

_NPY = b"\x93NUMPY"
_CHUNK = 1 << 22  # pixels that are scaled at once
_PIECE = 1 << 20  # bytes that are skipped at once
_UNIT = PixelRange(0, 1)

# The factors of two published sets, in the order of their tables' columns.
_SPRITES = ("color", "shape", "scale", "orientation", "posX", "posY")
_SPRITE_SHAPES = ("square", "ellipse", "heart")
_SHAPES = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")


@dataclass(frozen=True)
class Member:
    """An array of a file: its header, and how rows of it are read, given as sorted indices int64 [n]."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[NDArray[np.int64]], NDArray[Any]]


def is_array(path: Path) -> bool:
    """Whether a file is one of NumPy's: by its content, or by its suffix if that is damaged."""
    if path.suffix.lower() in (".npy", ".npz"):
        return True
    with open(path, "rb") as file:
        beginning = file.read(len(_NPY))
    if beginning == _NPY:
        return True
    try:
        with zipfile.ZipFile(path) as archive:  # which takes a TAR that ends with a ZIP for one, too
            return beginning.startswith(b"PK") and any(name.endswith(".npy") for name in archive.namelist())
    except Exception:  # a damaged archive leads zipfile to many kinds
        return False


def load_array(path: Path, selection: Selection) -> Files:
    """Images, and their labels and factors, from a .npy file or from the arrays of a .npz file; told apart by
    their content.

    Nothing is unpickled, and only the selected images are kept. See :func:`read_members` for the names of the
    arrays and :func:`read_images` for their types.
    """
    try:
        with open(path, "rb") as file:
            single = file.read(len(_NPY)) == _NPY
        if single or path.suffix.lower() == ".npy":
            if selection.split == "test":
                raise MissingSplitError(
                    f"{path}: one array has no test split; name a .npz file with test_images, or another file"
                )
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
            member = Member(mapped.shape, mapped.dtype, lambda rows: mapped[rows])
            images, note = read_images(member, str(path), selection)
            choose_label((), selection.label, str(path))
            return Files(_channels_first(images), None, note=note, chosen=True)
        with zipfile.ZipFile(path) as archive, ExitStack() as opened:
            streams = {
                name[:-4]: _NpzMember(archive, name, str(path), opened)
                for name in archive.namelist()
                if name.endswith(".npy")
            }
            found = read_members({name: stream.member for name, stream in streams.items()}, path, selection)
            for stream in streams.values():
                stream.finish()
            return found
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"{path}: does not fit into memory; save fewer or smaller images") from None
    except Exception as error:  # a damaged header leads NumPy and zipfile to many kinds
        if "pickle" in str(error) or "Python objects" in str(error):
            raise UserError(
                f"{path}: holds Python objects, which are not loaded; save plain uint8 arrays"
            ) from None
        raise UserError(f"{path}: not a readable NumPy file ({_short(error)}); save it again") from None


def _short(error: Exception) -> str:
    reason = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
    return reason[:160]


class _NpzMember:
    """An array of a .npz file, unpacked from its beginning on, and again where earlier rows are asked for."""

    def __init__(self, archive: zipfile.ZipFile, name: str, path: str, opened: ExitStack) -> None:
        self.archive, self.name, self.path, self.opened = archive, name, path, opened
        self.file: IO[bytes] | None = None
        self.row = 0
        self.whole: NDArray[Any] | None = None  # of an array in Fortran order

    def _header(self) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        self.file = self.opened.enter_context(self.archive.open(self.name))
        self.row = 0
        version = np.lib.format.read_magic(self.file)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"array {self.name[:-4]} has version {version} of the format")
        header: tuple[tuple[int, ...], bool, np.dtype[Any]] = readers[version](self.file)
        return header

    def member(self) -> Member:
        """The array, whose header is checked against the size of its file."""
        key = self.name[:-4]
        shape, fortran_order, dtype = self._header()
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or not 0 <= size <= self.archive.getinfo(self.name).file_size:
            raise ValueError(f"array {key} of shape {shape} does not fit its file")

        def read(rows: NDArray[np.int64]) -> NDArray[Any]:
            if dtype.hasobject:
                raise ValueError("Python objects")
            if fortran_order and len(shape) > 1:
                if self.whole is None:
                    require_memory(size, f"{self.path}: array {key} of shape {shape} is in Fortran order")
                    self.whole = np.frombuffer(self._bytes(size), dtype).reshape(shape, order="F")
                return self.whole[rows]
            return self._rows(rows, shape, dtype)

        return Member(shape, dtype, read)

    def _rows(self, rows: NDArray[np.int64], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        width = math.prod(shape[1:]) * dtype.itemsize
        if len(rows) and rows[0] < self.row:
            self._header()
        result = bytearray()
        for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
            if len(run) and width:
                self._skip((int(run[0]) - self.row) * width)
                result += self._bytes(len(run) * width)
                self.row = int(run[-1]) + 1
        return np.frombuffer(result, dtype).reshape(len(rows), *shape[1:])

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._bytes(min(size, _PIECE)))

    def _bytes(self, size: int) -> bytes:
        assert self.file is not None
        content = self.file.read(size)
        if len(content) != size:
            raise ValueError(f"array {self.name[:-4]} ends too early")
        return content

    def finish(self) -> None:
        """Read to the end, where the checksum is."""
        while self.row and self.file is not None and self.file.read(_PIECE):
            pass


def read_members(members: Mapping[str, Callable[[], Member]], path: Path, selection: Selection) -> Files:
    """The selected images of a file of named arrays.

    Images are called ``images``, ``x``, ``data`` or ``imgs``, and labels ``labels``, ``y``, ``label`` or
    ``targets``; or by split: ``train_images`` and ``train_labels``, ``x_test`` and ``y_test``. ``--label``
    names another array of one value an image. Labels may have any form that :func:`as_labels` reads. The
    tables of factors of dSprites and 3D Shapes become factors, each of which is a label too.

    Raises:
        MissingSplitError: there is no such split.
        UserError: the arrays have other names, types or shapes.
    """
    split, names = selection.split, list(members)
    shown = f"it holds {', '.join(names) or 'nothing'}"
    key = _key(names, split, ("images", "x", "data", "imgs"))
    if key is None and split == "train" and len(names) == 1:
        key = names[0]
    if key is None and split == "test":
        raise MissingSplitError(
            f"{path}: no test split; expected an array named test_images or x_test, {shown}"
        )
    if key is None:
        raise UserError(f"{path}: expected an array named images, x, train_images or x_train; {shown}")
    member = members[key]()
    sprites = {"imgs", "latents_classes", "latents_values"} <= set(names)
    images, note = read_images(member, f"{path}: array {key}", selection, black_and_white=sprites)
    images, count = _channels_first(images), member.shape[0]
    rows = one_of_each_part(count, selection.count, str(path))
    default = _key(names, split, ("labels", "y", "label", "targets"))
    known = _known_table(members, path, default, member.shape, sprites)
    if known is not None:
        return _factored(images, *known, rows, path, selection, note)
    labelled = {_stem(default, split): default} if default is not None else {}
    for name in names:
        with suppress(Exception):  # what cannot be read is no label
            if name not in (key, default) and _of_split(name, split) and _is_label(members[name](), count):
                labelled[_stem(name, split)] = name
    if default is None and selection.label is None:
        return Files(images, None, note=note, chosen=True)
    chosen, remark = choose_label(list(labelled), selection.label, str(path))
    name = labelled[chosen]
    try:
        found = _whole(members[name](), f"{path}: array {name}")
    except UserError:
        raise
    except Exception as error:  # as for images, but labels that cannot be read stop nothing
        without(str(path), f"array {name} cannot be read ({_short(error)})")
        return Files(images, None, label=chosen, note=note, chosen=True)
    numbers, label_names = as_labels(found, count, str(path))
    numbers = None if numbers is None else numbers[rows]
    return Files(images, numbers, label_names, chosen, note=note + remark, chosen=True)


def _known_table(
    members: Mapping[str, Callable[[], Member]],
    path: Path,
    default: str | None,
    shape: tuple[int, ...],
    sprites: bool,
) -> tuple[tuple[NDArray[Any], NDArray[Any]], tuple[str, ...], tuple[str, ...]] | None:
    """The factors of dSprites or 3D Shapes by values and by classes, their names and those of the shapes."""
    if sprites:
        values, classes = (
            _whole(members[key](), f"{path}: array {key}") for key in ("latents_values", "latents_classes")
        )
        if values.shape == classes.shape == (shape[0], len(_SPRITES)):
            return (values, classes), _SPRITES, _SPRITE_SHAPES
        raise UserError(
            f"{path}: latents_values and latents_classes have shapes {values.shape} and {classes.shape}, "
            f"expected {(shape[0], len(_SPRITES))}; get this file again"
        )
    if default is None or shape[1:] != (64, 64, 3):
        return None
    with suppress(Exception):  # labels that cannot be read stop nothing, and are read again as labels
        table = members[default]()
        if table.shape == (shape[0], len(_SHAPES)) and table.dtype.kind == "f":
            values = _whole(table, f"{path}: array {default}")
            return (values, values), _SHAPES, ()
    return None


def _whole(member: Member, name: str) -> NDArray[Any]:
    require_memory(math.prod(member.shape) * member.dtype.itemsize, f"{name}: has shape {member.shape}")
    return member.read(np.arange(member.shape[0] if member.shape else 0))


def _is_label(member: Member, count: int) -> bool:
    return member.shape in ((count,), (count, 1)) and member.dtype.kind in "biufSU"


def _of_split(name: str, split: str) -> bool:
    other = "test" if split == "train" else "train"
    return not re.fullmatch(rf"{other}_.*|.*_{other}", name.lower())


def _stem(name: str, split: str) -> str:
    return re.sub(rf"^{split}_|_{split}$", "", name, flags=re.IGNORECASE)


def _factored(
    images: NDArray[np.uint8],
    tables: tuple[NDArray[Any], NDArray[Any]],
    names: tuple[str, ...],
    shapes: tuple[str, ...],
    rows: NDArray[np.int64],
    path: Path,
    selection: Selection,
    note: str,
) -> Files:
    """Images with the factors of a published table, given as values and as classes [N, m]: the shape is the
    label that is not asked for. A factor that never varies has nothing to score."""
    values, classes = tables
    varying = [j for j in range(len(names)) if (classes[:, j] != classes[0, j]).any()]
    known = [names[j] for j in sorted(varying, key=lambda j: names[j] != "shape")]
    label, remark = choose_label(known, selection.label, str(path))
    if constant := [name for j, name in enumerate(names) if j not in varying]:
        remark += f", {' and '.join(constant)} the same in all"
    factors: dict[str, NDArray[Any]] = {}
    for j in varying:
        whole = names[j] in ("shape", "color")
        factors[names[j]] = classes[rows, j].astype(np.int64) if whole else values[rows, j].astype(np.float32)
    numbers = None
    if label:
        numbers = np.unique(classes[:, names.index(label)], return_inverse=True)[1][rows].astype(np.int64)
    shown = shapes if label == "shape" else ()
    return Files(images, numbers, shown, label, factors, note + remark, chosen=True)


def read_images(
    member: Member,
    name: str,
    selection: Selection,
    *,
    black_and_white: bool = False,
    unit: bool = False,
) -> tuple[NDArray[np.uint8], str]:
    """The selected images as uint8, in the layout of the file, and what the source should say of their range.

    Images of uint8 run from 0 to 255 unless a range is given. Of floating-point images and those of 16 bits
    all are read for their range, which has to be one of 0..1, -1..1, 0..255, 0..4095 and 0..65535 beyond
    doubt: floats reach 0 and 1, or are in -1 to 1 and some at most -0.5; whole numbers reach the largest one.

    Args:
        member: [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3.
        name: for errors.
        black_and_white: whether images of uint8 are known to hold 0 and 1 alone.
        unit: whether floats in 0 to 1 need not reach either.

    Raises:
        UserError: the images have another shape or type, or a range that is in doubt or not the given one; or
            memory is short.
    """
    shape, dtype, wanted = member.shape, member.dtype.newbyteorder("="), selection.pixel_range
    if dtype.kind == "O":
        raise UserError(f"{name}: holds Python objects, which are not loaded; save plain uint8 arrays")
    if dtype.kind not in "buif":
        raise UserError(f"{name}: images are {dtype}, expected numbers; save them as uint8 from 0 to 255")
    _check_shape(shape, name)
    width, kept = math.prod(shape[1:]), min(selection.count or shape[0], shape[0])
    step, note = max(1, _CHUNK // width), ""
    # What is kept, its places, and a piece in the file's type and as float64.
    size = kept * (width + 8) + 16 * step * width
    require_memory(size, f"{name}: holds {shape[0]:,} images of shape {shape[1:]}")
    chosen = one_of_each_part(shape[0], selection.count, name)
    plain = dtype == np.uint8 and wanted is None and not black_and_white
    if black_and_white and wanted is None and dtype == np.uint8:
        wanted = PixelRange(0, 1)
    if wanted is None and not plain:
        parts = (member.read(np.arange(i, min(i + step, shape[0]))) for i in range(0, shape[0], step))
        ends = [(part.min(), part.max()) for part in parts]
        low, high = float(np.min(ends)), float(np.max(ends))  # NaN if there is one
        wanted = _range(low, high, dtype, name, unit)
        note = "" if unit and wanted == _UNIT else f", pixels from {wanted.low:g} to {wanted.high:g}"
    result = np.empty((len(chosen), *shape[1:]), np.uint8)
    for start in range(0, len(chosen), step):
        part = member.read(chosen[start : start + step])
        result[start : start + step] = part if wanted is None else _scaled(part, wanted, name)
    if plain and result.max() <= 1:
        raise UserError(
            f"{name}: every pixel is 0 or 1, expected 0 to 255; give --pixel-range 0..1, or multiply by 255"
        )
    return result, note


def _scaled(images: NDArray[Any], pixels: PixelRange, name: str) -> NDArray[np.float64]:
    """From 0 to 255, rounded."""
    low, high = float(images.min()), float(images.max())
    if not (low >= pixels.low and high <= pixels.high):  # also true of NaN
        raise UserError(
            f"{name}: pixels run from {low:g} to {high:g}, beyond --pixel-range {pixels}; give the range "
            "that they were saved in"
        )
    scaled: NDArray[np.float64] = (images.astype(np.float64) - pixels.low) / (pixels.high - pixels.low)
    return (scaled * 255).round()


def _range(low: float, high: float, dtype: np.dtype[Any], name: str, unit: bool) -> PixelRange:
    """The range of pixels that run from low to high."""
    if dtype.kind == "f" and ((low == 0 and high == 1) or (unit and 0 <= low <= high <= 1)):
        return _UNIT
    # A value a little below 0 is more likely to be noise, or what an interpolation left, than a grey of 127.
    if dtype.kind == "f" and -1 <= low <= -0.5 and high <= 1:
        return PixelRange(-1, 1)
    if dtype == np.uint16 and high in (255, 4095, 65535):
        return PixelRange(0, int(high))
    raise UserError(
        f"{name}: images are {dtype} and run from {low:g} to {high:g}, which does not tell black and white; "
        "give --pixel-range LOW..HIGH, such as 0..1, -1..1 or 0..65535, and clip what should not be outside"
    )


def load_memory(data: Any, selection: Selection) -> tuple[Files, str]:
    """Images in memory, and where they are from: a digest of their pixels.

    Args:
        data: an array or tensor of images, uint8 in 0 to 255, floating-point in 0 to 1 or -1 to 1, or numbers
            in the selection's pixel range, [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3, channels
            last where both fit; or a dataset, an object with a length whose items are images of one size
            (arrays, tensors or Pillow's) or tuples
            of an image, a label (see :func:`as_labels`) and whatever else.
        selection: of the training split, for there is no other; the images are not selected here.

    Raises:
        MissingSplitError: the test split is asked for.
        UserError: the images have another type, shape or range.
    """
    if selection.split == "test":
        raise MissingSplitError("images in memory have no test split; evaluate on other images, with data=")
    labels: NDArray[np.int64] | None = None
    names: tuple[str, ...] = ()
    note = ""
    if isinstance(data, Tensor):
        images = _from_tensor(data)
    elif isinstance(data, np.ndarray):
        images = data
    else:
        images, labels, names, note = _from_dataset(data, selection.background)
    if images.dtype.kind not in "buif":
        raise UserError(f"data: images are {images.dtype}, expected numbers; convert them to uint8")
    _check_shape(images.shape, "data")
    floating = images.dtype.kind == "f"
    whole = replace(selection, count=None)  # the digest is of all images
    if images.dtype != np.uint8 or selection.pixel_range is not None or images.max() <= 1:
        given = images
        member = Member(given.shape, given.dtype, lambda rows: given[rows[0] : rows[-1] + 1])
        images, found = read_images(member, "data", whole, unit=True)
        note += found
    if floating and selection.pixel_range is None and images.max() <= 1:
        raise UserError("data: every pixel is below 1.5 / 255, expected 0 to 1; divide by 255 only once")
    images = _channels_first(images)
    if images.shape[1:-2] == (1,):  # grey images have one digest, with an axis of channels or without
        images = images[:, 0]
    images = np.array(images, order="C")  # never the caller's own memory
    digest = hashlib.sha256(str(images.shape).encode())
    digest.update(images.data)
    return Files(images, labels, names), f"in memory{note}, sha256 {digest.hexdigest()}"


def _from_dataset(
    data: Any, background: str
) -> tuple[NDArray[Any], NDArray[np.int64] | None, tuple[str, ...], str]:
    """The images and labels of a dataset, the labels' names, and what was done to Pillow's images."""
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or isinstance(data, (bytes, dict)):
        raise UserError(
            f"data is a {type(data).__name__}; expected a name, a path, an array, a tensor, or a dataset "
            "with a length"
        )
    images: list[NDArray[Any]] = []
    labels: list[Any] = []
    deep = transparent = 0
    for index in range(len(data)):
        try:
            item = data[index]
        except Exception as error:
            raise UserError(
                f"data: a {type(data).__name__}, whose item {index} cannot be had ({type(error).__name__}: "
                f"{error}); expected a name, a path, an array, a tensor, or a dataset"
            ) from error
        image, label = (*item, None)[:2] if isinstance(item, tuple) and item else (item, None)
        values, is_deep, is_transparent = _as_array(image, index, background)
        images.append(values)
        deep, transparent = deep + is_deep, transparent + is_transparent
        if images[-1].shape != images[0].shape or images[-1].dtype != images[0].dtype:
            raise UserError(
                f"data: image {index} is {images[-1].dtype} of shape {images[-1].shape}, and image 0 is "
                f"{images[0].dtype} of shape {images[0].shape}; give all images one size and type"
            )
        if label is not None:
            labels.append(_as_label(label))
    if not images:
        raise UserError("data: holds no images")
    if labels and len(labels) != len(images):
        without("data", f"{len(labels)} of {len(images)} images have a label")
        labels = []
    stacked, note = np.stack(images), ""
    if deep:
        scale, bits = pictures.scale_for(int(stacked.max()))
        stacked = pictures.scaled(stacked, scale)
        note = "" if scale == 65535 else f", pictures of {bits} scaled by {scale}"
    if transparent:
        note += f", transparency laid on {background}"
    if not labels:
        return stacked, None, (), note
    try:
        values = np.array(labels)
    except ValueError:  # of several shapes
        values = np.empty(0)
    return stacked, *as_labels(values, len(images), "data"), note


def _from_tensor(images: Tensor) -> NDArray[Any]:
    """A tensor on any device as an array; NumPy has neither bfloat16 nor types of 8 bits."""
    if images.layout != torch.strided or images.is_meta:
        kind = "a meta tensor" if images.is_meta else f"a tensor of layout {images.layout}"
        raise UserError(f"data: is {kind}, expected a dense tensor with values")
    images = images.detach().cpu()
    known = (torch.float16, torch.float32, torch.float64)
    array: NDArray[Any] = (
        images.float() if images.is_floating_point() and images.dtype not in known else images
    ).numpy()
    return array


def _as_array(image: Any, index: int, background: str) -> tuple[NDArray[Any], bool, bool]:
    """An image, whether it is Pillow's with more than 8 bits (then int64), and whether it was transparent."""
    if isinstance(image, Image.Image):
        try:
            if image.mode.startswith("I"):
                return pictures.deep_values(image), True, False
            rgb = background_rgb(background)
            coloured = len(set(rgb)) > 1 and image.has_transparency_data
            channels = 1 if pictures.is_grey(image) and not coloured else 3
            picture, transparent = pictures.as_eight_bits(image, channels, rgb)
        except ValueError as error:
            raise UserError(f"data: image {index} {error}") from None
        return np.asarray(picture), False, transparent
    if isinstance(image, Tensor):
        return _from_tensor(image), False, False
    if isinstance(image, np.ndarray):
        return image, False, False
    raise UserError(
        f"data: item {index} is a {type(image).__name__}; expected an image (an array, a tensor or a Pillow "
        "image)"
    )


def _as_label(label: Any) -> Any:
    return label.detach().cpu().numpy() if isinstance(label, Tensor) else label


def _channels_first(images: NDArray[Any]) -> NDArray[Any]:
    """[N, H, W, C] as [N, C, H, W]; everything else as it is."""
    return images.transpose(0, 3, 1, 2) if images.ndim == 4 and images.shape[-1] in (1, 3) else images


def _key(names: Sequence[str], split: str, stems: tuple[str, ...]) -> str | None:
    by_split = [form for stem in stems for form in (f"{split}_{stem}", f"{stem}_{split}")]
    wanted = by_split + (list(stems) if split == "train" else [])
    lowered = {name.lower(): name for name in names}
    return next((lowered[w] for w in wanted if w in lowered), None)


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[-1] not in (1, 3) and shape[1] not in (1, 3)):
        raise UserError(
            f"{name}: has shape {shape}, expected (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3"
        )
    if 0 in shape:
        raise UserError(f"{name}: holds no images")
