"""The info command: versions, and how to build what is missing."""

from __future__ import annotations

import pytest
import torch

import infogan_fast
from infogan_fast import info
from infogan_fast.errors import NativeError
from infogan_fast.runtime import native


def test_info_prints_versions_and_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    assert info.main([]) == 0
    printed = capsys.readouterr().out
    for expected in (infogan_fast.__version__, torch.__version__, "CPU library  loaded", "CUDA library "):
        assert expected in printed
    missing = native.cuda_missing()
    assert missing is None or f"MISSING: {missing}" in printed


def test_info_reports_a_missing_library(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load() -> None:
        raise NativeError("not built; build it: pip install .")

    monkeypatch.setattr(native, "load", load)
    assert info.main([]) == 0
    printed = capsys.readouterr().out
    assert "CPU library  MISSING: not built; build it: pip install ." in printed
    assert "CUDA library MISSING: it needs the CPU library" in printed


def test_an_unknown_option_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert info.main(["--nonsense"]) == 2
    assert "infogan_fast.info: unrecognized arguments: --nonsense" in capsys.readouterr().err
