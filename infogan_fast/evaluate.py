"""``python -m infogan_fast.evaluate RUN``: score what the codes of a trained InfoGAN mean."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from infogan_fast.cli import Parser, add_data_arguments, add_run_arguments, as_path, command, run_of
from infogan_fast.errors import UserError
from infogan_fast.runtime.files import check_writable, write_named


def parser() -> argparse.ArgumentParser:
    """The options of this command."""
    result = Parser(
        prog="python -m infogan_fast.evaluate",
        description="Score what the codes of a trained InfoGAN mean, on real images that training did not "
        "see and on generated ones.",
    )
    add_run_arguments(result)
    add_data_arguments(result)
    result.add_argument(
        "--images",
        metavar="N",
        type=int,
        help="number of real images to read (default: all; 15,000 of a set, by its name, with known factors)",
    )
    result.add_argument(
        "--seed",
        metavar="S",
        type=int,
        default=0,
        help="seed of the latents and of the scores' random choices (default: 0)",
    )
    result.add_argument(
        "--no-quality",
        action="store_false",
        dest="quality",
        help="leave out the quality of generated images, for which a small classifier is trained",
    )
    result.add_argument(
        "--json",
        metavar="FILE",
        type=as_path,
        help="also write everything to this file; -: to standard output, instead of the report",
    )
    return result


@command("evaluate")
def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate a run and return the exit status."""
    args = parser().parse_args(argv)
    to_file = args.json is not None and args.json != Path("-")
    if to_file:
        check_writable("--json", args.json)
    if args.images is not None and args.images < 1:
        raise UserError(f"--images is {args.images}; expected at least 1")

    from infogan_fast.analysis import evaluation
    from infogan_fast.analysis.report import report

    run = run_of(args)
    result = evaluation.evaluate(
        run,
        data=args.data,
        data_dir=args.data_dir,
        images=args.images,
        quality=args.quality,
        seed=args.seed,
    )
    text = json.dumps(result, indent=2, allow_nan=False)
    if to_file:  # before what a closed output may end
        write_named("--json", args.json, text.encode() + b"\n")
    print(report(result) if args.json is None or to_file else text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
