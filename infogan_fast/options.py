"""Options, each declared once: a dataclass field that carries its default, help, range and group.

Flags, range errors, ``--help``, docs/options.md and config.json all derive from the declaration.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infogan_fast.errors import UserError

_KEY = "option"


@dataclass(frozen=True)
class Option:
    """The declaration of an option.

    name: of the field; the flag has hyphens for its underscores.
    kind: int, float, bool or str, or another type that ``parse`` makes of a text.
    default: of the field; None where the recipe or the machine decides.
    help: one line for ``--help``; ``details`` follow in docs/options.md.
    group: the heading under which it is listed.
    shown: the default in words, where the value does not say enough.
    low, high: the range, ends included; ``above`` and ``below`` are ends that are excluded.
    expected: the range in words, where the bounds do not say enough.
    choices: the values there are.
    parse: reads a value from a text; raises UserError.
    resumable: whether a resumed run may change it.
    by_recipe: whether the recipe decides where it is not given.
    in_updates: whether it counts updates, and so has to be a multiple of --steps-per-replay.
    """

    name: str
    kind: type
    default: Any
    help: str
    group: str
    details: str = ""
    shown: str = ""
    metavar: str | None = None
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    expected: str = ""
    choices: tuple[Any, ...] = ()
    parse: Callable[[str], Any] | None = None
    resumable: bool = False
    by_recipe: bool = False
    in_updates: bool = False

    @property
    def flag(self) -> str:
        """Its flag on the command line."""
        return "--" + self.name.rstrip("_").replace("_", "-")

    def convert(self, value: Any) -> Any:
        """A value from Python, JSON or the command line as the option's type; None stays None.

        Raises:
            UserError: the value has another type, or cannot be parsed.
        """
        if value is None:
            return None
        if self.parse is not None:
            if isinstance(value, Mapping):  # of the parts of a text such as rotation=15,scale=0.1
                value = ",".join(f"{part}={number}" for part, number in value.items())
            if self.kind is tuple and isinstance(value, (tuple, list)):
                value = ":".join(map(str, value))
            return self.parse(value) if isinstance(value, str) else self._instance(value)
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if self.kind is int and whole:
            return int(value)
        if self.kind is float and (whole or isinstance(value, numbers.Real)) and not isinstance(value, bool):
            return float(value)
        if self.kind is str and hasattr(value, "__fspath__"):
            return str(value)
        return self._instance(value)

    def _instance(self, value: Any) -> Any:
        if self.kind is bool and type(value).__name__ in ("bool", "bool_"):  # NumPy's, without importing it
            return bool(value)
        if not isinstance(value, self.kind) or (self.kind is int and isinstance(value, bool)):
            names = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}
            expected = names.get(self.kind, f"a text or a {self.kind.__name__}")
            raise UserError(f"{self.flag} is {value!r}; expected {expected}")
        return value

    def check(self, value: Any) -> None:
        """Check that a converted value is in range; None is.

        Raises:
            UserError: it is not; the text names the flag and the range.
        """
        if value is None:
            return
        if self.choices and value not in self.choices:
            raise UserError(f"{self.flag} is {value!r}; expected one of {', '.join(map(str, self.choices))}")
        if self.kind not in (int, float):
            return
        inside = (
            math.isfinite(value)
            and (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )
        if not inside:
            raise UserError(f"{self.flag} is {value}; expected {self.range_in_words}")

    @property
    def range_in_words(self) -> str:
        """Such as "at least 1"; empty where every number is in range."""
        number = "a number " if self.kind is float else ""
        if self.expected:
            return self.expected
        if self.low is not None and self.below is not None:
            return f"at least {self.low:g} and below {self.below:g}"
        if self.low is not None and self.high is not None:
            return f"{self.low} to {self.high}"
        if self.low is not None:
            return f"{number}of at least {self.low:g}" if number else f"at least {self.low:g}"
        if self.above is not None:
            return f"{number}above {self.above:g}"
        return "a finite number" if self.kind is float else ""

    def in_words(self, value: Any) -> str:
        """A value as the command line shows it."""
        if isinstance(value, bool):
            return "on" if value else "off"
        return f"{value:g}" if isinstance(value, float) else str(value)

    @property
    def default_in_words(self) -> str:
        """The default as the command line shows it."""
        return self.shown or self.in_words(self.default)


def option(default: Any, help: str, *, group: str, kind: type | None = None, **declared: Any) -> Any:
    """A dataclass field that declares an option; see :class:`Option` for what may be declared."""
    kind = kind or type(default)
    return dataclasses.field(
        default=default, metadata={_KEY: {"kind": kind, "help": help, "group": group, **declared}}
    )


def options_of(dataclass_type: Any) -> dict[str, Option]:
    """The options that a dataclass declares, by name, in their order."""
    return {
        field.name: Option(name=field.name, default=field.default, **field.metadata[_KEY])
        for field in dataclasses.fields(dataclass_type)
        if _KEY in field.metadata
    }


def add_flags(parser: argparse.ArgumentParser, options: Iterable[Option]) -> dict[str, Any]:
    """Add a flag for each option, under its group; returns the groups by heading.

    A flag that is not given should be absent from the namespace: make the parser with
    ``argument_default=argparse.SUPPRESS``.
    """
    groups: dict[str, Any] = {}
    for declared in options:
        if declared.group not in groups:
            groups[declared.group] = parser.add_argument_group(declared.group)
        arguments: dict[str, Any] = {"metavar": declared.metavar, "dest": declared.name}
        if declared.kind is bool:
            arguments = {"action": argparse.BooleanOptionalAction, "dest": declared.name}
        elif declared.choices:
            arguments = {"choices": declared.choices, "type": declared.kind, "dest": declared.name}
        elif declared.kind in (int, float):
            arguments["type"] = declared.kind
        text = f"{declared.help} (default: {declared.default_in_words})".replace("%", "%%")
        groups[declared.group].add_argument(declared.flag, help=text, **arguments)
    return groups


def markdown(options: Mapping[str, Option]) -> str:
    """The options as a page: a table a group, with what ``--help`` has no room for."""
    lines: list[str] = []
    for heading in dict.fromkeys(declared.group for declared in options.values()):
        lines += ["", f"## {heading[0].upper()}{heading[1:]}", "", "| option | default | meaning |"]
        lines.append("| --- | --- | --- |")
        for declared in options.values():
            if declared.group != heading:
                continue
            name = (
                declared.flag if declared.kind is not bool else f"{declared.flag}, --no-{declared.flag[2:]}"
            )
            values = [str(choice) for choice in declared.choices] or [declared.range_in_words]
            meaning = f"{declared.help[0].upper()}{declared.help[1:]}. {declared.details}".strip()
            allowed = ", ".join(f"`{value}`" for value in values) if declared.choices else values[0]
            meaning += f" Values: {allowed}." if allowed else ""
            meaning += " A resumed run may change it." if declared.resumable else ""
            meaning = meaning.replace("|", "\\|")
            lines.append(f"| `{name}` | {declared.default_in_words} | {meaning} |")
    return "\n".join(lines) + "\n"
