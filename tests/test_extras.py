"""Packages that some parts need, present, missing and half removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infogan_fast.errors import UserError
from infogan_fast.extras import extra


def test_what_is_there() -> None:
    assert extra("data", "json", "this") is json


@pytest.mark.parametrize("left", [False, True], ids=["missing", "a folder is left"])
def test_what_is_not(left: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    if left:
        (tmp_path / "not_a_package" / "templates").mkdir(parents=True)
    with pytest.raises(
        UserError, match=r"^a\.b: reading it needs not_a_package \(.*\); .*'infogan_fast\[data\]'$"
    ):
        extra("data", "not_a_package", "a.b: reading it")
