"""Decoded images in files of the cache folder, found again by the contents they were decoded from.

A file holds the pixels, then a footer: JSON, its length in 8 bytes, and a magic number. It is written under
another name and then renamed, so that processes which decode the same images at once write one each, and the
last one stays.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import time
import uuid
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infogan_fast.data.idx import cache_folder

_MAGIC = b"IGFimg01"
_CHUNK = 1 << 24
_DAY = 86_400.0
_KEPT_DAYS = {".images": 30, ".part": 2}
"""Files that were not used for longer are removed when another one is kept."""


def images_folder() -> Path:
    """Where decoded images are kept."""
    return cache_folder() / "images"


def find(key: str) -> tuple[Tensor, dict[str, Any], mmap.mmap] | None:
    """The images uint8 [N, S, S, C] of that key, not to be written, what was kept with them, and the map of
    their file; None where there are none that can be read, or damaged ones, which are removed."""
    path = images_folder() / f"{key}.images"
    try:
        with open(path, "rb") as file:
            shape, kept = _checked(file.fileno())
            mapped = mmap.mmap(file.fileno(), math.prod(shape), access=mmap.ACCESS_READ)
    except OSError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    with contextlib.suppress(OSError):  # it may belong to another user
        os.utime(path)  # it was used
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        return torch.frombuffer(mapped, dtype=torch.uint8).view(shape), kept, mapped


def _checked(file: int) -> tuple[list[int], dict[str, Any]]:
    """The shape of the pixels in a file, and what was kept with them.

    Raises:
        ValueError, KeyError, TypeError: the file is damaged.
    """
    size = os.fstat(file).st_size
    end = os.pread(file, 16, max(size - 16, 0))
    length = int.from_bytes(end[:8], "little")
    if end[8:] != _MAGIC or length > size - 16:
        raise ValueError("no footer")
    footer = json.loads(os.pread(file, length, size - 16 - length))
    shape = [int(n) for n in footer["shape"]]
    pixels = math.prod(shape)
    if len(shape) != 4 or min(shape) < 1 or pixels + length + 16 != size:
        raise ValueError("another size")
    checksum = zlib.crc32(json.dumps(footer["kept"]).encode())
    for start in range(0, pixels, _CHUNK):
        checksum = zlib.crc32(os.pread(file, min(_CHUNK, pixels - start), start), checksum)
    if checksum != footer["crc32"]:
        raise ValueError("other contents")
    return shape, footer["kept"]


class Filling:
    """A file of the cache that is being filled; close it in the end.

    images: uint8 [N, S, S, C], to be written.

    Args:
        shape: of the images.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        folder = images_folder()
        folder.mkdir(parents=True, exist_ok=True)
        self._part = folder / f"{uuid.uuid4().hex}.part"
        self._file = open(self._part, "x+b")  # noqa: SIM115 - it stays open
        try:
            # Not only truncated: a full disk shows now, and not as a signal when a page is written.
            os.posix_fallocate(self._file.fileno(), 0, math.prod(shape))
            self.images: NDArray[np.uint8] = np.memmap(self._file, np.uint8, "r+", shape=shape)
        except BaseException:
            self.close()
            raise

    def keep(self, key: str, count: int, kept: Mapping[str, Any]) -> None:
        """Keep the first ``count`` images under that key, with ``kept``, which JSON can say.

        Raises:
            OSError: the file cannot be written.
        """
        checksum = zlib.crc32(json.dumps(kept).encode())
        for start in range(0, count, 1024):
            checksum = zlib.crc32(self.images[start : min(start + 1024, count)].data, checksum)
        shape = (count, *self.images.shape[1:])
        footer = json.dumps({"shape": shape, "crc32": checksum, "kept": kept}).encode()
        del self.images
        self._file.truncate(math.prod(shape))
        self._file.seek(0, os.SEEK_END)
        self._file.write(footer + len(footer).to_bytes(8, "little") + _MAGIC)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._part.replace(self._part.with_name(f"{key}.images"))
        self._remove_old()

    def _remove_old(self) -> None:
        now = time.time()
        with contextlib.suppress(OSError):
            for path in self._part.parent.iterdir():
                days = _KEPT_DAYS.get(path.suffix)
                if days is not None and path.stat().st_mtime < now - days * _DAY:
                    path.unlink()

    def close(self) -> None:
        """Remove the file, unless its images are kept."""
        self._file.close()
        self._part.unlink(missing_ok=True)
