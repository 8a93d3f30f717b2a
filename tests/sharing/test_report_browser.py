"""The page of a run in a browser: the explorer by keyboard, accessibility, narrow windows, print."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks.narrow import narrow
from sharing.conftest import assert_accessible

from infogan_fast import evaluate, report
from infogan_fast.analysis.run import Run, load_run
from infogan_fast.pictures.samples import to_pixels
from infogan_fast.sharing import explorer
from infogan_fast.train import main as train_main

_PIXELS = """() => {
  const canvas = document.getElementById("stage");
  const {width, height} = canvas;
  return {width, height, data: [...canvas.getContext("2d").getImageData(0, 0, width, height).data]};
}"""


@pytest.fixture(scope="module")
def page_file(strokes_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with all parts."""
    folder = tmp_path_factory.mktemp("page")
    out, evaluation = folder / "page.html", folder / "evaluation.json"
    flags = ["--json", str(evaluation), "--no-quality", "--images", "100", "--device", "cpu"]
    assert evaluate.main([str(strokes_run), *flags]) == 0
    flags = ["--evaluation", str(evaluation), "--out", str(out), "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explorer, "MOST_CELLS", 110)
        assert report.main([str(strokes_run), *flags]) == 0
    return out


def at(page: Any, *positions: int) -> None:
    """Wait until the canvas shows these positions of the controls."""
    wanted = ",".join(map(str, positions))
    page.wait_for_function(
        "wanted => document.getElementById('stage').dataset.positions === wanted", arg=wanted
    )


def assert_shows(page: Any, run: Run, noise: int, **codes: float) -> None:
    """The canvas has exactly the images that run.generate makes for these codes, and says so."""
    found = page.evaluate(_PIXELS)
    drawn = np.array(found["data"], np.uint8).reshape(found["height"], found["width"], 4)
    side, columns = run.image_size, -(-noise // 2)
    pitch = side + max(1, round(side / 16))
    images = to_pixels(run.generate(noise, seed=1, **codes)).expand(-1, 3, -1, -1)
    for i, image in enumerate(images):
        top, left = i // columns * pitch, i % columns * pitch
        cell = drawn[top : top + side, left : left + side]
        assert (cell[..., 3] == 255).all()
        assert (cell[..., :3] == image.permute(1, 2, 0).numpy()).all(), (i, codes)
    text = page.locator("#shown").inner_text()
    assert text == page.locator("#stage").get_attribute("aria-label")
    for name, value in codes.items():
        assert f"{name} = {value:g}" in text
        assert f"--set {name}={value:g}" in page.locator("#same").inner_text()


def test_the_explorer_by_keyboard(page_file: Path, strokes_run: Path, open_page: Callable[..., Any]) -> None:
    run = load_run(strokes_run, device="cpu")
    page = open_page(page_file)
    at(page, 0, 8, 0)
    assert_shows(page, run, 8, c1=0, c2=0.0, c3=0.0)
    page.locator("#control-c1").focus()
    page.keyboard.press("ArrowDown")
    at(page, 1, 8, 0)
    assert_shows(page, run, 8, c1=1, c2=0.0, c3=0.0)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "control-c2"
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    at(page, 1, 11, 0)
    assert_shows(page, run, 8, c1=1, c2=0.75, c3=0.0)
    assert page.locator("#control-c2").get_attribute("aria-valuetext") == "0.75"
    page.keyboard.press("Home")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    at(page, 1, 0, 1)
    assert_shows(page, run, 8, c1=1, c2=-2.0, c3=1.0)
    assert page.locator("#shown").get_attribute("aria-live") == "polite"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the button that resets
    at(page, 0, 8, 0)
    assert page.locator("#control-c2").input_value() == "8"
    assert not page.locator("#control-c3").is_checked()


def test_single_controls_return_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_page: Callable[..., Any]
) -> None:
    monkeypatch.setattr(explorer, "MOST_CELLS", 40)
    flags = ["--images", "20", "--image-size", "16", "--batch-size", "8", "--steps", "1", "--device", "cpu"]
    latents = ["--network", narrow(), "--latents", "noise=4,cat=2,uniform=3"]
    assert train_main([*flags, *latents, "--out", str(tmp_path / "run")]) == 0
    assert report.main([str(tmp_path / "run"), "--device", "cpu"]) == 0
    run = load_run(tmp_path / "run", device="cpu")
    page = open_page(tmp_path / "run/report.html")
    assert "Of c2, c3, c4 only one is away from its start at a time" in page.locator("#explorer").inner_text()
    at(page, 0, 2, 2, 2)
    page.locator("#control-c1").focus()
    page.keyboard.press("ArrowDown")
    page.locator("#control-c2").focus()
    page.keyboard.press("ArrowLeft")
    at(page, 1, 1, 2, 2)
    assert_shows(page, run, 4, c1=1, c2=-1.0, c3=0.0, c4=0.0)
    page.locator("#control-c4").focus()
    page.keyboard.press("End")
    at(page, 1, 2, 2, 4)
    assert_shows(page, run, 4, c1=1, c2=0.0, c3=0.0, c4=2.0)
    assert page.locator("#control-c2").input_value() == "2"


def test_a_colour_run(
    colour_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_page: Callable[..., Any]
) -> None:
    monkeypatch.setattr(explorer, "MOST_CELLS", 50)
    assert report.main([str(colour_run), "--device", "cpu", "--out", str(tmp_path / "page.html")]) == 0
    page = open_page(tmp_path / "page.html")
    at(page, 0, 10)
    page.locator("#control-c2").focus()
    page.keyboard.press("ArrowRight")
    at(page, 0, 11)
    assert_shows(page, load_run(colour_run, device="cpu"), 8, c1=0, c2=0.2)


@pytest.fixture(scope="module")
def study_file(three_seeds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "page.html"
    assert report.main([str(three_seeds), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def bare_file(strokes_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run that has nothing yet."""
    folder = tmp_path_factory.mktemp("bare")
    shutil.copy(strokes_run / "config.json", folder)
    assert report.main([str(folder), "--device", "cpu"]) == 0
    return folder / "report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["page_file", "study_file", "bare_file"])
def test_accessible(
    name: str, scheme: str, request: pytest.FixtureRequest, open_page: Callable[..., Any]
) -> None:
    page = open_page(request.getfixturevalue(name), color_scheme=scheme)
    for details in page.locator("details").all():
        details.evaluate("element => { element.open = true; }")
    assert_accessible(page)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(18, 21, 28)") == (scheme == "dark")


@pytest.mark.parametrize("name", ["page_file", "study_file", "bare_file"])
def test_narrow(name: str, request: pytest.FixtureRequest, open_page: Callable[..., Any]) -> None:
    page = open_page(request.getfixturevalue(name), viewport={"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_print(page_file: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(page_file, color_scheme="dark")
    at(page, 0, 8, 0)
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert not page.locator("nav").is_visible()
    assert page.locator("#stage").is_visible()
    assert page.locator("svg.chart").count() == page.locator("svg.chart:visible").count() > 3
    assert page.pdf().startswith(b"%PDF")


def test_charts_follow_the_scheme(page_file: Path, open_page: Callable[..., Any]) -> None:
    colours = set()
    for scheme in ("light", "dark"):
        page = open_page(page_file, color_scheme=scheme)
        stroke = "getComputedStyle(document.querySelector('[id^=c1-curve-L_I] path')).stroke"
        colours.add(page.evaluate(stroke))
    assert colours == {"rgb(42, 91, 208)", "rgb(143, 177, 255)"}


def test_without_scripts(page_file: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(page_file, java_script_enabled=False)
    assert page.locator("noscript").inner_text().startswith("The explorer needs JavaScript")
