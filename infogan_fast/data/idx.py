"""IDX files (the format of MNIST), and the published data sets kept in them: mnist and fashion-mnist."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from infogan_fast.data.image_set import Files, ImageSet, Selection, fitted, require_memory
from infogan_fast.errors import MissingSplitError, UserError
from infogan_fast.runtime.files import expanded

CACHE_VARIABLE = "INFOGAN_FAST_CACHE"

_CHUNK = 1 << 22
_BYTE, _WORD = 0x08, 0x0C
_TYPES = {0x08: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
_NAME = re.compile(r"(?:.*-)?(train|t10k|test)-(images|labels)[-.]idx(?:[13]-ubyte|2-int)(?:\.gz)?")


@dataclass(frozen=True)
class Published:
    """A data set that others publish: the SHA-256 of each gzipped file, and where to fetch it."""

    title: str
    subfolders: tuple[str, ...]  # besides NAME/: where other programs keep it
    mirrors: tuple[str, ...]
    sha256: dict[str, str]
    content_sha256: dict[str, str]  # of the unpacked file, which says the same of a copy packed again


PUBLISHED = {
    "mnist": Published(
        title="MNIST",
        subfolders=("MNIST/raw",),
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        sha256={
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        content_sha256={
            "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "fashion-mnist": Published(
        title="Fashion-MNIST",
        subfolders=("FashionMNIST/raw",),
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ),
        sha256={
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        content_sha256={
            "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
}

_OWNER = {
    digest: name
    for name, data in PUBLISHED.items()
    for table in (data.sha256, data.content_sha256)
    for digest in table.values()
}


@dataclass(frozen=True)
class IdxPair(Files):
    """Images uint8 [N, H, W], and what is known of their files."""

    folder: Path = Path()
    owner: str | None = None
    """The published data set whose files these are, byte for byte."""


def cache_folder() -> Path:
    """Where downloads are kept: $INFOGAN_FAST_CACHE, else the platform's own cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return expanded(chosen)
    import pooch  # not at the top: a run on images that are at hand needs none of it

    return Path(pooch.os_cache("infogan_fast"))


def read_idx(path: Path) -> tuple[NDArray[Any], str | None]:
    """Read one IDX file of unsigned bytes or labels of 32 bits, gzipped or not, of one to four dimensions.

    Layout: two zero bytes, a type code, the number of dimensions, each dimension as a big-endian 32-bit
    integer, the data in C order (Y. LeCun, C. Cortes and C. J. C. Burges, The MNIST database, "The IDX
    file format"). Returns the array and the name of the published data set that this very file belongs to,
    if any. Raises UserError naming the file when it is anything else, cut short, or followed by more.
    """
    try:
        packed = hashlib.sha256()
        with open(path, "rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            while zipped and (piece := raw.read(_CHUNK)):
                packed.update(piece)
        with gzip.open(path, "rb") if zipped else open(path, "rb") as file:
            magic = file.read(4)
            if len(magic) < 4:
                raise UserError(f"{path}: {len(magic)} bytes, too short for an IDX file; get this file again")
            if magic[:2] != b"\0\0" or magic[2] not in _TYPES or magic[3] == 0:
                raise UserError(
                    f"{path}: not an IDX file (it begins with {magic.hex(' ')}, expected 00 00 08 01 or "
                    f"00 00 08 03); get this file again"
                )
            if magic[2] not in (_BYTE, _WORD) or (magic[2] == _WORD and magic[3] > 2):
                raise UserError(f"{path}: holds {_TYPES[magic[2]]} values, expected uint8 (type 0x08)")
            if magic[3] > 4:
                raise UserError(f"{path}: has {magic[3]} dimensions, expected 1 (labels) or 3 (images)")
            header = file.read(4 * magic[3])
            if len(header) < 4 * magic[3]:
                raise UserError(f"{path}: ends within its header; get this file again")
            shape = tuple(int(n) for n in np.frombuffer(header, ">u4"))
            expected = 4 if magic[2] == _WORD else 1
            for n in shape:  # plain integers: a damaged header may multiply past 64 bits
                expected *= n
            require_memory(expected, f"{path}: its header announces {' x '.join(map(str, shape))} bytes")
            data = bytearray()
            # In pieces: one read of the announced length would allocate it before the file has shown it.
            while len(data) <= expected and (piece := file.read(min(_CHUNK, expected + 1 - len(data)))):
                data += piece
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: damaged or incomplete gzip data ({error}); get this file again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(data) != expected:
        found = f"only {len(data):,}" if len(data) < expected else "more"
        raise UserError(
            f"{path}: its header announces {expected:,} bytes of data ({' x '.join(map(str, shape))}), "
            f"it holds {found}; get this file again"
        )
    content = hashlib.sha256(magic + header)
    content.update(data)
    owner = _OWNER.get(content.hexdigest()) or _OWNER.get(packed.hexdigest())
    try:
        return np.frombuffer(data, ">i4" if magic[2] == _WORD else np.uint8).reshape(shape), owner
    except ValueError:  # no bytes, and a shape past what NumPy counts
        raise UserError(
            f"{path}: its header announces {' x '.join(map(str, shape))} bytes of data; get this file again"
        ) from None


def find_idx(folder: Path) -> dict[tuple[str, str], list[Path]]:
    """IDX files in a folder by ("train" | "test", "images" | "labels"); FILE beats FILE.gz."""
    found: dict[tuple[str, str], list[Path]] = {}
    if not folder.is_dir():
        return found
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match and path.is_file() and not (path.suffix == ".gz" and path.with_suffix("").is_file()):
            found.setdefault(("train" if match[1] == "train" else "test", match[2]), []).append(path)
    return found


def folder_of_idx(path: Path) -> Path | None:
    """The folder that holds IDX files of images: this one, or the one called ``raw`` in it or in a folder of
    it, where torchvision puts them. None without any.

    Raises:
        UserError: there are several.
    """
    places = [path, path / "raw", *sorted(path.glob("*/raw"))]
    found = [place for place in places if any(kind == "images" for _, kind in find_idx(place))]
    if len(found) > 1 and found[0] != path:
        raise UserError(f"{path}: holds several data sets ({', '.join(map(str, found))}); name one of them")
    return found[0] if found else None


def read_pair(folder: Path, split: str) -> IdxPair:
    """Images and, if present, labels of one split from a folder of IDX files named as MNIST's are. Those of
    EMNIST, which are transposed, are turned upright."""
    found = find_idx(folder)
    for kind in ("images", "labels"):
        if len(found.get((split, kind), ())) > 1:
            names = ", ".join(p.name for p in found[split, kind])
            raise UserError(
                f"{folder}: several files hold the {split} {kind} ({names}); move one set to its own folder"
            )
    if (split, "images") not in found:
        stem = "train" if split == "train" else "t10k"
        raise MissingSplitError(
            f"{folder}: no {split} images; expected {stem}-images-idx3-ubyte or {stem}-images-idx3-ubyte.gz"
        )
    path = found[split, "images"][0]
    images, owner = read_idx(path)
    if path.name.startswith("emnist-"):  # whose images lie on their side
        images = images.swapaxes(-1, -2)
    if images.ndim != 3:
        raise UserError(f"{path}: has {images.ndim} dimensions, expected 3 (count x height x width)")
    if len(images) == 0:
        raise UserError(f"{path}: holds no images")
    labels = None
    if (split, "labels") in found:
        label_path = found[split, "labels"][0]
        labels, label_owner = read_idx(label_path)
        if (
            labels.dtype != np.uint8 and labels.ndim == 2 and labels.shape[1]
        ):  # QMNIST: the class, the writer, ...
            labels = labels[:, 0]
        if labels.shape != images.shape[:1]:
            raise UserError(
                f"{label_path}: holds {' x '.join(map(str, labels.shape))} labels for the {len(images):,} "
                f"images of {path.name}; the two files do not belong together"
            )
        owner = owner if owner == label_owner else None
    return IdxPair(images, None if labels is None else labels.astype(np.int64), folder=folder, owner=owner)


def load(name: str, selection: Selection) -> ImageSet:
    """A published data set, from data_dir or the cache folder; downloaded there if it is absent."""
    data, split, data_dir = PUBLISHED[name], selection.split, selection.data_dir
    home = expanded(data_dir or cache_folder())
    searched = [home / sub for sub in (name, *data.subfolders)] + ([home] if data_dir else [])
    for folder in searched:
        found = find_idx(folder)
        if (split, "images") in found and (split, "labels") in found:
            break
    else:
        folder = home / name
        _download(name, split, folder)
    pair = read_pair(folder, split)
    if pair.owner not in (None, name):
        raise UserError(
            f"{folder}: holds {PUBLISHED[pair.owner].title}, not {data.title}; pass --data {pair.owner}, "
            f"or keep {data.title} in {home / name}"
        )
    verified = "" if pair.owner else ", whose checksums are not the published ones"
    return fitted(pair, name, f"from {pair.folder}{verified}", selection)


def _download(name: str, split: str, folder: Path) -> None:
    """Fetch a split's two files."""
    data = PUBLISHED[name]
    stem = "train" if split == "train" else "t10k"
    wanted = {f: f"sha256:{digest}" for f, digest in data.sha256.items() if f.startswith(stem)}
    fetch(name, data.title, wanted, data.mirrors, folder)


def fetch(name: str, title: str, wanted: Mapping[str, str], mirrors: Sequence[str], folder: Path) -> None:
    """Fetch files, each from the first mirror whose copy has the published digest, such as "md5:...".

    Raises:
        UserError: there is no such mirror; the text says which file to put where.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")  # its line about the address would tear the progress bar
    for file, digest in wanted.items():
        failures = []
        if sys.stderr is None or not sys.stderr.isatty():  # where there is no bar
            print(f"{name}: {file}: downloading", file=sys.stderr, flush=True)
        for mirror in mirrors:
            try:
                # pooch tests the bar's truth, which a bar without a total refuses, and sets the real total.
                with tqdm(
                    total=1, desc=f"{name}: {file}", unit="B", unit_scale=True, leave=False, disable=None
                ) as bar:
                    # pooch writes to a temporary file, checks the digest and only then renames.
                    pooch.retrieve(
                        mirror + file,
                        known_hash=digest,
                        fname=file,
                        path=folder,
                        downloader=pooch.HTTPDownloader(progressbar=bar, timeout=20),
                    )
                break
            except (ValueError, OSError) as error:  # what requests raises is an OSError
                failures.append(f"{mirror} ({_reason(error)})")
        else:
            raise UserError(
                f"{title} is not at hand and could not be downloaded from {'; '.join(failures)}. Put "
                f"{' and '.join(wanted)} into {folder}, or name their folder with --data-dir, or train "
                f"on the built-in images with --data strokes"
            )


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)  # of an HTTP error
    if response is not None:
        return f"HTTP status {response.status_code}"
    if isinstance(error, ValueError) and "hash" in str(error):
        return "wrong checksum"
    return getattr(error, "strerror", None) or type(error).__name__
