"""Where images and labels land, and which latents the pictures show."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from infogan_fast.latents import LatentSpec
from infogan_fast.pictures import grids, samples, traversal


def test_grid_places_every_image() -> None:
    images = torch.stack([torch.full((1, 4, 5), value, dtype=torch.uint8) for value in (10, 20, 30, 40, 50)])
    grid = np.asarray(grids.image_grid(images, 3, scale=2, gap=1))
    assert grid.shape == (2 * 9 + 1, 3 * 11 + 1, 3)
    for i, value in enumerate((10, 20, 30, 40, 50)):
        top, left = 1 + i // 3 * 9, 1 + i % 3 * 11
        assert (grid[top : top + 8, left : left + 10] == value).all()
    assert (grid[10:, 24:] == 128).all()
    assert (grid[0] == 128).all()


def test_grid_keeps_colour_and_enlarges_pixels() -> None:
    image = torch.tensor([[[1, 2]], [[3, 4]], [[5, 6]]], dtype=torch.uint8)[None]
    grid = np.asarray(grids.image_grid(image, 1, scale=3, gap=0))
    assert grid.shape == (3, 6, 3)
    assert (grid[:, :3] == [1, 3, 5]).all()
    assert (grid[:, 3:] == [2, 4, 6]).all()


def test_panels_are_side_by_side_and_labelled() -> None:
    images = torch.full((6, 1, 16, 16), 200, dtype=torch.uint8)
    panel = grids.Panel("c2 (uniform)", images, ["c1 = 0", "c1 = 1"], ["-2", "0", "2"])
    one, two = (np.asarray(grids.panels_figure([panel] * n, scale=3)) for n in (1, 2))
    assert two.shape[1] > 1.9 * one.shape[1]
    assert one.shape[0] == two.shape[0]
    assert (one[:24] < 100).any()  # title
    assert (one[26:40] < 100).any()  # values above the columns
    assert (one[45:, 8:40] < 100).any()  # rows' names
    bare = grids.Panel("", images, ["", ""], ["", "", ""])
    assert not (np.asarray(grids.panels_figure([bare], scale=3)) < 100).any()


@pytest.mark.parametrize(("size", "scale"), [(16, 4), (28, 2), (32, 2), (64, 1), (256, 1)])
def test_scale(size: int, scale: int) -> None:
    assert grids.scale_for(size) == scale


class Recorder(nn.Module):
    """A generator that shows its input: a grey image of the value of one column."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.inputs: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.inputs.append(inputs)
        return torch.full((len(inputs), 1, 16, 16), 0.5)


def record(spec_text: str) -> tuple[list[Tensor], LatentSpec, tuple[int, int]]:
    spec, recorder = LatentSpec.parse(spec_text), Recorder()
    size = traversal.traversal(recorder, spec, columns=5).size
    return recorder.inputs, spec, size


def test_traversal_changes_only_what_its_labels_say() -> None:
    panels, spec, _ = record("noise=3,cat=4,cat=2,uniform=1,bernoulli=1")
    assert [len(p) for p in panels] == [4 * 5, 4 * 2]
    swept, coin = panels
    assert torch.equal(swept[:, :3], swept[:1, :3].expand(20, 3))
    assert torch.equal(swept[:, 3:7], torch.eye(4).repeat_interleave(5, 0))
    assert torch.equal(swept[:, 7:9], torch.tensor([[1.0, 0.0]]).expand(20, 2))
    assert torch.equal(swept[:, 9], torch.tensor([-2.0, -1, 0, 1, 2]).repeat(4))
    assert not swept[:, 10].any()
    assert torch.equal(coin[:, 10], torch.tensor([0.0, 1.0]).repeat(4))
    assert not coin[:, 9].any()
    assert spec.latent_dim == 11


def test_traversal_without_categories_or_without_continuous_codes() -> None:
    (swept,), _, _ = record("noise=3,normal=1")
    assert len(swept) == 10 * 5
    noise = swept[:, :3].view(10, 5, 3)
    assert torch.equal(noise, noise[:, :1].expand(-1, 5, -1))
    assert len(noise[:, 0].unique(dim=0)) == 10

    (shown,), _, _ = record("noise=3,cat=4")
    noise = shown[:, :3].view(4, 5, 3)
    assert torch.equal(noise, noise[:1].expand(4, -1, -1))
    assert len(noise[0].unique(dim=0)) == 5

    (only,), _, _ = record("noise=0,cat=3")
    assert torch.equal(only, torch.eye(3).repeat_interleave(5, 0))


def test_grid_of_samples_has_a_row_each_category() -> None:
    recorder, spec = Recorder(), LatentSpec.parse("noise=3,cat=4,uniform=1")
    samples.sample_grid(recorder, spec)
    assert torch.equal(recorder.inputs[0][:, 3:7], torch.eye(4).repeat_interleave(10, 0))
    samples.sample_grid(recorder, LatentSpec.parse("noise=3,uniform=1"))
    assert recorder.inputs[1].shape == (100, 4)


@pytest.mark.parametrize("count", [2, 300, 20_000_004])
def test_diversity_looks_at_images_that_are_there(count: int) -> None:
    """float32 rounds the last index of very many up."""
    black = torch.zeros(1, 4, 4, 1, dtype=torch.uint8).expand(count, 4, 4, 1)
    spec = LatentSpec.parse("noise=2,cat=3")
    assert samples.diversity(nn.Sequential(nn.Linear(5, 16), nn.Unflatten(1, (1, 4, 4))), spec, black) is None


def test_set_codes_leave_the_rest() -> None:
    spec = LatentSpec.parse("noise=2,cat=2,cat=3,uniform=2")
    before = torch.arange(9.0).repeat(2, 1)
    after = samples.with_codes(before, spec, {"c2": torch.tensor([2, 0]), "c4": torch.tensor([-0.5, 0.25])})
    assert after.tolist() == [
        [0, 1, 2, 3, 0, 0, 1, 7, -0.5],
        [0, 1, 2, 3, 1, 0, 0, 7, 0.25],
    ]
    assert torch.equal(before, torch.arange(9.0).repeat(2, 1))


def test_a_picture_of_many_categories_and_codes_can_be_looked_at() -> None:
    """300 categories and 100 codes would be 19,000 pixels tall and 20 times as wide."""
    inputs, spec, size = record("noise=4,cat=300,uniform=100")
    assert size[0] < 8000 and size[1] < 3000
    assert len(inputs) == 16 and all(len(each) == 40 * 5 for each in inputs)
    categories = inputs[0][::5, 4:304].argmax(1).tolist()
    assert categories == [i * 300 // 40 for i in range(40)]
    recorder = Recorder()
    assert samples.sample_grid(recorder, spec).height < 3000 and len(recorder.inputs[-1]) == 400 - 256
    codes, text = traversal._swept(spec)
    assert [code.name for code in codes] == [f"c{i}" for i in range(2, 18)]
    assert text == "; 40 of 300 values of c1, 16 of 100 codes"
    assert traversal._swept(LatentSpec()) == (LatentSpec().continuous_codes, "")
