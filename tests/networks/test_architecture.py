"""The paper's networks against plain float64 statements, and tables of layers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.architecture import NETWORKS, Architecture, architecture, parse_network
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.presets import PRESETS

SLOPE = 0.1


class Plain:
    """Layers in PyTorch's functions; each takes the next weights of a network."""

    def __init__(self, network: nn.Module) -> None:
        self.weights = [p.detach().clone().requires_grad_() for p in network.parameters()]
        self.next = iter(self.weights)

    def take(self, count: int) -> list[Tensor]:
        return [next(self.next) for _ in range(count)]

    def put_back(self, *weights: Tensor) -> None:
        self.next = iter([*weights, *self.next])

    def bn(self, x: Tensor) -> Tensor:
        axes = [0, 2, 3] if x.ndim == 4 else [0]
        shape = [1, -1, 1, 1] if x.ndim == 4 else [1, -1]
        mean, var = x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)
        return (x - mean) / (var + 1e-5).sqrt() * next(self.next).view(shape) + next(self.next).view(shape)

    def fc(self, x: Tensor, *, bias: bool = False) -> Tensor:
        y = x @ next(self.next).T
        return y + next(self.next) if bias else y

    def conv(self, x: Tensor, stride: int, *, bias: bool = False) -> Tensor:
        x = F.pad(x, (1, 1, 1, 1) if stride == 2 else (1, 2, 1, 2))
        return F.conv2d(x, next(self.next), next(self.next) if bias else None, stride)

    def up(self, x: Tensor, stride: int, *, bias: bool = False) -> Tensor:
        """The gradient of such a convolution with respect to its input, plus a bias."""
        side = x.shape[2] * stride
        weight = next(self.next)
        y = x.new_zeros(len(x), weight.shape[1], side + 3, side + 3)
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                patch = torch.einsum("bk,kcij->bcij", x[:, :, row, column], weight)
                place = [0, 0, stride * row, stride * column]
                y = y + F.pad(patch, (place[3], side - 1 - place[3], place[2], side - 1 - place[2]))
        y = y[:, :, 1 : 1 + side, 1 : 1 + side]
        return y + next(self.next).view(1, -1, 1, 1) if bias else y


def flat(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(1)


def maps(x: Tensor, side: int) -> Tensor:
    return x.view(len(x), side, side, -1).permute(0, 3, 1, 2)


def leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


def small_generator(p: Plain, z: Tensor, side: int) -> Tensor:
    """Tables 1 and 4."""
    x = F.relu(p.bn(p.fc(z)))
    x = maps(F.relu(p.bn(p.fc(x))), side)
    x = F.relu(p.bn(p.up(x, 2)))
    return torch.sigmoid(p.up(x, 2, bias=True))


def small_trunk(p: Plain, x: Tensor) -> Tensor:
    x = leaky(p.conv(x, 2, bias=True))
    x = leaky(p.bn(p.conv(x, 2)))
    return leaky(p.bn(p.fc(flat(x))))


def colour_generator(p: Plain, z: Tensor) -> Tensor:
    """Tables 2 and 3; images in [-1, 1], brought to [0, 1]."""
    x = maps(F.relu(p.bn(p.fc(z))), 2)
    first, *others = p.take(5)  # the weights of all upconvolutions lie before those of their normalisation
    p.put_back(first)
    x = F.relu(p.bn(p.up(x, 2)))
    p.put_back(*others)
    x = F.relu(p.up(x, 2, bias=True))
    x = F.relu(p.up(x, 2, bias=True))
    return (torch.tanh(p.up(x, 2, bias=True)) + 1) / 2


def colour_trunk(p: Plain, x: Tensor) -> Tensor:
    x = leaky(p.conv(2 * x - 1, 2, bias=True))
    first, second = p.take(2)
    p.put_back(first)
    x = leaky(p.bn(p.conv(x, 2)))
    p.put_back(second)
    return flat(leaky(p.bn(p.conv(x, 2))))


def chairs_generator(p: Plain, z: Tensor) -> Tensor:
    """Table 6."""
    x = F.relu(p.bn(p.fc(z)))
    x = maps(F.relu(p.bn(p.fc(x))), 8)
    ups = p.take(4)
    for weight, stride in zip(ups, (1, 1, 2, 2), strict=True):
        p.put_back(weight)
        x = F.relu(p.bn(p.up(x, stride)))
    return torch.sigmoid(p.up(x, 2, bias=True))


def chairs_trunk(p: Plain, x: Tensor) -> Tensor:
    x = leaky(p.conv(x, 2, bias=True))
    convs = p.take(4)
    for weight, stride in zip(convs, (2, 2, 1, 1), strict=True):
        p.put_back(weight)
        x = leaky(p.bn(p.conv(x, stride)))
    return leaky(p.bn(p.fc(flat(x))))


def q_head(p: Plain, h: Tensor) -> Tensor:
    return p.fc(leaky(p.bn(p.fc(h))), bias=True)


STATEMENTS = {
    "mnist": (lambda p, z: small_generator(p, z, 7), small_trunk),
    "svhn": (colour_generator, colour_trunk),
    "celeba": (colour_generator, colour_trunk),
    "faces": (lambda p, z: small_generator(p, z, 8), small_trunk),
    "chairs": (chairs_generator, chairs_trunk),
}

#: Counted by hand from the tables: weights, biases where there is no batch normalisation, 2 for each channel
#: or feature with it.
COUNTS = {
    "mnist": {
        "generator": 74 * 1024 + 2 * 1024 + 1024 * 6272 + 2 * 6272 + 16 * 128 * 64 + 2 * 64 + 16 * 64 + 1,
        "trunk": 16 * 64 + 64 + 16 * 64 * 128 + 2 * 128 + 6272 * 1024 + 2 * 1024,
        "d_head": 1024 + 1,
        "q_head": 1024 * 128 + 2 * 128 + 128 * 14 + 14,
    },
    "svhn": {
        "generator": 168 * 1792
        + 2 * 1792
        + 16 * 448 * 256
        + 2 * 256
        + 16 * 256 * 128
        + 128
        + 16 * 128 * 64
        + 64
        + 16 * 64 * 3
        + 3,
        "trunk": 16 * 3 * 64 + 64 + 16 * 64 * 128 + 2 * 128 + 16 * 128 * 256 + 2 * 256,
        "d_head": 4096 + 1,
        "q_head": 4096 * 128 + 2 * 128 + 128 * 48 + 48,
    },
    "celeba": {"generator": 228 * 1792 + 3584 + 1835008 + 512 + 524288 + 128 + 131072 + 64 + 3072 + 3},
    "faces": {
        "generator": 133 * 1024 + 2 * 1024 + 1024 * 8192 + 2 * 8192 + 16 * 128 * 64 + 2 * 64 + 16 * 64 + 1,
        "trunk": 16 * 64 + 64 + 16 * 64 * 128 + 2 * 128 + 8192 * 1024 + 2 * 1024,
        "q_head": 1024 * 128 + 2 * 128 + 128 * 10 + 10,
    },
    "chairs": {
        "generator": 189 * 1024
        + 2 * 1024
        + 1024 * 16384
        + 2 * 16384
        + 2 * (16 * 256 * 256 + 2 * 256)
        + 16 * 256 * 128
        + 2 * 128
        + 16 * 128 * 64
        + 2 * 64
        + 16 * 64
        + 1,
        "trunk": 16 * 64
        + 64
        + 16 * 64 * 128
        + 2 * 128
        + 16 * 128 * 256
        + 2 * 256
        + 2 * (16 * 256 * 256 + 2 * 256)
        + 16384 * 1024
        + 2 * 1024,
        "q_head": 1024 * 128 + 2 * 128 + 128 * 62 + 62,
    },
}


def networks_of(name: str) -> InfoGAN:
    preset = PRESETS[name]
    spec = LatentSpec.parse(preset["latents"])
    return InfoGAN(spec, preset["image_size"], preset["channels"], network=name, slope=SLOPE, seed=5)


def test_every_preset_has_a_statement_and_a_count() -> None:
    assert list(STATEMENTS) == list(COUNTS) == list(NETWORKS) == list(PRESETS)


@pytest.mark.parametrize("name", COUNTS)
def test_weights_are_as_many_as_the_table_says(name: str) -> None:
    networks = networks_of(name)
    for part, count in COUNTS[name].items():
        assert sum(p.numel() for p in networks.get_submodule(part).parameters()) == count, part


@pytest.mark.parametrize("name", STATEMENTS)
def test_forward_and_gradients_are_the_statements(name: str, device: torch.device) -> None:
    networks = networks_of(name).double().to(device)
    with torch.no_grad():
        for parameter in networks.parameters():  # with biases and scales that do something
            parameter.add_(torch.randn(parameter.shape, dtype=parameter.dtype).to(parameter), alpha=0.05)
    plain_generator, plain_trunk = STATEMENTS[name]
    width = LatentSpec.parse(PRESETS[name]["latents"]).latent_dim
    z = torch.randn(3, width, dtype=torch.float64, device=device, requires_grad=True)
    image = networks.generator(z)
    plain = Plain(networks.generator)
    compare(image, plain_generator(plain, z), [z, *networks.generator.parameters()], [z, *plain.weights])
    real = torch.rand_like(image.detach()).requires_grad_()
    plain = Plain(networks.trunk)
    features = networks.trunk(real)
    compare(features, plain_trunk(plain, real), [real, *networks.trunk.parameters()], [real, *plain.weights])
    h = features.detach().requires_grad_()
    plain = Plain(networks.q_head)
    compare(networks.q_head(h), q_head(plain, h), [h, *networks.q_head.parameters()], [h, *plain.weights])


def compare(got: Tensor, want: Tensor, inputs: list[Tensor], plain_inputs: list[Tensor]) -> None:
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)
    cotangent = torch.randn_like(want)
    ours = torch.autograd.grad(got, inputs, cotangent)
    theirs = torch.autograd.grad(want, plain_inputs, cotangent)
    for a, b in zip(ours, theirs, strict=True):
        scale = max(b.abs().max().item(), 1.0)
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9 * scale)


@pytest.mark.parametrize("name", NETWORKS)
def test_exported_networks_are_the_same(name: str) -> None:
    """As torch.export and torch.jit.trace find them: PyTorch's own operators."""
    networks = networks_of(name).eval()
    z = torch.randn(2, LatentSpec.parse(PRESETS[name]["latents"]).latent_dim)
    traced = torch.jit.trace(networks.generator, (z,), check_trace=False)
    torch.testing.assert_close(traced(z), networks.generator(z), rtol=1e-4, atol=1e-5)
    image = networks.generator(z).detach()
    traced = torch.jit.trace(networks.trunk, (image,), check_trace=False)
    torch.testing.assert_close(traced(image), networks.trunk(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [16, 17, 28, 32, 45, 64, 96, 127, 128, 257])
@pytest.mark.parametrize("channels", [1, 3])
def test_auto_is_a_table_too(size: int, channels: int) -> None:
    found = architecture("auto", size, channels)
    assert (found.image_size, found.channels, found.signed) == (size, channels, False)
    assert Architecture.parse(str(found)) == found


def test_auto_is_the_papers_at_its_sizes() -> None:
    for name, size in (("mnist", 28), ("faces", 32)):
        assert architecture("auto", size, 1) == Architecture.of(name)


def test_a_table_of_ones_own() -> None:
    text = "D: conv 16 s2; Q: ; G: fc 4x4x8 bn, up 8, up 24 s2+1 bn, up 3 s2 tanh"
    assert parse_network(text) == str(Architecture.parse(text))
    spec = LatentSpec.parse("noise=5,cat=4")
    networks = InfoGAN(spec, 18, 3, network=text)
    image = networks.generator(torch.randn(2, 9))
    assert image.shape == (2, 3, 18, 18)
    features = networks.trunk(image)
    assert features.shape == (2, 16 * 9 * 9)
    assert networks.q_head(features).shape == (2, 4)
    assert networks.d_head(features).shape == (2, 1)


MNIST = (
    "D: conv 64 s2, conv 128 s2 bn, fc 1024 bn; Q: fc 128 bn; G: fc 7x7x128 bn, up 64 s2 bn, up 1 s2 sigmoid"
)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Q: fc 128 bn; ", "", "has no row Q"),
        ("Q: fc", "E: fc", "cannot read 'E: fc 128 bn'"),
        ("Q: fc 128 bn", "D: fc 128 bn", "cannot read 'D: fc 128 bn'"),
        ("fc 1024 bn", "fc -1", "cannot read 'fc -1'"),
        ("fc 1024 bn", "", "cannot read ''"),
        ("fc 1024 bn", "fc 0", "expected at least 1"),
        ("fc 1024 bn", "fc 1024 tanh", "cannot read 'fc 1024 tanh'"),
        ("conv 64 s2", "conv 64 s3", "cannot read 'conv 64 s3'"),
        ("conv 64 s2", "conv 64 s2+1", "D begins|only up takes"),
        ("conv 64 s2", "conv 64", "D begins with conv K s2"),
        ("conv 64 s2", "conv 64 s2 bn", "D begins with conv K s2"),
        ("conv 64 s2", "conv 60 s2", "D begins with conv K s2"),
        ("conv 64 s2", "up 64 s2", "expected conv then fc"),
        ("conv 128 s2 bn, fc 1024 bn", "fc 1024 bn, conv 128 s2 bn", "expected conv then fc"),
        ("fc 1024 bn", "fc 2x2x8", "belongs to G"),
        ("Q: fc 128 bn", "Q: conv 128 bn", "Q has conv"),
        ("fc 7x7x128 bn", "fc 100 bn", "the last fc of G"),
        ("fc 7x7x128 bn", "fc 7x7x128 bn, fc 10", "the last fc of G"),
        ("fc 7x7x128 bn", "fc 7x6x128 bn", "cannot read 'fc 7x6x128 bn'"),
        ("fc 7x7x128 bn", "fc 3x3x128 bn", "images of 12 pixels"),
        ("fc 7x7x128 bn", "fc 0x0x128 bn", "at least 1 x 1"),
        ("up 1 s2 sigmoid", "up 1 s2", "G ends with"),
        ("up 1 s2 sigmoid", "up 2 s2 sigmoid", "G ends with"),
        ("up 1 s2 sigmoid", "up 1 sigmoid", "G ends with"),
        ("up 64 s2 bn", "up 60 s2 bn", "multiple of 8"),
        ("up 64 s2 bn", "up 64 s2 sn", "sn belongs to D and Q"),
        ("fc 1024 bn", "fc 1024 bn sn", "cannot read 'fc 1024 bn sn'"),
        ("up 64 s2 bn", "up 64 s2 bn tanh", "last layer of G"),
        ("conv 128 s2 bn", ", ".join(["conv 128 s2 bn"] * 5), "until nothing is left"),
    ],
)
def test_tables_that_do_not_fit_together(old: str, new: str, message: str) -> None:
    assert parse_network(MNIST)
    assert old in MNIST
    with pytest.raises(UserError, match=message):
        parse_network(MNIST.replace(old, new))


def test_networks_that_are_not_there_or_of_another_size() -> None:
    with pytest.raises(UserError, match=r"--network is 'resnet'; expected auto, mnist, svhn"):
        parse_network("resnet")
    with pytest.raises(
        UserError, match=r"chairs is for 64 x 64 grey images, and these are 28 x 28 colour; add"
    ):
        architecture("chairs", 28, 3)
    with pytest.raises(UserError, match=r"of this table is for 28 x 28 grey images"):
        architecture(MNIST, 28, 3)


def test_presets_reach_the_objective() -> None:
    for preset in PRESETS.values():
        spec = LatentSpec.parse(preset["latents"])
        columns = sum(code.size for code in spec.codes) + spec.noise_dim
        assert spec.latent_dim == columns
    widths = {name: LatentSpec.parse(p["latents"]).latent_dim for name, p in PRESETS.items()}
    assert widths == {"mnist": 74, "svhn": 168, "celeba": 228, "faces": 133, "chairs": 189}
    assert math.isclose(PRESETS["faces"]["lr_g"], 5e-4)
