"""Callbacks: what a training run tells a program while it trains. Imports no torch.

class Printer(Callback):
    def row(self, row):
        print(row["step"], row["L_c1"])

infogan_fast.train(callbacks=Printer())
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infogan_fast.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

Row = dict[str, Any]


class Callback:
    """A base class whose methods do nothing; override those that you need.

    They are called on the first process alone, and only when a row or a picture is due, not at every update.
    Training waits for them. An exception ends training: the run is saved, as by Ctrl-C, no callback is called
    any more, and the exception is raised. Raise KeyboardInterrupt to stop early without an error.

    A resumed run goes on from its last checkpoint, so rows and pictures after this checkpoint come again.
    """

    #: What it writes, such as ``"events"``. If it has a name, an OSError ends nothing: training goes on, and
    #: says once that this could not be written.
    writes = ""

    def begin(self, folder: Path, step: int) -> None:
        """Before the first update.

        Args:
            folder: of the run; it holds config.json, and metrics.jsonl up to ``step``.
            step: updates so far; 0 in a new run.
        """

    def row(self, row: Row) -> None:
        """A row of metrics.jsonl, once it is written; see :mod:`infogan_fast.training.loop` for its keys."""

    def picture(self, name: str, step: int, image: Image.Image) -> None:
        """A picture, once it is written.

        Args:
            name: ``"samples"``, every --sample-every updates, or ``"traversal"``, at the end.
            step: updates so far.
            image: as in the file, RGB.
        """

    def done(self, folder: Path) -> None:
        """After the last update, when all is written: the run is complete, or was interrupted and is saved.
        It is not called after an error."""


class _Rows(Callback):
    """Calls a function with each row."""

    def __init__(self, function: Callable[[Row], object]) -> None:
        self._function = function

    def row(self, row: Row) -> None:
        self._function(row)


Given = Callback | Callable[[Row], object]


def as_callbacks(given: Given | Sequence[Given]) -> list[Callback]:
    """Callbacks from one or several of them; a function is called with each row.

    Raises:
        UserError: one of them is neither.
    """
    several = given if isinstance(given, (list, tuple)) else [given]
    found: list[Callback] = []
    for one in several:
        if isinstance(one, Callback):
            found.append(one)
        elif isinstance(one, type):
            raise UserError(f"callbacks has the class {one.__name__}; give an instance: {one.__name__}()")
        elif callable(one):
            found.append(_Rows(one))
        else:
            raise UserError(
                f"callbacks has {one!r}; expected functions of a row, or instances of "
                "infogan_fast.training.callbacks.Callback"
            )
    return found
