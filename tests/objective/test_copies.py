"""The copies of real images: against statements in SciPy and autograd, and against their ranges."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from objective import statements
from objective.answers import DIGITS, SEVERAL
from operators.sample_latents.reference import sample_latents
from torch import Tensor

from infogan_fast.latents import LatentSpec
from infogan_fast.objective.copies import adversarial, copy_state, slants, transformed
from infogan_fast.objective.transformation import Transformation

NOTHING = Transformation(0, 0, 0, 0)


def pictures(count: int = 12, channels: int = 1, size: int = 19) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(size))


@pytest.mark.parametrize(
    "transformation",
    [
        Transformation(),
        replace(NOTHING, rotation=70),
        replace(NOTHING, scale=0.7),
        replace(NOTHING, shear=0.7),
        replace(NOTHING, shift=0.7),
        replace(NOTHING, colour=0.7),
        replace(NOTHING, flip=True),
        Transformation(180, 0.5, 1, 0.3, 0.8, True),
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 3])
def test_copies_equal_the_statement(transformation: Transformation, channels: int) -> None:
    for size in (16, 19):
        images, state = pictures(channels=channels, size=size), copy_state(5)
        for step in range(2):
            wanted = statements.transformed(images, transformation, int(copy_state(5)[0]), step)
            before = state.clone()
            torch.testing.assert_close(
                transformed(state.clone(), images.double(), transformation), wanted, atol=1e-10, rtol=0
            )
            torch.testing.assert_close(
                transformed(state, images, transformation).double(), wanted, atol=2e-5, rtol=0
            )
            assert state.tolist() == [before[0], step + 1]


def test_without_ranges_a_copy_is_the_image() -> None:
    images = pictures(channels=3)
    torch.testing.assert_close(transformed(copy_state(0), images, NOTHING), images, atol=1e-5, rtol=0)


def maps(transformation: Transformation, count: int = 400) -> Tensor:
    """Where each copy reads its pixels, [count, 2, 3]: x and y of the image (in sides, from the middle) as
    weights of x, y and 1 of the copy. Ramps tell it, since reading them bilinearly is exact."""
    size = 33
    ramp = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    images = torch.stack([ramp.expand(size, size), ramp[:, None].expand(size, size)])
    copies = transformed(copy_state(1), images.expand(count, 2, size, size), transformation)
    places = copies[:, :, 12:21, 12:21].flatten(2) - 0.5  # far enough inside
    y, x = torch.meshgrid(ramp[12:21] - 0.5, ramp[12:21] - 0.5, indexing="ij")
    basis = torch.stack([x.flatten(), y.flatten(), torch.ones(81, dtype=torch.float64)], 1)
    fitted = (torch.linalg.pinv(basis) @ places.mT).mT
    torch.testing.assert_close(fitted @ basis.T, places, atol=1e-9, rtol=0)
    return fitted


def assert_spread(values: Tensor, most: float) -> None:
    """Within +-most, uniformly, and no two alike."""
    assert values.abs().max() <= most * (1 + 1e-6)
    assert values.max() > 0.97 * most
    assert values.min() < -0.97 * most
    assert values.std() == pytest.approx(most / math.sqrt(3), rel=0.1)
    assert len(values.unique()) == len(values)


def test_ranges_are_kept_and_filled() -> None:
    m = maps(replace(NOTHING, rotation=15))
    assert_spread(torch.rad2deg(torch.atan2(m[:, 1, 0], m[:, 0, 0])), 15)
    torch.testing.assert_close(torch.linalg.det(m[:, :, :2]), torch.ones(400, dtype=torch.float64))

    m = maps(replace(NOTHING, scale=0.15))
    assert_spread(1 / m[:, 0, 0] - 1, 0.15)
    torch.testing.assert_close(m[:, 0, 0], m[:, 1, 1])

    assert_spread(maps(replace(NOTHING, shear=0.2))[:, 0, 1], 0.2)

    m = maps(replace(NOTHING, shift=0.06))
    for axis in range(2):
        assert_spread(m[:, axis, 2], 0.06)
    assert abs(torch.corrcoef(m[:, :, 2].T)[0, 1]) < 0.15

    m = maps(replace(NOTHING, flip=True))
    assert (m[:, 0, 0] < 0).double().mean() == pytest.approx(0.5, abs=0.1)
    torch.testing.assert_close(m[:, 0, 0].abs(), torch.ones(400, dtype=torch.float64))
    torch.testing.assert_close(m[:, 1, 1], torch.ones(400, dtype=torch.float64))


def test_colours_are_changed_one_by_one_and_kept_in_range() -> None:
    images = torch.full((400, 3, 16, 16), 0.5)
    gains = transformed(copy_state(1), images, replace(NOTHING, colour=0.3))[:, :, 8, 8] * 2 - 1
    for channel in range(3):
        assert_spread(gains[:, channel], 0.3)
    assert torch.corrcoef(gains.T).triu(1).abs().max() < 0.15
    copies = transformed(copy_state(1), images * 1.8, replace(NOTHING, colour=1.0))
    assert copies.min() >= 0
    assert copies.max() == 1


def test_a_copy_is_a_function_of_seed_step_and_sample() -> None:
    images = pictures(1).expand(8, -1, -1, -1)
    state = copy_state(3)
    first, second = (transformed(state, images, Transformation()) for _ in range(2))
    assert torch.equal(transformed(copy_state(3), images[:5], Transformation()), first[:5])
    assert torch.equal(transformed(torch.tensor([int(state[0]), 1]), images, Transformation()), second)
    others = [*first, *second, *transformed(copy_state(4), images, Transformation())]
    for i, a in enumerate(others):
        assert not any(torch.equal(a, b) for b in others[:i])


@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, -(2**63)])
def test_every_seed_of_a_run_has_a_state(seed: int) -> None:
    assert int(copy_state(seed)[0]) != seed


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_dtype_and_memory_format_are_kept(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    images = pictures(channels=3).to(dtype).contiguous(memory_format=memory_format)
    with torch.autocast("cpu"):
        copies = transformed(copy_state(0), images, Transformation())
    assert copies.dtype == dtype
    assert copies.stride() == images.stride()
    # Computed in float32 at least, and rounded once.
    wanted = transformed(copy_state(0), images.double(), Transformation())
    torch.testing.assert_close(copies.double(), wanted, atol=2e-5, rtol=torch.finfo(dtype).eps)


def leaning(images: Tensor) -> Tensor:
    """Of images [N, 1, S, S]: angle of the ink's long axis from upright, anticlockwise, by second moments."""
    side = images.shape[-1]
    place = torch.arange(side).to(images) - (side - 1) / 2
    weight = images[:, 0] / images[:, 0].sum((1, 2), keepdim=True)
    x, y = (weight.sum(1) * place).sum(1), (weight.sum(2) * place).sum(1)
    xx, yy = (weight.sum(1) * place**2).sum(1) - x**2, (weight.sum(2) * place**2).sum(1) - y**2
    xy = (weight * place[:, None] * place).sum((1, 2)) - x * y
    return 0.5 * torch.atan2(2 * xy, yy - xx)


@pytest.mark.parametrize(
    "ranges", ["rotation=20", "shear=0.4", "rotation=15,scale=0.15,shear=0.2,shift=0.06"]
)
def test_slants_are_those_of_the_copies(ranges: str) -> None:
    transformation, state = Transformation.parse(ranges), copy_state(2)
    side = 65
    image = torch.zeros(1, 1, side, side, dtype=torch.float64)
    image[:, :, 12:53, 32] = 1.0
    for step in range(2):
        shares = slants(state, 200, transformation)
        assert state.tolist()[1] == step  # the copies that follow are those meant
        copies = transformed(state, image.expand(200, -1, -1, -1), transformation)
        largest = math.radians(transformation.rotation) + math.atan(transformation.shear)
        torch.testing.assert_close(shares * largest, leaning(copies), atol=0.01, rtol=0)
        wanted = statements.slants(transformation, int(state[0]), step, 200)
        torch.testing.assert_close(shares, wanted, atol=1e-12, rtol=0)
    assert 0.8 < shares.abs().max() <= 1


def linear_q(spec: LatentSpec, pixels: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(pixels, spec.q_dim(), generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("spec", [DIGITS, SEVERAL], ids=str)
@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 19)])
def test_adversarial_copies_equal_the_statement(spec: LatentSpec, channels: int, size: int) -> None:
    images, state = pictures(6, channels, size).double(), torch.tensor([5, 3])
    weight = linear_q(spec, images[0].numel()) / size

    def q_of(x: Tensor) -> Tensor:
        return x.flatten(1) @ weight

    pixels = LatentSpec(noise_dim=images[0].numel(), categorical_sizes=(), continuous_kinds=())
    noise = sample_latents(pixels, 5, 3, 6, sample_offset=40)[0].view(images.shape)
    wanted = statements.adversarial(spec, q_of, images, noise)
    copies = adversarial(state, images, spec, q_of, sample_offset=40)
    torch.testing.assert_close(copies, wanted, atol=1e-4, rtol=0)
    assert state.tolist() == [5, 3]


def test_adversarial_copies_change_the_answers_more_than_noise() -> None:
    images = pictures(64, size=28)
    weight = linear_q(DIGITS, 784, torch.float32) / 40
    far = adversarial(torch.tensor([0, 0]), images, DIGITS, lambda x: x.flatten(1) @ weight, sample_offset=0)
    torch.testing.assert_close((far - images).flatten(1).norm(dim=1), torch.full((64,), 2.0))
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    noise *= 2.0 / noise.flatten(1).norm(dim=1)[:, None, None, None]

    def divergence(copies: Tensor) -> float:
        p, other = ((x.flatten(1) @ weight)[:, :10].log_softmax(1) for x in (images, copies))
        return (p.exp() * (p - other)).sum(1).mean().item()

    assert divergence(far) > 20 * divergence(images + noise)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_adversarial_copies_of_low_precision_have_a_direction(dtype: torch.dtype) -> None:
    """Where answers hardly change, half precision has no gradient without a scale."""
    images = pictures(8, size=28).to(dtype).contiguous(memory_format=torch.channels_last)
    weight = linear_q(DIGITS, 784, torch.float32).to(dtype) / 4000
    copies = adversarial(
        torch.tensor([0, 0]), images, DIGITS, lambda x: x.to(dtype).flatten(1) @ weight, sample_offset=0
    )
    assert copies.dtype == dtype
    assert copies.stride() == images.stride()
    lengths = (copies.float() - images.float()).flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((8,), 2.0), atol=0.02, rtol=0)


def test_an_image_without_a_direction_is_left_alone() -> None:
    images = pictures(4, size=16)
    copies = adversarial(
        torch.tensor([0, 0]), images, DIGITS, lambda x: 0.0 * x.flatten(1)[:, :14], sample_offset=0
    )
    assert torch.equal(copies, images)
