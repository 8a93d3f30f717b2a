"""``python -m infogan_fast.train``: trains an InfoGAN; in Python, ``infogan_fast.train(...)`` does the same.

:mod:`infogan_fast.training.run_folder` lists what a run leaves.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from infogan_fast.cli import command
from infogan_fast.config import OPTIONS
from infogan_fast.constants import INTERRUPTED
from infogan_fast.data.registry import IN_MEMORY
from infogan_fast.errors import RunWarning
from infogan_fast.request import Request, parse
from infogan_fast.runtime.files import expanded
from infogan_fast.training.callbacks import Given, as_callbacks

if TYPE_CHECKING:
    from infogan_fast.analysis.run import Run


def train(
    data: Any = None,
    *,
    out: str | PathLike[str] | None = None,
    resume: str | PathLike[str] | None = None,
    overwrite: bool = False,
    progress: bool = True,
    callbacks: Given | Sequence[Given] = (),
    **options: Any,
) -> Run:
    """Train an InfoGAN on images, without labels, and load the run.

    An interruption (Ctrl-C, or a notebook's stop button) ends training after the current update; the run is
    saved, loaded and returned, and ``resume`` continues it. In a script that torchrun has started, the
    processes that do not see the run's folder return None.

    Args:
        data: the name of a data set, such as ``strokes``, ``sprites`` or ``mnist``; the path of a folder or
            an archive of pictures, or of a file of images, see docs/data.md; an array or a tensor, uint8 in 0
            to 255 or floating-point in 0 to 1, [N, H, W], [N, H, W, C] or [N, C, H, W]; or a torch Dataset of
            images, with or without labels. By default ``strokes``, or the resumed run's.
        out: folder of the run; by default runs/DATA-seedS.
        resume: folder of a run to continue with its settings.
        overwrite: replace the run in ``out``.
        progress: report progress: a bar on a terminal or in a notebook, else lines.
        callbacks: one or several functions, called with each row of metrics.jsonl as a dict, or
            :class:`infogan_fast.training.callbacks.Callback` objects, which get the pictures too. The first
            process of a job calls them. An exception in one ends training: the run is saved, and the
            exception is raised. A resumed run goes on from its last checkpoint, so it gives the rows after
            this checkpoint again.
        options: every option of ``python -m infogan_fast.train --help``, by its name with underscores, such
            as ``steps=5000, amp=True``; docs/options.md describes them.

    Raises:
        UserError: an option, the data, the device or a folder cannot be used, a compiled library is missing,
            or training diverged; the text names the problem and the remedy.
        Exception: what a callback raised, after the run was saved.
    """
    given, images, told = dict(options), None, as_callbacks(callbacks)
    if isinstance(data, (str, PathLike)):
        given["data"] = str(data)
    elif data is not None:
        given["data"], images = IN_MEMORY, data
    folder, resumed = (None if path is None else expanded(Path(path)) for path in (out, resume))
    request = Request(given, folder, overwrite, resumed)

    from infogan_fast.analysis.run import load_run
    from infogan_fast.training import session

    outcome = session.train(request, images, progress=progress, callbacks=told)
    for problem in outcome.problems:
        warnings.warn(problem, RunWarning, stacklevel=2)
    if not outcome.is_first and not (outcome.folder / "config.json").is_file():
        return None  # type: ignore[return-value]
    return load_run(outcome.folder, device=given.get("device") or "auto", images=images)


@command("train")
def main(argv: Sequence[str] | None = None) -> int:
    """Train; the status is 0, 1 if something could not be written, 2 after an error that the user can
    correct, or 130 when interrupted.
    """
    request = parse(argv)
    from infogan_fast.training import session

    outcome = session.train(request)
    for problem in outcome.problems:
        with contextlib.suppress(OSError):
            print(f"infogan_fast.train: {problem}", file=sys.stderr)
    if not outcome.complete:
        return INTERRUPTED
    return 1 if outcome.problems else 0


def _signature() -> inspect.Signature:
    """The signature of :func:`train` with every option, for help() and editors."""
    own = inspect.signature(train).parameters
    named = [parameter for parameter in own.values() if parameter.kind is not parameter.VAR_KEYWORD]
    keyword = inspect.Parameter.KEYWORD_ONLY
    named += [
        inspect.Parameter(name, keyword, default=declared.default)
        for name, declared in OPTIONS.items()
        if name != "data"
    ]
    return inspect.Signature(named, return_annotation="Run")


train.__signature__ = _signature()  # type: ignore[attr-defined]


class _CallableModule(ModuleType):
    """A module that can be called: ``infogan_fast.train`` is both this module and the function."""

    __call__ = staticmethod(train)
    __signature__ = inspect.signature(train)

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, ("infogan_fast.train",)


sys.modules[__name__].__class__ = _CallableModule

if __name__ == "__main__":
    sys.exit(main())
