"""Measures of drawn images whose value is known, and the names of codes."""

from __future__ import annotations

import numpy as np
import pytest
from analysis.encoders import Array

from infogan_fast.analysis import measures, morphology


def box(left: int, top: int, wide: int, high: int, *, ink: float = 1.0, ground: float = 0.0) -> Array:
    """One grey image [1, 1, 20, 20] with a rectangle."""
    image = np.full((1, 1, 20, 20), ground)
    image[..., top : top + high, left : left + wide] = ink
    return image


@pytest.mark.parametrize(("ink", "ground"), [(1.0, 0.0), (0.2, 0.9), (0.5, 0.4)])
def test_of_a_rectangle(ink: float, ground: float) -> None:
    image = box(3, 6, 4, 8, ink=ink, ground=ground)
    deviation = {4: np.sqrt((16 - 1) / 12) / 20, 8: np.sqrt((64 - 1) / 12) / 20}
    wanted = {
        "area": 32 / 400,
        "x": 5 / 20,
        "y": 10 / 20,
        "width": 2 * deviation[4],
        "height": 2 * deviation[8],
        "aspect": deviation[4] / deviation[8],
        "brightness": (32 * ink + 368 * ground) / 400,
        "contrast": abs(ink - ground) * np.sqrt(0.08 * 0.92),
    }
    of = measures.measures(1)
    for name, value in wanted.items():
        assert of[name](image)[0] == pytest.approx(value), name
    # The mirror image lies elsewhere: correlation of two indicators that never are 1 together.
    assert of["symmetry"](image)[0] == pytest.approx(-0.08 / 0.92)
    assert of["symmetry"](box(8, 2, 4, 9))[0] == pytest.approx(1)


def test_a_drawing_does_not_become_thicker_by_becoming_brighter() -> None:
    of = measures.measures(1)
    image = box(8, 3, 3, 14)
    for name in ("slant", "thickness"):
        whole = getattr(morphology, name)(image[:, 0])
        np.testing.assert_allclose(of[name](0.4 * image), whole, rtol=1e-9)


def test_dark_ink_is_measured_as_bright_ink_is() -> None:
    of = measures.measures(1)
    drawn = np.concatenate([box(9 - k, 3, 2 + 2 * k, 14) for k in range(4)])
    leaning = np.stack([np.roll(box(9, r, 2, 1)[0], r // 5, 2) for r in range(3, 17)]).max(0)[None]
    for images in (drawn, leaning):
        for name in ("slant", "thickness"):
            assert of[name](1 - images) == pytest.approx(of[name](images)), name
    assert (np.diff(of["thickness"](1 - drawn)) > 0).all()


def test_of_colour() -> None:
    image = np.zeros((2, 3, 20, 20))
    image[0, 0], image[0, 2] = 0.75, 0.25
    image[1] = 0.5
    of = measures.measures(3)
    assert of["warmth"](image).tolist() == [0.5, 0]
    assert of["saturation"](image).tolist() == [0.75, 0]
    assert of["brightness"](image) == pytest.approx([0.299 * 0.75 + 0.114 * 0.25, 0.5])
    assert "slant" not in of


def test_blank_images_have_no_position() -> None:
    blank = np.full((1, 1, 20, 20), 0.3)
    of = measures.measures(1)
    for name in ("area", "x", "y", "width", "height", "aspect", "symmetry"):
        assert np.isnan(of[name](blank)[0])
    assert of["contrast"](blank)[0] == pytest.approx(0)


def test_names_of_codes() -> None:
    assert measures.name_of({"slant": 0.3, "thickness": 0.96, "brightness": 1.0}) == "thickness"
    assert measures.name_of({"slant": 0.3, "thickness": 0.9, "brightness": 1.0}) == "brightness"
    assert measures.name_of({"slant": 0.3, "thickness": None}) is None
    assert measures.name_of({}) is None
