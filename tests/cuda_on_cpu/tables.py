"""What the legs found, collected while tests run and printed in pytest's summary."""

from __future__ import annotations

MUTANTS = "planted bugs, and how each leg caught them"

_lines: dict[str, list[str]] = {}


def add(title: str, *text: str) -> None:
    """Appends lines to the section of this title."""
    _lines.setdefault(title, []).extend(text)


def lines() -> dict[str, list[str]]:
    """Every section so far."""
    return _lines


def add_mutant(where: str, bug: str, cells: tuple[str, str, str]) -> None:
    """A row of the planted bugs: what the plain, the address and the thread sanitizer's legs said."""
    if MUTANTS not in _lines:
        add(MUTANTS, f"{'':<74}{'plain':<26}{'asan+ubsan':<26}tsan")
    add(MUTANTS, f"{where:<18}{bug:<56}{cells[0]:<26}{cells[1]:<26}{cells[2]}".rstrip())
