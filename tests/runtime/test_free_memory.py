"""Free memory, as a machine and both versions of control groups tell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from infogan_fast.data import load_images
from infogan_fast.errors import UserError
from infogan_fast.runtime import memory
from infogan_fast.runtime.memory import free_memory

MIB = 1 << 20


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """8 GiB are available; no control groups."""
    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "cgroup")
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable: 8388608 kB\n")
    return tmp_path


def member_of(machine: Path, text: str) -> None:
    (machine / "proc" / "self" / "cgroup").write_text(text)


def group(machine: Path, place: str, limit: str, used: int, stat: str, version: int = 2) -> None:
    folder = machine / "cgroup" / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ("memory.max" if version == 2 else "memory.limit_in_bytes")).write_text(f"{limit}\n")
    (folder / ("memory.current" if version == 2 else "memory.usage_in_bytes")).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"{stat}\n")


def test_the_machine_alone(machine: Path) -> None:
    assert free_memory() == 8192 * MIB
    member_of(machine, "0::/init.scope\n")
    assert free_memory() == 8192 * MIB
    group(machine, "init.scope", "max", 5 * MIB, "active_file 0")
    assert free_memory() == 8192 * MIB


def test_version_2_and_the_groups_above(machine: Path) -> None:
    member_of(machine, "0::/jobs/one\n")
    stat = f"anon 1\nactive_file {MIB}\ninactive_file {2 * MIB}\ntotal_active_file {64 * MIB}"
    group(machine, "jobs/one", str(100 * MIB), 60 * MIB, stat)
    assert free_memory() == 43 * MIB
    group(machine, "jobs", str(90 * MIB), 60 * MIB, "active_file 0\ninactive_file 0")
    assert free_memory() == 30 * MIB
    group(machine, "jobs", str(90 * MIB), 95 * MIB, "active_file 0\ninactive_file 0")
    assert free_memory() == 0


def test_a_container_sees_its_group_at_the_top(machine: Path) -> None:
    member_of(machine, "4:memory:/docker/0123\n1:cpu,cpuacct:/\n")
    stat = f"active_file {64 * MIB}\ntotal_active_file {MIB}\ntotal_inactive_file {MIB}"
    group(machine, "memory", str(50 * MIB), 20 * MIB, stat, version=1)
    assert free_memory() == 32 * MIB
    group(machine, "cpu,cpuacct", str(MIB), 0, "", version=1)
    assert free_memory() == 32 * MIB


def test_data_that_a_container_has_no_memory_for_is_refused(machine: Path, grey_images: Path) -> None:
    member_of(machine, "0::/\n")
    group(machine, "", str(60 * MIB), 60 * MIB, "active_file 1000\ninactive_file 0")
    with pytest.raises(UserError, match=r"GiB of memory, and 0\.0 GiB are free"):
        load_images(grey_images)
