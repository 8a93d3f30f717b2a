"""Shapes, the paper's sizes, and the CPU's forms of the image convolutions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.architecture import architecture
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.networks.layers import DownConv, FromImage, ToImage, UpConv
from infogan_fast.networks.linear import Linear, onednn_missing

SPEC = LatentSpec.parse("noise=5,cat=4,uniform=1")


def test_mnist_networks_are_the_papers() -> None:
    spec = LatentSpec.parse("noise=62,cat=10,uniform=2")
    shapes = {k: tuple(v.shape) for k, v in InfoGAN(spec, 28, 1).named_parameters() if v.ndim > 1}
    assert shapes == {
        "generator.fc1.weight": (1024, 74),
        "generator.fc2.weight": (7 * 7 * 128, 1024),
        "generator.ups.0.weight": (128, 64, 4, 4),
        "generator.image.weight": (64, 1, 4, 4),
        "trunk.image.weight": (64, 1, 4, 4),
        "trunk.convs.0.weight": (128, 64, 4, 4),
        "trunk.fc.weight": (1024, 7 * 7 * 128),
        "d_head.weight": (1, 1024),
        "q_head.fc1.weight": (128, 1024),
        "q_head.fc2.weight": (14, 128),
    }


def test_paper_settings() -> None:
    networks = InfoGAN(SPEC, 28, 1, slope=0.01)
    norms = [m for m in networks.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert len(norms) == 3 + 2 + 1
    assert {norm.eps for norm in norms} == {1e-5}
    weight = networks.trunk.fc.weight.detach()
    assert abs(weight.mean()) < 1e-4
    assert weight.std() == pytest.approx(0.02, rel=0.01)
    assert networks.trunk.slope == networks.q_head.slope == 0.01
    assert all(not bool(p.any()) for k, p in networks.named_parameters() if k.endswith("bias"))


@pytest.mark.parametrize(
    ("size", "chain", "widths"),
    [
        (16, [16, 8, 4], [1, 64, 128]),
        (28, [28, 14, 7], [1, 64, 128]),
        (32, [32, 16, 8], [1, 64, 128]),
        (45, [45, 22, 11, 5], [1, 64, 128, 256]),
        (64, [64, 32, 16, 8], [1, 64, 128, 256]),
        (257, [257, 128, 64, 32, 16, 8], [1, 64, 128, 256, 512, 512]),
    ],
)
def test_family(size: int, chain: list[int], widths: list[int]) -> None:
    layers = architecture("auto", size, 1)
    convs = layers.discriminator[:-1]
    assert layers.feature_maps(convs, size) == chain
    assert [1, *(conv.channels for conv in convs)] == widths
    ups = [layer for layer in layers.generator if layer.kind == "up"]
    assert layers.feature_maps(ups, chain[-1]) == chain[::-1]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 17, 19, 28, 30, 31, 37])
def test_images_of_any_size_and_back(size: int, channels: int) -> None:
    networks = InfoGAN(SPEC, size, channels)
    generator, trunk = networks.generator, networks.trunk
    images = generator(torch.randn(2, SPEC.latent_dim))
    assert images.shape == (2, channels, size, size)
    assert 0 <= images.min() <= images.max() <= 1
    assert trunk(images).shape == (2, 1024)


def test_image_convolutions_are_pytorchs(device: torch.device) -> None:
    for size in (16, 17):
        for channels in (1, 3):
            networks = InfoGAN(SPEC, size, channels).double().to(device)
            read, write = networks.trunk.image, networks.generator.image
            for layer in (read, write):
                assert layer.bias is not None
                nn.init.normal_(layer.bias)
            double: dict[str, Any] = {"dtype": torch.float64, "device": device, "requires_grad": True}
            image = torch.randn(3, channels, size, size, **double)
            features = torch.randn(3, 64, size // 2, size // 2, **double)
            plain = nn.functional.conv2d(image, read.weight, read.bias, 2, 1)
            plain = nn.functional.leaky_relu(plain, 0.1)
            odd = size % 2
            plain_up = nn.functional.conv_transpose2d(features, write.weight, write.bias, 2, 1, odd).sigmoid()
            for got, want, source, layer in (
                (read(image), plain, image, read),
                (write(features), plain_up, features, write),
            ):
                torch.testing.assert_close(got, want)
                cotangent = torch.randn_like(want)
                inputs = [source, *layer.parameters()]
                for a, b in zip(
                    torch.autograd.grad(got, inputs, cotangent),
                    torch.autograd.grad(want, inputs, cotangent),
                    strict=True,
                ):
                    torch.testing.assert_close(a, b)


def test_image_layers_cast_under_autocast_alone(device: torch.device) -> None:
    """Elsewhere a wrong dtype is an error, as it is in PyTorch's layers."""
    read, write = (layer.to(device) for layer in (FromImage(1, 8, 0.1), ToImage(8, 1, 16)))
    image = torch.rand(2, 1, 16, 16, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        assert write(read(image)).dtype == torch.bfloat16
    with pytest.raises(RuntimeError, match="image_conv: weight must be bfloat16"):
        read(image.bfloat16())
    with pytest.raises(RuntimeError, match="image_conv_transpose: weight must be bfloat16"):
        write(read(image).bfloat16())


@pytest.mark.parametrize("odd", [0, 1])
@pytest.mark.parametrize("kind", [DownConv, UpConv])
def test_bfloat16_convolutions_are_pytorchs(kind: type[nn.Module], odd: int) -> None:
    """Within rounding of each result to bfloat16, of a float64 convolution of the same values."""
    down = kind is DownConv
    layer: Any = DownConv(6, 10) if down else UpConv(6, 10, odd)
    draws = torch.Generator().manual_seed(odd)
    x = torch.randn(5, 6, 8 + odd, 8 + odd, generator=draws, dtype=torch.float64).bfloat16()
    rounded = layer.weight.detach().bfloat16().double().requires_grad_()
    exact_x = x.double().requires_grad_()
    if down:
        want = nn.functional.conv2d(exact_x, rounded, None, 2, 1)
    else:
        want = nn.functional.conv_transpose2d(exact_x, rounded, None, 2, 1, odd)
    x.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = layer(x)
    assert "_Down" in type(got.grad_fn).__name__ or "_Up" in type(got.grad_fn).__name__
    cotangent = torch.randn(want.shape, generator=draws, dtype=torch.float64).bfloat16()
    got.backward(cotangent)
    want.backward(cotangent.double())
    assert layer.weight.grad.dtype == torch.float32
    for a, b in ((got, want), (x.grad, exact_x.grad), (layer.weight.grad, rounded.grad)):
        assert a is not None and b is not None
        torch.testing.assert_close(a.double(), b, rtol=2**-7, atol=2**-7 * b.abs().max().item())


@pytest.mark.skipif(onednn_missing() is not None, reason=str(onednn_missing()))
def test_a_linear_layer_through_onednn_refuses_a_second_derivative() -> None:
    layer = Linear(6, 4, bias=False)
    layer.onednn = True
    x = torch.randn(3, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).sin().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="a linear layer through oneDNN: a second derivative is asked for"):
        gradient.square().sum().backward()


def test_a_weight_frozen_after_the_forward_pass_gets_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    def computed(outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
        raise AssertionError("a gradient that nobody wants was computed")

    monkeypatch.setattr("infogan_fast.networks.layers._weight_gradient", computed)
    for layer in (DownConv(2, 3), UpConv(2, 3, 0)):
        x = torch.randn(2, 2, 8, 8, dtype=torch.bfloat16, requires_grad=True)
        y = layer(x)
        layer.weight.requires_grad_(False)
        y.sum().backward()
        assert x.grad is not None and layer.weight.grad is None


@pytest.mark.parametrize("other", [2**32 + 5, 2**62 + 5, 5 - 2**32, -(2**63)])
def test_all_bits_of_a_seed_count(other: int) -> None:
    """PyTorch's generator uses 32 of them."""
    spec = LatentSpec.parse("noise=3,cat=2")
    one, two, again = (
        InfoGAN(spec, 16, 1, seed=seed).state_dict()["trunk.fc.weight"] for seed in (5, other, other)
    )
    assert not torch.equal(one, two) and torch.equal(two, again)
    assert abs(two.std().item() - 0.02) < 0.004


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = InfoGAN(SPEC, 16, 1, seed=4).state_dict()
    torch.manual_seed(2)
    again = InfoGAN(SPEC, 16, 1, seed=4).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    other = InfoGAN(SPEC, 16, 1, seed=5).state_dict()
    assert not torch.equal(first["trunk.fc.weight"], other["trunk.fc.weight"])


def test_parts_are_ignored_in_evaluation() -> None:
    trunk = InfoGAN(SPEC, 16, 1).trunk.eval()
    images = torch.rand(4, 1, 16, 16)
    assert torch.equal(trunk(images, parts=(len(images) // 2,) * 2), trunk(images))


def test_unsupported_images() -> None:
    with pytest.raises(UserError, match=r"15 pixels a side.*at least 16.*--image-size"):
        InfoGAN(SPEC, 15, 1)
    with pytest.raises(UserError, match=r"2 channels.*1 .*or 3.*--channels"):
        InfoGAN(SPEC, 16, 2)
