"""Images in memory: arrays, tensors and datasets, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from infogan_fast.data import load_images
from infogan_fast.errors import MissingSplitError, RunWarning, UserError

GREY = np.random.default_rng(0).integers(0, 256, (7, 16, 16), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (5, 17, 17, 3), np.uint8)


class Items(Dataset[Any]):
    """A dataset of these items."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def saved(folder: Path, images: NDArray[Any]) -> torch.Tensor:
    """The images of a .npy file of these."""
    np.save(folder / "a.npy", images)
    return load_images(str(folder / "a.npy")).images


@pytest.mark.parametrize(
    "data",
    [
        GREY,
        GREY[:, None],
        GREY[..., None],
        np.asfortranarray(GREY),
        torch.from_numpy(GREY),
        GREY / 255,
        (GREY / 255).astype(np.float32),
        torch.from_numpy(GREY / 255).half(),
        torch.from_numpy(GREY / 255).bfloat16().requires_grad_(),
        TensorDataset(torch.from_numpy(GREY)),
        Items([torch.from_numpy(image)[None] for image in GREY]),
        Items([Image.fromarray(image) for image in GREY]),
        [image / 255 for image in GREY],
    ],
    ids=lambda data: f"{type(data).__name__} {getattr(data, 'dtype', '')} {getattr(data, 'shape', '')}",
)
def test_grey_images_are_those_of_a_file(data: Any, tmp_path: Path) -> None:
    loaded = load_images(data)
    assert torch.equal(loaded.images, saved(tmp_path, GREY))
    assert loaded.images.is_contiguous()
    assert (loaded.labels, loaded.factors, loaded.name) == (None, {}, "memory")


@pytest.mark.parametrize(
    "data",
    [
        COLOUR,
        COLOUR.transpose(0, 3, 1, 2),
        torch.from_numpy(COLOUR).permute(0, 3, 1, 2).float() / 255,
        Items([Image.fromarray(image) for image in COLOUR]),
        Items([image.transpose(2, 0, 1) for image in COLOUR]),
    ],
    ids=lambda data: type(data).__name__,
)
def test_colour_images_are_those_of_a_file(data: Any, tmp_path: Path) -> None:
    assert torch.equal(load_images(data).images, saved(tmp_path, COLOUR))


def pictures(mode: str) -> list[Image.Image]:
    """Pictures of a mode whose pixels need some conversion."""
    grey = [Image.fromarray(image) for image in GREY]
    if mode in ("I;16", "I"):
        kind = np.uint16 if mode == "I;16" else np.int32
        return [Image.fromarray(image.astype(kind) * 257) for image in GREY]
    if mode in ("LA", "RGBA"):
        half = Image.new("L", (16, 16), 128)
        made = [picture.convert(mode) for picture in grey]
        for picture in made:
            picture.putalpha(half)
        return made
    made = [picture.convert(mode) for picture in grey]
    if mode == "P":
        for picture in made:
            picture.putpalette([255 - v for v in range(256) for _ in range(3)])
    return made


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "I;16", "I"])
def test_pictures_are_those_of_a_folder(mode: str, tmp_path: Path) -> None:
    for i, picture in enumerate(pictures(mode)):
        assert picture.mode == mode
        picture.save(tmp_path / f"{i}.{'tif' if mode == 'I' else 'png'}")
    assert torch.equal(load_images(pictures(mode)).images, load_images(str(tmp_path)).images)


def test_types_of_eight_bits() -> None:
    images = torch.tensor([0.0, 0.25, 0.5, 1.0]).repeat(3, 16, 4)
    assert torch.equal(load_images(images.to(torch.float8_e4m3fn)).images, load_images(images).images)


def test_the_callers_images_are_not_shared() -> None:
    mine = GREY.copy()
    loaded = load_images(mine).images
    loaded.zero_()
    assert np.array_equal(mine, GREY)


def test_labels_of_a_dataset() -> None:
    labels = torch.arange(7) % 3
    for data in (
        TensorDataset(torch.from_numpy(GREY), labels),
        Items([(image, int(label), "more") for image, label in zip(GREY, labels, strict=True)]),
        [(image, np.int64(label)) for image, label in zip(GREY, labels.tolist(), strict=True)],
    ):
        found = load_images(data).labels
        assert found is not None
        assert torch.equal(found, labels)


def test_labels_may_be_names_or_one_hot() -> None:
    named = load_images(Items([(image, "ab"[i % 2]) for i, image in enumerate(GREY)]))
    assert named.labels is not None and named.labels.tolist() == [i % 2 for i in range(len(GREY))]
    assert named.label_names == ("a", "b")
    hot = load_images(Items([(image, torch.eye(3)[i % 3]) for i, image in enumerate(GREY)]))
    assert hot.labels is not None and hot.labels.tolist() == [i % 3 for i in range(len(GREY))]


@pytest.mark.parametrize(
    "items",
    [
        [(GREY[0], 1), (GREY[1],)],
        [(GREY[0], 0.5), (GREY[1], 1)],
        [(GREY[0], torch.zeros(2)), (GREY[1], torch.zeros(3))],
        [(GREY[0], 2**63), (GREY[1], 1)],
        [(GREY[0], {"a": 1}), (GREY[1], {"a": 2})],
    ],
)
def test_labels_that_are_none_stop_nothing(items: list[Any]) -> None:
    with pytest.warns(RunWarning, match="^data: .*; training reads no labels and goes on without them"):
        found = load_images(Items(items))
    assert found.labels is None and len(found.images) == 2


@pytest.mark.parametrize("low", [-1e-7, -0.25])
def test_a_value_a_little_below_black_is_in_doubt(low: float, tmp_path: Path) -> None:
    """From an interpolation or a division; it is not that black is -1."""
    images = GREY / 255
    images[0, 0, 0] = low
    np.save(tmp_path / "a.npy", images)
    for data in (images, tmp_path / "a.npy"):
        with pytest.raises(UserError, match=r"run from -.* to 1, which does not tell black .* clip"):
            load_images(data)
    assert torch.equal(load_images(np.clip(images, 0, 1)).images[1:], load_images(GREY).images[1:])
    both = load_images(GREY / 127.5 - 1)
    assert torch.equal(both.images, load_images(GREY).images)


def test_selection_applies() -> None:
    loaded = load_images(COLOUR, image_size=16, channels=1, count=2)
    assert loaded.images.shape == (2, 1, 16, 16)
    assert "2 images in memory, sha256" in loaded.source


def test_a_digest_tells_images_apart() -> None:
    sources = {load_images(data).source for data in (GREY, GREY[::-1], GREY[:, :, ::-1])}
    assert len(sources) == 3
    assert load_images(GREY.reshape(7, 8, 32), image_size=16).source not in sources
    for same in (torch.from_numpy(GREY) / 255, GREY[:, None], GREY[..., None]):
        assert load_images(GREY).source == load_images(same).source


def test_there_is_no_test_split() -> None:
    with pytest.raises(MissingSplitError, match="images in memory have no test split"):
        load_images(GREY, split="test")


def pandas_like() -> Any:
    """It has a length and items, and no item of a number, as a DataFrame."""
    return type("Frame", (), {"__len__": lambda self: 3, "__getitem__": lambda self, i: {}[i]})()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (GREY.astype(np.int64), "data: images are int64 and run from 0 to .*; give --pixel-range LOW..HIGH"),
        (GREY > 9, "data: images are bool and run from 0 to 1, .*; give --pixel-range"),
        (np.full((2, 16, 16), np.nan), "data: images are float64 and run from nan to nan"),
        (np.full((2, 16, 16), -1.1), "data: images are float64 and run from -1.1 to -1.1"),
        (
            GREY.astype(np.float32),
            "run from 0 to 255, which does not tell black and white; give --pixel-range",
        ),
        (GREY % 2, "every pixel is 0 or 1, expected 0 to 255"),
        (GREY / 255**2, r"every pixel is below 1\.5 / 255, expected 0 to 1; divide by 255 only once"),
        (
            torch.zeros(2, 16, 16).to_sparse(),
            "data: is a tensor of layout torch.sparse_coo, expected a dense",
        ),
        (torch.empty(2, 16, 16, device="meta"), "data: is a meta tensor, expected a dense tensor"),
        ([Image.new("F", (16, 16))], "data: image 0 holds floating-point values"),
        (GREY[0], r"has shape \(16, 16\), expected \(N, H, W\)"),
        (np.zeros((3, 16, 16, 4), np.uint8), r"has shape \(3, 16, 16, 4\)"),
        (GREY[:0], "holds no images"),
        (Items([]), "holds no images"),
        (GREY[:, :8, :8], "images are 8 x 8, expected at least 16 x 16"),
        (GREY[:, :, :15], "images are 15 x 16, not square"),
        (
            Items([GREY[0], GREY[1][:15]]),
            r"image 1 is uint8 of shape \(15, 16\), and image 0 is uint8 of sha",
        ),
        (Items(["cat"]), "item 0 is a str; expected an image"),
        (
            pandas_like(),
            r"data: a Frame, whose item 0 cannot be had \(KeyError: 0\); expected a name, a path, an array",
        ),
        (17, "data is a int; expected a name, a path, an array"),
        (iter(GREY), "expected a name, a path, an array, a tensor, or a dataset with a length"),
        ({"images": GREY}, "data is a dict; expected a name"),
    ],
)
def test_what_is_refused(data: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_images(data)
