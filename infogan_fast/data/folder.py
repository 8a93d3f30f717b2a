"""Images from a folder of pictures."""

from __future__ import annotations

import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from infogan_fast.constants import MIN_SIZE
from infogan_fast.data.image_set import ImageSet, Selection, require_memory, spread
from infogan_fast.errors import MissingSplitError, UserError

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".gif", ".tif", ".tiff"),
    *(".jp2", ".avif", ".ppm", ".pgm", ".pbm", ".pnm"),
)

_SPLIT_FOLDERS = {"train": ("train", "training"), "test": ("test", "testing", "val", "valid", "validation")}
_FLOATING = "holds floating-point values; save it with 8 or 16 bits a channel"
_PROGRESS_FROM = 2000  # files; fewer are read before a bar could be read

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class _Failure:
    """Why a file cannot be used."""

    reason: str


def load(path: Path, selection: Selection) -> ImageSet:
    """Decode the pictures under a folder.

    A subfolder named test (or val) is the test split, and one named train the other; without a folder train,
    all other pictures are the train split. The first folder below gives a picture's label when every picture
    has one. Grey pictures stay grey unless some are in colour or ``channels`` says
    otherwise. 16 bits become 8 by scaling, transparency is laid on black, EXIF rotation is applied, of an
    animation the first frame is taken.

    Raises:
        MissingSplitError: there is no folder of test pictures.
        UserError: a file cannot be used; the text names the first one, and how many more there are. Or a
            picture is in no split, or in both.
    """
    split, crop = selection.split, selection.crop
    root, files = _pictures_of(path, split)
    files = [files[i] for i in spread(len(files), selection.count, str(root))]

    with warnings.catch_warnings():
        # Pillow warns of decompression bombs, which are refused by name below, and of damaged metadata.
        warnings.simplefilter("ignore")
        left_out: list[str] = []
        inspected = _in_threads(files, lambda i: _inspect(files[i]), f"inspecting {root.name}")
        files, found = _sifted(files, inspected, left_out, selection)
        colour = selection.channels or (1 if all(grey for _, grey in found) else 3)
        size = selection.image_size or _common_size(files, [shape for shape, _ in found])
        require_memory(len(files) * colour * size**2, f"{root}: {len(files):,} images of {size} x {size}")
        images = np.empty((len(files), colour, size, size), np.uint8)

        def decode(i: int) -> int:
            images[i] = _decode(files[i], size, colour, crop)
            return i

        decoded = _in_threads(files, decode, f"decoding {root.name}")
        files, kept = _sifted(files, decoded, left_out, selection)
        images = images if len(kept) == len(images) else images[kept]

    relative = [file.relative_to(root).parts for file in files]
    names: tuple[str, ...] = ()
    labels = None
    if not any(len(parts) == 1 for parts in relative):
        names = tuple(sorted({parts[0] for parts in relative}))
        number = {name: i for i, name in enumerate(names)}
        labels = torch.tensor([number[parts[0]] for parts in relative])
    source = f"{path.name}: {len(images):,} {split} images from {path}"
    if left_out:
        source += f", without {len(left_out):,} that cannot be read"
    return ImageSet(torch.from_numpy(images), labels, {}, path.name, source, names, tuple(sorted(left_out)))


def _pictures_of(path: Path, split: str) -> tuple[Path, list[Path]]:
    """The folder that a split's labels are counted from, and its pictures. No picture is in two splits."""
    folders = {p.name.lower(): p for p in sorted(path.iterdir()) if p.is_dir()}
    parts = {s: [folders[name] for name in names if name in folders] for s, names in _SPLIT_FOLDERS.items()}
    if not parts["test"] and split == "test":
        raise MissingSplitError(
            f"{path}: no test split; put held-out pictures into {path / 'test'}, or name their own folder"
        )
    for part in (*parts["train"], *parts["test"]):
        for other in (*parts["train"], *parts["test"]):
            if part is not other and part.resolve().is_relative_to(other.resolve()):
                raise UserError(f"{part} leads into {other}; give each split pictures of its own")
    if split == "test":
        return parts["test"][0], _find(parts["test"][0], of_others=parts["train"])
    if not parts["train"]:
        return path, _find(path, without=parts["test"])
    root = parts["train"][0]
    if outside := _find(path, without=(*parts["train"], *parts["test"]), optional=True):
        raise UserError(
            f"{path}: {len(outside):,} pictures, such as {outside[0].relative_to(path)}, are in no split; "
            f"move them into {root} or away"
        )
    return root, _find(root, of_others=parts["test"])


def _find(
    root: Path, without: Sequence[Path] = (), *, of_others: Sequence[Path] = (), optional: bool = False
) -> list[Path]:
    """The pictures under a folder, sorted; without hidden files and folders, and those named. Links to
    folders are followed.

    Raises:
        UserError: a link leads to a folder whose pictures are there already, or into one ``of_others``; or
            there are no pictures.
    """
    files = []
    left_out = {folder.resolve() for folder in without}
    seen: dict[Path, Path] = {}
    others: Counter[str] = Counter()

    def unreadable(error: OSError) -> None:
        raise UserError(
            f"{error.filename}: cannot be read ({error.strerror}); change its permissions or move it away"
        )

    for folder, subfolders, names in os.walk(root, onerror=unreadable, followlinks=True):
        real = Path(folder).resolve()
        if real in seen:
            raise UserError(
                f"{folder}: leads to {seen[real]}, whose pictures are there already; remove one of the two"
            )
        for other in of_others:
            if real.is_relative_to(other.resolve()):
                raise UserError(f"{folder} leads into {other}; give each split pictures of its own")
        seen[real] = Path(folder)
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".") and Path(folder, name).resolve() not in left_out
        )
        for name in names:
            suffix = Path(name).suffix.lower()
            if name.startswith("."):
                continue
            if suffix in SUFFIXES:
                files.append(Path(folder, name))
            else:
                others[suffix or "files without a suffix"] += 1
    if not files and not optional:
        shown = ", ".join(f"{n} {kind}" for kind, n in others.most_common(3)) or "nothing else"
        raise UserError(
            f"{root}: no pictures ({' '.join(s[1:] for s in SUFFIXES)}) in this folder; found {shown}"
        )
    return sorted(files)


def _sifted(
    files: list[Path], outcomes: list[_Result | _Failure], left_out: list[str], selection: Selection
) -> tuple[list[Path], list[_Result]]:
    """The files without those that failed, which are added to ``left_out``, and what came of them.

    Raises:
        UserError: all have failed, or some and they should not be skipped.
    """
    failures = [f"{f}: {o.reason}" for f, o in zip(files, outcomes, strict=True) if isinstance(o, _Failure)]
    if failures and not (selection.skip_damaged and len(failures) < len(files)):
        more = f" (and {len(failures) - 1} more files)" if len(failures) > 1 else ""
        skip = "" if selection.skip_damaged else ", or leave it out with --skip-damaged"
        raise UserError(f"{failures[0]}{more}; repair, convert or remove what cannot be read{skip}")
    left_out += failures
    kept = [(f, o) for f, o in zip(files, outcomes, strict=True) if not isinstance(o, _Failure)]
    return [file for file, _ in kept], [outcome for _, outcome in kept]


def _in_threads(files: list[Path], work: Callable[[int], _Result], title: str) -> list[_Result | _Failure]:
    """``work(i)`` for every file, on a pool of threads."""
    results: list[_Result | _Failure] = []

    def attempt(i: int) -> _Result | _Failure:
        try:
            return work(i)
        except Exception as error:  # Pillow's decoders raise whatever their parsing ran into
            # Not the error itself, which would keep the picture's memory.
            return _Failure(_reason(error))

    # Decoding and resizing release the interpreter's lock, so threads are enough.
    with (
        ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool,
        tqdm(
            total=len(files),
            desc=title,
            unit="img",
            leave=False,
            disable=True if len(files) < _PROGRESS_FROM else None,  # None: where it is no terminal
        ) as bar,
    ):
        if bar.disable and len(files) >= _PROGRESS_FROM:
            print(f"{title}: {len(files):,} files", file=sys.stderr, flush=True)
        for outcome in pool.map(attempt, range(len(files))):
            bar.update()
            results.append(outcome)
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
            raise ValueError(_FLOATING)
        if picture.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8):
            width, height = height, width
        return (width, height), is_grey(picture)


def is_grey(picture: Image.Image) -> bool:
    """Whether a picture is grey, by its mode and palette."""
    if picture.mode in ("P", "PA"):
        palette = np.array(picture.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return picture.mode.startswith(("1", "L", "I"))


def as_eight_bits(picture: Image.Image, channels: int) -> Image.Image:
    """A picture with 8 bits a channel, 1 or 3 channels: 16 bits are scaled, transparency is laid on black.

    Raises:
        ValueError: it holds floating-point values, or values beyond 16 bits.
    """
    if picture.mode == "F":
        raise ValueError(_FLOATING)
    if picture.mode.startswith("I"):
        wide = np.asarray(picture).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise ValueError("holds values beyond 16 bits; save it with 8 or 16 bits a channel")
        picture = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    return picture.convert("L" if channels == 1 else "RGB")


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
        picture = as_eight_bits(ImageOps.exif_transpose(opened), channels)
        if crop:  # before resizing, whose filter would look past the edges of a box
            side = min(picture.size)
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            picture = picture.crop((left, top, left + side, top + side))
        if picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.BICUBIC)
        pixels = np.asarray(picture)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
