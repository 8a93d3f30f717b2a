"""Subprocesses of this package that share the GPUs or CPU threads of the machine."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from infogan_fast.constants import INTERRUPTED
from infogan_fast.errors import UserError
from infogan_fast.runtime.signals import stop_signals
from infogan_fast.runtime.threads import usable_threads


@dataclass(frozen=True)
class Slot:
    """The resources of one subprocess at a time."""

    threads: int | None
    """CPU threads; None leaves their number to the subprocess."""
    environment: dict[str, str] = field(default_factory=dict)


def slots(jobs: int | None, count: int, device: torch.device) -> list[Slot]:
    """Slots for ``count`` jobs, ``jobs`` at a time; by default one per GPU, or one per CPU thread.

    Raises:
        UserError: there are more jobs than CPU threads.
    """
    if device.type == "cuda":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        count_of_gpus = torch.cuda.device_count()  # fewer than are named where one of the names is wrong
        gpus = visible.split(",")[:count_of_gpus] if visible else [str(i) for i in range(count_of_gpus)]
        jobs = min(jobs or len(gpus), count)
        return [Slot(None, {"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]}) for i in range(jobs)]
    threads = usable_threads()
    if jobs is not None and jobs > threads:
        raise UserError(f"--jobs is {jobs}; this process may use {threads} CPU threads, so give at most that")
    jobs = min(jobs or threads, count)
    share, rest = divmod(threads, jobs)
    return [Slot(share + (i < rest)) for i in range(jobs)]


class ProcessPool:
    """Runs commands of this package as subprocesses, one at a time in each slot, and interrupts them
    together.

    Each job runs in a thread of the caller, which reserves a slot and may run several commands in it.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.size = len(slots)
        self.interrupted = threading.Event()
        self._free: queue.Queue[Slot] = queue.Queue()
        for slot in slots:
            self._free.put(slot)
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()

    @contextlib.contextmanager
    def slot(self) -> Iterator[Slot]:
        """Reserve a slot; waits until one is free."""
        slot = self._free.get()
        try:
            yield slot
        finally:
            self._free.put(slot)

    def run(self, command: str, arguments: Sequence[str], slot: Slot, log: Path) -> int:
        """Run ``python -m infogan_fast.COMMAND``, append its output to the log and return its exit status."""
        environment = os.environ | slot.environment
        if slot.threads is not None:
            environment["OMP_NUM_THREADS"] = str(slot.threads)
        with open(log, "ab") as output:
            with self._lock:
                if self.interrupted.is_set():
                    return INTERRUPTED
                process = subprocess.Popen(
                    [sys.executable, "-m", f"infogan_fast.{command}", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    # The terminal's Ctrl-C must reach it only through interrupt(): a second one would kill
                    # it.
                    start_new_session=True,
                )
                self._running.add(process)
            status = process.wait()
            with self._lock:
                self._running.discard(process)
        return status

    def interrupt(self) -> None:
        """Interrupt all subprocesses, so that training leaves a checkpoint, and start no more."""
        with self._lock:
            self.interrupted.set()
            for process in self._running:
                process.send_signal(signal.SIGINT)

    @contextlib.contextmanager
    def interrupted_by_signals(self) -> Iterator[None]:
        """Call :meth:`interrupt` on the signals that ask a command to end."""
        with stop_signals(lambda _: self.interrupt()):
            yield
