"""Sweeps of the codes, as in figure 2 of Chen et al. 2016 (arXiv 1606.03657): a picture or an animation."""

from __future__ import annotations

import io
import math
import numbers
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image, features
from torch import Tensor, nn

from infogan_fast.constants import PICTURE_SEED
from infogan_fast.errors import UserError
from infogan_fast.latents import Code, LatentSpec
from infogan_fast.pictures import grids
from infogan_fast.pictures.samples import (
    MOST_ROWS,
    check_count,
    draw_inputs,
    make_images,
    shown_categories,
    with_codes,
)

_ROWS = 10
_MOST_PANELS = 16
_ANIMATED_COLUMNS = 4
_FRAME_MS = 80
_LARGEST_SIDE = {".gif": 65_535, ".webp": 16_383}  # of a frame, in pixels


def _base(
    generator: nn.Module, spec: LatentSpec, columns: int, seed: int, row_labels: Sequence[str] | None
) -> tuple[Tensor, Sequence[str]]:
    """Inputs [rows * columns, latent_dim], row by row, that sweeps start from, and the rows' labels.

    A row is a category of c1, of more than 40 as many evenly spaced ones, or without one just another noise
    vector; a column another noise vector. Continuous codes are 0, further categorical ones their first
    category.
    """
    first = spec.categorical_codes[0] if spec.categorical_codes else None
    if first:
        shown = shown_categories(first)
        row_labels = _row_labels(row_labels, [f"{first.name} = {i}" for i in range(first.size)])
        row_labels = [row_labels[i] for i in shown.tolist()]
        base = draw_inputs(generator, spec, columns, seed).repeat(len(shown), 1)
        base = with_codes(base, spec, {first.name: shown.repeat_interleave(columns)})
    else:
        row_labels = _row_labels(row_labels, [f"z{i}" for i in range(_ROWS)])
        base = draw_inputs(generator, spec, _ROWS * columns, seed)
    rest = [code for code in spec.codes if code is not first]
    still = {code.name: torch.zeros(len(base), dtype=torch.int64) for code in rest}
    return with_codes(base, spec, still), row_labels


def _swept(spec: LatentSpec) -> tuple[Sequence[Code], str]:
    """The continuous codes that are shown, and what to say of what is not."""
    left_out = []
    if spec.categorical_codes and spec.categorical_codes[0].size > MOST_ROWS:
        first = spec.categorical_codes[0]
        left_out.append(f"{MOST_ROWS} of {first.size} values of {first.name}")
    codes = spec.continuous_codes
    if len(codes) > _MOST_PANELS:
        left_out.append(f"{_MOST_PANELS} of {len(codes)} codes")
    return codes[:_MOST_PANELS], f"; {', '.join(left_out)}" if left_out else ""


def _row_labels(given: Sequence[str] | None, usual: Sequence[str]) -> Sequence[str]:
    if given is not None and len(given) != len(usual):
        raise UserError(f"row_labels has {len(given)} labels for {len(usual)} rows; give one for each")
    return usual if given is None else given


def _check_reach(reach: float) -> None:
    if not isinstance(reach, numbers.Real) or not 0 < reach < math.inf:
        raise UserError(f"reach is {reach!r}; expected a number above 0")


def traversal(
    generator: nn.Module,
    spec: LatentSpec,
    *,
    reach: float = 2.0,
    columns: int = 11,
    seed: int = PICTURE_SEED,
    row_labels: Sequence[str] | None = None,
) -> Image.Image:
    """The paper's figure 2: a row each category of c1, a panel each continuous code, swept from -reach to
    reach.

    Within a panel all cells share their noise and their other codes (continuous ones 0, further categorical
    ones their first category), so that only what the labels say changes. Of more than 40 categories evenly
    spaced ones are shown, of more than 16 continuous codes the first ones; the first title says so. A
    Bernoulli code has the columns 0 and 1. Without a categorical code each row is another noise vector;
    without a continuous one each column is.

    Args:
        generator: in evaluation mode, see :func:`infogan_fast.networks.statistics.calibrated`.
        reach: the largest value of a sweep; codes are trained in [-1, 1] (uniform) or mostly in [-2, 2]
            (normal).
        columns: values a sweep.
        seed: of the noise.
        row_labels: one each category of c1; by default its value.

    Raises:
        UserError: an argument is out of range.
    """
    check_count("columns", columns)
    _check_reach(reach)
    base, row_labels = _base(generator, spec, 1, seed, row_labels)
    rows = len(base)
    codes, left_out = _swept(spec)
    panels: list[grids.Panel] = []
    for code in codes:
        values = torch.linspace(-reach, reach, columns) if code.is_ordered else torch.tensor([0.0, 1.0])
        inputs = with_codes(base.repeat_interleave(len(values), 0), spec, {code.name: values.repeat(rows)})
        # linspace leaves -3e-8 where 0 is meant
        labels = [f"{round(value, 3) or 0.0:g}" for value in values.tolist()]
        title = f"{code.name} ({code.kind})" + ("" if panels else left_out)
        panels.append(grids.Panel(title, make_images(generator, inputs), row_labels, labels))
    if not panels:
        noise = draw_inputs(generator, spec, columns, seed)[:, : spec.noise_dim]
        inputs = base.repeat_interleave(columns, 0)
        inputs[:, : spec.noise_dim] = noise.repeat(rows, 1)
        labels = [f"z{i}" for i in range(columns)]
        panels.append(grids.Panel(f"noise{left_out}", make_images(generator, inputs), row_labels, labels))
    return grids.panels_figure(panels, scale=grids.scale_for(panels[0].images.shape[-1]))


def animation(
    generator: nn.Module,
    spec: LatentSpec,
    *,
    reach: float = 2.0,
    steps: int = 10,
    seed: int = PICTURE_SEED,
    row_labels: Sequence[str] | None = None,
) -> list[Image.Image]:
    """The traversal in time: 2 * steps frames, in which the code of each panel goes from -reach to reach and
    back.

    Rows and panels are those of :func:`traversal`; the four columns are noise vectors. A Bernoulli code is 1
    where the others are at least 0.

    Args:
        steps: from one end to the other.

    Raises:
        UserError: no code is continuous, or an argument is out of range.
    """
    check_count("steps", steps)
    _check_reach(reach)
    if not spec.continuous_codes:
        raise UserError(f"latents {spec} have no continuous code to sweep; make a PNG")
    base, row_labels = _base(generator, spec, _ANIMATED_COLUMNS, seed, row_labels)
    values = torch.linspace(-reach, reach, steps + 1).tolist()
    codes, left_out = _swept(spec)
    frames = []
    for value in values + values[-2:0:-1]:
        panels: list[grids.Panel] = []
        for code in codes:
            shown = value if code.is_ordered else float(value >= 0)
            inputs = with_codes(base, spec, {code.name: torch.full((len(base),), shown)})
            labels = [f"z{i}" for i in range(_ANIMATED_COLUMNS)]
            title = f"{code.name} = {round(shown, 3) or 0.0:+.3f}" + ("" if panels else left_out)
            panels.append(grids.Panel(title, make_images(generator, inputs), row_labels, labels))
        frames.append(grids.panels_figure(panels, scale=grids.scale_for(panels[0].images.shape[-1])))
    return frames


def as_animation(frames: list[Image.Image], suffix: str, *, grey: bool) -> bytes:
    """The bytes of a file with these frames in a loop, each shown for 80 ms.

    Args:
        suffix: .gif or .webp; lossless, except that a GIF has at most 256 colours.
        grey: whether all pixels are grey.

    Raises:
        UserError: this Pillow cannot write the format, or the frames are too large for it.
    """
    if suffix == ".webp" and not features.check("webp"):
        raise UserError("this build of Pillow has no WebP; write a .gif")
    most = _LARGEST_SIDE[suffix]
    if max(frames[0].size) > most:
        raise UserError(
            f"the frames of {len(frames)} pictures are {frames[0].width} x {frames[0].height} pixels, and "
            f"{suffix} takes at most {most:,} each way; write a .png"
        )
    if grey and suffix == ".gif":
        frames = [frame.convert("L") for frame in frames]  # else Pillow takes a palette, and dithers
    options: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    file = io.BytesIO()
    frames[0].save(
        file,
        format=suffix[1:],
        save_all=True,
        append_images=frames[1:],
        duration=_FRAME_MS,
        loop=0,
        optimize=False,
        **options,
    )
    return file.getvalue()
