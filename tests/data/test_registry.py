"""The registry: every named source loads, and a new one is usable everywhere once it has its line."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from infogan_fast.config import Config
from infogan_fast.data import ImageSet, load_images
from infogan_fast.data.image_set import Selection
from infogan_fast.data.registry import SOURCES, ImageSource
from infogan_fast.errors import UserError
from infogan_fast.objective.term import term_options
from infogan_fast.objective.transformation import Transformation
from infogan_fast.recipes import DEFAULT
from infogan_fast.train import main as train_main


def test_sources_are_known_by_their_names() -> None:
    assert list(SOURCES) == [source.name for source in SOURCES.values()]
    assert {"strokes", "sprites", "mnist", "fashion-mnist"} <= set(SOURCES)
    assert Config().data == "strokes"


@pytest.mark.parametrize(
    "code",
    ["import infogan_fast.data.registry", "import infogan_fast.train as t; t.parse(['--images', '1'])"],
)
def test_naming_sources_imports_no_library(code: str) -> None:
    code = f"import sys; {code}; print({{'torch', 'numpy', 'PIL'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_recipes_of_sources_change_what_a_recipe_may() -> None:
    for source in SOURCES.values():
        assert set(source.recipe) <= set(DEFAULT)
    assert set(term_options()) <= set(DEFAULT)


@pytest.mark.parametrize("name", [source.name for source in SOURCES.values() if source.drawn])
def test_known_factors_are_those_of_the_images(name: str) -> None:
    assert tuple(load_images(name, count=2).factors) == SOURCES[name].factors != ()


@pytest.fixture
def checkers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registered source of checkered images."""

    def load(name: str, selection: Selection) -> ImageSet:
        count = selection.count or 12
        images = torch.arange(16 * 16).view(16, 16).remainder(2).mul(255).to(torch.uint8)
        turned = torch.arange(count).remainder(2).mul(255).to(torch.uint8).view(-1, 1, 1, 1)
        return ImageSet(turned ^ images, None, {}, name, f"{name}: {count} images")

    module = types.ModuleType("infogan_fast.data.checkers")
    module.load = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "infogan_fast.data.checkers", module)
    source = ImageSource("checkers", "checkers", Transformation(rotation=5.0), {"balance": 0.5})
    monkeypatch.setitem(SOURCES, "checkers", source)


@pytest.mark.usefixtures("checkers")
def test_a_new_source_trains_with_its_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_images("checkers", count=3).images.shape == (3, 1, 16, 16)
    config = Config(data="checkers").checked()
    assert (config.get("balance"), config.transformation) == (0.5, Transformation(rotation=5.0))
    assert config.data_name == "checkers"
    flags = ["--data", "checkers", "--steps", "1", "--batch-size", "4", "--device", "cpu"]
    assert train_main([*flags, "--out", str(tmp_path / "run")]) == 0
    assert "checkers: 12 images, 16 x 16 grey" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"not one of .*, checkers; did you mean checkers"):
        load_images("chekers")
