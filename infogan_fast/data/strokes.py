"""Handwriting-like digits drawn from splines: ten classes with known rotation and stroke width, no download.

Image ``i`` of seed ``s`` is a pure function of ``(s, i)``. Every random number is a hash of (seed, index, slot), and
the arithmetic uses only correctly rounded operations (add, multiply, minimum, square root), so an image does not
depend on how many others are drawn with it, in which order, on how many threads or on which machine.
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

ROTATION_LIMIT = 0.4363323  # 25 degrees: a 6 and a 9, or a 1 and a 7, stay apart
WIDTH_RANGE = (1.2, 3.6)  # full stroke width in pixels of a 28 x 28 image
HEIGHT_RANGE = (16.5, 20.0)  # height of the upright glyph in pixels of a 28 x 28 image
TEST_INDEX = 1 << 40  # the test split starts here: no training set is that large

_Point = tuple[float, float]
_Curve = tuple[_Point, ...]

# Each glyph is a tuple of smooth curves through knots, x to the right and y down in a box of about 0.6 x 1. Curves that
# share a knot stay joined there, in a corner, when the knots are perturbed.
_GLYPHS: tuple[tuple[tuple[_Curve, ...], ...], ...] = (
    (  # 0: an egg begun at the top; a narrow one that leans; a round one whose end runs past its beginning
        (
            (
                (0.36, 0.02), (0.15, 0.10), (0.03, 0.42), (0.09, 0.80), (0.30, 1.00),
                (0.52, 0.84), (0.60, 0.48), (0.52, 0.12), (0.36, 0.02),
            ),
        ),
        (
            (
                (0.40, 0.00), (0.20, 0.16), (0.09, 0.52), (0.14, 0.88), (0.29, 1.00),
                (0.45, 0.84), (0.54, 0.46), (0.50, 0.10), (0.36, 0.01),
            ),
        ),
        (
            (
                (0.46, 0.08), (0.24, 0.03), (0.04, 0.28), (0.02, 0.66), (0.22, 0.97), (0.46, 0.92),
                (0.64, 0.62), (0.60, 0.24), (0.42, 0.03), (0.27, 0.10),
            ),
        ),
    ),
    (  # 1: one stroke; with a flag; with a flag and a foot
        (((0.31, 0.00), (0.30, 0.33), (0.29, 0.66), (0.28, 1.00)),),
        (((0.13, 0.24), (0.24, 0.14), (0.34, 0.00)), ((0.34, 0.00), (0.33, 0.33), (0.32, 0.66), (0.32, 1.00))),
        (
            ((0.14, 0.22), (0.25, 0.12), (0.33, 0.00)),
            ((0.33, 0.00), (0.32, 0.33), (0.32, 0.66), (0.32, 1.00)),
            ((0.10, 1.00), (0.32, 1.00), (0.54, 0.99)),
        ),
    ),
    (  # 2: a straight base; a loop at the foot; a long wavy base
        (
            ((0.05, 0.24), (0.14, 0.06), (0.34, 0.00), (0.53, 0.12), (0.52, 0.36), (0.30, 0.70), (0.03, 0.98)),
            ((0.03, 0.98), (0.32, 0.96), (0.62, 0.97)),
        ),
        (
            (
                (0.06, 0.22), (0.18, 0.03), (0.42, 0.02), (0.54, 0.20), (0.45, 0.48), (0.24, 0.80), (0.08, 0.97),
                (0.02, 0.88), (0.12, 0.79), (0.28, 0.88), (0.44, 0.98), (0.64, 0.92),
            ),
        ),
        (
            ((0.08, 0.16), (0.24, 0.01), (0.46, 0.06), (0.53, 0.26), (0.40, 0.54), (0.20, 0.78), (0.02, 0.94)),
            ((0.02, 0.94), (0.18, 0.88), (0.36, 0.95), (0.52, 1.00), (0.66, 0.92)),
        ),
    ),
    (  # 3: two bows; a flat top; two bows that meet in a small loop
        (
            ((0.06, 0.14), (0.20, 0.01), (0.42, 0.02), (0.52, 0.20), (0.42, 0.39), (0.22, 0.46)),
            ((0.22, 0.46), (0.44, 0.50), (0.58, 0.70), (0.48, 0.93), (0.26, 1.00), (0.03, 0.89)),
        ),
        (
            ((0.07, 0.03), (0.30, 0.03), (0.54, 0.02)),
            ((0.54, 0.02), (0.40, 0.20), (0.25, 0.38)),
            ((0.25, 0.38), (0.46, 0.45), (0.57, 0.67), (0.47, 0.92), (0.24, 1.00), (0.02, 0.89)),
        ),
        (
            (
                (0.08, 0.12), (0.24, 0.00), (0.45, 0.07), (0.48, 0.27), (0.34, 0.43), (0.20, 0.47), (0.22, 0.54),
                (0.32, 0.49), (0.50, 0.57), (0.57, 0.77), (0.42, 0.97), (0.18, 0.98), (0.03, 0.86),
            ),
        ),
    ),
    (  # 4: open with a corner; closed; open with a bow and a short stem
        (
            ((0.14, 0.04), (0.10, 0.28), (0.03, 0.56)),
            ((0.03, 0.56), (0.32, 0.55), (0.64, 0.53)),
            ((0.47, 0.08), (0.45, 0.40), (0.43, 0.70), (0.41, 1.00)),
        ),
        (
            ((0.44, 0.00), (0.24, 0.32), (0.02, 0.66)),
            ((0.02, 0.66), (0.32, 0.66), (0.64, 0.65)),
            ((0.44, 0.00), (0.44, 0.34), (0.43, 0.67), (0.42, 1.00)),
        ),
        (
            ((0.09, 0.02), (0.05, 0.24), (0.07, 0.46), (0.20, 0.53), (0.38, 0.51), (0.56, 0.45)),
            ((0.54, 0.00), (0.52, 0.34), (0.50, 0.68), (0.48, 1.00)),
        ),
    ),
    (  # 5: with a corner and a separate roof; one stroke; a deep bowl under a slanted roof
        (
            ((0.13, 0.03), (0.11, 0.22), (0.08, 0.44)),
            ((0.08, 0.44), (0.30, 0.37), (0.52, 0.50), (0.56, 0.74), (0.40, 0.96), (0.18, 1.00), (0.01, 0.90)),
            ((0.13, 0.03), (0.34, 0.03), (0.56, 0.02)),
        ),
        (
            (
                (0.56, 0.02), (0.36, 0.01), (0.18, 0.06), (0.11, 0.24), (0.16, 0.40), (0.36, 0.46),
                (0.54, 0.60), (0.52, 0.84), (0.32, 0.99), (0.04, 0.93),
            ),
        ),
        (
            ((0.60, 0.00), (0.40, 0.04), (0.18, 0.06)),
            ((0.18, 0.06), (0.15, 0.22), (0.10, 0.38)),
            ((0.10, 0.38), (0.34, 0.39), (0.53, 0.55), (0.55, 0.78), (0.38, 0.97), (0.14, 0.97), (0.00, 0.82)),
        ),
    ),
    (  # 6: a curved back; a nearly straight back; a tall back over a small bowl
        (
            (
                (0.48, 0.01), (0.24, 0.18), (0.08, 0.50), (0.07, 0.80), (0.24, 1.00), (0.46, 0.94), (0.55, 0.74),
                (0.42, 0.57), (0.22, 0.60), (0.09, 0.76),
            ),
        ),
        (
            (
                (0.32, 0.00), (0.17, 0.32), (0.07, 0.66), (0.14, 0.94), (0.36, 0.99), (0.53, 0.82), (0.46, 0.61),
                (0.27, 0.56), (0.10, 0.70),
            ),
        ),
        (
            (
                (0.44, 0.00), (0.18, 0.27), (0.04, 0.62), (0.10, 0.92), (0.30, 1.00), (0.46, 0.89), (0.43, 0.71),
                (0.26, 0.67), (0.10, 0.82),
            ),
        ),
    ),
    (  # 7: plain; with a bar; with a serif and a bowed leg
        (((0.02, 0.05), (0.30, 0.04), (0.58, 0.03)), ((0.58, 0.03), (0.45, 0.32), (0.34, 0.65), (0.26, 1.00))),
        (
            ((0.03, 0.05), (0.30, 0.04), (0.58, 0.02)),
            ((0.58, 0.02), (0.44, 0.32), (0.33, 0.65), (0.25, 1.00)),
            ((0.15, 0.54), (0.34, 0.52), (0.54, 0.50)),
        ),
        (
            ((0.03, 0.20), (0.04, 0.10), (0.05, 0.02)),
            ((0.05, 0.02), (0.24, 0.07), (0.44, 0.06), (0.60, 0.00)),
            ((0.60, 0.00), (0.50, 0.24), (0.36, 0.56), (0.33, 1.00)),
        ),
    ),
    (  # 8: one S and back; two rings; one stroke begun in the crossing
        (
            (
                (0.49, 0.13), (0.32, 0.00), (0.13, 0.10), (0.14, 0.30), (0.34, 0.48), (0.53, 0.68), (0.50, 0.91),
                (0.28, 1.00), (0.08, 0.88), (0.10, 0.66), (0.32, 0.46), (0.48, 0.28), (0.49, 0.11),
            ),
        ),
        (
            ((0.31, 0.46), (0.14, 0.38), (0.11, 0.16), (0.30, 0.00), (0.49, 0.14), (0.47, 0.38), (0.31, 0.46)),
            ((0.31, 0.46), (0.10, 0.58), (0.05, 0.82), (0.30, 1.00), (0.55, 0.83), (0.52, 0.58), (0.31, 0.46)),
        ),
        (
            (
                (0.30, 0.47), (0.48, 0.32), (0.50, 0.12), (0.34, 0.00), (0.15, 0.08), (0.13, 0.28), (0.30, 0.47),
                (0.48, 0.62), (0.52, 0.84), (0.34, 1.00), (0.12, 0.93), (0.09, 0.72), (0.30, 0.47),
            ),
        ),
    ),
    (  # 9: a straight stem; a curved tail; a leaning stem with a small head
        (
            ((0.52, 0.10), (0.34, 0.00), (0.11, 0.10), (0.07, 0.32), (0.24, 0.46), (0.43, 0.36), (0.52, 0.10)),
            ((0.52, 0.10), (0.52, 0.40), (0.50, 0.70), (0.48, 1.00)),
        ),
        (
            (
                (0.53, 0.18), (0.38, 0.01), (0.15, 0.06), (0.05, 0.27), (0.18, 0.45), (0.39, 0.41), (0.53, 0.18),
                (0.55, 0.46), (0.48, 0.78), (0.30, 0.98), (0.09, 0.94),
            ),
        ),
        (
            ((0.51, 0.14), (0.37, 0.01), (0.18, 0.08), (0.13, 0.27), (0.27, 0.39), (0.44, 0.32), (0.51, 0.14)),
            ((0.51, 0.14), (0.48, 0.42), (0.40, 0.72), (0.29, 1.00)),
        ),
    ),
)  # fmt: skip

# What each hash of an image decides. Two slots a knot follow _KNOTS.
_DIGIT, _STYLE, _ROTATION, _WIDTH, _HEIGHT, _ASPECT, _SHEAR, _SHIFT_X, _SHIFT_Y, _BEND = range(10)
_KNOTS = 16

_TASK = 96  # images drawn together: two float32 planes of 96 x 28 x 28 fit a core's second-level cache


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
    """Draw the images with these indices (int64 [N], any order) of a seed, ``size`` x ``size`` pixels."""
    keys = _image_keys(seed, indices)
    digit = (_hash(keys, _DIGIT) >> np.uint64(32)) * np.uint64(10) >> np.uint64(32)
    style = (_hash(keys, _STYLE) >> np.uint64(32)) * np.uint64(len(_GLYPHS[0])) >> np.uint64(32)
    rotation = (_uniform(keys, _ROTATION) * np.float32(2) - np.float32(1)) * np.float32(ROTATION_LIMIT)
    low, high = (np.float32(w * size / 28) for w in WIDTH_RANGE)
    width = low + _uniform(keys, _WIDTH) * (high - low)

    images = np.empty((len(keys), size, size), np.uint8)
    glyph = (digit * np.uint64(len(_GLYPHS[0])) + style).astype(np.int64)
    order = np.argsort(glyph, kind="stable")
    bounds = np.searchsorted(glyph[order], np.arange(len(_GLYPHS) * len(_GLYPHS[0]) + 1))
    step = max(1, _TASK * 28 * 28 // (size * size))
    tasks = [
        (g, order[start : min(start + step, bounds[g + 1])])
        for g in range(len(bounds) - 1)
        for start in range(bounds[g], bounds[g + 1], step)
    ]

    def render(task: tuple[int, NDArray[np.int64]]) -> None:
        g, rows = task
        basis, knots = _basis(g // len(_GLYPHS[0]), g % len(_GLYPHS[0]), size)
        x, y = _points(keys[rows], rotation[rows], width[rows], basis, knots, size)
        images[rows] = _coverage(x, y, width[rows], size)

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        for _ in pool.map(render, tasks):
            pass
    return Drawing(images, digit.astype(np.int64), rotation, width)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), a bijection of 64-bit words."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _image_keys(seed: int, indices: NDArray[np.int64]) -> NDArray[np.uint64]:
    """One 64-bit key an image: the start of its own SplitMix64 stream."""
    seed_key = _mix(np.array([(seed + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF], np.uint64))
    return _mix(indices.astype(np.uint64) ^ seed_key)


def _hash(keys: NDArray[np.uint64], slot: int) -> NDArray[np.uint64]:
    return _mix(keys + np.uint64((slot + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF))


def _uniform(keys: NDArray[np.uint64], slot: int) -> Floats:
    """Uniform in (0, 1), 24 bits."""
    bits = (_hash(keys, slot) >> np.uint64(40)).astype(np.float32)
    return (bits + np.float32(0.5)) * np.float32(2.0**-24)


def _bell(keys: NDArray[np.uint64], slot: int, deviation: float) -> Floats:
    """A sum of four uniforms: nearly normal, mean 0, never beyond 3.5 standard deviations."""
    h = _hash(keys, slot)
    mask = np.uint64(0xFFFF)
    total = sum(((h >> np.uint64(s)) & mask for s in (16, 32, 48)), h & mask)
    # Each of the four is uniform on 0..65535, so the sum has mean 131070 and variance 4 * (65536^2 - 1) / 12.
    return (total.astype(np.float32) - np.float32(131070)) * np.float32(deviation / 37837.2275)


@functools.cache
def _basis(digit: int, style: int, size: int) -> tuple[Floats, Floats]:
    """A glyph as (basis [P, K], knots [K, 2]): P points, evenly spaced along its curves, are basis @ knots.

    The curves are cubic Hermite splines whose parameter is the chord length and whose tangents come from the parabola
    through three neighbouring knots; at a curve's end from the parabola's own end.
    """
    curves = _GLYPHS[digit][style]
    names = list(dict.fromkeys(p for curve in curves for p in curve))
    knots = np.array(names)
    rows = []
    for curve in curves:
        index = np.array([names.index(p) for p in curve])
        k = len(index)
        chord = np.sqrt(((knots[index[1:]] - knots[index[:-1]]) ** 2).sum(1))
        secant = (np.eye(k)[1:] - np.eye(k)[:-1]) / chord[
            :, None
        ]  # [k - 1, k]: slopes as weights of the knots
        tangent = np.empty((k, k))
        tangent[1:-1] = (chord[1:, None] * secant[:-1] + chord[:-1, None] * secant[1:]) / (
            chord[1:] + chord[:-1]
        )[:, None]
        tangent[0] = 2 * secant[0] - tangent[1]
        tangent[-1] = 2 * secant[-1] - tangent[-2]

        def evaluate(t, chord=chord, tangent=tangent, k=k):  # type: ignore[no-untyped-def]
            segment = np.minimum(t.astype(np.int64), k - 2)
            u = (t - segment)[:, None]
            h = chord[segment][:, None]
            return (
                (1 + 2 * u) * (1 - u) ** 2 * np.eye(k)[segment]
                + u * u * (3 - 2 * u) * np.eye(k)[segment + 1]
                + h * u * (1 - u) ** 2 * tangent[segment]
                + h * u * u * (u - 1) * tangent[segment + 1]
            )

        fine = np.linspace(0, k - 1, 64 * (k - 1) + 1)
        position = (evaluate(fine)[:, :, None] * knots[index][None]).sum(1)
        length = np.concatenate([[0], np.cumsum(np.sqrt(((position[1:] - position[:-1]) ** 2).sum(1)))])
        # Half a pixel between points keeps the distance to the curve within 0.03 of a pixel at a stroke's edge.
        count = int(np.ceil(length[-1] * HEIGHT_RANGE[1] * size / 28 / 0.5)) + 1
        weights = np.zeros((count, len(names)))
        part = evaluate(np.interp(np.linspace(0, length[-1], count), length, fine))
        for column, knot in enumerate(index):  # a closed curve names its first knot twice
            weights[:, knot] += part[:, column]
        rows.append(weights)
    return np.concatenate(rows).astype(np.float32), knots.astype(np.float32)


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

    height = np.float32(HEIGHT_RANGE[0]) + _uniform(keys, _HEIGHT) * np.float32(
        HEIGHT_RANGE[1] - HEIGHT_RANGE[0]
    )
    height = height * np.float32(size / 28)
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

    return _centred(x, width, size, _bell(keys, _SHIFT_X, 0.7)), _centred(
        y, width, size, _bell(keys, _SHIFT_Y, 0.7)
    )


def _centred(v: Floats, width: Floats, size: int, shift: Floats) -> Floats:
    """Move the middle of each glyph's extent to the image's, plus a shift that keeps the stroke in the image."""
    low, high = v.min(0), v.max(0)
    room = np.maximum((np.float32(size - 2) - (high - low) - width) * np.float32(0.5), np.float32(0))
    shift = np.minimum(np.maximum(shift * np.float32(size / 28), -room), room)
    return v + (shift + np.float32((size - 1) / 2) - (low + high) * np.float32(0.5))


def _coverage(x: Floats, y: Floats, width: Floats, size: int) -> NDArray[np.uint8]:
    """Grey values uint8 [N, size, size]: the share of each pixel under the stroke, from its centre's distance."""
    pixel = np.arange(size, dtype=np.float32)[None, :, None]
    dx = pixel - x[:, None, :]
    dx *= dx
    dy = pixel - y[:, None, :]
    dy *= dy
    nearest = np.full((size, size, x.shape[1]), np.inf, np.float32)  # images last: long contiguous rows
    squared = np.empty_like(nearest)
    for column, row in zip(dx, dy, strict=True):
        np.add(column[None, :, :], row[:, None, :], out=squared)
        np.minimum(nearest, squared, out=nearest)
    np.sqrt(nearest, out=nearest)
    # A ramp 1.3 pixels wide, rounded at both ends: a box as wide as a pixel, slightly softened by the paper.
    t = np.clip((width * np.float32(0.5) - nearest) * np.float32(1 / 1.3) + np.float32(0.5), 0, 1)
    t = t * t * (np.float32(3) - np.float32(2) * t)
    return np.ascontiguousarray((t * np.float32(255) + np.float32(0.5)).astype(np.uint8).transpose(2, 0, 1))
