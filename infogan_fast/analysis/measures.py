"""Measures of what an image shows, to tell what a code changes.

Images are floats [N, C, S, S] in [0, 1], C = 1 or 3. Each measure returns float64 [N], NaN where it is
undefined, such as the position of what a blank image shows. They weigh each pixel by how far its brightness
lies from that of the border, so that they see light things on dark ground and dark ones on light ground
alike. ``slant`` and ``thickness`` are those of :mod:`infogan_fast.analysis.morphology`, of grey images, the
largest weight scaled to 1: a drawing does not become thicker by becoming brighter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infogan_fast.analysis import morphology
from infogan_fast.analysis.tables import Floats

Measure = Callable[[Floats], Floats]
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def brightness(images: Floats) -> Floats:
    """Mean brightness."""
    return _luma(images).mean((1, 2))


def contrast(images: Floats) -> Floats:
    """Standard deviation of the brightness over the pixels."""
    return _luma(images).std((1, 2))


def area(images: Floats) -> Floats:
    """Share of the image that is not ground: (sum of weights)^2 / (sum of squares * pixels)."""
    weights = _weights(images)
    squares = (weights**2).sum((1, 2))
    return _ratio(weights.sum((1, 2)) ** 2, squares * weights[0].size)


def x(images: Floats) -> Floats:
    """Position of the centre of mass, from 0 at the left to 1 at the right."""
    return _axis(images, 1)[0]


def y(images: Floats) -> Floats:
    """As :func:`x`, from 0 at the top to 1 at the bottom."""
    return _axis(images, 2)[0]


def width(images: Floats) -> Floats:
    """Twice the standard deviation of the weights' positions to the right, as a share of the side."""
    return 2 * _axis(images, 1)[1]


def height(images: Floats) -> Floats:
    """As :func:`width`, downwards."""
    return 2 * _axis(images, 2)[1]


def aspect(images: Floats) -> Floats:
    """Width over height."""
    return _ratio(width(images), height(images))


def symmetry(images: Floats) -> Floats:
    """Correlation of the weights with their mirror image, left to right, about the centre column."""
    weights = _weights(images)
    centred = weights - weights.mean((1, 2), keepdims=True)
    return _ratio((centred * centred[:, :, ::-1]).sum((1, 2)), (centred**2).sum((1, 2)))


def warmth(images: Floats) -> Floats:
    """Mean red minus mean blue: in place of the hue, which has no beginning and no end."""
    return (images[:, 0] - images[:, 2]).mean((1, 2))


def saturation(images: Floats) -> Floats:
    """Mean difference of the largest and the smallest channel."""
    return np.ptp(images, axis=1).mean((1, 2))


def _slant(images: Floats) -> Floats:
    return morphology.slant(_full_range(images))


def _thickness(images: Floats) -> Floats:
    return morphology.thickness(_full_range(images))


_OF_ALL: dict[str, Measure] = {
    "width": width,
    "height": height,
    "aspect": aspect,
    "x": x,
    "y": y,
    "symmetry": symmetry,
    "area": area,
    "brightness": brightness,
    "contrast": contrast,
}


def measures(channels: int) -> dict[str, Measure]:
    """The measures of images with so many channels, by name, the more specific ones first."""
    if channels == 1:
        return {"slant": _slant, "thickness": _thickness, **_OF_ALL}
    return {"warmth": warmth, "saturation": saturation, **_OF_ALL}


def name_of(strength: dict[str, float | None], least: float = 0.5) -> str | None:
    """What a code is called that moves each measure so strongly, |rho|; None if it moves none by ``least``.

    A code that moves one measure moves others along: thicker strokes are brighter on average. Of all measures
    that come within 5 % of the strongest, it is the first in the order of :func:`measures`.
    """
    known = {name: value for name, value in strength.items() if value is not None}
    best = max(known.values(), default=0.0)
    return next((name for name, value in known.items() if value >= max(least, 0.95 * best)), None)


def _full_range(images: Floats) -> Floats:
    weights = _weights(images)
    largest = weights.max((1, 2), keepdims=True)
    result: Floats = weights / np.where(largest > 0, largest, 1.0)
    return result


def _luma(images: Floats) -> Floats:
    return images[:, 0] if images.shape[1] == 1 else np.einsum("nchw,c->nhw", images, _LUMA)


def _weights(images: Floats) -> Floats:
    """The distance [N, S, S] of each pixel's brightness from the median of the border's."""
    luma = _luma(images)
    border = np.concatenate([luma[:, 0], luma[:, -1], luma[:, 1:-1, 0], luma[:, 1:-1, -1]], 1)
    result: Floats = np.abs(luma - np.median(border, 1)[:, None, None])
    return result


def _axis(images: Floats, axis: int) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the weights' positions along columns (1) or rows (2), 0 to 1."""
    weights = _weights(images).sum(axis)
    position = (np.arange(weights.shape[1]) + 0.5) / weights.shape[1]
    total = weights.sum(1)
    mean = _ratio(weights @ position, total)
    square = _ratio((weights * (position - mean[:, None]) ** 2).sum(1), total)
    return mean, np.sqrt(square)


def _ratio(a: NDArray[Any], b: NDArray[Any]) -> Floats:
    return np.divide(a, b, out=np.full(len(a), np.nan), where=b > 1e-12)
