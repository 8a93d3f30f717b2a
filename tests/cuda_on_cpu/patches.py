"""Copies of csrc with a passage replaced: the small-grid variant that tests run on, and the mutants."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cuda_on_cpu.harness import CSRC, cache_folder


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


#: A block takes several tiles even of a small batch: what happens between tiles is tested on few threads.
SMALL_GRID = (
    Patch(
        "cuda/sample_latents.cuh",
        "constexpr int kSampleMaxBlocks = 4096;",
        "constexpr int kSampleMaxBlocks = 3;",
    ),
    Patch(
        "cuda/gather_images.cuh",
        "constexpr int kGatherMaxBlocks = 4096;",
        "constexpr int kGatherMaxBlocks = 3;",
    ),
    Patch(
        "cuda/infogan_loss.cuh", "constexpr int kLossMaxBlocks = 1024;", "constexpr int kLossMaxBlocks = 3;"
    ),
)
