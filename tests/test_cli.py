"""The command line: dispatch, and one line with status 2 for what the user can correct."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from infogan_fast import cli
from infogan_fast.errors import UserError


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
