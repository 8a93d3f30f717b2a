"""``python -m infogan_fast.generate RUN``: images with chosen codes, as a grid or a file each."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from infogan_fast.cli import Parser, add_run_arguments, as_path, command, run_of
from infogan_fast.constants import PICTURE_SEED
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.runtime.files import check_writable, write_named

if TYPE_CHECKING:
    from torch import Tensor


def choose_codes(spec: LatentSpec, texts: Sequence[str]) -> dict[str, int | float]:
    """Read codes and their values, such as ``["c1=3", "c2=-1.5"]``.

    Raises:
        UserError: a code does not exist, is given twice or does not take the value; the text says which codes
            there are, or what this one takes.
    """
    chosen: dict[str, int | float] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise UserError(f"--set {text}: expected CODE=VALUE, such as {spec.codes[0].name}=1")
        if name in chosen:
            raise UserError(f"--set {text}: {name} is given twice")
        try:
            chosen[name] = spec.code(name).value(value)
        except UserError as error:
            raise UserError(f"--set {text}: {error}") from None
    return chosen


def warn_of_unusual(spec: LatentSpec, chosen: dict[str, int | float]) -> None:
    """Print a line on stderr for each value that training never drew."""
    for name, value in chosen.items():
        if spec.code(name).kind == "uniform" and abs(value) > 1:
            text = f"{name} = {value:g} lies outside of -1 to 1, where training drew it"
            print(f"infogan_fast.generate: {text}", file=sys.stderr)


def save_folder(images: Tensor, folder: Path) -> None:
    """Write images uint8 [N, C, S, S] as 00000.png, 00001.png, ... into a folder that is new or empty.

    Raises:
        UserError: it is neither.
    """
    from PIL import Image

    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"--out {folder}: is not empty; give a new folder, or a name that ends in .png")
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        Image.fromarray(pixels.contiguous().numpy()).save(folder / f"{i:05d}.png")


def parser() -> argparse.ArgumentParser:
    """The options of this command."""
    result = Parser(
        prog="python -m infogan_fast.generate",
        description="Make images with a trained InfoGAN. Codes that are not set are drawn from their prior.",
    )
    add_run_arguments(result)
    result.add_argument("--n", metavar="N", type=int, default=64, help="number of images (default: 64)")
    result.add_argument(
        "--set",
        metavar="CODE=VALUE",
        action="append",
        default=[],
        help="set a code in all images, such as c1=3 or c2=-1.5; may repeat",
    )
    result.add_argument(
        "--seed",
        metavar="S",
        type=int,
        default=PICTURE_SEED,
        help=f"seed of the noise and of the codes that are not set (default: {PICTURE_SEED})",
    )
    result.add_argument(
        "--out",
        metavar="FILE.png|FOLDER",
        type=as_path,
        help="a grid, enlarged if the images are small, or a folder for one PNG per image "
        "(default: RUN/generated.png)",
    )
    result.add_argument("--grid", metavar="COLUMNS", type=int, help="columns of the grid (default: a square)")
    return result


@command("generate")
def main(argv: Sequence[str] | None = None) -> int:
    """Make images. Returns the exit status."""
    args = parser().parse_args(argv)
    path: Path = args.out or args.run / "generated.png"
    in_folder = path.is_dir() or not path.suffix
    if args.n < 1:
        raise UserError(f"--n is {args.n}; expected at least 1")
    if args.grid is not None and args.grid < 1:
        raise UserError(f"--grid is {args.grid}; expected at least 1")
    if args.grid is not None and in_folder:
        raise UserError(f"--grid {args.grid} is for a grid, and {path} is a folder; leave one out")
    if not in_folder and path.suffix.lower() != ".png":
        raise UserError(f"--out {path}: expected a name that ends in .png, or a folder")

    if args.out is not None and not in_folder:
        check_writable("--out", path)
    from infogan_fast.pictures.grids import as_png, image_grid, scale_for
    from infogan_fast.pictures.samples import to_pixels

    run = run_of(args)
    chosen = choose_codes(run.spec, args.set)
    warn_of_unusual(run.spec, chosen)
    images = to_pixels(run.generate(args.n, seed=args.seed, **chosen))
    try:
        if in_folder:
            save_folder(images, path)
        else:
            columns = args.grid or math.ceil(math.sqrt(args.n))
            grid = image_grid(images, columns, scale=scale_for(run.image_size))
            write_named("--out", path, as_png(grid))
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror or error})") from None
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
