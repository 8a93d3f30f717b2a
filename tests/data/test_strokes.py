"""The built-in digits: the same image for the same (seed, index), and factors that the pixels bear out."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage, stats

from infogan_fast.data import load_images, strokes
from infogan_fast.errors import UserError

Array = NDArray[Any]


@pytest.fixture(scope="module")
def drawing() -> strokes.Drawing:
    return strokes.draw(0, np.arange(8000))


def test_an_image_does_not_depend_on_what_is_drawn_with_it(drawing: strokes.Drawing) -> None:
    order = np.random.default_rng(0).permutation(8000)[:700]
    again = strokes.draw(0, order)
    assert np.array_equal(again.images, drawing.images[order])
    for name in ("digit", "rotation", "width"):
        assert np.array_equal(getattr(again, name), getattr(drawing, name)[order])
    for i in range(
        0, 8000, 80
    ):  # alone: some sums of NumPy's are ordered otherwise when one image is all there is
        assert np.array_equal(strokes.draw(0, np.array([i])).images[0], drawing.images[i])


def test_threads_do_not_change_an_image(drawing: strokes.Drawing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert np.array_equal(strokes.draw(0, np.arange(500)).images, drawing.images[:500])


@pytest.mark.parametrize("seed", [1, -1, 2**31, 2**63])
def test_seeds_differ_everywhere(drawing: strokes.Drawing, seed: int) -> None:
    other = strokes.draw(seed, np.arange(300))
    assert (other.images != drawing.images[:300]).any(axis=(1, 2)).all()
    assert abs(np.corrcoef(other.rotation, drawing.rotation[:300])[0, 1]) < 0.2


def test_images_of_a_seed_are_distinct_in_both_splits() -> None:
    train, test = (load_images("strokes", split=split, count=3000).images for split in ("train", "test"))
    assert len({image.numpy().tobytes() for image in torch.cat([train, test])}) == 6000


@pytest.mark.parametrize(("size", "channels"), [(None, None), (16, 1), (32, 3), (64, 1)])
def test_image_set(size: int | None, channels: int | None) -> None:
    found = load_images("strokes", image_size=size, channels=channels, count=60)
    side = size or 28
    assert found.images.shape == (60, channels or 1, side, side)
    assert found.images.dtype == torch.uint8
    assert found.images.is_contiguous(memory_format=torch.channels_last)
    assert (found.images == found.images[:, :1]).all()
    assert {k: (v.dtype, v.shape) for k, v in found.factors.items()} == {
        "digit": (torch.int64, (60,)),
        "rotation": (torch.float32, (60,)),
        "width": (torch.float32, (60,)),
    }
    assert found.labels is not None and torch.equal(found.labels, found.factors["digit"])
    assert found.source == "strokes: 60 images drawn from seed 0"


def test_default_counts_and_prefix() -> None:
    test = load_images("strokes", split="test")
    assert len(test.images) == 10_000
    assert torch.equal(load_images("strokes", split="test", count=7).images, test.images[:7])


def test_other_sizes_draw_the_same_glyphs(drawing: strokes.Drawing) -> None:
    double = strokes.draw(0, np.arange(200), size=56)
    np.testing.assert_allclose(double.width, 2 * drawing.width[:200], rtol=1e-6)
    halved = double.images.reshape(200, 28, 2, 28, 2).mean((2, 4))
    assert np.abs(halved - drawing.images[:200]).mean() < 3  # grey levels; another image is 40 away
    assert np.abs(halved[1:] - drawing.images[:199]).mean() > 30


def test_factors_are_uniform_and_independent(drawing: strokes.Drawing) -> None:
    assert stats.chisquare(np.bincount(drawing.digit, minlength=10)).pvalue > 1e-3
    limit = strokes.ROTATION_LIMIT
    low, high = strokes.WIDTH_RANGE
    assert stats.kstest(drawing.rotation, stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-3
    assert stats.kstest(drawing.width, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    for a, b in (("digit", "rotation"), ("digit", "width"), ("rotation", "width")):
        assert stats.spearmanr(getattr(drawing, a), getattr(drawing, b)).pvalue > 1e-3


def test_rotation_is_the_angle_of_a_one(drawing: strokes.Drawing) -> None:
    plain = [
        i for i in np.flatnonzero(drawing.digit == 1) if _axis(drawing.images[i])[1] > 40
    ]  # without a foot
    angle = np.array([_axis(drawing.images[i])[0] for i in plain])
    fit = stats.linregress(drawing.rotation[plain], angle)
    assert len(plain) > 300
    assert (
        fit.rvalue > 0.95
        and fit.slope == pytest.approx(1, abs=0.06)
        and fit.intercept == pytest.approx(0, abs=0.06)
    )


def _axis(image: Array) -> tuple[float, float]:
    """The long axis' angle from upright, anticlockwise, and how much longer than the short one it is."""
    y, x = np.mgrid[:28, :28]
    weight = image / image.sum()
    dx, dy = x - (weight * x).sum(), (weight * y).sum() - y
    values, vectors = np.linalg.eigh(np.cov(np.stack([dx.ravel(), dy.ravel()]), aweights=weight.ravel()))
    vx, vy = vectors[:, 1] * np.sign(vectors[1, 1])
    return float(np.arctan2(-vx, vy)), float(values[1] / values[0])


@pytest.mark.parametrize("digit", range(10))
@pytest.mark.parametrize("sign", [-1, 1])
def test_turning_back_by_the_rotation_sets_every_digit_upright(
    drawing: strokes.Drawing, digit: int, sign: int
) -> None:
    chosen = drawing.digit == digit
    upright = drawing.images[chosen & (np.abs(drawing.rotation) < 0.06)].mean(0)
    rows = np.flatnonzero(chosen & (sign * drawing.rotation > 0.3))
    turned = drawing.images[rows].astype(np.float32)
    back = np.mean(
        [
            ndimage.rotate(image, -np.degrees(angle), reshape=False, order=1)
            for image, angle in zip(turned, drawing.rotation[rows], strict=True)
        ],
        axis=0,
    )
    assert len(rows) > 50
    apart, likeness = (np.corrcoef(v.ravel(), upright.ravel())[0, 1] for v in (turned.mean(0), back))
    assert likeness > 0.95 and 1 - likeness < 0.2 * (1 - apart)


def test_width_is_the_thickness_of_a_one(drawing: strokes.Drawing) -> None:
    """Ink in a row of an upright stroke, times the cosine of its slope, is its width in pixels."""
    rows = [i for i in np.flatnonzero(drawing.digit == 1) if _axis(drawing.images[i])[1] > 40]
    ink = np.array(
        [np.median(drawing.images[i, 11:17].sum(1)) / 255 * np.cos(_axis(drawing.images[i])[0]) for i in rows]
    )
    difference = ink - drawing.width[rows]
    assert abs(difference.mean()) < 0.1 and np.abs(difference).max() < 0.35


@pytest.mark.parametrize("digit", range(10))
def test_width_shows_in_every_digit(drawing: strokes.Drawing, digit: int) -> None:
    rows = np.flatnonzero(drawing.digit == digit)[:300]
    area = drawing.images[rows].sum((1, 2)) / 255
    edge = sum(np.abs(np.diff(drawing.images[rows].astype(int), axis=a)).sum((1, 2)) for a in (1, 2))
    assert stats.spearmanr(area / edge, drawing.width[rows]).statistic > 0.9  # mean thickness


def test_strokes_stay_inside_and_are_white_on_black(drawing: strokes.Drawing) -> None:
    border = np.ones((28, 28), bool)
    border[1:-1, 1:-1] = False
    assert (drawing.images[:, border].max(1) > 0).mean() < 0.001
    assert (drawing.images.max((1, 2)) > 200).all()
    assert 20 < drawing.images.mean() < 45  # MNIST's mean is 33


def test_classes_can_be_told_apart(drawing: strokes.Drawing) -> None:
    test = strokes.draw(0, np.arange(strokes.TEST_INDEX, strokes.TEST_INDEX + 1000))
    x = torch.from_numpy(drawing.images.reshape(8000, -1)).float() / 255
    y = torch.from_numpy(test.images.reshape(1000, -1)).float() / 255
    nearest = drawing.digit[torch.cdist(y, x).argmin(1).numpy()]
    accuracy = [(nearest[test.digit == d] == d).mean() for d in range(10)]
    assert min(accuracy) > 0.9 and np.mean(accuracy) > 0.97
    # Yet pixels alone do not do it: a digit is a set of turned, bent and differently written glyphs.
    centroids = torch.stack([x[drawing.digit == d].mean(0) for d in range(10)])
    assert (torch.cdist(y, centroids).argmin(1).numpy() == test.digit).mean() > 0.7


def test_images_with_chosen_factors(drawing: strokes.Drawing) -> None:
    rows = np.arange(40)
    digit, rotation, width = (getattr(drawing, name)[rows] for name in ("digit", "rotation", "width"))
    assert np.array_equal(strokes.render(0, rows, digit, rotation, width), drawing.images[rows])
    wide = strokes.render(0, rows, digit, rotation, np.full_like(width, 3.6))
    assert (wide.sum((1, 2)) >= drawing.images[rows].sum((1, 2))).all()
    ones = strokes.render(0, rows, np.ones_like(digit), np.zeros_like(rotation), np.full_like(width, 1.5))
    assert np.abs([_axis(image)[0] for image in ones]).max() < 0.3
    with pytest.raises(ValueError, match="digit is 0 to 10"):
        strokes.render(0, rows[:2], np.array([0, 10]), rotation[:2], width[:2])


def test_first_images_are_what_they_were(drawing: strokes.Drawing) -> None:
    """An anchor: a change of the drawing is a change of every user's data, and should be meant."""
    assert drawing.digit[:16].tolist() == ANCHOR_DIGITS
    np.testing.assert_allclose(drawing.rotation[:4], ANCHOR_ROTATIONS, atol=1e-6)
    np.testing.assert_allclose(drawing.width[:4], ANCHOR_WIDTHS, atol=1e-6)
    means = [drawing.images[drawing.digit == d].mean() for d in range(10)]
    np.testing.assert_allclose(means, ANCHOR_MEANS, atol=0.05)
    coarse = drawing.images[0].reshape(7, 4, 7, 4).mean((1, 3))
    np.testing.assert_allclose(coarse, ANCHOR_IMAGE, atol=1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"count": 0}, "count is 0"),
        ({"image_size": 8}, "image size is 8, expected at least 16"),
        ({"channels": 2}, "channels is 2, expected 1 .* or 3"),
        ({"split": "valid"}, "split is 'valid', expected 'train' or 'test'"),
        ({"count": 10**13}, "GiB are free"),
    ],
)
def test_wrong_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        load_images("strokes", **options)


ANCHOR_DIGITS = [3, 5, 3, 5, 9, 9, 7, 4, 2, 6, 5, 4, 4, 5, 1, 2]
ANCHOR_ROTATIONS = [-0.199346, 0.392219, -0.144599, -0.202869]
ANCHOR_WIDTHS = [2.352407, 1.622903, 2.359818, 2.287026]
ANCHOR_MEANS = [35.37, 18.92, 33.18, 32.78, 30.99, 32.38, 31.18, 26.3, 38.94, 30.76]
ANCHOR_IMAGE = [
    [0, 0, 0, 3, 0, 0, 0],
    [0, 0, 150, 155, 87, 0, 0],
    [0, 0, 13, 47, 128, 0, 0],
    [0, 0, 93, 210, 16, 0, 0],
    [0, 34, 0, 97, 61, 0, 0],
    [0, 112, 147, 161, 5, 0, 0],
    [0, 0, 11, 2, 0, 0, 0],
]
