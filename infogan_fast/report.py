"""``python -m infogan_fast.report RUN``: one page of a run, or of the runs of ``seeds``, for any browser."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from infogan_fast.cli import Parser, add_data_arguments, add_run_arguments, as_path, command
from infogan_fast.errors import UserError
from infogan_fast.runtime.files import check_writable, write_named

_ENDINGS = (".html", ".htm")


def parser() -> argparse.ArgumentParser:
    """The options of this command."""
    result = Parser(
        prog="python -m infogan_fast.report",
        description="Write one HTML file about a trained run: its settings, curves, pictures and evaluation, "
        "and an explorer of its codes. It needs no network and no other file. For a folder of the seeds "
        "command, the page compares its runs.",
        epilog="With --data or --data-dir, the explorer names the categories by the labels of these images.",
    )
    add_run_arguments(result)
    result.add_argument(
        "--out",
        metavar="FILE",
        type=as_path,
        help=f"ends in {' or '.join(_ENDINGS)} (default: RUN/report.html)",
    )
    result.add_argument(
        "--evaluation",
        metavar="FILE",
        type=as_path,
        help="what evaluate --json wrote (default: RUN/evaluation.json, if there is one)",
    )
    add_data_arguments(result)
    return result


def _check_writable(path: Path) -> None:
    if path.suffix.lower() not in _ENDINGS:
        raise UserError(f"--out {path}: expected a name that ends in {' or '.join(_ENDINGS)}")
    check_writable("--out", path)


@command("report")
def main(argv: Sequence[str] | None = None) -> int:
    """Write a page. Returns the exit status."""
    args = parser().parse_args(argv)
    named = args.data is not None or args.data_dir is not None
    if not named and (args.pixel_range is not None or args.label is not None):
        raise UserError("--pixel-range and --label are of the images that --data names; give --data too")

    from infogan_fast.extras import extra
    from infogan_fast.runtime import native
    from infogan_fast.training.run_folder import read_config

    native.load()
    extra("report", "jinja2", "report")
    extra("report", "matplotlib", "report")
    study = (args.run / "seeds.json").is_file() and not (args.run / "config.json").exists()
    if not study:
        read_config(args.run)
    path: Path = args.out or args.run / "report.html"
    _check_writable(path)

    if study:
        for flag in ("checkpoint", "evaluation", "data", "data_dir"):
            if (value := getattr(args, flag)) is not None:
                raise UserError(
                    f"--{flag.replace('_', '-')} {value} is for a single run, and {args.run} holds several; "
                    "leave it out, or give one of its runs"
                )
        from infogan_fast.sharing.study_page import study_page

        text = study_page(args.run)
    else:
        from infogan_fast.sharing.run_page import run_page

        text = run_page(
            args.run,
            evaluation_file=args.evaluation,
            checkpoint_file=args.checkpoint,
            device=args.device,
            data=args.data,
            data_dir=args.data_dir,
            pixel_range=args.pixel_range,
            label=args.label,
        )
    content = text.encode(errors="replace")
    write_named("--out", path, content)
    print(f"{path} ({len(content) / 1e6:.2f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
