"""The command line: dispatch, and one line with status 2 for what the user can correct."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Sequence

import pytest
import torch

from infogan_fast import cli
from infogan_fast.cli import command
from infogan_fast.errors import RunWarning, UserError


def test_command_line_dispatches(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    assert "CPU library" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main(["no-such-command"])
    assert stop.value.code == 2


def test_a_user_error_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    @cli.command("info")
    def main(argv: Sequence[str] | None = None) -> int:
        raise UserError(f"no such thing: {argv}")

    assert main(["--x"]) == 2
    assert capsys.readouterr().err == "infogan_fast.info: no such thing: ['--x']\n"


def test_warnings_about_a_run_take_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    @cli.command("probe")
    def probe(argv: Sequence[str] | None = None) -> int:
        for _ in range(2):
            warnings.warn("the one before is used", RunWarning, stacklevel=1)
        return 0

    assert probe([]) == 0
    assert capsys.readouterr().err == 2 * "infogan_fast.probe: the one before is used\n"


def test_an_error_of_the_system_takes_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    @cli.command("probe")
    def probe(argv: Sequence[str] | None = None) -> int:
        raise OSError(errno.ENAMETOOLONG, "File name too long", "a\nb")

    assert probe([]) == 2
    assert capsys.readouterr().err == "infogan_fast.probe: 'a\\nb': File name too long\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: 1 GB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB."),
    ],
)
def test_exhausted_memory_takes_a_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    @command("train")
    def main(argv: Sequence[str] | None = None) -> int:
        raise error

    assert main([]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "out of memory" in said and "--batch-size" in said


def test_other_errors_are_not_taken_for_exhausted_memory() -> None:
    @command("train")
    def main(argv: Sequence[str] | None = None) -> int:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        main([])


def test_an_interruption_takes_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    @command("generate")
    def main(argv: Sequence[str] | None = None) -> int:
        raise KeyboardInterrupt

    assert main([]) == 130
    assert capsys.readouterr().err == "infogan_fast.generate: interrupted\n"


def test_a_name_with_a_newline_stays_in_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    @cli.command("probe")
    def probe(argv: Sequence[str] | None = None) -> int:
        raise UserError("a\nb\x1b[31m: cannot be read")

    assert probe([]) == 2
    assert capsys.readouterr().err == "infogan_fast.probe: a\\nb\\x1b[31m: cannot be read\n"
