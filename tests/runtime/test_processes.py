"""Subprocesses: their resources, their logs and their interruption."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest
import torch

from infogan_fast.constants import INTERRUPTED
from infogan_fast.errors import UserError
from infogan_fast.runtime import processes
from infogan_fast.runtime.processes import ProcessPool, Slot, slots


def test_threads_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "usable_threads", lambda: 7)
    cpu = torch.device("cpu")

    def shares(jobs: int | None, count: int) -> list[int | None]:
        return [slot.threads for slot in slots(jobs, count, cpu)]

    assert shares(None, 10) == [1] * 7
    assert shares(None, 3) == [3, 2, 2]
    assert shares(2, 10) == [4, 3]
    assert shares(7, 10) == [1] * 7
    assert shares(5, 1) == [7]
    with pytest.raises(UserError, match="may use 7 CPU threads, so give at most that"):
        slots(8, 10, cpu)


def test_gpus_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def gpus(jobs: int | None, count: int) -> list[str]:
        found = slots(jobs, count, torch.device("cuda"))
        assert all(slot.threads is None for slot in found)
        return [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in found]

    assert gpus(None, 10) == ["0", "1", "2"]
    assert gpus(None, 2) == ["0", "1"]
    assert gpus(5, 10) == ["0", "1", "2", "0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert gpus(None, 10) == ["4", "6"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # CUDA does not know 6, and stops there
    assert gpus(None, 10) == ["4"]


def test_a_subprocess_gets_the_resources_of_its_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    # The sixth field is the process's session; in one of its own, it gets no signals from our terminal.
    (tmp_path / "python").write_text(
        "#!/bin/sh\necho $@ $OMP_NUM_THREADS $CUDA_VISIBLE_DEVICES $PWD\n"
        "[ $(cut -d' ' -f6 /proc/$$/stat) = $$ ] && echo own session; exit 4\n"
    )
    os.chmod(tmp_path / "python", 0o700)
    slot = Slot(3, {"CUDA_VISIBLE_DEVICES": "7"})
    assert ProcessPool([slot]).run("train", ["--amp"], slot, tmp_path / "log") == 4
    assert (tmp_path / "log").read_text() == f"-m infogan_fast.train --amp 3 7 {Path.cwd()}\nown session\n"


@pytest.mark.parametrize(
    ("kind", "before", "interrupts"),
    [
        (signal.SIGHUP, signal.SIG_DFL, True),
        (signal.SIGHUP, signal.SIG_IGN, False),  # as set by nohup
        (signal.SIGINT, signal.SIG_IGN, True),  # as set by a shell for background jobs
        (signal.SIGTERM, signal.SIG_DFL, True),
    ],
)
def test_signals_interrupt_the_pool(kind: signal.Signals, before: signal.Handlers, interrupts: bool) -> None:
    ours = signal.signal(kind, before)
    try:
        pool = ProcessPool([Slot(1)])
        with pool.interrupted_by_signals():
            os.kill(os.getpid(), kind)
            assert pool.interrupted.is_set() == interrupts
        assert signal.getsignal(kind) == before
    finally:
        signal.signal(kind, ours)


def test_an_interrupted_pool_starts_nothing(tmp_path: Path) -> None:
    pool = ProcessPool([Slot(1)])
    pool.interrupt()
    assert pool.run("info", [], Slot(1), tmp_path / "log") == INTERRUPTED
    assert (tmp_path / "log").read_bytes() == b""


def test_a_slot_is_reserved_by_one_job_at_a_time() -> None:
    pool = ProcessPool([Slot(1)])
    reserved = threading.Event()

    def job() -> None:
        with pool.slot():
            reserved.set()

    with pool.slot():
        thread = threading.Thread(target=job)
        thread.start()
        assert not reserved.wait(0.2)
    thread.join(timeout=10)
    assert reserved.is_set()
