"""Files that are whole or absent, and never written through a symbolic link."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from infogan_fast.errors import UserError


def expanded(path: str | Path) -> Path:
    """The path with ``~`` and ``~user`` replaced.

    Raises:
        UserError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: there is no such user; write the folder out") from None


def check_writable(flag: str, path: Path) -> None:
    """Check that :func:`write_named` can write a file, before the work that leads to it.

    Args:
        flag: that names it, for the message.

    Raises:
        UserError: it is a folder, or in one that is not there or cannot be written.
    """
    if path.is_dir():
        raise UserError(f"{flag} {path}: is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise UserError(f"{flag} {path}: there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        return  # such as /dev/stdout
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"{flag} {path}: {path.parent} cannot be written; name another file with {flag}")


def write_named(flag: str, path: Path, content: bytes) -> None:
    """Write a file that the user named: whole or not at all, through links, and into what is no regular file,
    such as /dev/stdout, as it is.

    Raises:
        UserError: it cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            write_whole(path.resolve(), lambda file: file.write(content))
    except OSError as error:
        raise UserError(f"{flag} {path}: cannot be written ({error.strerror or error})") from None


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a temporary file in the folder of ``path``, and let it take that name when it is on the disk.

    A crash leaves what was there before. A symbolic link at ``path`` is replaced, not followed.

    Args:
        path: in a folder that exists.
        write: writes to the file, which is open for reading and writing.

    Raises:
        OSError: the file, which it names, cannot be written; and whatever ``write`` raises.
    """
    temporary = path.with_name(f".{path.name}.part")
    temporary.unlink(missing_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with open(temporary, "w+b", opener=lambda name, _: os.open(name, flags, 0o666)) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise
    # The name, too, survives a power failure, where the file system lets a folder be flushed.
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
