"""Images in arrays: a .npy or .npz file, or arrays, tensors and datasets in memory."""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from infogan_fast.data.folder import as_eight_bits, is_grey
from infogan_fast.data.image_set import Files, require_memory
from infogan_fast.data.labels import as_labels, without
from infogan_fast.errors import MissingSplitError, UserError

_FLOAT_CHUNK = 1024


def load_array(path: Path, split: str) -> Files:
    """Images uint8 [N, H, W] or [N, C, H, W], and labels, from a .npy file or from the arrays of a .npz file.

    A .npz file names its arrays ``images`` or ``x`` and ``labels`` or ``y``, or by split: ``train_images``
    and ``train_labels``, ``x_test`` and ``y_test``. Nothing is unpickled. Labels may have any form that
    :func:`as_labels` reads. Floating-point and 0/1 images
    are refused: their values do not show whether they run from 0 or from -1.
    """
    labels: NDArray[np.int64] | None = None
    names: tuple[str, ...] = ()
    try:
        if path.suffix.lower() == ".npy":
            if split == "test":
                raise MissingSplitError(
                    f"{path}: one array has no test split; name a .npz file with test_images, or another file"
                )
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
            _check_array(mapped.shape, mapped.dtype, str(path))
            require_memory(mapped.nbytes, f"{path}: holds {len(mapped):,} images")
            images = np.array(mapped)
        else:
            with np.load(path, allow_pickle=False) as archive, zipfile.ZipFile(path) as members:
                shown = f"it holds {', '.join(archive.files) or 'nothing'}"
                key = _key(archive.files, split, ("images", "x", "data", "imgs"))
                if key is None and split == "train" and len(archive.files) == 1:
                    key = archive.files[0]
                if key is None and split == "test":
                    raise MissingSplitError(
                        f"{path}: no test split; expected an array named test_images or x_test, {shown}"
                    )
                if key is None:
                    raise UserError(
                        f"{path}: expected an array named images, x, train_images or x_train; {shown}"
                    )
                images = _read_member(members, key, path, _check_array)
                label_key = _key(archive.files, split, ("labels", "y", "label", "targets"))
                if label_key is not None:
                    labels, names = _labels_of(members, label_key, path, len(images))
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"{path}: does not fit into memory; save fewer or smaller images") from None
    except Exception as error:  # a damaged header leads NumPy and zipfile to many kinds
        if "pickle" in str(error) or "Python objects" in str(error):
            raise UserError(
                f"{path}: holds Python objects, which are not loaded; save plain uint8 arrays"
            ) from None
        reason = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
        raise UserError(f"{path}: not a readable NumPy file ({reason[:160]}); save it again") from None
    if images.max() <= 1:
        raise UserError(f"{path}: every pixel is 0 or 1, expected 0 to 255; save images * 255 as uint8")
    return Files(_channels_first(images), labels, names)


def _labels_of(
    members: zipfile.ZipFile, key: str, path: Path, count: int
) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    try:
        values = _read_member(members, key, path)
    except Exception as error:  # as for images, but labels that cannot be read stop nothing
        without(str(path), f"array {key} cannot be read ({' '.join(str(error).split())[:160]})")
        return None, ()
    return as_labels(values, count, str(path))


def _read_member(
    members: zipfile.ZipFile,
    key: str,
    path: Path,
    check: Callable[[tuple[int, ...], np.dtype[np.generic], str], None] | None = None,
) -> NDArray[Any]:
    """An array of a .npz file, whose header is checked before its values are unpacked."""
    member = members.getinfo(f"{key}.npy")
    with members.open(member) as file:
        version = np.lib.format.read_magic(file)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"array {key} has version {version} of the format")
        shape, fortran_order, dtype = readers[version](file)
        if dtype.hasobject:
            raise ValueError("Python objects")
        if check is not None:
            check(shape, dtype, f"{path}: array {key}")
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or not 0 <= size <= member.file_size:
            raise ValueError(f"array {key} of shape {shape} does not fit its {member.file_size:,} bytes")
        require_memory(size, f"{path}: holds array {key} of shape {shape}")
        content = file.read(size)
    if len(content) != size:
        raise ValueError(f"array {key} ends after {len(content):,} of {size:,} bytes")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C")


def load_memory(data: Any, split: str) -> tuple[Files, str]:
    """Images in memory, and where they are from: a digest of their pixels.

    Args:
        data: an array or tensor of images, uint8 in 0 to 255 or floating-point in 0 to 1, [N, H, W],
            [N, H, W, C] or [N, C, H, W] with C = 1 or 3, channels last where both fit; or a dataset, an
            object with a length whose items are images of one size (arrays, tensors or Pillow's) or tuples
            of an image, a label (see :func:`as_labels`) and whatever else.
        split: ``train``; there is no test split.

    Raises:
        MissingSplitError: the test split is asked for.
        UserError: the images have another type, shape or range.
    """
    if split == "test":
        raise MissingSplitError("images in memory have no test split; evaluate on other images, with data=")
    labels: NDArray[np.int64] | None = None
    names: tuple[str, ...] = ()
    if isinstance(data, Tensor):
        images = _from_tensor(data)
    elif isinstance(data, np.ndarray):
        images = data
    else:
        images, labels, names = _from_dataset(data)
    floating = images.dtype.kind == "f"
    if floating:
        _check_shape(images.shape, "data")
        images = _from_floats(images)
    if images.dtype != np.uint8:
        raise UserError(
            f"data: images are {images.dtype}, expected uint8 from 0 to 255 or floating-point from 0 to 1; "
            "convert them"
        )
    _check_shape(images.shape, "data")
    if images.max() <= 1 and floating:
        raise UserError("data: every pixel is below 1.5 / 255, expected 0 to 1; divide by 255 only once")
    if images.max() <= 1:
        raise UserError("data: every pixel is 0 or 1, expected 0 to 255; multiply uint8 images by 255")
    images = _channels_first(images)
    if images.shape[1:-2] == (1,):  # grey images have one digest, with an axis of channels or without
        images = images[:, 0]
    images = np.array(images, order="C")  # never the caller's own memory
    digest = hashlib.sha256(str(images.shape).encode())
    digest.update(images.data)
    return Files(images, labels, names), f"in memory, sha256 {digest.hexdigest()}"


def _from_dataset(data: Any) -> tuple[NDArray[Any], NDArray[np.int64] | None, tuple[str, ...]]:
    """The images and labels of a dataset, and the labels' names."""
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or isinstance(data, (bytes, dict)):
        raise UserError(
            f"data is a {type(data).__name__}; expected a name, a path, an array, a tensor, or a dataset "
            "with a length"
        )
    images: list[NDArray[Any]] = []
    labels: list[Any] = []
    for index in range(len(data)):
        item = data[index]
        image, label = (*item, None)[:2] if isinstance(item, tuple) and item else (item, None)
        images.append(_as_array(image, index))
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
    if not labels:
        return np.stack(images), None, ()
    try:
        values = np.array(labels)
    except ValueError:  # of several shapes
        values = np.empty(0)
    return np.stack(images), *as_labels(values, len(images), "data")


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


def _as_array(image: Any, index: int) -> NDArray[Any]:
    if isinstance(image, Image.Image):
        try:
            return np.asarray(as_eight_bits(image, 1 if is_grey(image) else 3))
        except ValueError as error:
            raise UserError(f"data: image {index} {error}") from None
    if isinstance(image, Tensor):
        return _from_tensor(image)
    if isinstance(image, np.ndarray):
        return image
    raise UserError(
        f"data: item {index} is a {type(image).__name__}; expected an image (an array, a tensor or a Pillow "
        "image)"
    )


def _as_label(label: Any) -> Any:
    return label.detach().cpu().numpy() if isinstance(label, Tensor) else label


def _from_floats(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Images in 0 to 1 as uint8."""
    result = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), _FLOAT_CHUNK):
        part = images[start : start + _FLOAT_CHUNK].astype(np.float64)
        low, high = part.min(), part.max()
        if not (low >= 0 and high <= 1):  # also false of NaN
            raise UserError(
                f"data: floating-point images run from {low:g} to {high:g}, expected 0 to 1; rescale them, "
                "for example (x + 1) / 2 where they run from -1 to 1"
            )
        result[start : start + _FLOAT_CHUNK] = (part * 255).round()
    return result


def _channels_first(images: NDArray[Any]) -> NDArray[Any]:
    """[N, H, W, C] as [N, C, H, W]; everything else as it is."""
    return images.transpose(0, 3, 1, 2) if images.ndim == 4 and images.shape[-1] in (1, 3) else images


def _key(names: Sequence[str], split: str, stems: tuple[str, ...]) -> str | None:
    by_split = [form for stem in stems for form in (f"{split}_{stem}", f"{stem}_{split}")]
    wanted = by_split + (list(stems) if split == "train" else [])
    lowered = {name.lower(): name for name in names}
    return next((lowered[w] for w in wanted if w in lowered), None)


def _check_array(shape: tuple[int, ...], dtype: np.dtype[np.generic], name: str) -> None:
    if dtype != np.uint8:
        remedy = "save them as uint8 from 0 to 255"
        if dtype.kind == "f":
            remedy = "save (x * 255).round().astype('uint8') if they run from 0 to 1"
        raise UserError(f"{name}: images are {dtype}, expected uint8; {remedy}")
    _check_shape(shape, name)


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[-1] not in (1, 3) and shape[1] not in (1, 3)):
        raise UserError(
            f"{name}: has shape {shape}, expected (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3"
        )
    if 0 in shape:
        raise UserError(f"{name}: holds no images")
