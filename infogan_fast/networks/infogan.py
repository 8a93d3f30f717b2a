"""The generator, the discriminator's trunk with its head, and Q's head, made of a table of layers.

Images are in [0, 1] outside the networks: data divided by 255. Networks that end in tanh see them in [-1, 1].
Layers that batch normalisation follows have no bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from infogan_fast.latents import LatentSpec
from infogan_fast.networks.architecture import AUTO, Architecture, Layer, architecture
from infogan_fast.networks.layers import DownConv, FromImage, ToImage, UpConv, activated, draw_weights
from infogan_fast.networks.linear import Linear
from infogan_fast.networks.spectral_norm import spectrally_normalised

_Weighted = TypeVar("_Weighted", nn.Linear, Linear, DownConv, FromImage)


def _weighted(module: _Weighted, layer: Layer | None) -> _Weighted:
    """The module, with its weights normalised where the table says so."""
    if layer is not None and layer.norm == "sn":
        spectrally_normalised(module)
    return module


def _norm(layer: Layer) -> nn.Module:
    """What follows a layer before its activation."""
    if layer.norm != "bn":
        return nn.Identity()
    if layer.kind == "fc":
        return nn.BatchNorm1d(layer.channels * max(layer.side, 1) ** 2)
    return nn.BatchNorm2d(layer.channels)


class _Dense(nn.Module):
    """A network with fully connected layers: attributes NAME, with their normalisation NAME_norm."""

    # Where the table has them.
    fc: Linear
    fc1: Linear
    fc2: nn.Linear
    fc_norm: nn.Module
    fc1_norm: nn.Module
    fc2_norm: nn.Module

    def add_dense(self, width: int, layers: Sequence[Layer], names: Sequence[str]) -> int:
        """Add layers to an input of this width; returns the width of the last one's output."""
        for layer, name in zip(layers, names, strict=True):
            features = layer.channels * max(layer.side, 1) ** 2
            self.add_module(name, _weighted(Linear(width, features, bias=layer.norm != "bn"), layer))
            self.add_module(f"{name}_norm", _norm(layer))
            width = features
        self.dense = tuple(names)
        return width

    def run_dense(self, x: Tensor, parts: Sequence[int] = (), slope: float = 0.0) -> Tensor:
        """The layers in turn."""
        for name in self.dense:
            x = activated(getattr(self, f"{name}_norm"), getattr(self, name)(x), parts, slope)
        return x


def _numbered(stem: str, count: int) -> list[str]:
    return [f"{stem}{i + 1}" for i in range(count)]


class Generator(_Dense):
    """Latents to images. Args: the width of the latents, the layers."""

    def __init__(self, latent_dim: int, layers: Architecture) -> None:
        super().__init__()
        dense = [layer for layer in layers.generator if layer.kind == "fc"]
        ups = layers.generator[len(dense) :]
        self.add_dense(latent_dim, dense, _numbered("fc", len(dense)))
        self.base = (dense[-1].side, dense[-1].side, dense[-1].channels)
        self.ups = nn.ModuleList(
            UpConv(before.channels, up.channels, up.odd, up.stride, bias=up.norm != "bn")
            for before, up in pairwise((dense[-1], *ups[:-1]))
        )
        self.up_norms = nn.ModuleList(_norm(up) for up in ups[:-1])
        before, last = layers.generator[-2:]
        self.image = ToImage(before.channels, last.channels, layers.image_size, signed=layers.signed)

    def forward(self, latents: Tensor) -> Tensor:
        """[B, latent_dim] -> [B, C, S, S] in [0, 1]."""
        x = self.run_dense(latents)
        # Features lie as (row, column, channel), which is what channels_last convolutions read without a
        # copy.
        x = x.unflatten(1, self.base).permute(0, 3, 1, 2)
        for up, norm in zip(self.ups, self.up_norms, strict=True):
            x = activated(norm, up(x))
        image: Tensor = self.image(x)
        return image


class Trunk(_Dense):
    """Images to the features that the discriminator and Q share. Args: the layers, the leaky slope."""

    def __init__(self, layers: Architecture, slope: float = 0.1) -> None:
        super().__init__()
        convs = [layer for layer in layers.discriminator if layer.kind == "conv"]
        dense = layers.discriminator[len(convs) :]
        self.slope = slope
        first = FromImage(layers.channels, convs[0].channels, slope, signed=layers.signed)
        self.image = _weighted(first, convs[0])
        self.convs = nn.ModuleList(
            _weighted(DownConv(before.channels, conv.channels, conv.stride, bias=conv.norm != "bn"), conv)
            for before, conv in pairwise(convs)
        )
        self.conv_norms = nn.ModuleList(_norm(conv) for conv in convs[1:])
        side = layers.feature_maps(convs, layers.image_size)[-1]
        names = ["fc", *_numbered("fc", len(dense))[1:]][: len(dense)]
        self.features = self.add_dense(side * side * convs[-1].channels, dense, names)

    def forward(self, images: Tensor, parts: Sequence[int] = ()) -> Tensor:
        """[B, C, S, S] -> [B, features]; batch normalisation takes the statistics of each of the ``parts`` of
        the batch, given as numbers of rows, and each moves the running statistics in turn."""
        x = self.image(images)
        for conv, norm in zip(self.convs, self.conv_norms, strict=True):
            x = activated(norm, conv(x), parts, self.slope)
        return self.run_dense(x.permute(0, 2, 3, 1).flatten(1), parts, self.slope)


class QHead(_Dense):
    """Features to the parameters of Q(c|x). Args: the width of the features, Q's width
    (:meth:`LatentSpec.q_dim`), the layers before the last one, the leaky slope."""

    def __init__(self, features: int, q_dim: int, layers: Sequence[Layer], slope: float = 0.1) -> None:
        super().__init__()
        self.slope = slope
        *hidden, self.output = _numbered("fc", len(layers) + 1)
        width = self.add_dense(features, layers, hidden)
        self.add_module(self.output, _weighted(nn.Linear(width, q_dim), layers[-1] if layers else None))

    def forward(self, features: Tensor, parts: Sequence[int] = ()) -> Tensor:
        """[B, features] -> [B, q_dim]; ``parts`` as in :meth:`Trunk.forward`."""
        y: Tensor = getattr(self, self.output)(self.run_dense(features, parts, self.slope))
        return y


class InfoGAN(nn.Module):
    """The four networks: ``generator``, ``trunk``, ``d_head`` and ``q_head``.

    Weights are drawn from N(0, 0.02) by ``seed`` alone, whatever the device; scales of batch normalisation
    are 1, biases 0.

    Args:
        spec: the latents.
        image_size, channels: of the images, at least 16 and 1 or 3.
        network: as ``--network`` takes it; see :mod:`infogan_fast.networks.architecture`.
        learned_variance: whether Q gives log-variances for uniform and normal codes.
        slope: of the leaky units: 0.1 in the paper's text, 0.01 in its authors' code.
        seed: of the weights.

    Raises:
        UserError: the size or the channels are not supported, or not the network's.
    """

    def __init__(
        self,
        spec: LatentSpec,
        image_size: int,
        channels: int,
        *,
        network: str = AUTO,
        learned_variance: bool = True,
        slope: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        layers = architecture(network, image_size, channels)
        self.generator = Generator(spec.latent_dim, layers)
        self.trunk = Trunk(layers, slope)
        features = self.trunk.features
        self.d_head = _weighted(nn.Linear(features, 1), layers.discriminator[-1])
        self.q_head = QHead(features, max(spec.q_dim(learned_variance), 1), layers.q, slope)
        draw_weights(self, seed)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
