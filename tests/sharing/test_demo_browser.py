"""The demo page in a browser."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sharing.conftest import assert_accessible
from sharing.test_demo import pixels, png, served
from torch import Tensor

from infogan_fast.analysis.run import load_run
from infogan_fast.pictures.samples import to_pixels
from infogan_fast.sharing.demo_answers import Answers, prepare

SECONDS = 30


@pytest.fixture(scope="module")
def address(strokes_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip("gradio", reason="needs the extra demo")
    with served(strokes_run, tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture(scope="module")
def answers(strokes_run: Path) -> Answers:
    return prepare(load_run(strokes_run, device="cpu"), None, None)


def shown(page: Any, name: str) -> Image.Image:
    """The picture in a component."""
    source = page.locator(f"#{name} img").get_attribute("src")
    return Image.open(io.BytesIO(page.request.get(source).body()))


def becomes(look: Callable[[], bool]) -> bool:
    """Whether this is true before long."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if look():
            return True
        time.sleep(0.1)
    return look()


def shows(page: Any, answers: Answers, image: Tensor) -> bool:
    """Whether the page shows this image as seen, with its reading."""
    if not torch.equal(pixels(shown(page, "seen"), 1), image):
        return False
    reading = answers.read(image)
    made = answers.made_of(reading, 1)
    text = page.locator("#read-others").inner_text()
    shares = [page.get_by_test_id(f"{i}-confidence-set").locator("meter") for i in range(3)]
    values = [float(share.get_attribute("value")) for share in shares]
    return (
        np.array_equal(np.asarray(shown(page, "remade")), np.asarray(made))
        and f"{reading.means['c2']:+.2f} ± {reading.sigmas['c2']:.2f}" in text
        and f"1 with probability {reading.probabilities['c3'][0]:.3f}" in text
        and values == pytest.approx(reading.probabilities["c1"])
    )


def test_images_of_the_chosen_codes(open_page: Callable[..., Any], address: str, answers: Answers) -> None:
    page = open_page(address)

    def made(seed: int, **codes: Any) -> bool:
        wanted = to_pixels(answers.run.generate(1, seed=seed, **codes))[0]
        return torch.equal(pixels(shown(page, "made"), 1), wanted)

    page.locator("#made img").wait_for()
    assert made(1, c1=0, c2=0, c3=0)
    slider = page.locator("#code-c2 input[type=range]")
    slider.focus()
    for _ in range(7):
        page.keyboard.press("ArrowRight")
    assert slider.input_value() == "0.35"
    assert becomes(lambda: made(1, c1=0, c2=0.35, c3=0))
    page.locator("#code-c1").get_by_role("radio", name="2").check()
    page.locator("#code-c3").get_by_role("checkbox").check()
    assert becomes(lambda: made(1, c1=2, c2=0.35, c3=1))
    page.locator("#seed input").fill("12")
    assert becomes(lambda: made(12, c1=2, c2=0.35, c3=1))
    page.get_by_role("button", name="New noise").click()
    seed = page.locator("#seed input")
    assert becomes(lambda: seed.input_value() != "12")
    assert becomes(lambda: made(int(seed.input_value()), c1=2, c2=0.35, c3=1))
    page.locator("#show").get_by_role("radio", name="each category").check()
    assert becomes(lambda: shown(page, "made").size == (8 * 65 + 1, 3 * 65 + 1))


def test_a_drawing_is_read(open_page: Callable[..., Any], address: str, answers: Answers) -> None:
    page = open_page(address)
    page.locator("#seen img").wait_for()
    assert shows(page, answers, answers.examples[0])
    canvas = page.locator("#sketch canvas").first
    page.locator("#sketch button[aria-label=Brush]").wait_for()
    canvas.scroll_into_view_if_needed()
    before = pixels(shown(page, "seen"), 1)

    def draw() -> bool:
        box = canvas.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y - 100)
        page.mouse.down()
        page.mouse.move(x, y + 100, steps=10)
        page.mouse.up()
        page.wait_for_timeout(2000)
        return not torch.equal(pixels(shown(page, "seen"), 1), before)

    assert becomes(draw)  # the page takes a moment until its paper is ready
    image = pixels(shown(page, "seen"), 1)
    # Light on dark: a stroke from top to bottom in the middle.
    assert image[0, :, :3].max() == image[0, :, -3:].max() == 0
    assert image[0, 5:11, 7:9].min() > 100
    assert becomes(lambda: shows(page, answers, image))
    page.locator("#invert-sketch").get_by_role("checkbox").uncheck()
    assert becomes(lambda: shows(page, answers, 255 - image))


def test_a_file_and_a_real_image_are_read(
    open_page: Callable[..., Any], address: str, answers: Answers
) -> None:
    page = open_page(address)
    page.locator("#seen img").wait_for()
    page.get_by_role("tab", name="Picture file").click()
    data = png(Image.fromarray(np.random.default_rng(3).integers(0, 256, (50, 40, 4), np.uint8)))
    upload = {"name": "a.png", "mimeType": "image/png", "buffer": data}
    page.locator("#file input[type=file]").set_input_files(upload)
    assert becomes(lambda: shows(page, answers, answers.seen(data, invert=False)))
    page.locator("#invert-file").get_by_role("checkbox").check()
    assert becomes(lambda: shows(page, answers, answers.seen(data, invert=True)))
    page.get_by_role("tab", name="Real images").click()
    page.get_by_role("button", name="Thumbnail 6 of 16").click()
    assert becomes(lambda: shows(page, answers, answers.examples[5]))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(open_page: Callable[..., Any], address: str, scheme: str) -> None:
    page = open_page(address, color_scheme=scheme)
    page.locator("#made img").wait_for()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    for tab in ("Draw", "Picture file", "Real images"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(500)
        assert_accessible(page)


def test_a_small_screen(open_page: Callable[..., Any], address: str) -> None:
    page = open_page(address, viewport={"width": 390, "height": 800})
    page.locator("#made img").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
