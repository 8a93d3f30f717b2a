"""Threads and memory of the process: how many threads it may use, and what the C library keeps."""

from __future__ import annotations

import ctypes
import math
import os
import platform
from pathlib import Path

import torch

#: The number of threads that was set last, and PyTorch's before it.
_set: int | None = None
_before = 0


def use_threads(count: int | None) -> None:
    """Set PyTorch's number of threads: ``count``, or as many as are usable, whatever was set here before."""
    global _set, _before
    if torch.get_num_threads() != _set:
        _before = torch.get_num_threads()
    _set = count or usable_threads()
    torch.set_num_threads(_set)


def usable_threads(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """PyTorch's number of threads, before :func:`use_threads` set another one, or fewer where a container's
    share of the processors (cpu.max) is smaller: more threads would only take turns.

    Args:
        cgroup: where control groups are mounted.
    """
    threads = torch.get_num_threads()
    if threads == _set:
        threads = _before
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return max(1, min(threads, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or no limit ("max")
        return threads


def tune_allocator() -> None:
    """Have the C library keep what the step frees, and PyTorch ask for huge pages. Call it first.

    Gradients of 26 MB freed and allocated again cost thousands of page faults an update otherwise (7 % of the
    step, and 3 % more for small pages). Linux with glibc; elsewhere nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    libc.mallopt(mmap_threshold, 32 << 20)  # the most that glibc takes
    libc.mallopt(trim_threshold, 2**31 - 1)
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
