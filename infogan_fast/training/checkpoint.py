"""Checkpoints: written whole or not at all, read without running code, the last few kept."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch

from infogan_fast.errors import UserError

FORMAT = 3
_NAME = re.compile(r"step-(\d{8,})\.pt")


def checkpoint_path(folder: Path, step: int) -> Path:
    """The file of the checkpoint after this many updates."""
    return folder / f"step-{step:08d}.pt"


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values; the file is either complete or absent, whatever happens meanwhile.

    Raises:
        UserError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with open(temporary, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"{path}: the checkpoint cannot be written ({error}); free some space and continue with --resume"
        ) from None


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        UserError: the file is missing, damaged, of another kind or of another format.
    """
    remedy = "delete it to continue from the one before, or start a new run"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such checkpoint") from None
    except Exception as error:  # torch.load raises whatever the damage leads it to
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a readable checkpoint ({reason}); {remedy}") from None
    if not isinstance(state, dict) or "format" not in state:
        raise UserError(f"{path}: not a checkpoint of infogan_fast; {remedy}")
    if state["format"] != FORMAT:
        raise UserError(
            f"{path}: checkpoint format {state['format']}, expected {FORMAT}; "
            f"use the version of infogan_fast that wrote it"
        )
    return state


def listed(folder: Path) -> list[Path]:
    """The folder's checkpoints, oldest first, without what a crash left half-written."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name)), key=step_of)


def step_of(path: Path) -> int:
    """The number of updates in a checkpoint's name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise UserError(f"{path}: not the name of a checkpoint (step-00001000.pt)")
    return int(match[1])


def prune(folder: Path, keep: int) -> None:
    """Delete all but the last ``keep`` checkpoints."""
    for path in listed(folder)[:-keep]:
        path.unlink(missing_ok=True)
