"""What a run says of its images: the lines of data.txt and the pictures of data.png."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from infogan_fast.config import Config, load_config
from infogan_fast.data import ImageSet, load_images
from infogan_fast.train import main as train_main
from infogan_fast.training.run_folder import write_report

FLAGS = ["--batch-size", "4", "--latents", "noise=4,cat=3", "--device", "cpu", "--steps", "1"]


def pictures(folder: Path, count: int = 9) -> Path:
    """A folder of two classes, with other files in it."""
    for i in range(count):
        path = folder / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (20, 24), np.uint8)).save(path)
    (folder / "notes.txt").write_text("x")
    (folder / "list.csv").write_text("x")
    (folder / "a" / ".hidden").write_text("x")
    return folder


def test_the_report_of_a_folder(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "mine")
    (folder / "a" / "link.png").symlink_to(folder / "a" / "0.png")
    (folder / "b" / "1.png").write_bytes(b"x")
    Image.new("RGB", (32, 32), (1, 2, 3)).save(folder / "b" / "9.png")
    found = load_images(str(folder), image_size=16, skip_damaged=True)
    assert found.report == (
        "found 11 .png",
        "through links: 1 files and folders",
        "no pictures, by their suffix: 1 .csv, 1 .txt",
        "hidden, and passed over: 1 files and folders",
        "sizes: 24 x 20 (9), 32 x 32 (1)",
        "resized 10 to 16 x 16, cut to the middle square where they were none",
        "read as colour: 9 grey",
        "left out 1 that cannot be read: 1 x not a picture that Pillow can read, or damaged",
        "labels from 2 folders: a 6, b 4",
    )
    grey = load_images(str(folder), image_size=16, skip_damaged=True, channels=1, crop=False).report
    assert "resized 10 to 16 x 16, stretched to a square where they were none" in grey
    assert "turned grey: 1 in colour" in grey
    Image.new("L", (16, 16), 9).save(folder / "loose.png")
    loose = load_images(str(folder), image_size=16, skip_damaged=True).report
    assert (
        loose[-1] == "no labels: 1 lie in no folder of a class; 10 lie in folders, which are no labels then"
    )


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((4, 16, 16), {}, ()),
        ((4, 16, 16), {"image_size": 32}, ("resized from 16 x 16 to 32 x 32",)),
        ((4, 16, 24), {"image_size": 16}, ("resized from 24 x 16 to 16 x 16, cut to the middle square",)),
        ((4, 16, 24), {"image_size": 16, "crop": False}, ("resized from 24 x 16 to 16 x 16, stretched",)),
        ((4, 16, 16, 3), {"channels": 1}, ("turned grey from colour",)),
        ((4, 16, 16), {"channels": 3}, ("read as colour from grey",)),
    ],
)
def test_the_report_of_an_array(shape: tuple[int, ...], options: Any, expected: tuple[str, ...]) -> None:
    assert (
        load_images(np.random.default_rng(0).integers(0, 256, shape, np.uint8), **options).report == expected
    )


def test_a_run_keeps_the_report_and_shows_its_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = pictures(tmp_path / "mine"), tmp_path / "run"
    flags = ["--data", str(data), "--image-size", "16", *FLAGS, "--out", str(out)]
    assert train_main(flags) == 0
    assert f"report    {out / 'data.txt'}; data.png shows some of the images" in capsys.readouterr().out
    lines = (out / "data.txt").read_text().splitlines()
    assert lines[0] == f"mine: 9 train images from {data}" and "found 9 .png" in lines
    (out / "data.txt").write_text("old")
    assert train_main(["--resume", str(out), "--steps", "2"]) == 0
    assert (out / "data.txt").read_text().splitlines() == lines
    assert train_main([*flags, "--overwrite"]) == 0
    assert not (out / ".data.png.part").exists()
    with Image.open(out / "data.png") as sheet:  # cells of 4 x 16 pixels and a gap, in a row of nine
        assert sheet.size == (9 * 65 + 1, 65 + 1)
        corner = np.asarray(sheet)[1, 1]
    assert corner.tolist() == [int(load_images(str(data), image_size=16).images[0, 0, 0, 0])] * 3


@pytest.mark.parametrize(
    ("count", "size", "sheet"), [(3000, 28, (16, 8)), (20, 28, (16, 2)), (40, 512, (4, 2)), (1, 2048, (1, 1))]
)
def test_the_sheet_shows_evenly_spaced_images(
    tmp_path: Path, count: int, size: int, sheet: tuple[int, int]
) -> None:
    images = torch.arange(count).remainder(256).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, size, size)
    write_report(tmp_path, ImageSet(images, None, {}, "x", "x: images"))
    assert (tmp_path / "data.txt").read_text() == "x: images\n"
    cell = size * max(1, round(56 / size)) + 1
    with Image.open(tmp_path / "data.png") as picture:
        assert picture.size == (sheet[0] * cell + 1, sheet[1] * cell + 1)
        second = np.asarray(picture)[1, min(cell, picture.width - 2) + 1, 0] if count > 1 else 0
    shown = min(count, sheet[0] * sheet[1])
    assert second == (count // shown if count > 1 else 0)


def test_a_set_of_one_colour_names_what_may_be_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawing = np.zeros((16, 16, 4), np.uint8)
    drawing[4:12, 4:12] = 255  # white ink on a transparent ground
    (tmp_path / "mine").mkdir()
    for i in range(4):
        Image.fromarray(np.roll(drawing, i, 0)).save(tmp_path / "mine" / f"{i}.png")
    flags = ["--data", str(tmp_path / "mine"), *FLAGS, "--out", str(tmp_path / "run")]
    assert train_main(flags) == 2
    remedy = "give different ones; or, as every pixel is 255, 255, 255, look at --background"
    assert remedy in capsys.readouterr().err
    assert train_main([*flags, "--background", "black"]) == 0
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    assert settings["background"] == "black"


@pytest.mark.parametrize("form", ["folder", "array", "npy"])
def test_one_image_is_an_error_without_warnings(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 28, 28), np.uint8)
    data = tmp_path / "one.npy"
    if form == "folder":
        data = tmp_path / "one"
        data.mkdir()
        Image.fromarray(image[0]).save(data / "0.png")
    elif form == "npy":
        np.save(data, image)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if form == "array":
            assert load_images(image).images.shape == load_images(image / 255).images.shape == (1, 1, 28, 28)
            np.save(data, image)
        assert train_main(["--data", str(data), *FLAGS, "--out", str(tmp_path / "run")]) == 2
    assert "is a single image, so there is nothing to learn; give different ones\n" in capsys.readouterr().err


def test_runs_of_before_the_option_keep_black() -> None:
    settings = Config().checked().options()
    assert settings["background"] == "white" and load_config(settings).background == "white"
    del settings["background"]
    assert load_config(settings).background == "black"
