"""The declaration of an option: its values, its range, its flag and its line in the documentation."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infogan_fast.errors import UserError
from infogan_fast.options import add_flags, markdown, option, options_of


def pair(text: str) -> tuple[int, ...]:
    if text.count(":") != 1:
        raise UserError(f"--span is {text!r}; expected A:B")
    return tuple(map(int, text.split(":")))


@dataclass
class Declared:
    count: int = option(3, "how many", group="first", low=1, resumable=True)
    rate: float = option(0.5, "how fast", group="first", low=0, below=1)
    scale: float | None = option(None, "how large", group="second", kind=float, above=0, shown="as it is")
    on: bool = option(True, "whether", group="second")
    kind: str = option("a", "which | of two", group="second", choices=("a", "b"), details="Two there are.")
    span: tuple[int, ...] | None = option(None, "from where", group="second", kind=tuple, parse=pair)
    plain: int = 7


OPTIONS = options_of(Declared)


def test_fields_without_a_declaration_are_no_options() -> None:
    assert list(OPTIONS) == ["count", "rate", "scale", "on", "kind", "span"]
    assert OPTIONS["count"].flag == "--count"
    assert Declared() == Declared(3, 0.5, None, True, "a", None, 7)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("count", 5, 5),
        ("rate", 1, 1.0),
        ("scale", None, None),
        ("on", False, False),
        ("kind", Path("b"), "b"),
        ("span", "1:2", (1, 2)),
        ("span", (1, 2), (1, 2)),
    ],
)
def test_values_from_python_and_texts(name: str, value: Any, expected: Any) -> None:
    converted = OPTIONS[name].convert(value)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("count", 5.0, "--count is 5.0; expected a whole number"),
        ("count", True, "--count is True; expected a whole number"),
        ("count", "5", "--count is '5'; expected a whole number"),
        ("rate", "fast", "--rate is 'fast'; expected a number"),
        ("rate", False, "--rate is False; expected a number"),
        ("on", 1, "--on is 1; expected True or False"),
        ("kind", 3, "--kind is 3; expected a text"),
        ("span", "1", "--span is '1'; expected A:B"),
        ("span", 4, "--span is 4; expected a text or a tuple"),
    ],
)
def test_values_of_another_type(name: str, value: Any, message: str) -> None:
    with pytest.raises(UserError) as error:
        OPTIONS[name].convert(value)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("count", 0, "--count is 0; expected at least 1"),
        ("rate", 1.0, "--rate is 1.0; expected at least 0 and below 1"),
        ("rate", float("nan"), "--rate is nan; expected at least 0 and below 1"),
        ("scale", 0.0, "--scale is 0.0; expected a number above 0"),
        ("scale", float("inf"), "--scale is inf; expected a number above 0"),
        ("kind", "c", "--kind is 'c'; expected one of a, b"),
    ],
)
def test_values_out_of_range(name: str, value: Any, message: str) -> None:
    with pytest.raises(UserError) as error:
        OPTIONS[name].check(value)
    assert str(error.value) == message


def test_values_in_range() -> None:
    for name, value in (("count", 1), ("rate", 0.0), ("scale", None), ("scale", 1e-9), ("kind", "b")):
        OPTIONS[name].check(value)


def test_flags() -> None:
    parser = argparse.ArgumentParser(argument_default=argparse.SUPPRESS)
    groups = add_flags(parser, OPTIONS.values())
    assert list(groups) == ["first", "second"]
    given = vars(parser.parse_args(["--count", "4", "--no-on", "--span", "1:2"]))
    assert given == {"count": 4, "on": False, "span": "1:2"}
    text = parser.format_help()
    assert "how many (default: 3)" in text
    assert "how large (default: as it is)" in text


def test_page() -> None:
    lines = markdown(OPTIONS).splitlines()
    assert lines[:2] == ["", "## First"]
    assert "| `--count` | 3 | How many. Values: at least 1. A resumed run may change it. |" in lines
    assert "| `--on, --no-on` | on | Whether. |" in lines
    assert "| `--kind` | a | Which \\| of two. Two there are. Values: `a`, `b`. |" in lines
