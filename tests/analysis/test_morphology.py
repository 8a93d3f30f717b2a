"""Measures of images whose slant and stroke width are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, stats

from infogan_fast.analysis import morphology
from infogan_fast.data import strokes
from infogan_fast.errors import UserError

Array = NDArray[Any]
MEASURES = [morphology.slant, morphology.thickness]

_y, _x = np.mgrid[:28, :28] - 13.5
_up = -_y


def _sheared(shear: float) -> Array:
    """A bar 3 pixels wide in each of 18 rows, whose upper end is to the right for a positive shear."""
    return np.clip(2 - np.abs(_x - shear * _up), 0, 1) * (np.abs(_up) < 9)


def _bar(angle: float, width: float, length: float = 18) -> Array:
    """Antialiased, turned anticlockwise from upright."""
    along = _up * np.cos(angle) - _x * np.sin(angle)
    across = _x * np.cos(angle) + _up * np.sin(angle)
    return np.clip(width / 2 + 0.5 - np.abs(across), 0, 1) * np.clip(length / 2 + 0.5 - np.abs(along), 0, 1)


@pytest.fixture(scope="module")
def drawing() -> strokes.Drawing:
    return strokes.draw(3, np.arange(1500))


def test_slant_of_sheared_bars() -> None:
    shears = np.linspace(-0.9, 0.9, 13)
    found = morphology.slant(np.stack([_sheared(s) for s in shears]))
    np.testing.assert_allclose(found, shears, atol=0.01)
    assert found.shape == (13,) and found.dtype == np.float64


def test_slant_ignores_position_and_brightness_of_the_ink() -> None:
    image = _sheared(0.3)
    moved = np.stack([image, 0.2 * image, np.roll(image, (-3, 4), (0, 1)), image[:, ::-1], image[::-1, ::-1]])
    found = morphology.slant(moved)
    np.testing.assert_allclose(found, found[0] * np.array([1, 1, 1, -1, 1]), rtol=1e-9)


def test_images_without_a_slant() -> None:
    cross = np.maximum(_bar(0, 3), _bar(np.pi / 2, 3))
    dot, row = np.zeros((2, 28, 28))
    dot[5, 9] = 1
    row[5, 3:20] = 1
    images = np.stack([cross, dot, row, _bar(0.3, 3)])
    assert np.isnan(morphology.slant(images)).tolist() == [False, True, True, False]
    assert morphology.slant(images)[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("angle", "error"),
    [(0, 0.36), (0.2, 0.12), (0.6, 0.12), (np.pi / 4, 0.16), (1.3, 0.12), (np.pi / 2, 0.36)],
)
def test_thickness_of_bars(angle: float, error: float) -> None:
    widths = np.linspace(1.2, 6, 17)
    found = morphology.thickness(np.stack([_bar(angle, w) for w in widths]))
    assert np.abs(found - widths).max() < error and abs((found - widths).mean()) < 0.08
    assert stats.spearmanr(found, widths).statistic > 0.97
    larger = np.stack(
        [ndimage.zoom(_bar(angle, w), 2, order=1, grid_mode=True, mode="nearest") for w in widths]
    )
    assert np.abs(morphology.thickness(larger) - 2 * found).max() < 0.45


def test_thickness_of_a_ring_and_at_the_border() -> None:
    radius = np.hypot(_x, _y)
    rings = np.stack([np.clip(w / 2 + 0.5 - np.abs(radius - 8), 0, 1) for w in (2, 3, 4)])
    np.testing.assert_allclose(morphology.thickness(rings), [2, 3, 4], atol=0.2)
    edge = np.zeros((1, 28, 28))
    edge[:, :, :4] = 1
    assert morphology.thickness(edge)[0] == pytest.approx(4, abs=0.2)
    assert morphology.thickness(np.ones((1, 28, 28)))[0] > 12


@pytest.mark.parametrize("digit", range(10))
def test_measures_follow_the_factors_of_drawn_digits(drawing: strokes.Drawing, digit: int) -> None:
    rows = np.flatnonzero(drawing.digit == digit)[:100]
    images, turn = drawing.images[rows] / 255, drawing.rotation[rows]
    assert stats.spearmanr(morphology.slant(images), turn).statistic < -0.75  # anticlockwise is to the left
    width = drawing.width[rows]
    found = morphology.thickness(images)
    assert stats.spearmanr(found, width).statistic > 0.98
    assert abs((found - width).mean()) < 0.1 and np.abs(found - width).max() < 0.7


@pytest.mark.parametrize("measure", MEASURES)
def test_blank_images_are_nan_and_do_not_affect_others(measure: Callable[[Any], Array]) -> None:
    images = np.stack([np.zeros((28, 28)), _bar(0.2, 3), np.zeros((28, 28)), _bar(-0.4, 2)])
    found = measure(images)
    assert np.isnan(found).tolist() == [True, False, True, False]
    assert found[1] == measure(images[1:2])[0] and found[3] == measure(images[3:])[0]
    assert measure(np.zeros((0, 28, 28))).shape == (0,)
    assert measure(images.astype(np.float32))[1] == pytest.approx(found[1], rel=1e-5)


def test_ink_too_faint_for_a_stroke() -> None:
    assert np.isnan(morphology.thickness(0.4 * _bar(0, 3)[None]))[0]


@pytest.mark.parametrize("measure", MEASURES)
def test_invalid_images(measure: Callable[[Any], Array]) -> None:
    with pytest.raises(UserError, match="from 0 to 255; expected 0 to 1"):
        measure(255 * _bar(0, 3)[None])
    with pytest.raises(UserError, match="expected 0 to 1"):
        measure(np.full((1, 28, 28), np.nan))
    with pytest.raises(ValueError, match=r"\(28, 28\); expected \[N, S, S\]"):
        measure(_bar(0, 3))
