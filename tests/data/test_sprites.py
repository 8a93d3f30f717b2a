"""Sprites: pixels that equal a plain statement of the shapes, all combinations, and scores of known codes."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import infogan_fast
from infogan_fast.analysis.evaluation import disentanglement
from infogan_fast.analysis.run import Run
from infogan_fast.data import ImageSet, load_images, sprites
from infogan_fast.data.registry import SOURCES
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec

Array = NDArray[Any]
EVERYTHING = np.arange(sprites.COMBINATIONS)


def combinations(shape: Any, scale: Any, orientation: Any, x: Any, y: Any) -> Array:
    """Numbers of the combinations with these indices of values, [N]."""
    return np.ravel_multi_index(np.broadcast_arrays(shape, scale, orientation, x, y), sprites.SIZES).ravel()


def is_heart(right: Array, up: Array) -> Array:
    """Within a square of side 2 on its corner at (0, 0), or a disc on one of its upper sides."""
    middle = math.sqrt(0.5)
    discs = [(right - side * middle) ** 2 + (up - middle) ** 2 < 1 for side in (-1, 1)]
    return (np.abs(right) + np.abs(up) < 2 * middle) | discs[0] | discs[1]


def centre_of_a_heart() -> float:
    right, up = np.meshgrid(np.linspace(-2, 2, 2001), np.linspace(-2, 2, 2001))
    return float(up[is_heart(right, up)].mean())


HEART = centre_of_a_heart()


def stated(combination: int, size: int) -> Array:
    """The image in float64, from at least 2048 points across."""
    factors = {name: values[0] for name, values in sprites.factors(np.array([combination])).items()}
    points = -(-2048 // size)
    at = (np.arange(size * points) + 0.5) / (size * points)
    # A step is 1/64 of the side, around its middle.
    across = at - (0.5 + (float(factors["x"]) - 0.5) * 31 / 64)
    upwards = (0.5 + (float(factors["y"]) - 0.5) * 31 / 64) - at
    right, up = np.meshgrid(across / float(factors["scale"]), upwards / float(factors["scale"]))
    angle = -float(factors["orientation"])
    right, up = right * math.cos(angle) - up * math.sin(angle), right * math.sin(angle) + up * math.cos(angle)
    shape = sprites.SHAPES[factors["shape"]]
    if shape == "square":
        inside = np.maximum(np.abs(right), np.abs(up)) < 0.25 / math.sqrt(2)
    elif shape == "ellipse":
        inside = (right / 0.25) ** 2 + (up / 0.125) ** 2 < 1
    else:
        unit = 0.25 / (math.sqrt(2) + HEART)
        inside = is_heart(right / unit, up / unit + HEART)
    return 255 * inside.reshape(size, points, size, points).mean((1, 3))


@pytest.mark.parametrize("size", [16, 28, 64, 65])
def test_pixels_equal_a_plain_statement(size: int) -> None:
    rng = np.random.default_rng(size)
    chosen = combinations(
        np.arange(12) % 3,
        rng.integers(6, size=12),
        rng.integers(40, size=12),
        *rng.integers(32, size=(2, 12)),
    )
    chosen[:3] = combinations([0, 1, 2], 5, 0, 31, 0)  # the largest ones, upright, in a corner
    for combination, image in zip(chosen, sprites.draw(chosen, size)[:, 0], strict=True):
        off = np.abs(image - stated(combination, size))
        # Shapes are placed on the grid to half a point, and edges fall between its points.
        assert off.max() <= 255 / (1024 // size) and off.mean() < 0.2
    assert image.max() == 255


@pytest.mark.parametrize(("size", "points"), [(128, 8), (260, 4)])
def test_large_images_have_fewer_levels(size: int, points: int) -> None:
    chosen = combinations([0, 1, 2], 2, 7, 11, 25)
    for combination, image in zip(chosen, sprites.draw(chosen, size)[:, 0], strict=True):
        assert np.abs(image - stated(combination, size)).max() <= 255 / points
        assert 3 < len(np.unique(image)) <= points**2 + 1


@pytest.mark.parametrize("size", [16, 64])
def test_all_images_differ_but_the_first_and_the_last_orientation(size: int) -> None:
    by_image: dict[int, int] = {}
    for part in np.split(EVERYTHING, 60):
        for combination, image in zip(part.tolist(), sprites.draw(part, size), strict=True):
            first = by_image.setdefault(hash(image.tobytes()), combination)
            if first != combination:
                assert combination - first == 39 * 32 * 32 and (combination // 1024) % 40 == 39
    assert len(by_image) == 3 * 6 * 39 * 32 * 32


@pytest.mark.parametrize("size", [16, 17, 64])
def test_position_is_the_centre_of_mass_at_every_scale_and_orientation(size: int) -> None:
    chosen = combinations(*np.ix_(range(3), range(6), range(40), [0, 13, 31], [0, 20, 31]))
    known, images = sprites.factors(chosen), sprites.draw(chosen, size)[:, 0].astype(np.float64)
    mass = images.sum((1, 2))
    pixel = (np.arange(size) + 0.5) / size
    for name, axis in (("x", 1), ("y", 2)):
        centre = (images.sum(axis) * pixel).sum(1) / mass
        np.testing.assert_allclose(centre, 0.5 + (known[name] - 0.5) * 31 / 64, atol=0.05 / size)
    # Nothing is cut off at an edge: the area goes with the square of the scale alone.
    area = np.array([0.125, math.pi / 32, (4 + math.pi) * (0.25 / (math.sqrt(2) + HEART)) ** 2])
    np.testing.assert_allclose(mass / (255 * size**2), area[known["shape"]] * known["scale"] ** 2, rtol=0.02)


def test_factors_are_those_of_dsprites() -> None:
    known = sprites.factors(EVERYTHING)
    assert list(known) == list(SOURCES["sprites"].factors)
    assert [(v.dtype.name, len(np.unique(v))) for v in known.values()] == [
        ("int64", 3),
        *[("float32", n) for n in (6, 40, 32, 32)],
    ]
    assert len(EVERYTHING) == 737_280 == SOURCES["sprites"].total
    assert len(np.unique(np.stack([v.astype(np.float64) for v in known.values()], 1), axis=0)) == 737_280
    # The first rows of dSprites differ in y, and the scale changes after 40 orientations.
    assert known["y"][:32] == pytest.approx(np.linspace(0, 1, 32))
    assert (known["x"][:33] > 0).sum() == 1
    assert known["orientation"][39 * 1024] == np.float32(2 * math.pi)
    assert known["scale"][[0, 40 * 1024, 5 * 40 * 1024]] == pytest.approx([0.5, 0.6, 1])
    assert known["shape"][[0, 240 * 1024, -1]].tolist() == [0, 1, 2]


def test_an_image_does_not_depend_on_what_is_drawn_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = np.random.default_rng(0).permutation(EVERYTHING)[:3000]
    for size in (28, 64):
        images = sprites.draw(chosen, size)
        assert np.array_equal(sprites.draw(chosen[::-7], size), images[::-7])
        for row in range(0, 3000, 300):
            assert np.array_equal(sprites.draw(chosen[row : row + 1], size)[0], images[row])
    repeated = sprites.draw(np.repeat(chosen[:5], 3))
    assert np.array_equal(repeated, np.repeat(images[:5], 3, axis=0))
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert np.array_equal(sprites.draw(chosen), images)
    assert sprites.draw(chosen[:0]).shape == (0, 1, 64, 64)


@pytest.mark.parametrize(("size", "channels"), [(None, None), (16, 1), (28, 3), (65, 1)])
def test_image_set(size: int | None, channels: int | None) -> None:
    found = load_images("sprites", image_size=size, channels=channels, count=60)
    side = size or 64
    assert found.images.shape == (60, channels or 1, side, side)
    assert found.images.dtype == torch.uint8 and found.images.is_contiguous()
    assert (found.images == found.images[:, :1]).all()
    assert {k: (v.dtype, v.shape) for k, v in found.factors.items()} == {
        "shape": (torch.int64, (60,)),
        **dict.fromkeys(("scale", "orientation", "x", "y"), (torch.float32, (60,))),
    }
    assert found.labels is not None and torch.equal(found.labels, found.factors["shape"])
    assert found.label_names == ("square", "ellipse", "heart")
    assert found.source == "sprites: 60 images drawn from seed 0"


def test_any_factor_is_a_label() -> None:
    for name in SOURCES["sprites"].factors:
        found = load_images("sprites", image_size=16, count=500, label=name)
        assert found.labels is not None and found.labels.dtype == torch.int64
        values, numbers = np.unique(found.factors[name].numpy(), return_inverse=True)
        assert np.array_equal(numbers, found.labels.numpy()) and len(values) == found.labels.max() + 1
        assert found.label_names == (sprites.SHAPES if name == "shape" else ())


def numbers(data: ImageSet) -> Array:
    """The combinations of images, from their factors."""
    steps = [v.double().numpy() for v in data.factors.values()]
    steps[1:] = [(steps[1] - 0.5) * 10, steps[2] * 39 / (2 * math.pi), steps[3] * 31, steps[4] * 31]
    return combinations(*np.rint(steps).astype(int))


def test_splits_have_no_combination_in_common_and_none_twice() -> None:
    train, test = (load_images("sprites", split=split, image_size=16, seed=5) for split in ("train", "test"))
    assert (len(train.images), len(test.images)) == (100_000, 10_000)
    assert test.source == "sprites: 10,000 test images drawn from seed 5"
    assert len(np.unique([*numbers(train), *numbers(test)])) == 110_000
    assert np.array_equal(sprites.draw(numbers(test), 16), test.images.numpy())
    fewer = load_images("sprites", image_size=16, seed=5, count=9, split="test")
    assert torch.equal(fewer.images, test.images[:9])
    rest = load_images("sprites", image_size=16, seed=5, count=727_280)
    assert torch.equal(rest.images[:100_000], train.images)
    assert len(np.unique([*numbers(rest), *numbers(test)])) == 737_280


@pytest.mark.parametrize("seed", [1, -1, 2**31, 2**32, 2**63 - 1, -(2**63)])
def test_seeds_choose_other_images(seed: int) -> None:
    first, other = (load_images("sprites", image_size=16, count=2000, seed=s) for s in (0, seed))
    assert len(np.intersect1d(numbers(first), numbers(other))) < 40
    for name in ("shape", "scale", "orientation", "x", "y"):  # all values, about equally often
        counts = np.unique(other.factors[name].numpy(), return_counts=True)[1]
        assert len(counts) == len(np.unique(sprites.factors(EVERYTHING)[name]))
        assert np.abs(counts - counts.mean()).max() < 5 * math.sqrt(counts.mean())


def test_first_images_are_what_they_were() -> None:
    """An anchor: a change of drawing or order is a change of every user's data, and should be meant."""
    found = load_images("sprites", count=4)
    assert numbers(found).tolist() == ANCHOR
    assert found.images.double().mean((1, 2, 3)).tolist() == pytest.approx(ANCHOR_MEANS, abs=0.01)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"count": 0}, "count is 0"),
        ({"count": 737_281}, "sprites: has 737,280 images, --images asks for 737,281"),
        ({"count": 737_281, "split": "test"}, "sprites: has 737,280 images"),
        (
            {"label": "colour"},
            "sprites: has no label 'colour'; choose one of shape, scale, orientation, x, y",
        ),
        ({"image_size": 8}, "image size is 8, expected at least 16"),
        ({"channels": 2}, "channels is 2, expected 1 .* or 3"),
        ({"split": "valid"}, "split is 'valid', expected 'train' or 'test'"),
        (
            {"count": 737_280, "image_size": 10_000},
            "sprites: 737,280 images of 10000 x 10000, .* GiB are free",
        ),
    ],
)
def test_wrong_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        load_images("sprites", **options)


@pytest.mark.parametrize("wrong", [-1, 737_280])
def test_wrong_combinations(wrong: int) -> None:
    with pytest.raises(ValueError, match="expected 0 to 737279"):
        sprites.draw(np.array([3, wrong]))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of one update on 120 sprites."""
    out = tmp_path_factory.mktemp("sprites") / "run"
    options: dict[str, Any] = {"latents": "noise=5,uniform=5", "steps": 1, "batch_size": 8, "device": "cpu"}
    return infogan_fast.train(data="sprites", images=120, image_size=16, out=out, **options)


def test_training_and_evaluation(run: Run) -> None:
    result = run.evaluate(images=200, samples=64, sweep_noises=1, quality=False)
    assert result["data"]["held_out"]
    assert result["disentanglement"]["factors"] == ["shape", "scale", "orientation", "x", "y"]
    assert set(result["codes"]["c1"]["factors"]) == {"scale", "orientation", "x", "y"}


@pytest.mark.parametrize(
    ("trained", "says"),
    [
        (737_180, None),
        (737_181, "1 of them: training drew 737,181 of the 737,280 sprites"),
        (737_280, "100 of them: training drew 737,280 of the 737,280 sprites"),
    ],
)
def test_images_that_training_has_seen_are_not_held_out(run: Run, trained: int, says: str | None) -> None:
    run = dataclasses.replace(run, train_images=trained)
    for data in (None, "sprites"):
        images, why_not = run.held_out(data=data, count=100)
        assert why_not == says
        assert images.source == "sprites: 100 test images drawn from seed 0"
    assert run.held_out(data="strokes", count=100)[1] is None


@pytest.mark.parametrize("categorical", [True, False])
def test_codes_that_are_the_factors_have_perfect_scores(categorical: bool) -> None:
    rng = np.random.default_rng(0)
    count = 6000
    known = sprites.factors(rng.permutation(EVERYTHING)[:count])
    factors = {name: torch.from_numpy(values) for name, values in known.items()}
    data = ImageSet(torch.zeros(0), factors["shape"], factors, "sprites", "")
    spec = LatentSpec.parse("cat=3,uniform=4" if categorical else "uniform=5")
    read: list[Array] = [
        known[name] + 1e-3 * rng.normal(size=count) for name in ("shape", "y", "orientation", "x", "scale")
    ]
    if categorical:
        read[0] = 2 - known["shape"]
    codes = dict(zip([code.name for code in spec.codes], read, strict=True))
    found = disentanglement(spec, codes, data)
    assert found is not None
    # SAP is 1 - 1 / 3 for the three shapes: the second code still guesses.
    low = {"mig": 0.97, "sap": 0.92, "dci_disentanglement": 0.99, "dci_completeness": 0.99}
    for name, least in {**low, "dci_informativeness": 0.98, "factor_vae": 0.99, "beta_vae": 0.99}.items():
        assert found[name] > least
    assert min(found["mig_by_factor"]) > 0.95
    # The chance levels are the scores of the same codes, shuffled over the images.
    high = {"mig": 0.01, "sap": 0.01, "dci_disentanglement": 0.3, "dci_informativeness": 0.05}
    for name, most in {**high, "factor_vae": 0.3, "beta_vae": 0.25}.items():
        assert found["chance"][name] < most


ANCHOR = [514237, 203957, 468574, 405006]
ANCHOR_MEANS = [8.248, 25.840, 25.039, 16.026]
