"""Handwriting-like digits drawn from splines: ten classes with known rotation and stroke width, no download.

Image ``i`` of seed ``s`` is a pure function of ``(s, i)``. Every random number is a hash of (seed, index,
slot) and the arithmetic uses only correctly rounded operations (add, multiply, minimum, square root), so
an image does not depend on how many others are drawn with it, in which order, on how many threads or on
which machine.
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from infogan_fast.data.image_set import ImageSet, Selection, require_memory
from infogan_fast.data.registry import SOURCES

Floats = NDArray[np.float32]

ROTATION_LIMIT = 0.4363323  # 25 degrees: a 6 and a 9, or a 1 and a 7, stay apart
WIDTH_RANGE = (1.2, 3.6)  # full stroke width in pixels of a 28 x 28 image
HEIGHT_RANGE = (16.5, 20.0)  # height of the upright glyph in pixels of a 28 x 28 image
_COUNT = {"train": 60_000, "test": 10_000}
TEST_INDEX = 1 << 40  # the test split starts here: no training set is that large

# By digit, then by style: the smooth curves of a glyph, each through knots "x y, x y, ..." in hundredths of
# the glyph's height, x to the right and y down. Curves that share a knot stay joined there, in a corner, when
# the knots are perturbed. Half of all images are in the first style of their digit, a quarter in each other.
_GLYPHS: tuple[tuple[tuple[str, ...], ...], ...] = (
    (  # 0: an egg begun at the top; a narrow one that leans; a round one whose end runs past its beginning
        ("36 2, 15 10, 3 42, 9 80, 30 100, 52 84, 60 48, 52 12, 36 2",),
        ("40 0, 20 16, 9 52, 14 88, 29 100, 45 84, 54 46, 50 10, 36 1",),
        ("46 8, 24 3, 4 28, 2 66, 22 97, 46 92, 64 62, 60 24, 42 3, 27 10",),
    ),
    (  # 1: one stroke; with a flag; with a flag and a foot
        ("31 0, 30 33, 29 66, 28 100",),
        ("13 24, 24 14, 34 0", "34 0, 33 33, 32 66, 32 100"),
        ("14 22, 25 12, 33 0", "33 0, 32 33, 32 66, 32 100", "10 100, 32 100, 54 99"),
    ),
    (  # 2: a straight base; a loop at the foot; a long wavy base
        ("5 24, 14 6, 34 0, 53 12, 52 36, 30 70, 3 98", "3 98, 32 96, 62 97"),
        ("6 22, 18 3, 42 2, 54 20, 45 48, 24 80, 8 97, 2 88, 12 79, 28 88, 44 98, 64 92",),
        ("8 16, 24 1, 46 6, 53 26, 40 54, 20 78, 2 94", "2 94, 18 88, 36 95, 52 100, 66 92"),
    ),
    (  # 3: two bows; a flat top; two bows that meet in a small loop
        ("6 14, 20 1, 42 2, 52 20, 42 39, 22 46", "22 46, 44 50, 58 70, 48 93, 26 100, 3 89"),
        ("7 3, 30 3, 54 2", "54 2, 40 20, 25 38", "25 38, 46 45, 57 67, 47 92, 24 100, 2 89"),
        ("8 12, 24 0, 45 7, 48 27, 34 43, 20 47, 22 54, 32 49, 50 57, 57 77, 42 97, 18 98, 3 86",),
    ),
    (  # 4: open with a corner; closed; open with a bow and a short stem
        ("14 4, 10 28, 3 56", "3 56, 32 55, 64 53", "47 8, 45 40, 43 70, 41 100"),
        ("44 0, 24 32, 2 66", "2 66, 32 66, 64 65", "44 0, 44 34, 43 67, 42 100"),
        ("9 2, 5 24, 7 46, 20 53, 38 51, 56 45", "54 0, 52 34, 50 68, 48 100"),
    ),
    (  # 5: with a corner and a separate roof; one stroke; a deep bowl under a slanted roof
        ("13 3, 11 22, 8 44", "8 44, 30 37, 52 50, 56 74, 40 96, 18 100, 1 90", "13 3, 34 3, 56 2"),
        ("56 2, 36 1, 18 6, 11 24, 16 40, 36 46, 54 60, 52 84, 32 99, 4 93",),
        (
            "60 0, 40 4, 18 6",
            "18 6, 15 22, 10 38",
            "10 38, 34 39, 53 55, 55 78, 38 97, 14 97, 0 82",
        ),
    ),
    (  # 6: a curved back; a nearly straight back; a tall back over a small bowl
        ("48 1, 24 18, 8 50, 7 80, 24 100, 46 94, 55 74, 42 57, 22 60, 9 76",),
        ("32 0, 17 32, 7 66, 14 94, 36 99, 53 82, 46 61, 27 56, 10 70",),
        ("44 0, 18 27, 4 62, 10 92, 30 100, 46 89, 43 71, 26 67, 10 82",),
    ),
    (  # 7: plain; with a bar; with a serif and a bowed leg
        ("2 5, 30 4, 58 3", "58 3, 45 32, 34 65, 26 100"),
        ("3 5, 30 4, 58 2", "58 2, 44 32, 33 65, 25 100", "15 54, 34 52, 54 50"),
        ("3 20, 4 10, 5 2", "5 2, 24 7, 44 6, 60 0", "60 0, 50 24, 36 56, 33 100"),
    ),
    (  # 8: one S and back; two rings; one stroke begun in the crossing
        ("49 13, 32 0, 13 10, 14 30, 34 48, 53 68, 50 91, 28 100, 8 88, 10 66, 32 46, 48 28, 49 11",),
        (
            "31 46, 14 38, 11 16, 30 0, 49 14, 47 38, 31 46",
            "31 46, 10 58, 5 82, 30 100, 55 83, 52 58, 31 46",
        ),
        ("30 47, 48 32, 50 12, 34 0, 15 8, 13 28, 30 47, 48 62, 52 84, 34 100, 12 93, 9 72, 30 47",),
    ),
    (  # 9: a straight stem; a curved tail; a leaning stem with a small head
        ("52 10, 34 0, 11 10, 7 32, 24 46, 43 36, 52 10", "52 10, 52 40, 50 70, 48 100"),
        ("53 18, 38 1, 15 6, 5 27, 18 45, 39 41, 53 18, 55 46, 48 78, 30 98, 9 94",),
        ("51 14, 37 1, 18 8, 13 27, 27 39, 44 32, 51 14", "51 14, 48 42, 40 72, 29 100"),
    ),
)

# What each hash of an image decides. Two slots a knot follow _KNOTS.
_DIGIT, _STYLE, _ROTATION, _WIDTH, _HEIGHT, _ASPECT, _SHEAR, _SHIFT_X, _SHIFT_Y, _BEND = range(10)
_KNOTS = 16

# A stroke's edge is a ramp this wide, in pixels: a box as wide as a pixel, slightly softened by the paper.
_RAMP = 1.3
_TASK = 384  # images drawn together: many hide the interpreter's cost, few stay in a core's cache


@dataclass(frozen=True)
class Drawing:
    """Images uint8 [N, size, size] and what they were drawn from, each [N].

    ``rotation`` is in radians, positive anticlockwise as seen; ``width`` is the full stroke width in pixels.
    """

    images: NDArray[np.uint8]
    digit: NDArray[np.int64]
    rotation: Floats
    width: Floats


def draw(seed: int, indices: NDArray[np.int64], size: int = 28) -> Drawing:
    """Draw the images of these indices (int64 [N], any order) of a seed (modulo 2^64), size x size pixels."""
    keys = _image_keys(seed, indices)
    digit = _below(len(_GLYPHS), keys, _DIGIT)
    rotation = (_uniform(keys, _ROTATION) * np.float32(2) - np.float32(1)) * np.float32(ROTATION_LIMIT)
    low, high = (np.float32(w * size / 28) for w in WIDTH_RANGE)
    width = low + _uniform(keys, _WIDTH) * (high - low)
    return Drawing(render(seed, indices, digit, rotation, width, size), digit, rotation, width)


def render(
    seed: int,
    indices: NDArray[np.int64],
    digit: NDArray[np.int64],
    rotation: Floats,
    width: Floats,
    size: int = 28,
) -> NDArray[np.uint8]:
    """Images uint8 [N, size, size] with chosen factors: those that :func:`draw` gives for these indices
    if it draws this digit, rotation (radians, within ROTATION_LIMIT) and width (pixels), each [N].

    Raises:
        ValueError: a digit is not one of 0 to 9.
    """
    if len(digit) and not 0 <= digit.min() <= digit.max() < len(_GLYPHS):
        raise ValueError(f"digit is {digit.min()} to {digit.max()}; expected 0 to {len(_GLYPHS) - 1}")
    keys = _image_keys(seed, indices)
    styles = len(_GLYPHS[0])
    images = np.empty((len(keys), size, size), np.uint8)
    glyph = digit * styles + np.maximum(_below(styles + 1, keys, _STYLE) - 1, 0)
    order = np.lexsort((rotation, glyph))  # neighbours are alike, which keeps _coverage's windows small
    bounds = np.searchsorted(glyph[order], np.arange(len(_GLYPHS) * styles + 1))
    step = max(1, _TASK * 28 * 28 // (size * size))
    tasks = [
        (g, order[start : min(start + step, bounds[g + 1])])
        for g in range(len(bounds) - 1)
        for start in range(bounds[g], bounds[g + 1], step)
    ]

    def render(task: tuple[int, NDArray[np.int64]]) -> None:
        g, rows = task
        basis, knots = _basis(g // styles, g % styles, size)
        x, y = _points(keys[rows], rotation[rows], width[rows], basis, knots, size)
        images[rows] = _coverage(x, y, width[rows], size)

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        for _ in pool.map(render, tasks):
            pass
    return images


def load(name: str, selection: Selection) -> ImageSet:
    """Drawings for training or test: 60,000 or 10,000 of them, 28 pixels a side and grey, by default."""
    size, channels = selection.image_size or 28, selection.channels or 1
    count = selection.count or _COUNT[selection.split]
    require_memory(count * channels * size**2, f"{name}: {count:,} images of {size} x {size}")
    first = TEST_INDEX if selection.split == "test" else 0
    drawing = draw(selection.seed, np.arange(first, first + count), size)
    factors = {key: torch.from_numpy(getattr(drawing, key)) for key in SOURCES[name].factors}
    images = torch.from_numpy(drawing.images)[:, None].expand(-1, channels, -1, -1)
    images = images.contiguous(memory_format=torch.channels_last)
    kind = "" if selection.split == "train" else "test "
    source = f"{name}: {count:,} {kind}images drawn from seed {selection.seed}"
    return ImageSet(images, factors["digit"], factors, name, source)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), a bijection of 64-bit words."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def _image_keys(seed: int, indices: NDArray[np.int64]) -> NDArray[np.uint64]:
    """One 64-bit key an image: the start of its own SplitMix64 stream."""
    seed_key = _mix(np.array([(seed + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF], np.uint64))
    return _mix(indices.astype(np.uint64) ^ seed_key)


def _hash(keys: NDArray[np.uint64], slot: int) -> NDArray[np.uint64]:
    return _mix(keys + np.uint64((slot + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF))


def _below(n: int, keys: NDArray[np.uint64], slot: int) -> NDArray[np.int64]:
    """A whole number, 0 to n - 1."""
    high: NDArray[np.uint64] = _hash(keys, slot) >> np.uint64(32)
    number: NDArray[np.int64] = (high * np.uint64(n) >> np.uint64(32)).astype(np.int64)
    return number


def _uniform(keys: NDArray[np.uint64], slot: int) -> Floats:
    """Uniform in (0, 1), 24 bits."""
    bits: Floats = (_hash(keys, slot) >> np.uint64(40)).astype(np.float32)
    bits += np.float32(0.5)
    bits *= np.float32(2.0**-24)
    return bits


def _bell(keys: NDArray[np.uint64], slot: int, deviation: float) -> Floats:
    """A sum of four uniforms: nearly normal, mean 0, never beyond 3.5 standard deviations."""
    h = _hash(keys, slot)
    mask = np.uint64(0xFFFF)
    total: Floats = sum(((h >> np.uint64(s)) & mask for s in (16, 32, 48)), h & mask).astype(np.float32)
    # Each of the four is uniform on 0..65535, so the sum has mean 131070 and variance 4 * (65536^2 - 1) / 12.
    total -= np.float32(131070)
    total *= np.float32(deviation / 37837.2275)
    return total


@functools.cache
def _basis(digit: int, style: int, size: int) -> tuple[Floats, Floats]:
    """A glyph as (basis [P, K], knots [K, 2]): P points, evenly spaced on its curves, are basis @ knots."""
    curves = [
        [tuple(int(v) / 100 for v in knot.split()) for knot in curve.split(",")]
        for curve in _GLYPHS[digit][style]
    ]
    names = list(dict.fromkeys(knot for curve in curves for knot in curve))
    knots = np.array(names)
    parts = []
    for curve in curves:
        index = [names.index(knot) for knot in curve]
        fine = np.linspace(0, len(index) - 1, 64 * (len(index) - 1) + 1)
        x, y = ((_spline(knots[index], fine) * knots[index, axis]).sum(1) for axis in (0, 1))
        length = np.concatenate([[0], np.cumsum(np.sqrt((x[1:] - x[:-1]) ** 2 + (y[1:] - y[:-1]) ** 2))])
        # Half a pixel between points keeps distances to the curve within 0.03 of a pixel at a stroke's edge.
        count = int(np.ceil(length[-1] * HEIGHT_RANGE[1] * size / 28 / 0.5)) + 1
        even = _spline(knots[index], np.interp(np.linspace(0, length[-1], count), length, fine))
        weights = np.zeros((count, len(names)))
        for column, knot in enumerate(index):  # a closed curve names its first knot twice
            weights[:, knot] += even[:, column]
        parts.append(weights)
    return np.concatenate(parts).astype(np.float32), knots.astype(np.float32)


def _spline(knots: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights [T, K] of the knots [K, 2] in a curve at t (knot k is at t = k).

    A cubic Hermite spline whose parameter is the chord length. Its tangent at a knot is that of the parabola
    through the knot and its neighbours; at an end, of a parabola that meets the next tangent.
    """
    k = len(knots)
    chord = np.sqrt(((knots[1:] - knots[:-1]) ** 2).sum(1))[:, None]
    unit = np.eye(k)
    slope = (unit[1:] - unit[:-1]) / chord  # of the chords, as weights of the knots
    tangent = np.empty((k, k))
    tangent[1:-1] = (chord[1:] * slope[:-1] + chord[:-1] * slope[1:]) / (chord[1:] + chord[:-1])
    tangent[0] = 2 * slope[0] - tangent[1]
    tangent[-1] = 2 * slope[-1] - tangent[-2]
    left = np.minimum(t.astype(np.int64), k - 2)
    u = (t - left)[:, None]
    values: NDArray[np.float64] = (1 + 2 * u) * (1 - u) ** 2 * unit[left] + u * u * (3 - 2 * u) * unit[
        left + 1
    ]
    bends = u * (1 - u) ** 2 * tangent[left] + u * u * (u - 1) * tangent[left + 1]
    values += chord[left] * bends
    return values


def _points(
    keys: NDArray[np.uint64], rotation: Floats, width: Floats, basis: Floats, knots: Floats, size: int
) -> tuple[Floats, Floats]:
    """Pixel coordinates of a glyph's points, each [P, N], for images with these keys."""
    x = np.zeros((len(basis), len(keys)), np.float32)
    y = np.zeros_like(x)
    for k, (knot_x, knot_y) in enumerate(knots):
        weight = basis[:, k, None]
        x += weight * (knot_x - np.float32(0.3) + _bell(keys, _KNOTS + 2 * k, 0.016))
        y += weight * (knot_y - np.float32(0.5) + _bell(keys, _KNOTS + 2 * k + 1, 0.016))

    # A slow bend of the plane: what a hand does to a whole glyph, where the knots' jitter moves its parts.
    bend = [_bell(keys, _BEND + i, 0.10) for i in range(4)]
    half = np.float32(1 / 12)
    x, y = x + bend[0] * (y * y - half) + bend[1] * x * y, y + bend[2] * x * x + bend[3] * x * y

    low, high = (np.float32(h * size / 28) for h in HEIGHT_RANGE)
    height = low + _uniform(keys, _HEIGHT) * (high - low)
    x = (x * (np.float32(1) + _bell(keys, _ASPECT, 0.10)) + y * _bell(keys, _SHEAR, 0.06)) * height
    y = y * height

    # Taylor series, exact to float32 within the limit: library sines differ in the last bit between machines.
    r2 = rotation * rotation
    one = np.float32(1)
    sine = rotation * (
        one - r2 * np.float32(1 / 6) * (one - r2 * np.float32(1 / 20) * (one - r2 * np.float32(1 / 42)))
    )
    cosine = one - r2 * np.float32(1 / 2) * (one - r2 * np.float32(1 / 12) * (one - r2 * np.float32(1 / 30)))
    x, y = x * cosine + y * sine, y * cosine - x * sine

    x = _centred(x, width, size, _bell(keys, _SHIFT_X, 0.7))
    y = _centred(y, width, size, _bell(keys, _SHIFT_Y, 0.7))
    return x, y


def _centred(v: Floats, width: Floats, size: int, shift: Floats) -> Floats:
    """Move, in place, the middle of each glyph's ink to the image's, plus a shift, where there is room.

    The ink's middle turns with the glyph, so that rotation does not move it as it would a bounding box.
    """
    half = np.float32(0.5)
    middle = np.add.accumulate(v, axis=0)[-1] / np.float32(
        len(v)
    )  # a sum's order depends on the shape, this not
    margin = width * half + np.float32(1.15)  # leaves the outermost pixels black
    lowest, highest = margin - v.min(0), np.float32(size - 1) - margin - v.max(0)
    between = (lowest + highest) * half
    wanted = np.float32((size - 1) / 2) - middle + shift * np.float32(size / 28)
    v += np.minimum(np.maximum(wanted, np.minimum(lowest, between)), np.maximum(highest, between))
    return v


def _coverage(x: Floats, y: Floats, width: Floats, size: int) -> NDArray[np.uint8]:
    """Grey values uint8 [N, size, size]: how much of a pixel the stroke covers, by its centre's distance."""
    pixel = np.arange(size, dtype=np.float32)[None, :, None]
    dx = pixel - x[:, None, :]
    dx *= dx
    dy = pixel - y[:, None, :]
    dy *= dy
    nearest = np.full((size, size, x.shape[1]), np.inf, np.float32)  # images last: long contiguous rows
    squared = np.empty_like(nearest)
    # Of each point only the pixels that it can colour in one of these images.
    reach = width * np.float32(0.5) + np.float32(_RAMP / 2)
    windows = [
        (
            np.clip(np.ceil((v - reach).min(1)), 0, size).astype(int),
            np.clip((v + reach).max(1) + 1, 0, size).astype(int),
        )
        for v in (x, y)
    ]
    for i, (left, right, top, bottom) in enumerate(zip(*windows[0], *windows[1], strict=True)):
        near = nearest[top:bottom, left:right]
        here = squared[: bottom - top, : right - left]
        np.add(dx[i, None, left:right], dy[i, top:bottom, None], out=here)
        np.minimum(near, here, out=near)
    np.sqrt(nearest, out=nearest)
    t = np.clip((width * np.float32(0.5) - nearest) * np.float32(1 / _RAMP) + np.float32(0.5), 0, 1)
    t = t * t * (np.float32(3) - np.float32(2) * t)
    return np.ascontiguousarray((t * np.float32(255) + np.float32(0.5)).astype(np.uint8).transpose(2, 0, 1))
