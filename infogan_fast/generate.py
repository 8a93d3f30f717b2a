"""``python -m infogan_fast.generate RUN``: images with chosen codes, as a grid or a file each."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from infogan_fast.analysis.run import Run, load_run
from infogan_fast.cli import Parser, add_run_arguments
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.pictures import figures, samples


@dataclass
class ChosenCodes:
    """Codes that are set, by their position among the categorical and among the other codes."""

    categorical: dict[int, int] = field(default_factory=dict)
    continuous: dict[int, float] = field(default_factory=dict)
    unusual: list[str] = field(default_factory=list)
    """What to say of values that training never drew."""


def choose_codes(spec: LatentSpec, texts: Sequence[str]) -> ChosenCodes:
    """Read codes and their values, such as ``["c1=3", "c2=-1.5"]``.

    Raises:
        UserError: a code does not exist, is given twice or does not take the value; the text says which codes
            there are, or what this one takes.
    """
    chosen = ChosenCodes()
    seen = set()
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise UserError(f"--set {text}: expected CODE=VALUE, such as {spec.code_names[0]}=1")
        if name not in spec.code_names:
            codes = ", ".join(f"{code} ({_takes(spec, i)})" for i, code in enumerate(spec.code_names))
            raise UserError(f"--set {text}: there is no code {name!r}; there are {codes}")
        if name in seen:
            raise UserError(f"--set {text}: {name} is given twice")
        seen.add(name)
        position = spec.code_names.index(name)
        wrong = UserError(f"--set {text}: {name} is {_takes(spec, position)}")
        try:
            number = int(value) if position < spec.n_categorical else float(value)
        except ValueError:
            raise wrong from None
        if position < spec.n_categorical:
            if not 0 <= number < spec.categorical_sizes[position]:
                raise wrong
            chosen.categorical[position] = int(number)
            continue
        which = position - spec.n_categorical
        kind = spec.continuous_kinds[which]
        if not math.isfinite(number) or (kind == "bernoulli" and number not in (0, 1)):
            raise wrong
        chosen.continuous[which] = number
        if kind == "uniform" and abs(number) > 1:
            chosen.unusual.append(f"{name} = {number:g} lies outside of -1 to 1, where training drew it")
    return chosen


def _takes(spec: LatentSpec, position: int) -> str:
    """What a code is and which values it takes."""
    if position < spec.n_categorical:
        return f"a categorical code and takes a whole number, 0 to {spec.categorical_sizes[position] - 1}"
    return {
        "uniform": "a uniform code and takes a number, from -1 to 1 in training",
        "normal": "a normal code and takes a number, mostly from -2 to 2 in training",
        "bernoulli": "a Bernoulli code and takes 0 or 1",
    }[spec.continuous_kinds[position - spec.n_categorical]]


def generate(run: Run, count: int, chosen: ChosenCodes, *, seed: int = samples.PICTURE_SEED) -> Tensor:
    """Images uint8 [count, C, S, S]; noise and the codes that are not chosen are drawn from their priors.

    What is drawn depends on the seed alone: image n has the same noise whatever is chosen, and however many
    there are.
    """
    inputs = samples.draw_inputs(run.generator, run.spec, count, seed)
    inputs = samples.with_codes(
        inputs,
        run.spec,
        categorical={i: torch.full((count,), value) for i, value in chosen.categorical.items()},
        continuous={i: torch.full((count,), value) for i, value in chosen.continuous.items()},
    )
    return samples.make_images(run.generator, inputs)


def save_folder(images: Tensor, folder: Path) -> None:
    """Write images uint8 [N, C, S, S] as 00000.png, 00001.png, ... into a folder that is new or empty.

    Raises:
        UserError: it is neither.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"--out {folder}: is not empty; give a new folder, or a name that ends in .png")
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        Image.fromarray(pixels.contiguous().numpy()).save(folder / f"{i:05d}.png")


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = Parser(
        prog="python -m infogan_fast.generate",
        description="Make images with a trained InfoGAN. Codes that are not set are drawn from their prior.",
    )
    add_run_arguments(result)
    result.add_argument("--n", metavar="N", type=int, default=64, help="how many images (default: 64)")
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
        default=samples.PICTURE_SEED,
        help=f"of the noise and of the codes not set (default: {samples.PICTURE_SEED})",
    )
    result.add_argument(
        "--out",
        metavar="FILE.png|FOLDER",
        type=Path,
        help="a grid, enlarged where images are small, or a folder for a PNG an image "
        "(default: RUN/generated.png)",
    )
    result.add_argument("--grid", metavar="COLUMNS", type=int, help="columns of the grid (default: a square)")
    return result


def main(argv: list[str] | None = None) -> int:
    """Make images. Returns the exit status: 0, or 2 after an error that the user can mend."""
    try:
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
        run = load_run(args.run, checkpoint_file=args.checkpoint, device=args.device)
        chosen = choose_codes(run.spec, args.set)
        for remark in chosen.unusual:
            print(f"infogan_fast.generate: {remark}", file=sys.stderr)
        images = generate(run, args.n, chosen, seed=args.seed)
        try:
            if in_folder:
                save_folder(images, path)
            else:
                columns = args.grid or math.ceil(math.sqrt(args.n))
                scale = figures.scale_for(run.image_size)
                figures.image_grid(images, columns, scale=scale).save(path)
        except OSError as error:
            raise UserError(f"--out {path}: cannot be written ({error.strerror or error})") from None
        print(path)
    except UserError as error:
        print(f"infogan_fast.generate: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
