"""The ranges of the random change that makes an image's copy. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from infogan_fast.errors import UserError

_GRAMMAR = (
    "expected comma-separated parts such as rotation=15,scale=0.15,shear=0.2,shift=0.06 "
    "(rotation in degrees, scale and shift as shares, shear, colour and bend as shares, flip=0 or 1; a part "
    "that is left out is 0)"
)


@dataclass(frozen=True)
class Transformation:
    """Ranges of the random change that makes an image's copy; each image draws its own, uniformly.

    The image is mirrored, sheared, turned, scaled and shifted about its middle, in this order, then bent, and
    read bilinearly; pixels from outside are those of the border, whatever the background.

    Args:
        rotation: largest angle either way, in degrees, 0 to 180.
        scale: the size is times 1 - scale to 1 + scale; at least 0 and below 1.
        shear: a row at distance d above the middle is pushed aside by up to shear * d; 0 or more.
        shift: the largest shift along each axis, as a share of the side, 0 to 1.
        colour: each channel is times 1 - colour to 1 + colour (and cut at 1), 0 to 1; without it the classes
            of colour pictures may turn out to be their mean colours.
        bend: parts of the image move by up to this share of its side, and what lies between them goes along,
            0 to 1; of the copies for ``--bending`` alone.
        flip: mirror half of the copies left to right; not for what has a reading direction.

    Raises:
        UserError: a range is not valid.
    """

    rotation: float = 15.0
    scale: float = 0.15
    shear: float = 0.2
    shift: float = 0.06
    colour: float = 0.0
    bend: float = 0.1
    flip: bool = False

    def __post_init__(self) -> None:
        for name, most, expected in (
            ("rotation", 180.0, "0 to 180 degrees"),
            ("scale", math.nextafter(1.0, 0.0), "at least 0 and below 1"),
            ("shear", math.inf, "0 or more"),
            ("shift", 1.0, "0 to 1"),
            ("colour", 1.0, "0 to 1"),
            ("bend", 1.0, "0 to 1"),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= most):
                raise UserError(f"{name} is {value}; expected {expected}")

    @classmethod
    def parse(cls, text: str) -> Transformation:
        """Read a specification such as ``rotation=15,scale=0.15,shear=0.2,shift=0.06,flip=0``.

        Args:
            text: comma-separated ``range=value`` parts, each at most once, spaces ignored; what is left out
                is 0.

        Raises:
            UserError: the text does not follow this grammar, or a range is not valid.
        """
        ranges: dict[str, float] = {field.name: 0.0 for field in fields(cls)}
        given = set()
        for part in text.replace(" ", "").split(","):
            name, _, value = part.partition("=")
            if name not in ranges:
                raise UserError(f"transformation {text!r}: cannot read {part!r}; {_GRAMMAR}")
            if name in given:
                raise UserError(f"transformation {text!r}: {name} is given twice; give it once")
            given.add(name)
            try:
                ranges[name] = float(value)
            except ValueError:
                raise UserError(f"transformation {text!r}: cannot read {part!r}; {_GRAMMAR}") from None
        flip = ranges.pop("flip")
        if flip not in (0.0, 1.0):
            raise UserError(f"transformation {text!r}: flip is {flip:g}; expected 0 or 1")
        try:
            return cls(**ranges, flip=flip == 1.0)
        except UserError as error:
            raise UserError(f"transformation {text!r}: {error}") from None

    @property
    def has_slants(self) -> bool:
        """Whether copies are turned or sheared, and not mirrored, which would turn the image's own slant."""
        return (self.rotation > 0 or self.shear > 0) and not self.flip

    def __str__(self) -> str:
        values = {field.name: float(getattr(self, field.name)) for field in fields(self)}
        return ",".join(f"{name}={repr(value).removesuffix('.0')}" for name, value in values.items())
