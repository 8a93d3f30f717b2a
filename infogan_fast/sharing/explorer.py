"""Images of a run for every position of its controls, made ahead and packed into sheets that a page holds.

A cell is one position of all controls; it has an image for each of a few noise vectors. Controls are crossed,
so that every combination has a cell, or single: those have cells only while the other single ones rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from infogan_fast.analysis.run import Run
from infogan_fast.constants import PICTURE_SEED
from infogan_fast.latents import Code, LatentSpec
from infogan_fast.pictures.samples import to_pixels
from infogan_fast.sharing.page import data_uri, encoded

#: Most bytes of all sheets together, as the page holds them.
LIMIT = 8_000_000
#: Most positions of the controls together, for the time that they take.
MOST_CELLS = 3_000
#: Sliders run from -REACH to REACH, as traversals do.
REACH = 2.0
_SHEET_SIDE = 1024
#: Positions of a slider and noise vectors, best first. All positions include 0 and are short decimals.
_CROSSED_SIZES = ((21, 8), (17, 8), (17, 6), (11, 8), (11, 6), (11, 4), (9, 6), (9, 4), (9, 2))
_SINGLE_SIZES = ((21, 8), (17, 8), (11, 8), (11, 6), (9, 4), (5, 4), (5, 2), (5, 1))
#: Codes with a control, and categories of each, where all of them do not fit; best first.
_CUTS = ((1024, 65_536), (16, 40), (8, 20), (4, 10), (2, 5), (1, 2))


@dataclass(frozen=True)
class Axis:
    """A control: a code, its values in their order, the position at rest, and whether it is crossed."""

    code: Code
    values: tuple[float, ...]
    base: int
    crossed: bool


@dataclass(frozen=True)
class Plan:
    """The controls of an explorer and the number of its noise vectors."""

    axes: tuple[Axis, ...]
    noise: int

    @property
    def cells(self) -> int:
        """How many positions there are."""
        crossed = math.prod(len(axis.values) for axis in self.axes if axis.crossed)
        return crossed * (1 + sum(len(axis.values) - 1 for axis in self.axes if not axis.crossed))

    def positions(self) -> Iterator[tuple[int, ...]]:
        """The position of each control, cell by cell: crossed ones like digits of a number, the last one
        fastest, and within each the rest position and then every other one of each single control."""
        crossed = [i for i, axis in enumerate(self.axes) if axis.crossed]
        rest = [axis.base for axis in self.axes]
        for number in range(math.prod(len(self.axes[i].values) for i in crossed)):
            here = list(rest)
            for i in reversed(crossed):
                number, here[i] = divmod(number, len(self.axes[i].values))
            yield tuple(here)
            for i, axis in enumerate(self.axes):
                if not axis.crossed:
                    others = (k for k in range(len(axis.values)) if k != axis.base)
                    yield from ((*here[:i], k, *here[i + 1 :]) for k in others)


@dataclass(frozen=True)
class Explorer:
    """The sheets of a plan.

    data: what the page's script reads.
    notes: sentences on what the controls leave out.
    size: of the sheets, in bytes of the page.
    """

    plan: Plan
    data: dict[str, Any]
    notes: list[str]
    size: int


def _values(code: Code, steps: int, categories: int) -> tuple[float, ...]:
    if code.is_categorical:
        count = min(code.size, categories)
        return tuple(i * code.size // count for i in range(count))
    if not code.is_ordered:
        return (0.0, 1.0)
    return tuple(round(2 * REACH * i / (steps - 1) - REACH, 6) for i in range(steps))


def _plans(spec: LatentSpec) -> Iterator[Plan]:
    """Ways to explore these codes, best first."""
    first = spec.codes[0].name
    for most_codes, categories in _CUTS:
        codes = spec.codes[:most_codes]
        ordered = {code.name for code in codes if code.is_ordered}
        names = {code.name for code in codes}
        for sizes, single in (
            (_CROSSED_SIZES, set[str]()),
            (_SINGLE_SIZES, ordered),
            (_SINGLE_SIZES, names - {first}),
            (_SINGLE_SIZES, names),
        ):
            for steps, noise in sizes:
                axes = []
                for code in codes:
                    values = _values(code, steps, categories)
                    base = steps // 2 if code.is_ordered else 0
                    axes.append(Axis(code, values, base, code.name not in single))
                yield Plan(tuple(axes), noise if spec.noise_dim else 1)


def _pack(images: Tensor, columns: int) -> Image.Image:
    """Images uint8 [N, C, S, S] side by side in rows, without gaps; the last row may end in black."""
    n, channels, side, _ = images.shape
    rows = -(-n // columns)
    padded = torch.zeros(rows * columns, channels, side, side, dtype=torch.uint8)
    padded[:n] = images
    grid = padded.view(rows, columns, channels, side, side).permute(0, 3, 1, 4, 2)
    pixels = grid.reshape(rows * side, columns * side, channels).numpy()
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def _sheet(images: Tensor, columns: int) -> str:
    return data_uri(*encoded(_pack(images, columns)))


def _render(run: Run, plan: Plan, at_rest: dict[str, float], room: int) -> tuple[list[str], int, int] | float:
    """The sheets, the cells in a row and the rows in a sheet; or, if they take more bytes than there is room,
    by which factor about."""
    side = run.image_size
    in_row = max(1, _SHEET_SIDE // (plan.noise * side))
    rows = max(1, _SHEET_SIDE // side)
    sheets: list[str] = []
    waiting: list[Tensor] = []
    total = 0
    for done, here in enumerate(plan.positions(), 1):
        codes = at_rest | {axis.code.name: axis.values[k] for axis, k in zip(plan.axes, here, strict=True)}
        # A batch a cell, so that the bits are those of run.generate whatever the batch does to rounding.
        waiting.append(to_pixels(run.generate(plan.noise, seed=PICTURE_SEED, **codes)))
        if len(waiting) == in_row * rows or done == plan.cells:
            sheets.append(_sheet(torch.cat(waiting), in_row * plan.noise))
            waiting = []
            total += len(sheets[-1])
            if total > room:
                return max(1.1, total / room * plan.cells / done)
    return sheets, in_row, rows


def make_explorer(
    run: Run, *, names: Sequence[str | None] | None = None, limit: int = LIMIT
) -> Explorer | None:
    """The best explorer of a run whose sheets fit a limit.

    Args:
        names: the label of each category of c1, or None where it has none.
        limit: bytes of the sheets as the page holds them.

    Returns:
        None if not even a single cell or two fit.
    """
    spec = run.spec
    at_rest = {code.name: 0 if code.is_categorical else 0.0 for code in spec.codes}
    probe = to_pixels(run.generate(16, seed=PICTURE_SEED))
    per_image = len(_sheet(probe, 4)) / len(probe)
    for plan in _plans(spec):
        # The estimate only decides what is tried; the sheets themselves are measured.
        if plan.cells > MOST_CELLS or plan.cells * plan.noise * per_image > limit:
            continue
        found = _render(run, plan, at_rest, limit)
        if isinstance(found, float):
            per_image *= found
            continue
        sheets, in_row, rows = found
        return Explorer(
            plan,
            _data(run, plan, at_rest, names, sheets, in_row, rows),
            _notes(spec, plan),
            sum(map(len, sheets)),
        )
    return None


def _data(
    run: Run,
    plan: Plan,
    at_rest: dict[str, float],
    names: Sequence[str | None] | None,
    sheets: list[str],
    in_row: int,
    rows: int,
) -> dict[str, Any]:
    axes = []
    for axis in plan.axes:
        texts = [f"{value:g}" for value in axis.values]
        shown = list(texts)
        if axis.code.is_categorical and axis.code.index == 0 and names is not None:
            for i, value in enumerate(axis.values):
                if (name := names[int(value)]) is not None:
                    shown[i] = f"{texts[i]}, matched to {name}"
        axes.append(
            {
                "name": axis.code.name,
                "kind": axis.code.kind,
                "texts": texts,
                "shown": shown,
                "base": axis.base,
                "crossed": axis.crossed,
            }
        )
    controlled = {axis.code.name for axis in plan.axes}
    return {
        "axes": axes,
        "sheets": sheets,
        "side": run.image_size,
        "noise": plan.noise,
        "inRow": in_row,
        "rows": rows,
        "fixed": {name: f"{value:g}" for name, value in at_rest.items() if name not in controlled},
        "seed": PICTURE_SEED,
    }


def _notes(spec: LatentSpec, plan: Plan) -> list[str]:
    notes = []
    sliders = [axis for axis in plan.axes if axis.code.is_ordered]
    if sliders:
        trained = (
            " Training drew uniform codes from −1 to 1."
            if any(a.code.kind == "uniform" for a in sliders)
            else ""
        )
        notes.append(f"Each slider has {len(sliders[0].values)} positions from −2 to 2.{trained}")
    single = [axis.code.name for axis in plan.axes if not axis.crossed]
    if len(single) > 1:
        listed = single if len(single) <= 8 else [*single[:2], "…", single[-1]]
        notes.append(
            f"Of {', '.join(listed)} only one is away from its start at a time, since all combinations would "
            "make the page too large: moving one returns the others."
        )
    for axis in plan.axes:
        if axis.code.is_categorical and len(axis.values) < axis.code.size:
            notes.append(
                f"{axis.code.name} shows {len(axis.values)} of its {axis.code.size} categories, evenly "
                "spaced."
            )
    if (left := spec.n_codes - len(plan.axes)) > 0:
        notes.append(f"The last {left} of {spec.n_codes} codes have no control here and stay at 0.")
    return notes
