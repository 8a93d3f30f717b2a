"""The adversarial copies of images: against a statement by autograd, and what they are for."""

from __future__ import annotations

import math

import pytest
import torch
from objective import statements
from objective.answers import DIGITS, SEVERAL
from operators.sample_latents.reference import sample_latents
from torch import Tensor

from infogan_fast.latents import LatentSpec
from infogan_fast.objective.copies import adversarial, copy_state


def pictures(count: int = 12, channels: int = 1, size: int = 19) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(size))


@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, -(2**63)])
def test_every_seed_of_a_run_has_a_state(seed: int) -> None:
    assert int(copy_state(seed)[0]) != seed


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


def test_adversarial_copies_of_large_images() -> None:
    """Larger than a specification of latents may be."""
    images = pictures(2, 3, 148)
    weight = torch.randn(images[0].numel(), 14, generator=torch.Generator().manual_seed(0)) / 300
    copies = adversarial(
        torch.tensor([0, 0]), images, DIGITS, lambda x: x.flatten(1) @ weight, sample_offset=0
    )
    lengths = (copies - images).flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((2,), math.sqrt(images[0].numel()) / 14))


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
