"""A first reading in a process of its own, for libraries that a damaged file can crash or hang.

SciPy's reader of MATLAB files and the HDF5 library do: in 3,000 files each with one to five changed bytes,
three and one ended the process, and five kept the HDF5 library busy without end.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from infogan_fast.errors import UserError
from infogan_fast.runtime.memory import free_memory

_SECONDS = 60  # of computing, whatever the size of the file
_BYTES_A_SECOND = 2_000_000  # an hour for 7 GB; libraries reach a hundred times as much
_NO_MEMORY = 3
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGXCPU)


def try_reading(path: Path, read: Callable[[], object]) -> None:
    """Call ``read`` in a copy of this process, whose end harms nothing.

    The copy may compute for a minute and half a second more for each megabyte of the file, and take the
    memory that is free. What it finds is thrown away: after a success ``read`` does the same in this process.
    An exception that it raises is not raised here, since it comes again.

    Raises:
        UserError: the copy crashed, or took too long or too much memory.
    """
    seconds = _SECONDS + path.stat().st_size // _BYTES_A_SECOND
    with warnings.catch_warnings():
        # Python warns of forks with threads, whose locks the copy would wait for; reading takes none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process == 0:
        _in_copy(read, seconds)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status == 0:
        return
    if status == _NO_MEMORY:
        raise UserError(f"{path}: asks for more memory than is free; get this file again if it is damaged")
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        raise UserError(f"{path}: damaged: reading it took more than {seconds} s; get this file again")
    name = signal.Signals(-status).name if status < 0 else f"status {status}"
    raise UserError(f"{path}: damaged: reading it ends the process ({name}); get this file again")


def _in_copy(read: Callable[[], object], seconds: int) -> None:
    status = 1
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)  # this process says it all again
        os.dup2(nowhere, 2)
        sys.stdout = sys.stderr = os.fdopen(nowhere, "w")  # a notebook's are no files
        for number in _CRASHES:  # whoever handles those of this process has nothing to do with them
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        if (free := free_memory()) is not None:
            with open("/proc/self/statm") as file:
                used = int(file.read().split()[0]) * resource.getpagesize()
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            limit = used + free if hard == resource.RLIM_INFINITY else min(used + free, hard)
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        status = 0
        read()
    except MemoryError:
        status = _NO_MEMORY
    except Exception:
        pass  # comes again in the process that asks
    finally:
        os._exit(status)
