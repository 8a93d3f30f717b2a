"""What transparent pictures are laid on. Imports no torch."""

from __future__ import annotations

import re

from infogan_fast.errors import UserError

_NAMED = {"white": 255, "black": 0}


def background_rgb(text: str) -> tuple[int, int, int]:
    """The red, green and blue, 0 to 255, that ``white``, ``black``, a grey value or ``#rrggbb`` stands for.

    Raises:
        UserError: it is none of these.
    """
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        red, green, blue = bytes.fromhex(text[1:])
        return red, green, blue
    grey = _NAMED.get(text, int(text) if re.fullmatch("[0-9]{1,3}", text) else 256)
    if grey > 255:
        raise UserError(f"--background is {text!r}; expected white, black, a grey from 0 to 255, or #rrggbb")
    return grey, grey, grey


def parse_background(text: str) -> str:
    """The text itself, checked.

    Raises:
        UserError: see :func:`background_rgb`.
    """
    background_rgb(text)
    return text
