"""Decoding pictures, wherever their bytes are: in files, in archives, in tables or in memory."""

from __future__ import annotations

import contextlib
import hashlib
import math
import mmap
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePath
from typing import Any, BinaryIO, TypeVar

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from infogan_fast.constants import MIN_SIZE
from infogan_fast.data import cache
from infogan_fast.data.background import background_rgb
from infogan_fast.data.idx import CACHE_VARIABLE
from infogan_fast.data.image_set import ImageSet, Selection, require_memory, spread
from infogan_fast.errors import RunWarning, UserError
from infogan_fast.runtime.memory import free_memory

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".gif", ".tif", ".tiff"),
    *(".jp2", ".avif", ".ppm", ".pgm", ".pbm", ".pnm"),
)

_FLOATING = "holds floating-point values; save it with 8 or 16 bits a channel"
_PROGRESS_FROM = 2000  # files; fewer are read before a bar could be read
CACHED_FROM = 2000
"""Files; fewer are decoded in a moment."""
_CHUNK = 1 << 20
_VERSION = 2  # of decoding: to be raised where the same files become other images
_THREADS = 16
_BOMB_PIXELS, _BOMB_RATIO = 178_956_970, 1000
_BYTES_A_PIXEL, _BYTES_A_DEEP_PIXEL = 16, 64  # with every copy on the way to 8 bits and 3 channels
#: Formats whose values Pillow itself scales to 16 bits.
_SCALED_BY_PILLOW = ("PPM", "JPEG2000")
_NEW_SUBFILE_TYPE, _BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE, _PLANAR = 254, 258, 281, 284  # tags of TIFF
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0

_Result = TypeVar("_Result")
_RGB = tuple[int, int, int]


@dataclass(frozen=True)
class PictureFile:
    """A picture, or the pictures of a TIFF file.

    name: for people.
    open: gives its bytes as a seekable file.
    size: bytes of memory that opening takes; 0 of a file on disk.
    """

    name: str
    open: Callable[[], BinaryIO]
    size: int = 0


@dataclass(frozen=True)
class Decoded:
    """Pictures uint8 [N, C, S, S] in channels_last format.

    positions: of each picture, the place of its file among those given.
    left_out: of files that cannot be read, the name and the reason, sorted.
    report: lines for people.
    remark: what the line of the source adds, such as ", transparency laid on white".
    mapped: the map of the file that the images are in, and then they are not to be written.
    """

    images: Tensor
    positions: list[int]
    left_out: tuple[str, ...]
    report: tuple[str, ...]
    remark: str
    mapped: mmap.mmap | None = None


@dataclass(frozen=True)
class _Failure:
    """Why a file cannot be used. of_memory: whether there was too little, which is no fault of the file."""

    reason: str
    of_memory: bool = False


class _OutOfMemoryError(ValueError):
    """A picture takes more memory than is free."""


@dataclass(frozen=True)
class _Page:
    """What the header of a picture tells.

    file: its place among the files.
    number: the page of a TIFF; else 0.
    size: width and height as displayed.
    transparent: whether it may be.
    deep: whether a channel has more than 8 bits.
    declared: the largest value that the file says it may hold, where it does.
    memory: bytes that decoding takes.
    animated: whether it has frames that are not read.
    """

    file: int
    number: int
    size: tuple[int, int]
    grey: bool
    transparent: bool
    deep: bool
    declared: int | None
    memory: int
    animated: bool


@dataclass(frozen=True)
class _Form:
    """What pictures are brought to."""

    size: int
    channels: int
    crop: bool
    background: _RGB
    scale: int


@dataclass
class _Files:
    """The files that are decoded, with what fails on the way."""

    files: Sequence[PictureFile]
    skip_damaged: bool
    left_out: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    def attempting(self, work: Callable[[int], _Result]) -> Callable[[int], tuple[str, _Result | _Failure]]:
        """``work`` on the file at a place, as a function that returns the file's name and what came of it."""

        def attempt(i: int) -> tuple[str, _Result | _Failure]:
            try:
                return self.files[i].name, work(i)
            except Exception as error:  # Pillow's decoders raise whatever their parsing ran into
                return self.files[i].name, _failure(error)

        return attempt

    def sifted(self, outcomes: Sequence[tuple[str, _Result | _Failure]]) -> list[_Result]:
        """The outcomes that are no failures; those are added to ``left_out``.

        Raises:
            UserError: all have failed, or some and they should not be skipped; or memory is short, which is
                never skipped, since the next run may have more.
        """
        found = [(name, o) for name, o in outcomes if isinstance(o, _Failure)]
        if short := [f"{name}: {o.reason}" for name, o in found if o.of_memory]:
            more = f" (and {len(short) - 1} more files)" if len(short) > 1 else ""
            raise UserError(f"{short[0]}{more}; free some memory, or make these pictures smaller")
        failures = [(name, o.reason) for name, o in found]
        if failures and not (self.skip_damaged and len(failures) < len(outcomes)):
            more = f" (and {len(failures) - 1} more files)" if len(failures) > 1 else ""
            skip = "" if self.skip_damaged else ", or leave it out with --skip-damaged"
            raise UserError(
                f"{': '.join(failures[0])}{more}; repair, convert or remove what cannot be read{skip}"
            )
        self.left_out += [": ".join(failure) for failure in failures]
        self.reasons.update(reason for _, reason in failures)
        return [o for _, o in outcomes if not isinstance(o, _Failure)]


def decode(
    files: Sequence[PictureFile],
    selection: Selection,
    name: str,
    of_others: Sequence[PictureFile] = (),
    *,
    cached: bool = False,
) -> Decoded:
    """Decode the selected pictures.

    Every page of a TIFF is a picture; of an animation the first frame is. Grey pictures stay grey unless some
    are in colour, or ``channels`` says otherwise. EXIF rotation is applied, and transparency laid on the
    background. Values of more than 8 bits are scaled by one number for the whole set: by what the files say
    they may hold, or by the fewest of 8, 10, 12, 14 and 16 bits that hold what is found (beyond that, by the
    next power of two).

    Args:
        files: all of them; ``count`` of the pictures are read.
        name: of the set, for people.
        of_others: files of another split, which only that scale depends on.
        cached: whether to decode many pictures into a file of the cache folder, and to find them there next
            time; see :mod:`infogan_fast.data.cache`. They may be more than memory holds.

    Raises:
        UserError: a file cannot be used; the text names the first one, and how many more there are. Or their
            sizes differ, or memory is short.
    """
    key = ""
    if cached and len(files) >= CACHED_FROM:
        key = _key(files, of_others, selection, name)
        if (found := cache.find(key)) is not None:
            return _of_cache(found, name)
    with contextlib.ExitStack() as stack:
        return _decode_all(files, selection, name, of_others, key, stack)


def _of_cache(found: tuple[Tensor, dict[str, Any], mmap.mmap], name: str) -> Decoded:
    images, kept, mapped = found
    return Decoded(
        images.permute(0, 3, 1, 2),
        kept["positions"],
        tuple(name + line for line in kept["left_out"]),
        (*kept["report"], f"decoded into {cache.images_folder()}, where the next run finds them"),
        kept["remark"],
        mapped,
    )


def _key(
    files: Sequence[PictureFile], of_others: Sequence[PictureFile], selection: Selection, name: str
) -> str:
    """What the decoded pictures depend on, as a digest."""

    def digest(file: PictureFile) -> bytes:
        own = hashlib.sha256(file.name.removeprefix(name).encode(errors="surrogateescape"))
        with contextlib.suppress(Exception), file.open() as stream:  # what cannot be read is named later
            while piece := stream.read(_CHUNK):
                own.update(piece)
        return own.digest()

    largest = max(file.size for file in (*files, *of_others))
    settings = asdict(replace(selection, data_dir=None, seed=0, label=None))
    result = hashlib.sha256(f"{_VERSION} {PIL.__version__} {settings} {len(files)}".encode())
    for own in _in_threads([*files, *of_others], digest, f"looking through {PurePath(name).name}", largest):
        result.update(own)
    return result.hexdigest()[:32]


def _decode_all(
    files: Sequence[PictureFile],
    selection: Selection,
    name: str,
    of_others: Sequence[PictureFile],
    key: str,
    stack: contextlib.ExitStack,
) -> Decoded:
    title, background = PurePath(name).name, background_rgb(selection.background)
    of = _Files(files, selection.skip_damaged)
    with _without_limits():
        pages, total = _selected_pages(of, selection, name)
        channels = selection.channels or _channels(pages, background)
        size = selection.image_size or _common_size(files, pages)
        filling, images = _room((len(pages), size, size, channels), name, key)
        if filling is not None:
            stack.callback(filling.close)
        scale, deep = _scale(files, pages, of_others, title)
        form = _Form(size, channels, selection.crop, background, scale)
        rows, transparent = _decode_pages(of, pages, form, images, title)
    if len(rows) < len(pages):
        for to, row in enumerate(rows):  # in place: they may be more than memory holds
            images[to] = images[row]
        pages, images, transparent = [pages[i] for i in rows], images[: len(rows)], transparent[rows]
    if images.max() == 1:
        raise UserError(f"{name}: every pixel is 0 or 1, expected 0 to 255; save pictures with 255 for 1")
    report = [
        *([f"selected {selection.count:,} of {total:,}, evenly spaced"] if selection.count else []),
        *_report(pages, form, deep),
    ]
    remark = ""
    if count := int(transparent.sum()):
        remark = f", transparency laid on {selection.background}"
        report.append(f"transparency of {count:,} laid on {selection.background} (--background)")
    if deep:
        remark += f", {deep} scaled by {scale}"
    if of.left_out:
        remark += f", without {len(of.left_out):,} that cannot be read"
        reasons = "; ".join(f"{n:,} x {reason}" for reason, n in of.reasons.most_common(5))
        report.append(f"left out {len(of.left_out):,} that cannot be read: {reasons}")
    positions, left_out = [page.file for page in pages], sorted(of.left_out)
    if filling is not None:
        own = [line.removeprefix(name) for line in left_out]
        kept = {"positions": positions, "left_out": own, "report": report, "remark": remark}
        del images
        return _kept(filling, key, len(pages), kept, name)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    return Decoded(pixels, positions, tuple(left_out), tuple(report), remark)


def _selected_pages(of: _Files, selection: Selection, name: str) -> tuple[list[_Page], int]:
    """The pictures to decode, and how many there are to select from."""
    files = of.files
    has_pages = any(file.name.lower().endswith((".tif", ".tiff")) for file in files)
    chosen = range(len(files)) if has_pages else spread(len(files), selection.count, name).tolist()

    def inspect(i: int) -> list[_Page]:
        return _inspect(files[i], i, selection.image_size)

    largest = max((files[i].size for i in chosen), default=0)
    title = f"inspecting {PurePath(name).name}"
    found = of.sifted(_in_threads(chosen, of.attempting(inspect), title, largest))
    pages = [page for of_file in found for page in of_file]
    total = len(pages) + len(of.left_out) if has_pages else len(files)
    if selection.count is not None and (has_pages or len(pages) > selection.count):
        spread(total, selection.count, name)  # raises where that many are not there
        pages = [pages[i] for i in spread(len(pages), min(len(pages), selection.count), name)]
    return pages, total


def _decode_pages(
    of: _Files, pages: Sequence[_Page], form: _Form, images: NDArray[np.uint8], title: str
) -> tuple[list[int], NDArray[np.bool_]]:
    """Decode each picture into its row; returns the rows that could be, and which were transparent."""
    transparent = np.zeros(len(pages), bool)

    def decode_file(rows: list[int]) -> list[tuple[str, int | _Failure]]:
        outcomes: list[tuple[str, int | _Failure]] = []
        file = of.files[pages[rows[0]].file]
        opened: list[ImageFile.ImageFile] = []
        with contextlib.ExitStack() as stack:
            for row in rows:
                shown = file.name if len(rows) == 1 else f"{file.name}: page {pages[row].number + 1}"
                try:
                    while len(opened) < (2 if pages[row].deep else 1):
                        opened.append(stack.enter_context(_opened(file))[0])
                    images[row], transparent[row] = _decode(opened, pages[row], form)
                    outcomes.append((shown, row))
                except Exception as error:
                    outcomes.append((shown, _failure(error)))
        return outcomes

    largest = max(page.memory for page in pages)
    decoded = _in_threads(_by_file(pages), decode_file, f"decoding {title}", largest)
    return of.sifted([outcome for outcomes in decoded for outcome in outcomes]), transparent


def _kept(filling: cache.Filling, key: str, count: int, kept: dict[str, Any], name: str) -> Decoded:
    """Keep what was decoded in the cache, and find it there."""
    try:
        filling.keep(key, count, kept)
    except OSError as error:
        raise UserError(
            f"{cache.images_folder()}: cannot be written ({error.strerror or error}); free some room, or "
            f"name another folder in {CACHE_VARIABLE}"
        ) from None
    found = cache.find(key)
    if found is None:
        raise UserError(f"{cache.images_folder()}: what was written cannot be read; look at this disk")
    return _of_cache(found, name)


def _room(
    shape: tuple[int, int, int, int], name: str, key: str
) -> tuple[cache.Filling | None, NDArray[np.uint8]]:
    """Where to decode to: a file of the cache if there is a key and room for it, else memory."""
    if key:
        try:
            filling = cache.Filling(shape)
            return filling, filling.images
        except OSError as error:
            warnings.warn(
                f"{cache.images_folder()}: cannot be written ({error.strerror or error}), so pictures are "
                f"decoded into memory, at each start; {CACHE_VARIABLE} names another folder",
                RunWarning,
                stacklevel=2,
            )
    count, size = shape[:2]
    require_memory(math.prod(shape), f"{name}: {count:,} images of {size} x {size}")
    return None, np.empty(shape, np.uint8)


def kept_apart(split: str, others: int) -> list[str]:
    """A line of the report on the pictures of the other split, if there are any."""
    kind = "test" if split == "train" else "training"
    return [f"kept apart as {kind} pictures: {others:,}"] if others else []


def labelled_by_folders(
    path: PurePath,
    selection: Selection,
    decoded: Decoded,
    parts: Sequence[tuple[str, ...]],
    report: Sequence[str],
) -> ImageSet:
    """Decoded pictures with labels from the names on the way to their files, which are ``parts``."""
    labels, names, labelled = _labels_of([parts[i] for i in decoded.positions])
    return ImageSet(
        decoded.images,
        labels,
        {},
        path.name,
        f"{path.name}: {len(decoded.images):,} {selection.split} images from {path}{decoded.remark}",
        names,
        decoded.left_out,
        report=(*report, *decoded.report, labelled),
        mapped=decoded.mapped,
    )


def _labels_of(
    parts: Sequence[tuple[str, ...]],
) -> tuple[Tensor | None, tuple[str, ...], str]:
    """Each picture's label, the labels' names, and a line for people, from the names on the way to it."""
    loose = sum(len(names) == 1 for names in parts)
    if loose:
        more = (
            f"; {len(parts) - loose:,} lie in folders, which are no labels then" if loose < len(parts) else ""
        )
        return None, (), f"no labels: {loose:,} lie in no folder of a class{more}"
    names = tuple(sorted({path[0] for path in parts}))
    number = {name: i for i, name in enumerate(names)}
    labels = torch.tensor([number[path[0]] for path in parts])
    counts = [f"{name} {n:,}" for name, n in zip(names, labels.bincount().tolist(), strict=True)]
    more = f" and {len(counts) - 20:,} others" if len(counts) > 20 else ""
    return labels, names, f"labels from {len(names):,} folders: {', '.join(counts[:20])}{more}"


def suffixes(names: Sequence[str] | Counter[str], limit: int = 8) -> str:
    """Files by suffix, such as "3 .png, 1 without a suffix"; "nothing" where there are none."""
    counts = names if isinstance(names, Counter) else Counter(map(suffix_of, names))
    usual = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{n:,} {suffix or 'without a suffix'}" for suffix, n in usual[:limit]]
    more = sum(n for _, n in usual[limit:])
    return ", ".join(shown + ([f"{more:,} others"] if more else [])) or "nothing"


def none_among(name: str, kind: str, others: Counter[str]) -> str:
    """What to say of a folder or an archive without pictures."""
    known = " ".join(suffix[1:] for suffix in SUFFIXES)
    return f"{name}: no pictures ({known}) in this {kind}; found {suffixes(others, 3)}"


def suffix_of(name: str) -> str:
    """The suffix of a file's name, in small letters."""
    return PurePath(name).suffix.lower()


def is_grey(picture: Image.Image) -> bool:
    """Whether a picture is grey, by its mode and palette."""
    if picture.mode in ("P", "PA"):
        palette = np.array(picture.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return picture.mode.startswith(("1", "L", "I"))


def deep_values(picture: Image.Image) -> NDArray[np.int64]:
    """The values [H, W] of a grey picture of more than 8 bits.

    Raises:
        ValueError: some are negative.
    """
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0:
        raise ValueError(f"holds values down to {values.min()}; expected none below 0")
    return values


def scale_for(greatest: int) -> tuple[int, str]:
    """The number by which values up to this one are scaled, and the depth in words."""
    bits = next((bits for bits in (8, 10, 12, 14, 16) if greatest < 1 << bits), greatest.bit_length())
    return (1 << bits) - 1, f"{bits} bits"


def scaled(values: NDArray[np.int64], scale: int) -> NDArray[np.uint8]:
    """Values from 0 to ``scale`` as 0 to 255.

    Raises:
        ValueError: there are others.
    """
    if values.max() > scale:
        raise ValueError(f"holds values up to {values.max()}, and says that there are none above {scale}")
    return ((values * 255 + scale // 2) // scale).astype(np.uint8)


def as_eight_bits(
    picture: Image.Image, channels: int, background: _RGB, scale: int = 65535
) -> tuple[Image.Image, bool]:
    """A picture with 8 bits a channel, 1 or 3 channels, and whether it was transparent somewhere.

    Grey values of more than 8 bits are scaled by ``scale``; transparency is laid on the background.

    Raises:
        ValueError: it holds floating-point values, negative ones or those beyond ``scale``.
    """
    if picture.mode == "F":
        raise ValueError(_FLOATING)
    if picture.mode.startswith("I"):
        picture = Image.fromarray(scaled(deep_values(picture), scale))
    transparent = False
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        transparent = bool((np.asarray(layer.getchannel("A")) < 255).any())
        if transparent:
            picture = Image.alpha_composite(Image.new("RGBA", layer.size, (*background, 255)), layer)
    return picture.convert("L" if channels == 1 else "RGB"), transparent


@contextlib.contextmanager
def _without_limits() -> Iterator[None]:
    """Without Pillow's limit of pixels: what is too large for memory, or a decompression bomb, is refused by
    name. Pillow also warns of damaged metadata, which nothing here depends on."""
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", RunWarning)
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _in_threads(
    items: Sequence[Any], work: Callable[[Any], _Result], title: str, memory: int
) -> list[_Result]:
    """``work`` of every item, on as many threads as there is memory for."""
    free = free_memory()
    threads = min(os.cpu_count() or 1, _THREADS)
    if free is not None and memory:
        threads = max(1, min(threads, free // memory))
    results: list[_Result] = []
    # Decoding and resizing release the interpreter's lock, so threads are enough.
    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(
            total=len(items),
            desc=title,
            unit="img",
            leave=False,
            disable=True if len(items) < _PROGRESS_FROM else None,  # None: where it is no terminal
        ) as bar,
    ):
        if bar.disable and len(items) >= _PROGRESS_FROM:
            print(f"{title}: {len(items):,} files", file=sys.stderr, flush=True)
        for outcome in pool.map(work, items):
            bar.update()
            results.append(outcome)
    return results


def _failure(error: Exception) -> _Failure:
    """Not with the error itself, which would keep the picture's memory."""
    return _Failure(_reason(error), isinstance(error, (MemoryError, _OutOfMemoryError)))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a picture that Pillow can read, or damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def _opened(file: PictureFile) -> Iterator[tuple[ImageFile.ImageFile, int]]:
    """A picture, of which only the header is read, and the bytes of its file."""
    if (free := free_memory()) is not None and file.size > free:
        raise _OutOfMemoryError(
            f"takes {file.size / 2**30:,.1f} GiB of memory, and {free / 2**30:,.1f} GiB are free"
        )
    with file.open() as stream:
        length = stream.seek(0, os.SEEK_END)
        if length == 0:
            raise ValueError("is empty")
        stream.seek(0)
        with Image.open(stream) as picture:
            yield picture, length


def _inspect(file: PictureFile, index: int, image_size: int | None) -> list[_Page]:
    """The pictures of a file."""
    pages = []
    with _opened(file) as (picture, length):
        if picture.format != "TIFF":
            return [_header(picture, file, length, index, 0, image_size)]
        number = 0
        while True:
            try:
                picture.seek(number)
            except EOFError:
                break
            # Of an image pyramid, and of masks, the picture itself is there as well.
            if number == 0 or not picture.tag_v2.get(_NEW_SUBFILE_TYPE, 0) & 5:  # type: ignore[attr-defined]
                pages.append(_header(picture, file, length, index, number, image_size))
            number += 1
    return pages


def _header(
    picture: ImageFile.ImageFile,
    file: PictureFile,
    length: int,
    index: int,
    number: int,
    image_size: int | None,
) -> _Page:
    width, height = picture.size
    bands = len(picture.getbands())
    if width * height > _BOMB_PIXELS and width * height * bands > _BOMB_RATIO * length:
        raise ValueError(f"announces {width} x {height} pixels in {length:,} bytes: a decompression bomb")
    if picture.mode == "F":
        raise ValueError(_FLOATING)
    layout = _raw_mode(picture)
    # "BGR;16" has 16 bits a pixel, not a channel.
    deep = picture.mode.startswith("I") or (";16" in layout and not layout.startswith("BGR"))
    tags = getattr(picture, "tag_v2", {}) if picture.format == "TIFF" else {}
    if tags.get(_PLANAR) == 2 and 16 in tags.get(_BITS_PER_SAMPLE, ()) and bands > 1:
        raise ValueError("keeps colours of 16 bits in planes, which Pillow misreads; save it with 8 bits")
    if deep and (wrong := _misread(picture, layout, tags)):
        raise ValueError(f"has 16 bits a channel and {wrong}, which Pillow misreads; save it with 8 bits")
    grey, transparent = is_grey(picture), picture.has_transparency_data
    # The second frame may be damaged, which does not matter.
    animated = False
    with contextlib.suppress(Exception):
        animated = picture.format != "TIFF" and bool(getattr(picture, "is_animated", False))
    # That of PNG would decode all pixels, in search of an EXIF chunk behind them.
    turned = Image.Image.getexif(picture).get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    size = (height, width) if turned else (width, height)
    if image_size is not None and not picture.info.get("progressive"):  # which libjpeg holds whole
        picture.draft("RGB", (2 * image_size, 2 * image_size))
        width, height = picture.size
    memory = file.size + width * height * (_BYTES_A_DEEP_PIXEL if deep else _BYTES_A_PIXEL)
    if (free := free_memory()) is not None and memory > free:
        raise _OutOfMemoryError(
            f"has {size[0]} x {size[1]} pixels, which take {memory / 2**30:,.1f} GiB of memory to decode, "
            f"and {free / 2**30:,.1f} GiB are free"
        )
    declared = _declared(picture, tags) if deep else None
    return _Page(index, number, size, grey, transparent, deep, declared, memory, animated)


def _misread(picture: ImageFile.ImageFile, layout: str, tags: Any) -> str:
    """What a picture of more than 8 bits has that Pillow knows of 8 bits alone; empty for nothing."""
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        return "white as 0"
    if picture.mode == "CMYK":
        return "colours as CMYK"
    if layout.startswith("RGBa"):
        return "colours that are multiplied by their opacity"
    if picture.format == "PNG" and "transparency" in picture.info:
        return "a colour that stands for transparency"
    return ""


def _declared(picture: Image.Image, tags: Any) -> int | None:
    """The largest value that a file of more than 8 bits says it may hold."""
    if picture.format in _SCALED_BY_PILLOW:
        return 65535
    bits = max(tags.get(_BITS_PER_SAMPLE, (16,)))
    if 8 < bits < 16:
        return (1 << bits) - 1
    largest = tags.get(_MAX_SAMPLE_VALUE)
    return max(np.atleast_1d(largest).tolist()) or None if largest is not None else None


def _raw_mode(picture: ImageFile.ImageFile) -> str:
    """How Pillow names the layout of the values in a file."""
    arguments: Any = picture.tile[0][3] if picture.tile else ""
    first = arguments[0] if isinstance(arguments, (tuple, list)) and arguments else arguments
    return first if isinstance(first, str) else ""


def _deep_channels(picture: ImageFile.ImageFile, again: ImageFile.ImageFile) -> NDArray[np.int64] | None:
    """The values [H, W, C] of a picture with 16 bits a channel, of which Pillow alone keeps 8; None where
    there is no way to have the others.

    Args:
        again: the same picture, opened another time, and neither loaded before.
    """
    layout = _raw_mode(picture)
    swapped = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}[layout[-1]]
    # Pillow takes the high byte of each value: in the other byte order, that is the low one.
    again.tile = [_replaced(tile, layout[:-1] + swapped) for tile in again.tile]
    try:
        low = np.asarray(again).astype(np.int64)
    except ValueError:  # there is no such layout
        return None
    return np.asarray(picture).astype(np.int64) << 8 | low


def _replaced(tile: Any, layout: str) -> Any:
    arguments = layout if isinstance(tile[3], str) else (layout, *tile[3][1:])
    return tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments)


def _greatest(file: PictureFile) -> tuple[int, int]:
    """The greatest value that pictures of more than 8 bits declare, and the greatest in those that declare
    none; 0 without any."""
    declared = greatest = 0
    pages = [page for page in _inspect(file, 0, None) if page.deep]
    with _opened(file) as (picture, _), _opened(file) as (again, _):
        for page in pages:
            if page.declared is not None:
                declared = max(declared, page.declared)
                continue
            picture.seek(page.number)
            if picture.mode.startswith("I"):
                greatest = max(greatest, int(deep_values(picture).max()))
                continue
            again.seek(page.number)
            values = _deep_channels(picture, again)
            if values is None:
                values = np.asarray(picture).astype(np.int64) << 8 | 255
            colours = values if picture.mode == "RGB" else values[..., :-1]
            greatest = max(greatest, int(colours.max()))
    return declared, greatest


def _scale(
    files: Sequence[PictureFile], pages: Sequence[_Page], of_others: Sequence[PictureFile], title: str
) -> tuple[int, str]:
    """The greatest value that becomes 255, and in words what was found; empty where no picture is deep."""
    deep = [page for page in pages if page.deep]
    if not deep:
        return 65535, ""
    if all(page.declared == 65535 for page in deep):
        return 65535, ""

    def greatest(file: PictureFile) -> tuple[int, int]:
        with contextlib.suppress(Exception):  # a damaged file is named where it is decoded
            return _greatest(file)
        return 0, 0

    # All files, whatever is selected: a part and a test split have the scale of the whole.
    measured = [*files, *of_others]
    largest = max(max(page.memory for page in pages), max(file.size for file in measured))
    ends = _in_threads(measured, greatest, f"measuring {title}", largest)
    declared, found = (max(values) for values in zip(*ends, strict=True))
    if not found and declared:
        return declared, "" if declared == 65535 else f"pictures that declare values up to {declared:,}"
    scale, bits = scale_for(max(found, declared))
    return scale, "" if scale == 65535 else f"{16 if scale < 65535 else 32}-bit pictures that hold {bits}"


def _channels(pages: Sequence[_Page], background: _RGB) -> int:
    grey_ground = len(set(background)) == 1
    return 1 if all(page.grey and (grey_ground or not page.transparent) for page in pages) else 3


def _common_size(files: Sequence[PictureFile], pages: Sequence[_Page]) -> int:
    """The side that all pictures share; UserError when they differ, are not square or are too small."""
    usual, _ = Counter(page.size for page in pages).most_common(1)[0]
    odd = next((page for page in pages if page.size != usual), None)
    if odd is not None:
        raise UserError(
            f"{files[odd.file].name}: is {odd.size[0]} x {odd.size[1]} where most are {usual[0]} x "
            f"{usual[1]}; choose one size with --image-size"
        )
    first = files[pages[0].file].name
    if usual[0] != usual[1]:
        raise UserError(f"{first}: is {usual[0]} x {usual[1]}, not square; choose a size with --image-size")
    if usual[0] < MIN_SIZE:
        raise UserError(
            f"{first}: is {usual[0]} x {usual[1]}, expected at least {MIN_SIZE} x {MIN_SIZE}; "
            f"enlarge with --image-size"
        )
    return usual[0]


def _by_file(pages: Sequence[_Page]) -> list[list[int]]:
    """The places of the pages of each file."""
    groups: dict[int, list[int]] = {}
    for row, page in enumerate(pages):
        groups.setdefault(page.file, []).append(row)
    return list(groups.values())


def _decode(
    handles: Sequence[ImageFile.ImageFile], page: _Page, form: _Form
) -> tuple[NDArray[np.uint8], bool]:
    """One picture as uint8 [size, size, channels], and whether it was transparent somewhere.

    Args:
        handles: its file, opened once, and another time if the picture has more than 8 bits.
    """
    size, channels, opened = form.size, form.channels, handles[0]
    opened.seek(page.number)
    # A JPEG much larger than needed is decoded at a fraction of its size; other formats ignore this.
    opened.draft("L" if channels == 1 else "RGB", (2 * size, 2 * size))
    source: Image.Image = opened
    if page.deep and not opened.mode.startswith("I"):
        handles[1].seek(page.number)
        values = _deep_channels(opened, handles[1])
        if values is None and form.scale != 65535:
            raise ValueError(
                "is grey with transparency of 16 bits, of which Pillow reads 8; save it with 8 bits"
            )
        if values is not None:
            eight = scaled(values, 65535)
            colours = 3 if opened.mode != "LA" else 1
            eight[..., :colours] = scaled(values[..., :colours], form.scale)
            source = Image.fromarray(eight)
    picture, transparent = as_eight_bits(source, channels, form.background, form.scale)
    picture.getexif()[ExifTags.Base.Orientation] = opened.getexif().get(ExifTags.Base.Orientation, 1)
    picture = ImageOps.exif_transpose(picture)
    if form.crop:  # before resizing, whose filter would look past the edges of a box
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    pixels = np.asarray(picture)
    return pixels.reshape(size, size, channels), transparent


def _report(pages: Sequence[_Page], form: _Form, deep: str) -> list[str]:
    """What was found in the headers and done about it."""
    lines = []
    sizes = Counter(page.size for page in pages)
    shown = [f"{width} x {height} ({n:,})" for (width, height), n in sizes.most_common(5)]
    more = f" and {len(sizes) - 5:,} other sizes" if len(sizes) > 5 else ""
    lines.append(f"sizes: {', '.join(shown)}{more}")
    if changed := sum(n for size, n in sizes.items() if size != (form.size, form.size)):
        how = "cut to the middle square" if form.crop else "stretched to a square"
        how = f", {how} where they were none" if any(width != height for width, height in sizes) else ""
        lines.append(f"resized {changed:,} to {form.size} x {form.size}{how}")
    grey = sum(page.grey for page in pages)
    if form.channels == 1 and grey < len(pages):
        lines.append(f"turned grey: {len(pages) - grey:,} in colour")
    elif form.channels == 3 and grey:
        lines.append(f"read as colour: {grey:,} grey")
    if several := sum(len(rows) - 1 for rows in _by_file(pages)):
        lines.append(f"pages of TIFF files: {several:,} after the first of their file")
    if animated := sum(page.animated for page in pages):
        lines.append(f"more than one frame: {animated:,}, of which the first is read")
    if deep:
        lines.append(f"{deep}: scaled by {form.scale}")
    return lines
