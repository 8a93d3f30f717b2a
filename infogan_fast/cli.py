"""``infogan-fast COMMAND ...``: the same programs as ``python -m infogan_fast.COMMAND ...``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

import infogan_fast
from infogan_fast.errors import UserError

#: Each is a module with main(argv), which returns the exit status.
COMMANDS = {
    "train": "train on images",
    "seeds": "train with many seeds and choose a run without labels",
    "evaluate": "score what a run's codes mean",
    "traverse": "picture what each code of a run does",
    "generate": "make images with chosen codes",
    "info": "print what is installed and what was built",
}


class Parser(argparse.ArgumentParser):
    """Flags of a command, which are written out in full; what cannot be read raises UserError."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Help, allow_abbrev=False, **options)

    def error(self, message: str) -> Any:
        """Called by argparse with what is wrong."""
        raise UserError(f"{message}; --help lists the options")


class _Help(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=110)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; an error that the user can mend is one line on stderr and status 2."""
    parser = argparse.ArgumentParser(
        prog="infogan-fast",
        description="InfoGAN training, fast.",
        epilog="commands: " + "; ".join(f"{name}: {what}" for name, what in COMMANDS.items()),
    )
    parser.add_argument("--version", action="version", version=infogan_fast.__version__)
    parser.add_argument("command", choices=COMMANDS, help="infogan-fast COMMAND --help tells more")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the command takes")
    args = parser.parse_args(argv)
    try:
        status: int = importlib.import_module(f"infogan_fast.{args.command}").main(args.arguments)
    except UserError as error:
        print(f"infogan-fast {args.command}: {error}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
