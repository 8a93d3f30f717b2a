"""``python -m infogan_fast.demo RUN``: a page on this machine to play with a trained run."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence

from infogan_fast.cli import Parser, add_data_arguments, add_run_arguments, command, run_of
from infogan_fast.constants import INTERRUPTED
from infogan_fast.errors import UserError

HOST, PORT = "127.0.0.1", 7860


def parser() -> argparse.ArgumentParser:
    """The options of this command."""
    result = Parser(
        prog="python -m infogan_fast.demo",
        description="Serve a page on this machine to play with a trained InfoGAN: choose codes and see the "
        "images, draw or drop an image and see how Q reads it. Ctrl-C ends it. It needs gradio: "
        "pip install 'infogan_fast[demo]'.",
    )
    add_run_arguments(result)
    result.add_argument(
        "--host",
        metavar="ADDRESS",
        default=HOST,
        help=f"address of this machine to serve at; others than {HOST} let other machines in "
        f"(default: {HOST})",
    )
    result.add_argument(
        "--port", metavar="N", type=int, default=PORT, help=f"0 takes a free one (default: {PORT})"
    )
    add_data_arguments(result)
    return result


@command("demo")
def main(argv: Sequence[str] | None = None) -> int:
    """Serve a run's page until Ctrl-C. Returns the exit status."""
    args = parser().parse_args(argv)
    if not 0 <= args.port < 2**16:
        raise UserError(f"--port is {args.port}; expected 0 to {2**16 - 1}")
    try:
        with tempfile.TemporaryDirectory(prefix="infogan-demo-", ignore_cleanup_errors=True) as folder:
            _run(args, folder)
    except KeyboardInterrupt:  # before there is a page
        return INTERRUPTED
    return 0


def _run(args: argparse.Namespace, folder: str) -> None:
    from infogan_fast.sharing import demo_answers, demo_page

    gr = demo_page.import_gradio(folder)
    with demo_page.listening(args.host, args.port) as at:
        run = run_of(args)
        answers = demo_answers.prepare(run, args.data, args.data_dir)
        if answers.encoder is None:
            print(f"infogan_fast.demo: the page does not read pictures: {answers.missing}", file=sys.stderr)
        if not demo_page.is_loopback(args.host):
            print(
                f"infogan_fast.demo: --host {args.host}: everybody who reaches this address of the machine "
                "can use the page, without a password",
                file=sys.stderr,
            )
        demo_page.serve(gr, demo_page.build_page(gr, answers), at, demo_page.url_of(args.host, at), args.host)


if __name__ == "__main__":
    sys.exit(main())
