"""The command line: ``infogan-fast COMMAND ...``, the same as ``python -m infogan_fast.COMMAND ...``."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import infogan_fast
from infogan_fast.constants import DEVICES, INTERRUPTED
from infogan_fast.errors import ReportedError, RunWarning, UserError, printable
from infogan_fast.runtime.files import expanded

if TYPE_CHECKING:
    from infogan_fast.analysis.run import Run

#: Each is a module with main(argv), which returns the exit status.
COMMANDS = {
    "train": "train on images",
    "seeds": "train with many seeds and choose a run without labels",
    "evaluate": "score what a run's codes mean",
    "traverse": "picture what each code of a run does",
    "generate": "make images with chosen codes",
    "report": "write a page of a run that opens in any browser",
    "demo": "serve a page on this machine to play with a run",
    "export": "write the networks in formats of other programs",
    "info": "print what is installed and what was built",
}


class Main(Protocol):
    """A command: takes its arguments, by default those of the process, and returns the exit status."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def command(name: str) -> Callable[[Main], Main]:
    """Make a function from arguments to an exit status the ``main`` of a command.

    This is the one place that handles errors which the user can correct: it prints one line on stderr and
    returns 2. A compiled library that is missing or stale is such an error, and so is one of the system.
    """

    def decorate(run: Main) -> Main:
        @functools.wraps(run)
        def main(argv: Sequence[str] | None = None) -> int:
            try:
                if name != "train":
                    _refuse_several_processes(name)
                with _warnings_in_a_line(name), _names_escaped():
                    return run(argv)
            except ReportedError:
                return 2
            except UserError as error:
                print(f"infogan_fast.{name}: {printable(str(error))}", file=sys.stderr)
                return 2
            except OSError as error:  # such as a name that is too long, wherever it is first looked at
                what = "" if error.filename is None else f"{error.filename!r}: "
                print(f"infogan_fast.{name}: {what}{error.strerror or error}", file=sys.stderr)
                return 2
            except (MemoryError, RuntimeError) as error:
                if not _is_of_memory(error):
                    raise
                reason = " ".join(str(error).split())[:160]
                if "aten::new_empty" in reason:
                    reason = "a tensor cannot be allocated"
                remedy = _SMALLER.get(name, "--images")
                print(
                    f"infogan_fast.{name}: out of memory ({reason}); make {remedy} smaller", file=sys.stderr
                )
                return 2
            except KeyboardInterrupt:
                if hasattr(sys, "ps1"):  # an interactive session, whose user is there to see it
                    raise
                print(f"infogan_fast.{name}: interrupted", file=sys.stderr)
                return INTERRUPTED

        return main

    return decorate


_NEGATIVE = re.compile(r"-[\d.]")
#: What to make smaller where memory is short; --images of the other commands.
_SMALLER = {
    "train": "--batch-size or --network",
    "seeds": "--batch-size, --network or --jobs",
    "generate": "--n",
    "traverse": "--steps",
}


def _is_of_memory(error: Exception) -> bool:
    """PyTorch has a class for CUDA alone."""
    said = str(error).lower()
    texts = ["out of memory", "can't allocate memory", "alloc_failed"]  # the last one of cuBLAS and cuDNN
    texts += ['"aten::new_empty"']  # of this package's libraries, to which PyTorch does not say why
    return isinstance(error, MemoryError) or any(text in said for text in texts)


def _refuse_several_processes(name: str) -> None:
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError(f"{name} is a command of one process; start it without torchrun")


@contextlib.contextmanager
def _warnings_in_a_line(name: str) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("always", RunWarning)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
            if issubclass(category, RunWarning):
                print(f"infogan_fast.{name}: {printable(str(message))}", file=sys.stderr)
            else:
                usual(message, category, *where)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


@contextlib.contextmanager
def _names_escaped() -> Iterator[None]:
    """Within the block, what the output's encoding lacks, such as bytes of a file's name, is escaped."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    before = stream.errors
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        if not stream.closed:
            stream.reconfigure(errors=before)


class Parser(argparse.ArgumentParser):
    """A parser that takes only flags written out in full, and raises UserError for what it cannot read."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": _Help, "allow_abbrev": False, **options})

    def error(self, message: str) -> Any:
        """Called by argparse with the problem."""
        raise UserError(f"{message}; --help lists the options")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, which takes the -1..1 of ``--pixel-range -1..1`` for a flag."""
        joined: list[str] = []
        for text in sys.argv[1:] if args is None else args:
            if joined and joined[-1] == "--pixel-range" and _NEGATIVE.match(text):
                text = f"{joined.pop()}={text}"
            joined.append(text)
        return super().parse_known_args(joined, namespace)


def as_path(text: str) -> Path:
    """The path that an argument names, with ``~`` replaced where the shell has left it, as in --out=~/run."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; expected a path")
    try:
        return expanded(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add RUN, --checkpoint and --device, the arguments of :func:`infogan_fast.analysis.run.load_run`."""
    parser.add_argument("run", metavar="RUN", type=as_path, help="folder of a trained run")
    parser.add_argument(
        "--checkpoint",
        metavar="FILE|best",
        type=as_path,
        help="a checkpoint of the run, or the one whose L_I came closest to H in training (default: the "
        "last one)",
    )
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="auto: CUDA if there is a device (default: auto)",
    )


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --data and --data-dir, the arguments of :meth:`infogan_fast.analysis.run.Run.load_images`, and what
    :func:`infogan_fast.analysis.run.load_run` is told of these images."""
    parser.add_argument(
        "--data", metavar="NAME|PATH", help="other real images than those the run was trained on"
    )
    parser.add_argument(
        "--data-dir", metavar="DIR", type=as_path, help="folder of published files (default: the run's)"
    )
    parser.add_argument(
        "--pixel-range", metavar="LOW..HIGH", help="black and white in these arrays (default: the run's)"
    )
    parser.add_argument(
        "--label", metavar="NAME", help="which of several labels to take (default: the run's)"
    )


def run_of(args: argparse.Namespace) -> Run:
    """The run that these arguments name; those of the data count where the command has them.

    Raises:
        UserError: as :func:`infogan_fast.analysis.run.load_run`.
    """
    from infogan_fast.analysis.run import load_run

    of_data = {name: getattr(args, name, None) for name in ("pixel_range", "label")}
    return load_run(args.run, checkpoint_file=args.checkpoint, device=args.device, **of_data)


class _Help(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=110)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    parser = Parser(
        prog="infogan-fast",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Fast InfoGAN training.",
        epilog="\n".join(["commands:", *(f"  {name:10}{purpose}" for name, purpose in COMMANDS.items())]),
    )
    parser.add_argument("--version", action="version", version=infogan_fast.__version__)
    parser.add_argument(
        "command", choices=COMMANDS, metavar="COMMAND", help="infogan-fast COMMAND --help lists its options"
    )
    own = parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the command's own arguments")
    own.required = False
    try:
        args = parser.parse_args(argv)
    except UserError as error:
        print(f"infogan-fast: {printable(str(error))}", file=sys.stderr)
        return 2
    status: int = importlib.import_module(f"infogan_fast.{args.command}").main(args.arguments)
    return status
