"""The folder of a run: its files, what may be replaced, and whether the disk has room.

RUN/config.json      settings, versions, machine and data
RUN/metrics.jsonl    a row every --log-every updates; see :mod:`infogan_fast.training.loop`
RUN/samples/         a grid every --sample-every updates, always of the same latents
RUN/checkpoints/     the last --keep-checkpoints, and the best; see :mod:`infogan_fast.training.scores`
RUN/traversal.png    at the end, what each code does
RUN/data.txt         where the images are from, what was changed and left out
RUN/data.png         some of the images, as the networks see them
RUN/left-out.txt     with --skip-damaged, the files that could not be read, and why
RUN/tensorboard/     with --tensorboard, its events; see :mod:`infogan_fast.training.tensorboard`
RUN/profile.json     of --profile on a CPU, in Chrome's trace format
RUN/.lock            while a training holds the folder
"""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import infogan_fast
from infogan_fast.config import Config
from infogan_fast.data.image_set import ImageSet, spread
from infogan_fast.errors import UserError
from infogan_fast.pictures.grids import image_grid, save_picture, scale_for
from infogan_fast.runtime.files import write_whole
from infogan_fast.training import checkpoint

CONFIG_FORMAT = 3
#: config.json comes last: a folder that holds it is known as a run until all else is removed.
_WRITTEN_BY_TRAINING = (
    *("metrics.jsonl", "samples", "checkpoints", "traversal.png", "profile.json", "tensorboard"),
    *("left-out.txt", "data.txt", "data.png", "config.json"),
)
_WRITTEN_BY_OTHER_COMMANDS = (
    *("traverse.png", "traverse.gif", "traverse.webp", "generated.png", "report.html", "evaluation.json"),
    "export",
)


def check_free(folder: Path, overwrite: bool) -> None:
    """Check that a new run may use this folder.

    Raises:
        UserError: it holds something else, or a run that is not to be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder with --out")
    if not folder.is_dir() or not any(_is_foreign(path) for path in folder.iterdir()):
        return
    if not _is_run(folder):
        raise UserError(f"{folder} is not empty and not a run; give another folder with --out")
    if not overwrite:
        known = checkpoint.listed(folder / "checkpoints")
        resume = f": continue it with --resume {folder}, " if known else " without a checkpoint: "
        raise UserError(
            f"{folder} holds a run{resume}replace it with --overwrite, or give another folder with --out"
        )


def _is_run(folder: Path) -> bool:
    """Whether it was written by a training: other programs call their files config.json, too."""
    path = folder / "config.json"
    if not path.is_file():
        return False
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):  # damaged: a run's, if nothing else lies there
        names = {*_WRITTEN_BY_TRAINING, *_WRITTEN_BY_OTHER_COMMANDS}
        return not any(_is_foreign(each) and each.name not in names for each in folder.iterdir())
    own = isinstance(config, dict) and isinstance(config.get("settings"), dict)
    return own and type(config.get("format")) is int


def _is_foreign(path: Path) -> bool:
    """Whether a path in a run's folder is more than what a run leaves that is killed at its start."""
    if path.is_dir() and not path.is_symlink():
        return path.name not in ("samples", "checkpoints") or any(path.iterdir())
    return path.name not in (".lock", ".writable", ".config.json.part")


def _check_free_space(folder: Path, state: Sequence[Tensor], keep_checkpoints: int) -> None:
    # The best checkpoint may be older than the last ones, and one more is there until the oldest is deleted.
    wanted = sum(tensor.nbytes for tensor in state) * (keep_checkpoints + 2) + (50 << 20)
    wanted -= sum(path.stat().st_size for path in checkpoint.listed(folder / "checkpoints"))
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise UserError(
            f"{folder}: {free >> 20} MiB free, and {keep_checkpoints} checkpoints need {wanted >> 20}; free "
            "some, keep fewer with --keep-checkpoints, or give another folder with --out"
        )


def prepare(folder: Path, state: Sequence[Tensor], keep_checkpoints: int, overwrite: bool) -> None:
    """Make the folders, and check that there is room for what the run will write: checkpoints of ``state``.

    Raises:
        UserError: the folder cannot be written, or the disk is too full.
    """
    _check_free_space(folder, state, keep_checkpoints)
    try:
        if overwrite:
            for name in (*_WRITTEN_BY_TRAINING, *_WRITTEN_BY_OTHER_COMMANDS):
                path = folder / name
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        for part in (folder / name for name in _WRITTEN_BY_TRAINING):
            if part.is_symlink():
                raise UserError(
                    f"{part} is a symbolic link; a run writes inside its folder alone: remove the link"
                )
        for part in (folder / "samples", folder / "checkpoints"):
            part.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}); give another folder with --out"
        ) from None


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a run.

    Raises:
        UserError: there is none, or it is damaged or of another format.
    """
    path = folder / "config.json"
    if folder.is_file():
        raise UserError(f"{folder} is a file; give the folder of a run")
    try:
        config = json.loads(path.read_text())
        if config["format"] == CONFIG_FORMAT:
            data = config["data"]
            counts = [data[name] for name in ("images", "image_size", "channels")]
            complete = isinstance(config["settings"], dict) and isinstance(data["source"], str)
            complete = complete and all(type(count) is int and count > 0 for count in counts)
    except FileNotFoundError:
        raise UserError(f"{folder}: there is no {path}; give the folder of a run") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"[:120]
        raise UserError(f"{path}: cannot be read ({reason}); is this the folder of a run?") from None
    if config["format"] != CONFIG_FORMAT:
        raise UserError(
            f"{path}: format {config['format']}, expected {CONFIG_FORMAT}: another version of infogan_fast "
            "wrote it; use that version, or train again"
        )
    if not complete:
        raise UserError(f"{path}: settings or data are damaged; restore this file, or train again")
    return config


def write_config(folder: Path, config: Config, machine: dict[str, str], data: dict[str, Any]) -> None:
    """Write config.json, whole or not at all."""
    versions = {
        "infogan_fast": infogan_fast.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    saved = {
        "format": CONFIG_FORMAT,
        "settings": config.options(),
        "machine": machine,
        "data": data,
        "versions": versions,
    }
    text = json.dumps(saved, indent=2) + "\n"
    write_whole(folder / "config.json", lambda file: file.write(text.encode()))


def write_left_out(folder: Path, left_out: Sequence[str]) -> None:
    """Write left-out.txt, or remove one where nothing is left out any more."""
    path = folder / "left-out.txt"
    if left_out:
        text = "".join(f"{line}\n" for line in left_out)
        write_whole(path, lambda file: file.write(text.encode(errors="surrogateescape")))
    elif path.exists():
        path.unlink()


def write_report(folder: Path, data: ImageSet) -> None:
    """Write data.txt and data.png, from which a user sees what training gets."""
    text = "".join(f"{line}\n" for line in (data.source, *data.report))
    write_whole(folder / "data.txt", lambda file: file.write(text.encode(errors="surrogateescape")))
    size, total = data.images.shape[-1], len(data.images)
    columns = min(16, max(2, 2048 // size))
    shown = data.images[spread(total, min(total, columns * columns // 2), data.name)]
    grid = image_grid(shown, min(columns, len(shown)), scale=scale_for(size))
    save_picture(grid, folder / "data.png")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, without lines that are none: a crash may cut one short.

    Raises:
        UserError: the file cannot be read.
    """
    path = folder / "metrics.jsonl"
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    rows = []
    for line in content.split(b"\n"):
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and type(row.get("step")) is int:
                rows.append(row)
    return rows


def cut_metrics(folder: Path, updates: int) -> None:
    """Drop the rows past the checkpoint from which the run continues."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return
    kept = [row for row in read_metrics(folder) if row["step"] <= updates]
    text = "".join(json.dumps(row) + "\n" for row in kept)
    write_whole(path, lambda file: file.write(text.encode()))
