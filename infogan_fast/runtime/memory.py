"""How much memory is free: of the machine, and of the control group that a container or a job has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")
#: By controller, "" for version 2 of control groups: the folder, and the names of limit and usage in it.
_LIMITS = {
    "": ("", "memory.max", "memory.current"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
}
#: In memory.stat: pages of files, which are given up when memory is needed.
_RECLAIMED = ("active_file", "inactive_file", "total_active_file", "total_inactive_file")


def free_memory() -> int | None:
    """Bytes of memory that this process may still take; None where the system does not tell."""
    return min([*_of_machine(), *_of_groups()], default=None)


def _of_machine() -> Iterator[int]:
    try:
        with open(_PROC / "meminfo") as file:
            yield from (int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_groups() -> Iterator[int]:
    """What the process's control group and each one above it leave."""
    try:
        lines = (_PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in _LIMITS:
            continue
        folder, limit_name, usage_name = _LIMITS[controllers]
        top = _GROUPS / folder
        group = top / path.lstrip("/")
        # A container sees its own group at the top, under a path that only the host knows.
        for each in {top, *(p for p in (group, *group.parents) if p.is_relative_to(top))}:
            try:
                limit, used = int((each / limit_name).read_text()), int((each / usage_name).read_text())
                stat = dict(entry.split() for entry in (each / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):  # no such group, or "max"
                continue
            reclaimed = sum(int(stat.get(name, 0)) for name in _RECLAIMED[2 if controllers else 0 :][:2])
            yield max(0, limit - used + reclaimed)
