"""Errors that the user can correct: a command prints their text in one line and exits with 2."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input: the text names the thing, its value, what is expected and the remedy."""


class MissingSplitError(UserError):
    """The data has no such split: for example no test images."""


class NativeError(UserError, ImportError):
    """A compiled library is missing, broken or stale: the text names the command that builds it."""


class CommonError(UserError):
    """If several processes train together, all of them have it; the first one says so."""


class ReportedError(UserError):
    """Another process of the job says what happened, so this one need not."""


class RunWarning(UserWarning):
    """What a command went on without, or took instead."""


def printable(text: str) -> str:
    """The text in one line that any output takes: what is no printable character, such as a newline or a
    byte that is no UTF-8 in a file's name, is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
