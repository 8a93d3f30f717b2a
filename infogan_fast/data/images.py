"""Images from files: a folder of pictures, or an array in a .npy or .npz file."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from ..errors import MissingSplitError, UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
MIN_SIZE = 16

_SPLIT_FOLDERS = {"train": ("train", "training"), "test": ("test", "testing", "val", "valid", "validation")}
_PROGRESS_FROM = 2000  # files; fewer are read before a bar could be read

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Files:
    """Images uint8, labels int64 [N] or None, and the labels' names where subfolders gave them."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    label_names: tuple[str, ...] = ()


def require_memory(size: int, what: str) -> None:
    """Raise UserError, its text beginning with ``what``, when ``size`` bytes are more than are free."""
    try:
        with open("/proc/meminfo") as file:
            free = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
            return
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > free:
        raise UserError(
            f"{what}, which take {size / 2**30:,.1f} GiB of memory, and {free / 2**30:,.1f} GiB are free; "
            f"use fewer images (--images) or a smaller --image-size"
        )


def spread(total: int, count: int | None, what: str) -> NDArray[np.int64]:
    """Indices of ``count`` of ``total`` images, evenly spaced: a sorted set keeps all of its classes."""
    if count is None:
        return np.arange(total)
    if count > total:
        raise UserError(f"{what}: has {total:,} images, --images asks for {count:,}")
    return np.arange(count) * total // count


def load_array(path: Path, split: str) -> Files:
    """Images uint8 [N, H, W] or [N, C, H, W], and labels, from a .npy file or from the arrays of a .npz file.

    A .npz file names its arrays ``images`` or ``x`` and ``labels`` or ``y``, or by split: ``train_images``
    and ``train_labels``, ``x_test`` and ``y_test``. Nothing is unpickled. Floating-point and 0/1 images
    are refused, not guessed at: whether they run from 0 or from -1 cannot be told from the values.
    """
    labels = None
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
                require_memory(members.getinfo(f"{key}.npy").file_size, f"{path}: holds the images in {key}")
                images = archive[key]
                _check_array(images.shape, images.dtype, f"{path}: array {key}")
                label_key = _key(archive.files, split, ("labels", "y", "label", "targets"))
                if label_key is not None:
                    labels = archive[label_key]
    except UserError:
        raise
    except ValueError as error:
        if "pickle" in str(error) or "Python objects" in str(error):
            raise UserError(
                f"{path}: holds Python objects, which are not loaded; save plain uint8 arrays"
            ) from None
        raise UserError(f"{path}: not a readable NumPy file ({error}); save it again") from None
    except (OSError, EOFError, zipfile.BadZipFile, KeyError, SyntaxError) as error:
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise UserError(f"{path}: not a readable NumPy file ({reason}); save it again") from None
    except MemoryError:
        raise UserError(f"{path}: does not fit into memory; save fewer or smaller images") from None
    if images.max() <= 1:
        raise UserError(f"{path}: every pixel is 0 or 1, expected 0 to 255; save images * 255 as uint8")
    if labels is not None:
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise UserError(
                f"{path}: labels are {labels.dtype} of shape {labels.shape}, expected one integer for "
                f"each of the {len(images):,} images"
            )
        labels = labels.astype(np.int64)
    if images.ndim == 4 and images.shape[-1] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    return Files(images, labels)


def _key(names: Sequence[str], split: str, stems: tuple[str, ...]) -> str | None:
    by_split = [form for stem in stems for form in (f"{split}_{stem}", f"{stem}_{split}")]
    wanted = by_split + (list(stems) if split == "train" else [])
    lowered = {name.lower(): name for name in names}
    return next((lowered[w] for w in wanted if w in lowered), None)


def _check_array(shape: tuple[int, ...], dtype: np.dtype[np.generic], what: str) -> None:
    if dtype != np.uint8:
        remedy = "save them as uint8 from 0 to 255"
        if dtype.kind == "f":
            remedy = "save (x * 255).round().astype('uint8') if they run from 0 to 1"
        raise UserError(f"{what}: images are {dtype}, expected uint8; {remedy}")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[-1] not in (1, 3) and shape[1] not in (1, 3)):
        raise UserError(
            f"{what}: has shape {shape}, expected (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3"
        )
    if shape[0] == 0:
        raise UserError(f"{what}: holds no images")


def load_folder(
    path: Path, split: str, image_size: int | None, channels: int | None, crop: bool, count: int | None
) -> Files:
    """Decode every picture under a folder to uint8 [N, C, S, S].

    Subfolders named train and test (or val) are the splits; the first folder below gives a picture's label
    when every picture has one. Grey pictures stay grey unless some are in colour or ``channels`` says
    otherwise. 16 bits become 8 by scaling, transparency is laid on black, EXIF rotation is applied, of an
    animation the first frame is taken. Raises UserError naming the first file that cannot be used, and how
    many more there are.
    """
    folders = {p.name.lower(): p for p in sorted(path.iterdir()) if p.is_dir()}
    parts = {
        s: next((folders[n] for n in names if n in folders), None) for s, names in _SPLIT_FOLDERS.items()
    }
    if parts["test"] is None and split == "test":
        raise MissingSplitError(
            f"{path}: no test split; put held-out pictures into {path / 'test'}, or name their own folder"
        )
    root = parts[split] if parts["train"] and parts["test"] else path
    assert root is not None  # parts[split] is set where both are, and path otherwise
    files = _find(root)
    files = [files[i] for i in spread(len(files), count, str(root))]

    with warnings.catch_warnings():
        # Pillow warns of decompression bombs, which are refused by name below, and of damaged metadata.
        warnings.simplefilter("ignore")
        found = _each(files, lambda i: _inspect(files[i]), f"inspecting {root.name}")
        colour = channels or (1 if all(grey for _, grey in found) else 3)
        size = image_size or _common_size(files, [shape for shape, _ in found])
        require_memory(len(files) * colour * size**2, f"{root}: {len(files):,} images of {size} x {size}")
        images = np.empty((len(files), colour, size, size), np.uint8)

        def decode(i: int) -> None:
            images[i] = _decode(files[i], size, colour, crop)

        _each(files, decode, f"decoding {root.name}")

    relative = [file.relative_to(root).parts for file in files]
    if any(len(p) == 1 for p in relative):
        return Files(images, None)
    names = tuple(sorted({p[0] for p in relative}))
    number = {name: i for i, name in enumerate(names)}
    return Files(images, np.array([number[p[0]] for p in relative], np.int64), names)


def _find(root: Path) -> list[Path]:
    """The pictures under a folder, sorted; hidden files and folders are passed over."""
    files = []
    others: Counter[str] = Counter()

    def unreadable(error: OSError) -> None:
        raise UserError(
            f"{error.filename}: cannot be read ({error.strerror}); change its permissions or move it away"
        )

    for folder, subfolders, names in os.walk(root, onerror=unreadable):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in names:
            suffix = Path(name).suffix.lower()
            if name.startswith("."):
                continue
            if suffix in SUFFIXES:
                files.append(Path(folder, name))
            else:
                others[suffix or "files without a suffix"] += 1
    if not files:
        shown = ", ".join(f"{n} {kind}" for kind, n in others.most_common(3)) or "nothing else"
        raise UserError(
            f"{root}: no pictures ({' '.join(s[1:] for s in SUFFIXES)}) in this folder; found {shown}"
        )
    return sorted(files)


def _each(files: list[Path], work: Callable[[int], _Result], title: str) -> list[_Result]:
    """Run ``work(i)`` for every file on a pool of threads; raise UserError naming the files that failed."""
    results: list[_Result] = []
    failures: list[str] = []

    def attempt(i: int) -> _Result | Exception:
        try:
            return work(i)
        except Exception as error:  # Pillow's decoders raise whatever their parsing ran into
            return error

    # Decoding and resizing release the interpreter's lock, so threads are enough.
    with (
        ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool,
        tqdm(
            total=len(files), desc=title, unit="img", leave=False, disable=len(files) < _PROGRESS_FROM
        ) as bar,
    ):
        for file, outcome in zip(files, pool.map(attempt, range(len(files))), strict=True):
            bar.update()
            if isinstance(outcome, Exception):
                failures.append(f"{file}: {_reason(outcome)}")
            else:
                results.append(outcome)
    if failures:
        more = f" (and {len(failures) - 1} more files)" if len(failures) > 1 else ""
        raise UserError(f"{failures[0]}{more}; repair, convert or remove what cannot be read")
    return results


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a picture that Pillow can read, or damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"has more than {_pixel_limit():,} pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _pixel_limit() -> int:
    return Image.MAX_IMAGE_PIXELS or 1 << 30


def _inspect(file: Path) -> tuple[tuple[int, int], bool]:
    """Width and height as displayed, and whether the picture is grey, from its header where that tells."""
    if file.stat().st_size == 0:
        raise ValueError("is empty")
    with Image.open(file) as picture:
        width, height = picture.size
        if width * height > _pixel_limit():
            raise ValueError(f"has {width} x {height} pixels, more than {_pixel_limit():,}")
        if picture.mode == "F":
            raise ValueError("holds floating-point values; save it with 8 or 16 bits a channel")
        if picture.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8):
            width, height = height, width
        grey = picture.mode.startswith(("1", "L", "I"))
        if picture.mode in ("P", "PA"):
            palette = np.array(picture.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
            grey = bool((palette == palette[:, :1]).all())
        return (width, height), grey


def _common_size(files: list[Path], sizes: list[tuple[int, int]]) -> int:
    """The side that all pictures share; UserError when they differ, are not square or are too small."""
    usual, _ = Counter(sizes).most_common(1)[0]
    odd = next((i for i, size in enumerate(sizes) if size != usual), None)
    if odd is not None:
        raise UserError(
            f"{files[odd]}: is {sizes[odd][0]} x {sizes[odd][1]} where most are {usual[0]} x {usual[1]}; "
            f"choose one size with --image-size"
        )
    if usual[0] != usual[1]:
        raise UserError(
            f"{files[0]}: is {usual[0]} x {usual[1]}, not square; choose a size with --image-size"
        )
    if usual[0] < MIN_SIZE:
        raise UserError(
            f"{files[0]}: is {usual[0]} x {usual[1]}, expected at least {MIN_SIZE} x {MIN_SIZE}; "
            f"enlarge with --image-size"
        )
    return usual[0]


def _decode(file: Path, size: int, channels: int, crop: bool) -> NDArray[np.uint8]:
    """One picture as uint8 [channels, size, size]."""
    with Image.open(file) as opened:
        # A JPEG much larger than needed is decoded at a fraction of its size; other formats ignore this.
        opened.draft("L" if channels == 1 else "RGB", (2 * size, 2 * size))
        picture: Image.Image = ImageOps.exif_transpose(opened)
        if picture.mode.startswith("I"):
            wide = np.asarray(picture).astype(np.int64)
            if wide.min() < 0 or wide.max() > 65535:
                raise ValueError("holds values beyond 16 bits; save it with 8 or 16 bits a channel")
            picture = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
        if picture.has_transparency_data:
            layer = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
        picture = picture.convert("L" if channels == 1 else "RGB")
        if crop:  # before resizing, whose filter would look past the edges of a box
            side = min(picture.size)
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            picture = picture.crop((left, top, left + side, top + side))
        if picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.BICUBIC)
        pixels = np.asarray(picture)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
