"""A request for a training run: the flags of ``python -m infogan_fast.train``, read. Imports no torch."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infogan_fast.cli import Parser, as_path
from infogan_fast.config import OPTIONS, RESUMABLE
from infogan_fast.errors import UserError
from infogan_fast.options import add_flags


@dataclass(frozen=True)
class Request:
    """The options that were given, by name, and the folder of the run."""

    given: Mapping[str, Any]
    out: Path | None = None
    overwrite: bool = False
    resume: Path | None = None

    def __post_init__(self) -> None:
        if self.resume is not None and (self.out is not None or self.overwrite):
            superfluous = "--out" if self.out is not None else "--overwrite"
            raise UserError(f"--resume {self.resume} continues in its own folder; leave {superfluous} out")

    def described(self) -> dict[str, Any]:
        """By flag, what was given."""
        own = {"--out": self.out, "--overwrite": self.overwrite, "--resume": self.resume}
        return {f"--{name.replace('_', '-')}": value for name, value in self.given.items()} | own


def parser() -> argparse.ArgumentParser:
    """The flags of training. What is not given is absent from the namespace."""
    result = Parser(
        prog="python -m infogan_fast.train",
        usage="python -m infogan_fast.train [OPTION ...]",
        description="Train an InfoGAN on images, without labels. Without options: on built-in drawings of "
        "digits. docs/options.md says more about each option.",
        argument_default=argparse.SUPPRESS,
    )
    output = add_flags(result, OPTIONS.values())["output"]
    output.add_argument(
        "--out", metavar="RUN", type=as_path, help="folder of the run (default: runs/DATA-seedS)"
    )
    output.add_argument("--overwrite", action="store_true", help="replace the run in that folder")
    output.add_argument(
        "--resume",
        metavar="RUN",
        type=as_path,
        help="continue a run with its settings; these may change: "
        + ", ".join(OPTIONS[name].flag for name in OPTIONS if name in RESUMABLE),
    )
    return result


def parse(argv: Sequence[str] | None) -> Request:
    """Read the command line of training.

    Raises:
        UserError: it cannot be read, or options exclude one another.
    """
    given = vars(parser().parse_args(argv))
    own = {name: given.pop(name) for name in ("out", "overwrite", "resume") if name in given}
    return Request(given, **own)
