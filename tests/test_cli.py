"""The command line: dispatch, and one line with status 2 for what the user can correct."""

from __future__ import annotations

import errno
import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from infogan_fast import cli
from infogan_fast.cli import command
from infogan_fast.errors import RunWarning, UserError


def test_command_line_dispatches(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    assert "CPU library" in capsys.readouterr().out
    assert cli.main(["no-such-command"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("infogan-fast: argument COMMAND: invalid choice: 'no-such-command' (choose from")
    assert cli.main([]) == 2
    said += capsys.readouterr().err
    assert said.count("\n") == 2 and said.endswith("are required: COMMAND; --help lists the options\n")


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
        RuntimeError('torch_call_dispatcher( "aten::new_empty", "", stack.data()) API call failed at ops.h'),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB."),
    ],
)
@pytest.mark.parametrize(
    ("name", "remedy"), [("train", "--batch-size"), ("generate", "--n"), ("demo", "--images")]
)
def test_exhausted_memory_takes_a_line(
    error: Exception, name: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @command(name)
    def main(argv: Sequence[str] | None = None) -> int:
        raise error

    assert main([]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "out of memory" in said and f"make {remedy}" in said
    assert "torch_call" not in said


@pytest.mark.parametrize(
    ("module", "flag"),
    [
        *(("request", flag) for flag in ("out", "resume")),
        *(("generate", flag) for flag in ("out", "checkpoint")),
        *(("evaluate", flag) for flag in ("json", "data-dir")),
        *(("report", flag) for flag in ("out", "evaluation")),
        *(("export", flag) for flag in ("out", "evaluation")),
        *((name, "out") for name in ("seeds", "traverse")),
    ],
)
def test_a_home_folder_that_the_shell_has_left(
    module: str, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    parser = importlib.import_module(f"infogan_fast.{module}").parser()
    required = {"request": [], "seeds": [], "export": ["~/run", "--to", "onnx"]}.get(module, ["~/run"])
    args = vars(parser.parse_args([*required, f"--{flag}=~/file"]))
    assert args[flag.replace("-", "_")] == Path("/home/someone/file")
    assert args.get("run", Path("/home/someone/run")) == Path("/home/someone/run")
    with pytest.raises(UserError, match=f"--{flag}: ~nobody-at-all: there is no such user"):
        parser.parse_args([*required, f"--{flag}=~nobody-at-all"])


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
