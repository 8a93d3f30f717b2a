"""The signals that ask a command to end."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

#: Ctrl-C; kill; a terminal that closes; what Slurm and others send before a job's time is over.
_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@contextlib.contextmanager
def stop_signals(handle: Callable[[int], None]) -> Iterator[None]:
    """Within the block, call ``handle`` with the number of each such signal.

    Signals that the process ignores stay ignored, as under nohup, except SIGINT, which shells ignore for jobs
    in the background, and SIGTERM. Outside of the main thread, which alone receives signals, this does
    nothing.
    """
    before = {}
    with contextlib.suppress(ValueError):
        for number in _STOP:
            always, handler = number in (signal.SIGINT, signal.SIGTERM), signal.getsignal(number)
            # None: a handler that Python did not set, and cannot set again.
            if handler is not None and (always or handler is not signal.SIG_IGN):
                before[number] = signal.signal(number, lambda received, _: handle(received))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
