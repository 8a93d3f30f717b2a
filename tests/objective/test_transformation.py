"""The text of a transformation, and which ones turn their copies."""

from __future__ import annotations

from dataclasses import fields

import pytest

from infogan_fast.errors import UserError
from infogan_fast.objective.transformation import Transformation


def test_parse_and_print() -> None:
    assert Transformation.parse(str(Transformation())) == Transformation()
    assert str(Transformation()) == "rotation=15,scale=0.15,shear=0.2,shift=0.06,colour=0,bend=0.1,flip=0"
    odd = Transformation(1 / 3, 0.1, 0, 1e-9, 1, 0.2, True)
    assert Transformation.parse(str(odd)) == odd
    assert Transformation.parse(" flip = 1, rotation=5") == Transformation(5, 0, 0, 0, bend=0.0, flip=True)
    assert len(fields(Transformation)) == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read ''"),
        ("rotation", "cannot read 'rotation'"),
        ("rotation=", "cannot read 'rotation='"),
        ("rotation=far", "cannot read 'rotation=far'"),
        ("warp=1", "cannot read 'warp=1'"),
        ("scale=0.1,scale=0.2", "scale is given twice"),
        ("rotation=181", "rotation is 181.0; expected 0 to 180 degrees"),
        ("rotation=-1", "rotation is -1.0"),
        ("scale=1", "scale is 1.0; expected at least 0 and below 1"),
        ("shear=inf", "shear is inf; expected 0 or more"),
        ("shift=nan", "shift is nan; expected 0 to 1"),
        ("colour=1.5", "colour is 1.5; expected 0 to 1"),
        ("bend=2", "bend is 2.0; expected 0 to 1"),
        ("flip=0.5", "flip is 0.5; expected 0 or 1"),
    ],
)
def test_wrong_transformations(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        Transformation.parse(text)
    assert str(error.value).startswith(f"transformation {text!r}: {message}")


@pytest.mark.parametrize(
    ("ranges", "has"), [("rotation=1", 1), ("shear=0.1", 1), ("scale=0.1", 0), ("shear=0.1,flip=1", 0)]
)
def test_has_slants(ranges: str, has: int) -> None:
    assert Transformation.parse(ranges).has_slants == bool(has)
