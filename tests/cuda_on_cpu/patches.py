"""Copies of csrc with a passage replaced, for bugs that tests have to catch and for smaller grids."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cuda_on_cpu.harness import CSRC, PLAIN, TSAN, Build, cache_folder


@dataclass(frozen=True)
class Patch:
    """In `file` (relative to csrc), the text `old`, which must occur exactly once, becomes `new`."""

    file: str
    old: str
    new: str


def patched(patches: Sequence[Patch]) -> Path:
    """A copy of csrc with these patches applied, the same folder for the same content.

    Raises:
        AssertionError: a patch's text does not occur exactly once: the sources have moved on without it.
    """
    texts: dict[str, str] = {}
    for patch in patches:
        text = texts.get(patch.file) or (CSRC / patch.file).read_text()
        count = text.count(patch.old)
        assert count == 1, f"csrc/{patch.file} has this text {count} times; update the patch:\n{patch.old}"
        texts[patch.file] = text.replace(patch.old, patch.new)
    files = sorted(path for path in CSRC.rglob("*") if path.suffix in (".h", ".cuh"))
    digest = hashlib.sha256()
    for path in files:
        relative = str(path.relative_to(CSRC))
        digest.update(f"{relative}\0{texts.get(relative, path.read_text())}\0".encode())
    folder = cache_folder() / f"csrc-{digest.hexdigest()[:16]}"
    if not folder.exists():
        making = Path(tempfile.mkdtemp(dir=cache_folder()))
        for path in files:
            copy = making / path.relative_to(CSRC)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(texts.get(str(path.relative_to(CSRC)), path.read_text()))
        with contextlib.suppress(OSError):  # another thread was first
            making.rename(folder)
    return folder


@dataclass(frozen=True)
class Mutant:
    """A planted bug: what is wrong, how it is planted, and the builds that must report it; the others may."""

    name: str
    patch: Patch
    caught_by: tuple[Build, ...]


def plant(kernel: str, name: str, old: str, new: str, *caught_by: Build, file: str | None = None) -> Mutant:
    """A mutant of a kernel's file, or of another one that it includes."""
    return Mutant(name, Patch(file or kernel, old, new), caught_by)


def of_the_step(kernel: str) -> tuple[Mutant, ...]:
    """Bugs of a kernel whose first thread reads the random state's step and moves it on."""
    mutant = functools.partial(plant, kernel)
    return (
        mutant(
            "the step is read without an atomic",
            "step = atomicAdd(state + 1, 0ull) & kStepMask;",
            "step = state[1] & kStepMask;",
            TSAN,
        ),
        mutant("the step is read with the count of blocks in it", "0ull) & kStepMask;", "0ull);", PLAIN),
        mutant(
            "the step is not advanced", "if (advance && thread == 0) advance_step(state, step);", "", PLAIN
        ),
        mutant("the step is advanced where it must stay", "if (advance && thread", "if (thread", PLAIN),
        mutant("every thread counts its block as done", "if (advance && thread == 0)", "if (advance)", PLAIN),
    )
