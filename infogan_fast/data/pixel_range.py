"""The range of pixel values, from black to white. Imports no NumPy."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from infogan_fast.errors import UserError

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})")


@dataclass(frozen=True)
class PixelRange:
    """The values of black and white."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> PixelRange:
        """Read ``LOW..HIGH``.

        Raises:
            UserError: it is not that, or LOW is not below HIGH.
        """
        match = _RANGE.fullmatch(text)
        low, high = map(float, match.groups()) if match else (math.nan, math.nan)
        if not (low < high and math.isfinite(high - low)):
            raise UserError(
                f"--pixel-range is {text!r}; expected LOW..HIGH with LOW below HIGH, such as 0..1, -1..1 or "
                "0..65535"
            )
        return cls(low, high)

    def __str__(self) -> str:
        return "..".join(str(int(v)) if v.is_integer() else repr(v) for v in (self.low, self.high))
