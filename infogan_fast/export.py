"""``python -m infogan_fast.export RUN --to FORMAT``: the generator and the encoder for other programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from infogan_fast.cli import Parser, add_data_arguments, add_run_arguments, as_path, command, run_of

_FORMATS = ("safetensors", "onnx", "pt2", "hub")


def parser() -> argparse.ArgumentParser:
    """The options of this command."""
    result = Parser(
        prog="python -m infogan_fast.export",
        description="Write the generator and the encoder of a trained InfoGAN for other programs. Batch "
        "statistics are folded into the weights. Every file is read back and compared with the run before it "
        "is kept.",
    )
    add_run_arguments(result)
    result.add_argument(
        "--to",
        choices=_FORMATS,
        required=True,
        help="safetensors: weights and a Python file that loads them; onnx; pt2: torch.export; hub: a folder "
        "with a model card",
    )
    result.add_argument(
        "--out",
        metavar="FOLDER",
        type=as_path,
        help="where the files go; for safetensors also a FILE.safetensors (default: RUN/export, for hub "
        "RUN/export/hub)",
    )
    result.add_argument(
        "--only",
        choices=("generator",),
        help="leave the encoder out, which needs the training images for batch statistics",
    )
    result.add_argument(
        "--evaluation",
        metavar="FILE",
        type=as_path,
        help="for hub: what evaluate --json wrote (default: RUN/evaluation.json if there is one)",
    )
    add_data_arguments(result)
    return result


@command("export")
def main(argv: Sequence[str] | None = None) -> int:
    """Export a run's networks. Returns the exit status."""
    args = parser().parse_args(argv)

    from infogan_fast.sharing.export import export

    run = run_of(args)
    files = export(
        run,
        args.to,
        args.out,
        only=args.only,
        data=args.data,
        data_dir=args.data_dir,
        evaluation=args.evaluation,
    )
    for path, differences in files.items():
        compared = ", ".join(f"{made} within {by:.1e}" for made, by in differences.items())
        print(f"{path}: {compared} of the run's" if compared else path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
