"""The documents are true: links, anchors, file names, command lines, snippets, versions, headline figures."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import re
import shlex
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import infogan_fast
import infogan_fast.ops
from infogan_fast import cli

ROOT = Path(__file__).resolve().parents[1]
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").glob("*.md"))]
SUFFIXES = "py|md|cpp|cu|cuh|h|sh|toml|ya?ml|json"
FOLDERS = r"csrc|infogan_fast|tests|benchmarks|docs|examples|\.ci|\.github"
#: Files that runs and users leave, not files of the repository.
LEFT_BEHIND = {
    *("config.json", "evaluation.json", "metrics.jsonl", "profile.json", "seeds.json"),
    *("ops.json", "step.json", "infogan_networks.py"),
}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(text: str) -> list[str]:
    """The code blocks of a page, fenced or indented."""
    fenced = [match[2] for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)]
    rest = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return fenced + [match[0] for match in re.finditer(r"(?:^    \S.*\n)+", rest, re.M)]


def prose(text: str) -> str:
    """A page without its code blocks."""
    for block in blocks(text):
        text = text.replace(block, "")
    return text


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub forms them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        heading = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading)
        found.add(re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-"))
    return found


def commands(text: str) -> Iterator[list[str]]:
    """Arguments of each command of this package in a page, such as ["train", "--amp"]."""
    lines = [line for block in blocks(text) for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", prose(text))
    for line in lines:
        for part in re.split(r"&&|\|\|", line):
            found = re.search(r"(?:python -m infogan_fast\.|infogan-fast )(\w+)(.*)", part)
            if found and found[1] in cli.COMMANDS:
                yield [found[1], *shlex.split(found[2], comments=True)]


class Parsed(BaseException):
    """Raised in place of a command's work, once its command line has been parsed."""


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_readme_keeps_its_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    for command in (
        "pip install . && python -m infogan_fast.train",
        "pip install '.[test]' && python -m pytest",
    ):
        assert f"\n    {command}\n" in text


@pages
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text()))
    links += re.findall(r"^\[[^\]]+\]: (\S+)$", page.read_text(), re.M)
    for link in links:
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link} does not exist"
        assert target.is_relative_to(ROOT), f"{page.name}: {link} leads out of the repository"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link} has no such heading"
        if target.suffix == ".json":
            json.loads(target.read_text())


@pages
def test_files_that_are_named_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        pytest.skip("it names files of the past")
    text = page.read_text()
    names = set(re.findall(rf"`((?:[\w.-]+/)*[\w.-]+\.(?:{SUFFIXES}))`", text))
    names |= set(re.findall(rf"\b((?:[\w.-]+/)+[\w.-]+\.(?:{SUFFIXES}))\b", "\n".join(blocks(text))))
    names |= set(re.findall(rf"`((?:{FOLDERS})/(?:[\w.]+/)*)`", text))
    for name in names - LEFT_BEHIND:
        if "NEW" in name or "://" in name or name.startswith(("runs/", "RUN/")):
            continue
        found = (ROOT / name).exists() or ("/" not in name and any(_of_the_repository(name)))
        assert found, f"{page.name} names {name}, which does not exist"


def _of_the_repository(name: str) -> Iterator[Path]:
    for folder in ("csrc", "infogan_fast", "tests", "benchmarks", "docs", "examples"):
        yield from (ROOT / folder).rglob(name)


@pages
def test_command_lines_parse(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = argparse.ArgumentParser.parse_args

    def parse(self: argparse.ArgumentParser, *arguments: Any) -> Any:
        original(self, *arguments)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    for command, *arguments in commands(page.read_text()):
        main = importlib.import_module(f"infogan_fast.{command}").main
        with pytest.raises((Parsed, SystemExit)) as stop:  # --help exits with 0
            main(arguments)
            pytest.fail(f"{page.name}: {command} {shlex.join(arguments)}: {capsys.readouterr().err}")
        assert getattr(stop.value, "code", 0) == 0


def test_the_documents_have_command_lines_to_parse() -> None:
    found = [command for page in PAGES for command, *_ in commands(page.read_text())]
    assert set(found) == set(cli.COMMANDS)


@pages
def test_python_snippets(page: Path) -> None:
    for match in re.finditer(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S):
        tree = ast.parse(match[1])
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "infogan_fast":
                    assert hasattr(infogan_fast, node.attr), f"{page.name}: infogan_fast.{node.attr}"
                if node.value.id == "run":
                    known = {*dir(infogan_fast.Run), *getattr(infogan_fast.Run, "__dataclass_fields__", ())}
                    assert node.attr in known, f"{page.name}: run.{node.attr}"
        if page.name == "operators.md":
            exec(compile(tree, str(page), "exec"), {})


def test_the_operators_page_has_every_schema() -> None:
    text = " ".join((ROOT / "docs" / "operators.md").read_text().split())
    operators = torch.ops.infogan_fast
    for name in dir(operators):
        if not name.startswith("_") and name != "name":
            assert str(getattr(operators, name).default._schema) in text, name


def test_pre_commit_has_the_versions_of_the_dev_extra() -> None:
    pinned, hooks = (
        set(re.findall(r'"([\w-]+==[\w.]+)"', (ROOT / name).read_text()))
        for name in ("pyproject.toml", ".pre-commit-config.yaml")
    )
    assert hooks == pinned


def test_the_readme_has_the_figures_of_its_results() -> None:
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if "benchmarks/results" in line]
    accuracy, *updates = rows
    for link, figure in zip(_results(accuracy), re.findall(r"([\d.]+ ± [\d.]+)", accuracy), strict=True):
        values = [seed["figures"]["c1 accuracy"] for seed in link["seeds"]]
        deviation = f"{statistics.stdev(values):.3f}"
        assert figure == f"{statistics.fmean(values):.3f} ± {deviation}"
    assert len(updates) == 2
    for line in updates:
        (found,) = _results(line)
        variants = found["batches"]["128"]
        shown = [float(number) for number in re.findall(r"\| ([\d.]+) ms", line)]
        measured = [1e3 * variants[name]["seconds"] for name in ("infogan_fast --amp", "plain eager float32")]
        assert shown == pytest.approx(measured, rel=5e-3)


def _results(line: str) -> list[Any]:
    links = re.findall(r"\((benchmarks/results/[^)]+)\)", line)
    return [json.loads((ROOT / link).read_text()) for link in links]
