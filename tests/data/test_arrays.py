"""The range of pixels in arrays, several labels, and dSprites."""

from __future__ import annotations

import itertools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from infogan_fast.analysis.run import load_run
from infogan_fast.data import Split, load_images
from infogan_fast.data.image_set import one_of_each_part
from infogan_fast.data.pixel_range import PixelRange
from infogan_fast.data.registry import SOURCES
from infogan_fast.errors import UserError
from infogan_fast.evaluate import main as evaluate_main
from infogan_fast.train import main as train_main

GREY = np.random.default_rng(0).integers(1, 255, (7, 16, 16), np.uint8)
GREY[6, 0, :2] = 0, 255


def saved(path: Path, images: NDArray[Any], **more: Any) -> Path:
    np.save(path, images) if path.suffix == ".npy" else np.savez_compressed(path, images=images, **more)
    return path


def refused(data: Any, says: str, **options: Any) -> None:
    with pytest.raises(UserError, match=says):
        load_images(data, **options)


FOUND: dict[str, tuple[NDArray[Any], str]] = {
    "0 to 1": (GREY / 255, "0 to 1"),
    "half precision": ((GREY / 255).astype(np.float16), "0 to 1"),
    "-1 to 1": (GREY / 127.5 - 1, "-1 to 1"),
    "8 of 16 bits": (GREY.astype(np.uint16), "0 to 255"),
    "16 bits": (GREY.astype(np.uint16) * 257, "0 to 65535"),
    "16 bits, big-endian": (GREY.astype(">u2") * np.uint16(257), "0 to 65535"),
    "12 bits": ((GREY / 255 * 4095).round().astype(np.uint16), "0 to 4095"),
}


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("form", FOUND)
def test_a_range_beyond_doubt_is_found(form: str, suffix: str, tmp_path: Path) -> None:
    values, words = FOUND[form]
    path = saved(tmp_path / f"a{suffix}", values)
    found = load_images(path)
    assert np.array_equal(found.images[:, 0], GREY)
    assert found.source.endswith(f"pixels from {words}")
    # The range is that of all images, not of those that are chosen.
    assert np.array_equal(load_images(path, count=3).images[:, 0], GREY[one_of_each_part(7, 3, "")])
    assert np.array_equal(load_images(values).images[:, 0], GREY)


GIVEN: dict[str, tuple[NDArray[Any], str]] = {
    "part of a range": (GREY[1:] / 255 * 0.5, "0..0.5"),
    "whole numbers": (GREY[1:].astype(np.int64) - 100, "-100..155"),
    "14 bits": ((GREY[1:] / 255 * 16383).round().astype(np.uint16), "0..16383"),
    "big-endian": (GREY[1:].astype(">f4"), "0..255"),
    "uint8": (GREY[1:], "0..255"),
}


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("form", GIVEN)
def test_a_range_that_is_given(form: str, suffix: str, tmp_path: Path) -> None:
    values, pixels = GIVEN[form]
    path = saved(tmp_path / f"a{suffix}", values)
    for data in (path, values):
        assert np.array_equal(load_images(data, pixel_range=pixels).images[:, 0], GREY[1:])


@pytest.mark.parametrize(
    ("images", "range_"),
    [
        (GREY[1:] / 256, "from 0 to 0.99"),
        (GREY / 255 - 2, "from -2 to -1"),
        (GREY.astype(np.float32), "from 0 to 255"),
        (GREY.astype(np.uint16) * 4, "from 0 to 1020"),
        (GREY.astype(np.int16), "from 0 to 255"),
        (np.where(GREY == 0, np.nan, 0.5), "from nan to nan"),
    ],
)
def test_a_range_in_doubt_is_an_error(images: NDArray[Any], range_: str, tmp_path: Path) -> None:
    refused(saved(tmp_path / "a.npy", images), f"{range_}.*; give --pixel-range LOW..HIGH")


def test_values_beyond_a_given_range_are_an_error(tmp_path: Path) -> None:
    for values in (GREY / 255 + 0.01, GREY / 255 - 0.01, np.where(GREY == 0, np.nan, 0.5)):
        refused(
            saved(tmp_path / "a.npz", values),
            "array images: pixels run from .*, beyond --pixel-range 0..1",
            pixel_range="0..1",
        )
        refused(values, "data: pixels run from .*, beyond --pixel-range 0..1", pixel_range="0..1")


def test_zeros_and_ones(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", GREY % 2)
    refused(path, "every pixel is 0 or 1, .*; give --pixel-range 0..1")
    refused(GREY % 2, "every pixel is 0 or 1, .*; give --pixel-range 0..1")
    for data in (path, GREY % 2, GREY % 2 == 1):
        assert np.array_equal(load_images(data, pixel_range="0..1").images[:, 0], GREY % 2 * 255)


@pytest.mark.parametrize("text", ["0..1", "-1..1", "0..65535", "-0.5..+.5", "1e-3..2.5e2", "0.5...75"])
def test_ranges_are_read_back(text: str) -> None:
    assert PixelRange.parse(str(PixelRange.parse(text))) == PixelRange.parse(text)


@pytest.mark.parametrize(
    "text", ["", "0", "0..", "1..0", "0..0", "0..inf", "nan..1", "0-1", "0..1..2", "0 .. 1", "-1e999..1"]
)
def test_other_ranges(text: str) -> None:
    refused(GREY, "--pixel-range is .*; expected LOW..HIGH", pixel_range=text)


def test_pictures_and_drawings_take_no_range() -> None:
    refused("strokes", "leave out --pixel-range 0..1", pixel_range="0..1")


def test_labels_by_name(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "a.npz", GREY, labels=np.arange(7) % 2, hair=np.array(list("abcabca")), other=np.eye(3)
    )
    first, hair = load_images(path), load_images(path, label="hair", count=3)
    assert first.labels is not None and first.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert first.label == "labels" and first.source.endswith("labels labels (there are hair too)")
    assert (
        hair.labels is not None and hair.labels.tolist() == [1, 2, 1] and hair.label_names == ("a", "b", "c")
    )
    refused(path, "has no label 'beard'; choose one of labels, hair with --label", label="beard")
    refused(GREY, "has no labels called 'hair'; leave out --label", label="hair")
    refused("strokes", "has no labels called 'hair'; leave out --label", label="hair", count=3)


def test_labels_by_name_and_split(tmp_path: Path) -> None:
    values = {"images": GREY, "y": np.arange(7), "fine": -np.arange(7)}
    arrays = {f"{s}_{name}": value for s in ("train", "test") for name, value in values.items()}
    np.savez(tmp_path / "a.npz", allow_pickle=False, **arrays)
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        found = load_images(tmp_path / "a.npz", split=split, label="fine")
        assert found.labels is not None and found.labels.tolist() == [-i for i in range(7)]


def test_a_label_that_is_asked_for_has_to_be_readable(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", GREY, hair=np.linspace(0, 1, 7))
    with pytest.warns(UserWarning, match="labels are float64"):
        refused(path, "has no labels called 'hair'", label="hair")


def test_the_content_tells_a_numpy_file(tmp_path: Path) -> None:
    for suffix in (".npy", ".npz"):
        saved(tmp_path / f"a{suffix}", GREY).rename(tmp_path / f"{suffix[1:]}-file")
        assert np.array_equal(load_images(tmp_path / f"{suffix[1:]}-file").images[:, 0], GREY)


def sprites(path: Path, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The published file, but for its number of images."""
    sizes = (1, 3, 2, 4, 2, 2)
    classes = np.array(list(itertools.product(*map(range, sizes))), np.int64)[:count]
    images = (np.random.default_rng(3).random((len(classes), 64, 64)) < 0.5).astype(np.uint8)
    values = classes * (0, 1, 0.1, 0.161, 0.5, 0.5) + (1, 1, 0.5, 0, 0, 0)
    np.savez_compressed(
        path, metadata=np.array({"title": "dSprites"}, object), imgs=images, latents_classes=classes,
        latents_values=values, latents_bases=np.ones(6, np.int64),
    )  # fmt: skip
    return images, classes


def test_dsprites(tmp_path: Path) -> None:
    (tmp_path / "dsprites").mkdir()
    path = tmp_path / "dsprites" / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
    images, classes = sprites(path, 96)
    found = load_images("dsprites", data_dir=tmp_path)
    assert np.array_equal(found.images[:, 0], images * 255)
    assert tuple(found.factors) == SOURCES["dsprites"].factors
    assert found.factors["shape"].dtype == torch.int64 and found.factors["posX"].dtype == torch.float32
    assert np.array_equal(found.factors["shape"], classes[:, 1])
    assert np.allclose(found.factors["orientation"], classes[:, 3] * 0.161)
    assert found.label == "shape" and found.label_names == ("square", "ellipse", "heart")
    assert "color the same in all" in found.source
    some = load_images(path, count=11, label="posY")
    rows = one_of_each_part(96, 11, "")
    assert np.array_equal(some.images[:, 0], images[rows] * 255) and some.labels is not None
    assert np.array_equal(some.labels, classes[rows, 5]) and some.label_names == ()
    refused(path, "has no label 'color'; choose one of shape, scale", label="color")
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if "values" not in name}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in kept.items():
            archive.writestr(name, content)
        with archive.open("latents_values.npy", "w") as file:
            np.lib.format.write_array(file, np.ones((5, 6)))
    refused(path, r"latents_values and latents_classes have shapes \(5, 6\) and \(96, 6\)")


def test_a_part_of_a_table_has_all_combinations_of_its_factors() -> None:
    """Evenly spaced rows would have one in 32 of these: the table's innermost factors are 4 x 8 x 15."""
    rows = one_of_each_part(480_000, 15_000, "")
    assert len({(row // 120 % 4, row // 15 % 8, row % 15) for row in rows.tolist()}) == 480
    starts = np.arange(15_000) * 32
    assert ((starts <= rows) & (rows < starts + 32)).all()
    assert np.array_equal(one_of_each_part(7, None, ""), np.arange(7))
    assert np.array_equal(one_of_each_part(7, 7, ""), np.arange(7))


def test_an_npz_ends_with_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    images = np.random.default_rng(4).integers(0, 256, (99, 32, 32), np.uint8)
    np.savez(path, images=images)  # stored as they are
    content = bytearray(path.read_bytes())
    content[content.index(images[98].tobytes())] ^= 1  # in a row that is not chosen
    path.write_bytes(content)
    refused(path, "not a readable NumPy file .*Bad CRC", count=2)


def test_a_run_keeps_its_range_and_label(tmp_path: Path) -> None:
    parts = {f"{n}_{s}": v for s in ("train", "test") for n, v in (("x", GREY / 510), ("y", np.arange(7)))}
    np.savez(
        tmp_path / "a.npz", allow_pickle=False, **parts, hair_train=np.ones(7), hair_test=np.arange(7) % 2
    )
    flags = ["--data", str(tmp_path / "a.npz"), "--steps", "1", "--batch-size", "4", "--device", "cpu"]
    out = tmp_path / "run"
    train_main([*flags, "--pixel-range", "0..0.5", "--label", "hair", "--out", str(out)])
    run = load_run(out, device="cpu")
    assert run.config.options()["pixel_range"] == "0..0.5" and run.config.label == "hair"
    test = run.load_images("test")
    assert np.array_equal(test.images[:, 0], GREY) and test.labels is not None
    assert test.labels.tolist() == [i % 2 for i in range(7)]
    other = load_run(out, device="cpu", label="y").load_images("test").labels
    assert other is not None and other.tolist() == list(range(7))
    # Other data has a range of its own, and says so where it is in doubt.
    saved(tmp_path / "b.npy", GREY / 255 * 0.25)
    with pytest.raises(UserError, match="give --pixel-range"):
        run.load_images("train", data=tmp_path / "b.npy")
    given = load_run(out, device="cpu", pixel_range="0..0.25")
    assert np.array_equal(given.load_images("train", data=tmp_path / "b.npy").images[:, 0], GREY)
    assert evaluate_main([str(out), "--device", "cpu", "--pixel-range", "1..0"]) == 2
