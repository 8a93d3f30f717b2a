"""What the legs found, collected while tests run and printed in pytest's summary."""

from __future__ import annotations

_lines: dict[str, list[str]] = {}


def add(title: str, *text: str) -> None:
    """Appends lines to the section of this title."""
    _lines.setdefault(title, []).extend(text)


def lines() -> dict[str, list[str]]:
    """Every section so far."""
    return _lines
