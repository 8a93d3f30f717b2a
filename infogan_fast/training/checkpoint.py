"""Checkpoints: written whole or not at all, read without running code, the last few kept.

A checkpoint is the zip archive that ``torch.save`` writes, which stores a CRC of each record, with a SHA-256
of the archive's directory as its comment. So no bit can change unnoticed.
"""

from __future__ import annotations

import errno
import hashlib
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from infogan_fast.errors import UserError
from infogan_fast.runtime.files import write_whole

FORMAT = 4
#: Formats that are read; those before 4 have no digest.
_READABLE = (3, FORMAT)
_NAME = re.compile(r"step-(\d{8,})\.pt")


class UnwritableError(UserError):
    """A checkpoint cannot be written."""


class DamagedError(UserError):
    """A checkpoint is not what was written.

    Args:
        path: of the checkpoint.
        what: is wrong with it.
    """

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path


def checkpoint_path(folder: Path, step: int) -> Path:
    """The file of the checkpoint after this many updates."""
    return folder / f"step-{step:08d}.pt"


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values; the file is either complete or absent, whatever happens meanwhile.

    Raises:
        UnwritableError: the file cannot be written.
    """

    noting: list[_Noting] = []

    def write(file: BinaryIO) -> None:
        noting.append(_Noting(file))
        torch.save({"format": FORMAT, **state}, cast(BinaryIO, noting[0]))
        _seal(file)

    try:
        write_whole(path, write)
    except (OSError, RuntimeError) as error:
        first = (noting[0].error if noting else None) or error
        reason = first.strerror if isinstance(first, OSError) and first.strerror else first
        raise UnwritableError(
            f"{path}: the checkpoint cannot be written ({reason}); fix that and continue with --resume"
        ) from None


class _Noting:
    """A file that keeps the first error in writing to it, in whose place torch.save raises one of its own."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self._file.flush()


def _directory_digest(directory: bytes) -> bytes:
    return b"infogan_fast " + hashlib.sha256(directory).hexdigest().encode()


def _seal(file: BinaryIO) -> None:
    """Add the digest of the directory, whose last two bytes are the length of the comment."""
    try:
        with zipfile.ZipFile(file) as archive:
            start = archive.start_dir
    except zipfile.BadZipFile:  # also where the system refuses to read
        raise OSError(errno.EIO, "what was written cannot be read back") from None
    file.seek(start)
    comment = _directory_digest(file.read()[:-2])
    file.seek(-2, 2)
    file.write(len(comment).to_bytes(2, "little") + comment)


def _damage(path: Path) -> tuple[str | None, bool]:
    """What is wrong with an archive, if anything, and whether it has a digest."""
    try:
        with zipfile.ZipFile(path) as archive:
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
            if not stored:
                return "its records are compressed", False
            bad, comment, start = archive.testzip(), archive.comment, archive.start_dir
        if bad is not None:
            return f"its record {bad} is damaged", False
        with open(path, "rb") as file:
            file.seek(start)
            directory = file.read()[: -2 - len(comment)]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OverflowError) as error:
        return str(error).splitlines()[0][:120] if str(error) else type(error).__name__, False
    if comment and comment != _directory_digest(directory):
        return "its directory is damaged", True
    return None, bool(comment)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        DamagedError: the file is not what was written, or no checkpoint at all.
        UserError: it is missing, cannot be read, or is of another format.
    """
    has_digest = False
    try:
        damage, has_digest = _damage(path)
        if damage is None:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such checkpoint") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # torch.load raises whatever a file leads it to
        if has_digest or isinstance(error, MemoryError):  # the file is as it was written: it is not to blame
            raise UserError(f"{path}: cannot be read ({type(error).__name__})") from None
        damage = type(error).__name__
    if damage is not None:
        raise DamagedError(path, f"not a readable checkpoint ({damage})")
    if not isinstance(state, dict) or "format" not in state:
        raise DamagedError(path, "not a checkpoint of infogan_fast")
    if state["format"] not in _READABLE:
        raise UserError(
            f"{path}: checkpoint format {state['format']}, expected {FORMAT}; "
            f"use the version of infogan_fast that wrote it"
        )
    if state["format"] == FORMAT and not has_digest:
        raise DamagedError(path, "not a readable checkpoint (its digest is missing)")
    _complete_average(state.get("training"))
    return state


def _complete_average(training: Any) -> None:
    """Where a version before averaged the generator's weights alone, add the other networks' as they are."""
    if not isinstance(training, dict):
        return
    average, networks = training.get("ema"), training.get("networks")
    if isinstance(average, dict) and isinstance(networks, dict) and not average.keys() & networks.keys():
        training["ema"] = {**networks, **{f"generator.{name}": own for name, own in average.items()}}


def load_last(folder: Path) -> tuple[Path, dict[str, Any], list[DamagedError]]:
    """The newest checkpoint that is whole, and what is wrong with those after it.

    Raises:
        UserError: there is none.
    """
    damaged: list[DamagedError] = []
    for path in reversed(listed(folder)):
        try:
            return path, load(path), damaged
        except DamagedError as error:
            damaged.append(error)
    if damaged:
        raise UserError(f"{'; '.join(map(str, damaged))}; there is no other one: start a new run")
    raise UserError(f"there is no checkpoint in {folder}; start a new run")


def listed(folder: Path) -> list[Path]:
    """The folder's checkpoints, oldest first, without what a crash left half-written."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name)), key=step_of)


def step_of(path: Path) -> int:
    """The number of updates in a checkpoint's name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise UserError(f"{path}: not the name of a checkpoint (step-00001000.pt)")
    return int(match[1])


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint, so that it is neither continued from nor counted among those kept."""
    aside = path.with_name(f"{path.name}.damaged")
    path.rename(aside)
    return aside


def prune(folder: Path, keep: int, best: Path | None) -> None:
    """Delete all but the last ``keep`` checkpoints and the best."""
    for path in listed(folder)[:-keep]:
        if path != best:
            path.unlink(missing_ok=True)
