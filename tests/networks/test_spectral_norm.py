"""Weights divided by their largest singular value, against plain float64 statements."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from infogan_fast.latents import LatentSpec
from infogan_fast.networks.architecture import Architecture
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.networks.layers import draw_weights
from infogan_fast.networks.spectral_norm import SpectralNorm, own_weight, spectrally_normalised

SPEC = LatentSpec.parse("noise=5,cat=4")
#: Of images in [-1, 1]; one layer keeps the side, one has batch normalisation.
TABLE = (
    "D: conv 8 s2 sn, conv 16 sn, conv 16 s2 bn, fc 12 sn; Q: fc 6 sn; "
    "G: fc 4x4x8 bn, up 8 s2 bn, up 1 s2 tanh"
)


def statement(weight: Tensor, u: Tensor) -> Tensor:
    """W over u'Wv, where v and then u follow from one step of power iteration, which gives no gradient."""
    matrix = weight.reshape(len(weight), -1)
    with torch.no_grad():
        v = matrix.T @ u
        v = v / v.pow(2).sum().sqrt()
        new = matrix @ v
        new = new / new.pow(2).sum().sqrt()
    return weight / torch.einsum("i,ij,j->", new, matrix, v)


@pytest.mark.parametrize("training", [True, False])
def test_networks_are_the_statement(training: bool, device: torch.device) -> None:
    networks = InfoGAN(SPEC, 16, 1, network=TABLE, seed=5).double().to(device).train(training)
    trunk, d_head, q_head = networks.trunk, networks.d_head, networks.q_head
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(torch.randn(parameter.shape, dtype=parameter.dtype).to(parameter), alpha=0.05)
    before = {name: buffer.clone() for name, buffer in networks.named_buffers() if name.endswith(".u")}
    assert len(before) == 6
    plain = {name: p.detach().clone().requires_grad_() for name, p in networks.named_parameters()}

    def normalised(name: str) -> tuple[Tensor, Tensor]:
        weight = plain[f"{name}.parametrizations.weight.original"]
        return statement(weight, before[f"{name}.parametrizations.weight.0.u"]), plain[f"{name}.bias"]

    x = torch.rand(3, 1, 16, 16, dtype=torch.float64, device=device, requires_grad=True)
    features = trunk(x)
    got = torch.cat([d_head(features), q_head(features)], 1)

    y = F.leaky_relu(F.conv2d(F.pad(2 * x - 1, (1, 1, 1, 1)), *normalised("trunk.image"), 2), 0.1)
    y = F.leaky_relu(F.conv2d(F.pad(y, (1, 2, 1, 2)), *normalised("trunk.convs.0")), 0.1)
    y = F.conv2d(F.pad(y, (1, 1, 1, 1)), plain["trunk.convs.1.weight"], None, 2)
    mean, var = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), correction=0, keepdim=True)
    y = (y - mean) / (var + 1e-5).sqrt() if training else y / (1 + 1e-5) ** 0.5
    scale, shift = plain["trunk.conv_norms.1.weight"], plain["trunk.conv_norms.1.bias"]
    y = F.leaky_relu(y * scale.view(-1, 1, 1) + shift.view(-1, 1, 1), 0.1)
    h = F.leaky_relu(F.linear(y.permute(0, 2, 3, 1).flatten(1), *normalised("trunk.fc")), 0.1)
    q = F.leaky_relu(F.linear(h, *normalised("q_head.fc1")), 0.1)
    want = torch.cat([F.linear(h, *normalised("d_head")), F.linear(q, *normalised("q_head.fc2"))], 1)

    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)
    names = [name for name in plain if not name.startswith("generator")]
    cotangent = torch.randn_like(want)
    ours = torch.autograd.grad(got, [x, *(networks.get_parameter(name) for name in names)], cotangent)
    theirs = torch.autograd.grad(want, [x, *(plain[name] for name in names)], cotangent)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)
    moved = [not torch.equal(networks.get_buffer(name), u) for name, u in before.items()]
    # A vector of one element, that of the discriminator's output, has nowhere to go.
    assert moved == [training and networks.get_buffer(name).numel() > 1 for name in before]


@pytest.mark.parametrize("layer", [nn.Linear(40, 30), nn.Conv2d(3, 12, 4)], ids=["linear", "convolution"])
def test_the_largest_singular_value_is_found(layer: nn.Linear | nn.Conv2d, device: torch.device) -> None:
    layer = copy.deepcopy(layer).double().to(device)
    spectrally_normalised(layer)
    draw_weights(layer, 3)
    assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2) < 1.1  # at once, to a few per cent
    for _ in range(500):
        weight = layer.weight
    assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(weight / weight.norm(), own_weight(layer) / own_weight(layer).norm())


def test_outputs_follow_the_last_layer_of_their_row() -> None:
    def normalised(network: str) -> set[str]:
        found = InfoGAN(SPEC, 16, 1, network=network).named_modules()
        return {name.partition(".param")[0] for name, module in found if isinstance(module, SpectralNorm)}

    assert normalised(TABLE) == {
        "trunk.image", "trunk.convs.0", "trunk.fc", "d_head", "q_head.fc1", "q_head.fc2"
    }  # fmt: skip
    assert normalised(TABLE.replace("fc 12 sn", "fc 12 bn").replace("fc 6 sn", "fc 6")) == {
        "trunk.image", "trunk.convs.0"
    }  # fmt: skip
    assert "q_head.fc1" not in normalised(TABLE.replace("fc 6 sn", ""))
    assert str(Architecture.parse(TABLE)) == TABLE


def test_the_estimate_is_in_full_precision_under_autocast(device: torch.device) -> None:
    layer = nn.Linear(64, 32, device=device)
    spectrally_normalised(layer)
    draw_weights(layer, 0)
    layer.eval()
    wanted = layer.weight
    with torch.autocast(device.type, torch.bfloat16):
        assert torch.equal(layer.weight, wanted)


def test_weights_of_low_precision_are_normalised_in_float32(device: torch.device) -> None:
    layer = nn.Linear(64, 32, device=device)
    spectrally_normalised(layer)
    draw_weights(layer, 0)
    layer.eval()
    original = own_weight(layer)
    original.data = original.data.bfloat16()
    wanted = statement(original.float(), layer.get_buffer("parametrizations.weight.0.u"))
    assert layer.weight.dtype == torch.bfloat16
    # One rounding: another sum may put a value on the other side of a tie.
    torch.testing.assert_close(layer.weight, wanted.bfloat16(), rtol=2**-7, atol=0)
    assert (layer.weight == wanted.bfloat16()).double().mean() > 0.99


def test_large_gradients_in_float16_stay_finite(device: torch.device) -> None:
    """The gradient with respect to the singular value is a sum over the whole weight."""
    layer = nn.Linear(256, 256, device=device)
    spectrally_normalised(layer)
    draw_weights(layer, 0)
    original = own_weight(layer)
    original.data = original.data.half()
    weight = layer.eval().weight
    cotangent = 256 * weight.detach().sign()
    (gradient,) = torch.autograd.grad(weight, original, cotangent)
    exact = original.detach().double().requires_grad_()
    wanted = statement(exact, layer.get_buffer("parametrizations.weight.0.u").double())
    (right,) = torch.autograd.grad(wanted, exact, cotangent.double())
    assert gradient.isfinite().all()
    assert (gradient.double() - right).norm() < 0.01 * right.norm()


def test_vectors_are_drawn_by_the_seed_alone() -> None:
    first, second, other = (InfoGAN(SPEC, 16, 1, network=TABLE, seed=seed) for seed in (4, 4, 5))
    name = "trunk.fc.parametrizations.weight.0.u"
    assert torch.equal(first.get_buffer(name), second.get_buffer(name))
    assert not torch.equal(first.get_buffer(name), other.get_buffer(name))
    draw_weights(other, 4)
    assert torch.equal(first.get_buffer(name), other.get_buffer(name))
    unlike = first.trunk.fc.weight.detach() - other.trunk.fc.weight.detach()
    assert not unlike.any()
