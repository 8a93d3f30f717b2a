"""The shapes of dSprites, drawn at any size: squares, ellipses and hearts with known factors, no download.

The factors and their values are those of dSprites (Matthey et al. 2017,
https://github.com/deepmind/dsprites-dataset): 3 shapes, 6 scales, 40 orientations, 32 positions across and
32 down, hence 737,280 combinations. Combination ``i`` has the factors of row ``i`` of dSprites, where
``y`` varies fastest. The outlines are this project's own:

* Distances are shares of the image's side. ``x`` and ``y`` of 0 to 1 place a shape's centre of mass at 33/128
  to 95/128, from left to right and from top to bottom, so that a step is one pixel of a 64 x 64 image.
* At scale 1 no part of a shape is farther than 1/4 from its centre, so that it is inside the image at every
  position and orientation. The square reaches 1/4 at its corners, the ellipse at the ends of its long axis,
  which is twice the short one, and the heart (a square on its corner with half-discs on its two upper sides)
  at its tip.
* Orientations are linspace(0, 2 pi, 40), anticlockwise as seen, from a square with upright sides, an ellipse
  that lies and a heart whose tip is down. The first and the last give the same images. No other two
  combinations do at any of 13 sizes tried, from 16 to 256 pixels.

dSprites is binary. These images are grey, because a binary shape loses its orientation at smaller sizes: a
pixel is 255 times the share of it that the shape covers, counted on a grid of about 1024 points across the
image (16 x 16 in a pixel of 64 x 64, never fewer than 4 x 4), on which shapes are also placed.
``images > 127`` makes them binary.

An image is a pure function of its combination and size: it depends neither on what else is drawn nor on
threads.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from infogan_fast.data.image_set import ImageSet, Selection, require_memory
from infogan_fast.data.labels import choose_label
from infogan_fast.data.registry import SOURCES
from infogan_fast.errors import UserError

Ints = NDArray[np.int64]

SHAPES = ("square", "ellipse", "heart")
SCALES, ORIENTATIONS, POSITIONS = 6, 40, 32
#: Numbers of values of the factors, in the order of dSprites.
SIZES = (len(SHAPES), SCALES, ORIENTATIONS, POSITIONS, POSITIONS)
COMBINATIONS = math.prod(SIZES)
_COUNT = {"train": 100_000, "test": 10_000}
_REACH = 1 / 4


def factors(combinations: Ints) -> dict[str, NDArray[np.int64] | NDArray[np.float32]]:
    """The factors of these combinations (int64 [N], 0 to 737,279), each [N]: ``shape`` int64, a number of
    SHAPES; float32 ``scale`` from 0.5 to 1, ``orientation`` from 0 to 2 pi, ``x`` and ``y`` from 0 to 1.
    """
    shape, *others = np.unravel_index(combinations, SIZES)
    ranges = {"scale": (0.5, 1.0), "orientation": (0.0, 2 * math.pi), "x": (0.0, 1.0), "y": (0.0, 1.0)}
    found: dict[str, NDArray[np.int64] | NDArray[np.float32]] = {"shape": shape.astype(np.int64)}
    for (name, (low, high)), number, size in zip(ranges.items(), others, SIZES[1:], strict=True):
        found[name] = np.linspace(low, high, size).astype(np.float32)[number]
    return found


def draw(combinations: Ints, size: int = 64, channels: int = 1) -> NDArray[np.uint8]:
    """Draw these combinations (int64 [N], any order): uint8 [N, channels, size, size], white on black.

    Raises:
        ValueError: a combination is not one of 0 to 737,279.
    """
    if len(combinations) and not 0 <= combinations.min() <= combinations.max() < COMBINATIONS:
        raise ValueError(
            f"combinations are {combinations.min()} to {combinations.max()}; expected 0 to {COMBINATIONS - 1}"
        )
    points = _points(size)
    sprite, *where = np.unravel_index(combinations, (math.prod(SIZES[:3]), *SIZES[3:]))
    # 33/128 of the side plus 1/64 for each step, in points, rounded half up.
    x, y = ((size * points * (33 + 2 * number) + 64) // 128 for number in where)
    order = np.lexsort((x % points, y % points, sprite))  # images of the same pixels are neighbours
    starts = np.searchsorted(sprite[order], np.arange(math.prod(SIZES[:3]) + 1)).tolist()
    images = np.zeros((len(combinations), channels, size, size), np.uint8)

    def task(number: int) -> None:
        rows = order[starts[number] : starts[number + 1]]
        if len(rows):
            _place(images, rows, x[rows], y[rows], _covered(number, size), points)

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        for _ in pool.map(task, range(len(starts) - 1)):
            pass
    return images


def load(name: str, selection: Selection) -> ImageSet:
    """Sprites for training or test: 100,000 or 10,000 of the 737,280 by default, 64 pixels a side and grey.

    A seed puts the combinations into random order. Training takes the first ones, and the test the last ones,
    from the end. So no combination occurs twice in a split, and the splits have none in common unless their
    counts add up to more than 737,280. With 737,280 for training, as in published work on dSprites, all test
    images are training images.

    Labels are the shapes. Of another factor, asked for by its name, they are the numbers of its values.

    Raises:
        UserError: more than 737,280 are asked for, they do not fit into memory, or no factor has the name of
            the label.
    """
    size, channels = selection.image_size or 64, selection.channels or 1
    count = selection.count or _COUNT[selection.split]
    if count > COMBINATIONS:
        raise UserError(f"{name}: has {COMBINATIONS:,} images, --images asks for {count:,}")
    label, _ = choose_label(SOURCES[name].factors, selection.label, name)
    require_memory(count * channels * size**2, f"{name}: {count:,} images of {size} x {size}")
    # Of NumPy's generators this is the one whose numbers no version changes.
    rng = np.random.RandomState([selection.seed & 0xFFFFFFFF, selection.seed >> 32 & 0xFFFFFFFF])
    order = rng.permutation(COMBINATIONS).astype(np.int64)
    chosen = (order if selection.split == "train" else order[::-1])[:count]
    known = factors(chosen)
    images = torch.from_numpy(draw(chosen, size, channels))
    kind = "" if selection.split == "train" else "test "
    return ImageSet(
        images,
        torch.from_numpy(np.unravel_index(chosen, SIZES)[list(known).index(label)].astype(np.int64)),
        {key: torch.from_numpy(known[key]) for key in SOURCES[name].factors},
        name,
        f"{name}: {count:,} {kind}images drawn from seed {selection.seed}",
        SHAPES if label == "shape" else (),
        label=label,
    )


def _points(size: int) -> int:
    """Points a side of the grid in a pixel."""
    return max(4, 1024 // size)


def _covered(number: int, size: int) -> NDArray[np.int32]:
    """A sprite (a shape, scale and orientation) as a summed-area table [2 n + 1, 2 n + 1].

    Entry [i, j] counts the points within the shape above and to the left of the place that is i - n points
    below and j - n points to the right of the shape's centre. A margin of a pixel or more is empty.
    """
    shape, scale, orientation = (int(v) for v in np.unravel_index(number, SIZES[:3]))
    points = _points(size)
    reach = _REACH * (0.5 + 0.1 * scale) * size * points
    n = (math.ceil(reach / points) + 1) * points
    angle = 2 * math.pi * (orientation % (ORIENTATIONS - 1)) / (ORIENTATIONS - 1)
    if SHAPES[shape] == "heart":
        angle += math.pi / 4  # its square has a corner down
    cosine, sine = np.float32(math.cos(angle) / reach), np.float32(math.sin(angle) / reach)
    at = np.arange(-n, n, dtype=np.float32) + np.float32(0.5)
    # Coordinates that turn and grow with the shape, the second one upwards; the rows of the image go down.
    u = cosine * at - sine * at[:, None]
    v = -sine * at - cosine * at[:, None]
    table = np.zeros((2 * n + 1, 2 * n + 1), np.int32)
    inside = _inside(SHAPES[shape], u, v)
    np.cumsum(np.cumsum(inside, 0, np.int32), 1, out=table[1:, 1:])
    return table


def _inside(shape: str, u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether points are within an upright shape whose farthest point is at distance 1 from its centre."""
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) < np.float32(math.sqrt(1 / 2))
    if shape == "ellipse":
        return u * u + 4 * v * v < 1
    # A square of side 2 r around (0, 0), and discs of radius r around (r, 0) and (0, r). The centre of mass
    # is at (g, g), and the tip, at (-r, -r), is the farthest point from it.
    ratio = (math.pi + 4 / 3) / (2 * math.pi + 8)  # g / r
    r = 1 / (math.sqrt(2) * (1 + ratio))
    u, v = u + np.float32(ratio * r), v + np.float32(ratio * r)
    r = np.float32(r)
    u_squared, v_squared = u * u, v * v
    return (
        (np.maximum(np.abs(u), np.abs(v)) < r)
        | ((u - r) ** 2 + v_squared < r * r)
        | (u_squared + (v - r) ** 2 < r * r)
    )


def _place(
    images: NDArray[np.uint8], rows: Ints, x: Ints, y: Ints, table: NDArray[np.int32], points: int
) -> None:
    """Draw one sprite, given as by :func:`_covered`, into images [N, C, S, S], its centre at these points.

    Images that need the same pixels, at other places, should follow each other.
    """
    size = images.shape[-1]
    n = (len(table) - 1) // (2 * points) - 1  # pixels beyond that of the centre, on each side
    side = 2 * n + 1
    before: tuple[int, int] | None = None
    for row, across, down in zip(rows.tolist(), x.tolist(), y.tolist(), strict=True):
        place = down % points, across % points
        if place != before:
            first_row, first_column = (points - within for within in place)
            corners = table[first_row::points, first_column::points][: side + 1, : side + 1]
            count = np.diff(np.diff(corners, axis=0), axis=1)
            pixels = ((count * 255 + points * points // 2) // (points * points)).astype(np.uint8)
            before = place
        top, left = down // points - n, across // points - n
        # What is outside the image is empty.
        seen = pixels[max(0, -top) : size - top, max(0, -left) : size - left]
        images[row, :, max(0, top) : top + side, max(0, left) : left + side] = seen
