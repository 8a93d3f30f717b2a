"""Image quality of runs whose images are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from infogan_fast.analysis.features import fit_features
from infogan_fast.analysis.quality import image_quality
from infogan_fast.analysis.run import Run
from infogan_fast.data import ImageSet, load_images
from infogan_fast.latents import LatentSpec

SPEC = LatentSpec.parse("noise=1,cat=10")


class Showing(nn.Module):
    """A generator that shows, for each category, a real image of the digit ``digits`` has for it, chosen by
    the noise."""

    def __init__(self, data: ImageSet, digits: list[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        assert data.labels is not None
        self.by_digit = [data.images[data.labels == digit] for digit in digits]

    def forward(self, inputs: Tensor) -> Tensor:
        noise = torch.special.ndtr(inputs[:, 0])
        chosen = []
        for category, share in zip(inputs[:, 1:].argmax(1).tolist(), noise.tolist(), strict=True):
            images = self.by_digit[category]
            chosen.append(images[int(share * (len(images) - 1))])
        return torch.stack(chosen).float() / 255


@pytest.fixture(scope="module")
def data() -> tuple[ImageSet, ImageSet]:
    return load_images("strokes", image_size=16, count=2500), load_images(
        "strokes", image_size=16, count=1000, split="test"
    )


def quality(data: tuple[ImageSet, ImageSet], digits: list[int], **options: Any) -> dict[str, Any]:
    class Stub:
        spec, device, generator = SPEC, torch.device("cpu"), Showing(data[0], digits)

    found = image_quality(cast(Run, Stub()), *data, [str(i) for i in range(10)], **options)
    assert found is not None
    return found


def test_real_images_are_as_good_as_real_ones(data: tuple[ImageSet, ImageSet]) -> None:
    found = quality(data, list(range(10)))
    assert found["images"] == 1000 and "classifier trained on 2,500 labelled images" in found["features"]
    for name in ("precision", "recall", "coverage"):
        assert found["made"][name]["value"] > 0.85
        assert found["real"][name]["value"] == pytest.approx(found["made"][name]["value"], abs=0.08)
    read = found["share_read"]
    assert read["of_real"] > 0.97 and read["mean"] > 0.97 and read["worst"] > 0.9
    assert read["chance"] == 0.1 and read["interval"][0] <= read["mean"] <= read["interval"][1]
    assert quality(data, list(range(10))) == found


def test_splits_number_their_labels_by_themselves(data: tuple[ImageSet, ImageSet]) -> None:
    """Of a test folder without a class, the next one has its number."""
    train, test = data
    assert test.labels is not None
    few, names = test.labels >= 4, tuple("abcdefghij")
    named = replace(train, label_names=names)
    fewer = replace(test, images=test.images[few], labels=test.labels[few] - 4, label_names=names[4:])

    class Stub:
        spec, device, generator = SPEC, torch.device("cpu"), Showing(train, list(range(10)))

    found = image_quality(cast(Run, Stub()), named, fewer, list(names))
    assert found is not None and found["share_read"]["of_real"] > 0.95  # of six digits


def test_a_lost_digit_is_seen(data: tuple[ImageSet, ImageSet]) -> None:
    found = quality(data, [*range(9), 8])
    assert found["share_read"]["worst"] == found["share_read"]["by_label"]["9"] < 0.1
    assert found["share_read"]["mean"] == pytest.approx(0.9, abs=0.03)
    assert found["made"]["coverage"]["value"] < found["real"]["coverage"]["value"] - 0.05
    assert found["made"]["fid"]["value"] > 2 * found["real"]["fid"]["value"]


def test_without_labels(data: tuple[ImageSet, ImageSet]) -> None:
    train, test = (ImageSet(each.images, None, {}, "", "") for each in data)
    features = fit_features(train, torch.device("cpu"))
    assert features.name == "64 principal components of the pixels" and features.read is None
    found = features.of(test.images[:50])
    assert found.shape == (50, 64)
    # Components keep most of the distances between the images, which are resized to 32 pixels.
    big = nn.functional.interpolate(
        test.images[:50].double() / 255, (32, 32), mode="bilinear", antialias=True
    )
    pixels = big.flatten(1).numpy()
    kept = np.linalg.norm(found[0] - found[1:], axis=1) / np.linalg.norm(pixels[0] - pixels[1:], axis=1)
    assert (kept > 0.9).all() and (kept <= 1 + 1e-6).all()
