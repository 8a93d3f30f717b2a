"""One training at a time in a run's folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from infogan_fast.errors import UserError

_NAME = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder, which is made if it is not there, for a training of this process.

    The lock is the kernel's (``flock``) on a file that names the host and the process; it ends with the
    process, however that ends. On NFS it holds between hosts where the server has locks. What is made here
    and still empty at the end is removed. Commands that only read a run take no lock.

    Raises:
        UserError: another training holds the folder, or it cannot be made or locked.
    """
    made = [path.absolute() for path in (folder, *folder.parents) if not path.exists()]
    lock = (folder / _NAME).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = _acquire(folder / _NAME)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}); give another folder with --out"
        ) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(held)
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()


def _acquire(path: Path) -> int:
    while True:
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(held, 200).decode(errors="replace").strip() or "another process"
            os.close(held)
            raise UserError(
                f"{path.parent}: {owner} is training into it; wait for that to end, or give another folder "
                "with --out"
            ) from None
        except OSError:
            os.close(held)
            raise
        # Its last owner may have removed the file between the two calls.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), os.stat(path)):
                os.truncate(held, 0)
                os.pwrite(held, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)
                return held
        os.close(held)
