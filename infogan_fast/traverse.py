"""``python -m infogan_fast.traverse RUN``: a picture or an animation of what each continuous code changes."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from infogan_fast.cli import Parser, add_data_arguments, add_run_arguments, as_path, command, run_of
from infogan_fast.constants import PICTURE_SEED
from infogan_fast.errors import UserError
from infogan_fast.runtime.files import check_writable, write_named

if TYPE_CHECKING:
    from infogan_fast.analysis.run import Run

FORMATS = (".png", ".gif", ".webp")
_MAX_STEPS = 200


def row_labels(run: Run, data: str | None, data_dir: Path | None) -> list[str] | None:
    """``"7 (c1 = 3)"`` for each category of c1 that is matched to a label, else ``"c1 = 3"``; None without
    labels.

    Raises:
        UserError: the data that is asked for cannot be loaded.
    """
    from infogan_fast.analysis import evaluation

    try:
        labels = evaluation.match_labels(run, data=data, data_dir=data_dir)
    except UserError as error:
        if data or data_dir:
            raise
        # A picture needs no data: the run may have been moved to a machine without them.
        print(f"infogan_fast.traverse: rows are not named by labels: {error}", file=sys.stderr)
        return None
    if labels is None:
        return None
    return [f"c1 = {i}" if label is None else f"{label} (c1 = {i})" for i, label in enumerate(labels)]


def parser() -> argparse.ArgumentParser:
    """The options of this command."""
    result = Parser(
        prog="python -m infogan_fast.traverse",
        description="Sweep each continuous code of a trained InfoGAN and leave all else as it is. Each row "
        "is a category of c1, named by the label that evaluate matches it to if there are labels. A PNG has "
        "the values of a code side by side; a GIF or WebP has them in time, there and back, for four noise "
        "vectors.",
    )
    add_run_arguments(result)
    result.add_argument(
        "--out",
        metavar="FILE",
        type=as_path,
        help=f"ends in {', '.join(FORMATS)} (default: RUN/traverse.png)",
    )
    result.add_argument(
        "--range", metavar="X", type=float, default=2.0, help="sweep from -X to X (default: 2)"
    )
    result.add_argument(
        "--steps", metavar="N", type=int, default=10, help="steps from one end to the other (default: 10)"
    )
    result.add_argument(
        "--seed",
        metavar="S",
        type=int,
        default=PICTURE_SEED,
        help=f"seed of the noise (default: {PICTURE_SEED}, as in the pictures of training)",
    )
    add_data_arguments(result)
    return result


@command("traverse")
def main(argv: Sequence[str] | None = None) -> int:
    """Picture a run's codes. Returns the exit status."""
    args = parser().parse_args(argv)
    path: Path = args.out or args.run / "traverse.png"
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"--out {path}: expected a name that ends in {', '.join(FORMATS)}")
    if not (math.isfinite(args.range) and args.range > 0):
        raise UserError(f"--range is {args.range}; expected a number above 0")
    if not 1 <= args.steps <= _MAX_STEPS:
        raise UserError(f"--steps is {args.steps}; expected 1 to {_MAX_STEPS}")

    if args.out is not None:
        check_writable("--out", path)
    from infogan_fast.pictures.grids import as_png
    from infogan_fast.pictures.traversal import as_animation

    run = run_of(args)
    labels = row_labels(run, args.data, args.data_dir)
    if path.suffix.lower() == ".png":
        picture = run.traversal(reach=args.range, columns=args.steps + 1, seed=args.seed, row_labels=labels)
        content = as_png(picture)
    else:
        frames = run.animation(reach=args.range, steps=args.steps, seed=args.seed, row_labels=labels)
        content = as_animation(frames, path.suffix.lower(), grey=run.channels == 1)
    write_named("--out", path, content)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
