"""``python -m infogan_fast.traverse RUN``: a picture or an animation of what each continuous code changes, as
the paper's figure 2."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from PIL import Image, features

from infogan_fast.analysis.evaluation import match_labels
from infogan_fast.analysis.run import Run, load_run
from infogan_fast.cli import Parser, add_data_arguments, add_run_arguments
from infogan_fast.errors import UserError
from infogan_fast.pictures import samples

FORMATS = (".png", ".gif", ".webp")
_FRAME_MS = 80
_MOST_STEPS = 200


def row_labels(run: Run, *, data: str | None = None, data_dir: Path | None = None) -> list[str] | None:
    """``"7 (c1 = 3)"`` for each category of c1 that :func:`match_labels` gives a label, else ``"c1 = 3"``;
    None where it gives none.

    Args and errors as :meth:`Run.load_images`.
    """
    labels = match_labels(run, data=data, data_dir=data_dir)
    if labels is None:
        return None
    return [f"c1 = {i}" if label is None else f"{label} (c1 = {i})" for i, label in enumerate(labels)]


def save_animation(frames: list[Image.Image], path: Path, *, grey: bool) -> None:
    """Write frames that repeat for ever, each shown for 80 ms.

    Args:
        path: .gif or .webp; losslessly, but for a GIF in colour, which has 256 of them.
        grey: whether the frames have greys alone.

    Raises:
        UserError: this Pillow cannot write the format, or the file cannot be written.
    """
    if path.suffix.lower() == ".webp" and not features.check("webp"):
        raise UserError(f"--out {path}: this build of Pillow has no WebP; write a .gif")
    if grey and path.suffix.lower() == ".gif":
        frames = [frame.convert("L") for frame in frames]  # else Pillow takes a palette, and dithers
    options: dict[str, Any] = {"lossless": True} if path.suffix.lower() == ".webp" else {}
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=_FRAME_MS, loop=0, optimize=False, **options
    )


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = Parser(
        prog="python -m infogan_fast.traverse",
        description="Sweep each continuous code of a trained InfoGAN and leave all else as it is. "
        "Each row is a category of c1, named by the label that evaluate matches it to where the data has "
        "labels. A PNG has the values of a code side by side; a GIF or WebP has them in time, there and "
        "back, for four noise vectors.",
    )
    add_run_arguments(result)
    result.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help=f"ends in {', '.join(FORMATS)} (default: RUN/traverse.png)",
    )
    result.add_argument(
        "--range", metavar="X", type=float, default=2.0, help="sweep from -X to X (default: 2)"
    )
    result.add_argument(
        "--steps", metavar="N", type=int, default=10, help="from one end to the other (default: 10)"
    )
    result.add_argument(
        "--seed",
        metavar="S",
        type=int,
        default=samples.PICTURE_SEED,
        help=f"of the noise (default: {samples.PICTURE_SEED}, as the pictures of training)",
    )
    add_data_arguments(result)
    return result


def main(argv: list[str] | None = None) -> int:
    """Picture a run's codes. Returns the exit status: 0, or 2 after an error that the user can mend."""
    try:
        args = parser().parse_args(argv)
        path: Path = args.out or args.run / "traverse.png"
        if path.suffix.lower() not in FORMATS:
            raise UserError(f"--out {path}: expected a name that ends in {', '.join(FORMATS)}")
        if not (math.isfinite(args.range) and args.range > 0):
            raise UserError(f"--range is {args.range}; expected a number above 0")
        if not 1 <= args.steps <= _MOST_STEPS:
            raise UserError(f"--steps is {args.steps}; expected 1 to {_MOST_STEPS}")
        run = load_run(args.run, checkpoint_file=args.checkpoint, device=args.device)
        labels = None
        try:
            labels = row_labels(run, data=args.data, data_dir=args.data_dir)
        except UserError as error:
            if args.data or args.data_dir:
                raise
            # A picture needs no data: the run may have been moved to where there is none.
            print(f"infogan_fast.traverse: rows are not named by labels: {error}", file=sys.stderr)
        how = {"reach": args.range, "seed": args.seed, "row_labels": labels}
        try:
            if path.suffix.lower() == ".png":
                samples.traversal(run.generator, run.spec, columns=args.steps + 1, **how).save(path)
            else:
                frames = samples.animation(run.generator, run.spec, steps=args.steps, **how)
                save_animation(frames, path, grey=run.channels == 1)
        except OSError as error:
            raise UserError(f"--out {path}: cannot be written ({error.strerror or error})") from None
        print(path)
    except UserError as error:
        print(f"infogan_fast.traverse: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
