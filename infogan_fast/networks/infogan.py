"""The paper's MNIST networks (Chen et al. 2016, arXiv 1606.03657, appendix C.1), for any square image of 16
pixels or more.

For images of S x S pixels the discriminator halves the side (rounding down) with 4x4 convolutions of stride 2
until it is at most 8, at least twice: 28 -> 14 -> 7, 32 -> 16 -> 8, 64 -> 32 -> 16 -> 8, 45 -> 22 -> 11 -> 5.
The first convolution has 64 channels, each next one twice as many, up to 512. With 28 pixels this is the
paper's MNIST network, with 32 its Faces network:

    trunk        conv 64 s2, leaky | conv 128 s2, BN, leaky | ... | FC 1024, BN, leaky
    D head       FC 1                          Q head       FC 128, BN, leaky | FC to Q's layout
    generator    FC 1024, BN, ReLU | FC s*s*c, BN, ReLU | up c/2 s2, BN, ReLU | ... | up channels s2, sigmoid

where s is the last side and c the last number of channels of the trunk, and "up" a 4x4 transposed convolution
that takes the trunk's sides in reverse (one more row and column where a side was odd). Images are in [0, 1]:
sigmoid outputs, and data divided by 255. Layers that batch normalisation follows have no bias.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from infogan_fast.constants import MIN_SIZE
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.layers import DownConv, FromImage, ToImage, UpConv, draw_weights, normalised
from infogan_fast.networks.linear import Linear

FEATURES = 1024
_Q_FEATURES = 128
_FIRST_CHANNELS, _MOST_CHANNELS = 64, 512
_SMALL_SIDE = 8


def sides(image_size: int) -> list[int]:
    """Sides of the feature maps from the image inwards, such as [28, 14, 7].

    Raises:
        UserError: the image is smaller than 16 pixels.
    """
    if image_size < MIN_SIZE:
        raise UserError(
            f"images are {image_size} pixels a side; the networks need at least {MIN_SIZE}: "
            f"enlarge them with --image-size"
        )
    result = [image_size]
    while len(result) < 3 or result[-1] > _SMALL_SIDE:
        result.append(result[-1] // 2)
    return result


def stage_channels(image_size: int, channels: int) -> list[int]:
    """Channels of the feature maps from the image inwards, such as [1, 64, 128].

    Raises:
        UserError: channels is neither 1 nor 3, or the image too small.
    """
    if channels not in (1, 3):
        raise UserError(
            f"images have {channels} channels; the networks take 1 (grey) or 3 (colour): use --channels"
        )
    stages = len(sides(image_size)) - 1
    return [channels] + [min(_FIRST_CHANNELS << i, _MOST_CHANNELS) for i in range(stages)]


class Generator(nn.Module):
    """Latents to images. Args: the width of the latents, the images' side and channels (1 or 3)."""

    def __init__(self, latent_dim: int, image_size: int, channels: int) -> None:
        super().__init__()
        side, width = sides(image_size), stage_channels(image_size, channels)
        self.base = (side[-1], side[-1], width[-1])
        self.fc1 = Linear(latent_dim, FEATURES, bias=False)
        self.fc1_norm = nn.BatchNorm1d(FEATURES)
        self.fc2 = Linear(FEATURES, side[-1] * side[-1] * width[-1], bias=False)
        self.fc2_norm = nn.BatchNorm1d(side[-1] * side[-1] * width[-1])
        inner = range(len(width) - 1, 1, -1)
        self.ups = nn.ModuleList(UpConv(width[i], width[i - 1], side[i - 1] % 2) for i in inner)
        self.up_norms = nn.ModuleList(nn.BatchNorm2d(width[i - 1]) for i in inner)
        self.image = ToImage(width[1], channels, image_size)

    def forward(self, latents: Tensor) -> Tensor:
        """[B, latent_dim] -> [B, C, S, S] in [0, 1]."""
        x = normalised(self.fc1_norm, self.fc1(latents))
        x = normalised(self.fc2_norm, self.fc2(x))
        # Features lie as (row, column, channel), which is what channels_last convolutions read without a
        # copy.
        x = x.unflatten(1, self.base).permute(0, 3, 1, 2)
        for up, norm in zip(self.ups, self.up_norms, strict=True):
            x = normalised(norm, up(x))
        image: Tensor = self.image(x)
        return image


class Trunk(nn.Module):
    """Images to the features that the discriminator and Q share. Args: the images' side and channels, the
    leaky slope."""

    def __init__(self, image_size: int, channels: int, slope: float = 0.1) -> None:
        super().__init__()
        side, width = sides(image_size), stage_channels(image_size, channels)
        self.slope = slope
        self.image = FromImage(channels, width[1], slope)
        inner = range(2, len(width))
        self.convs = nn.ModuleList(DownConv(width[i - 1], width[i]) for i in inner)
        self.conv_norms = nn.ModuleList(nn.BatchNorm2d(width[i]) for i in inner)
        self.fc = Linear(side[-1] * side[-1] * width[-1], FEATURES, bias=False)
        self.fc_norm = nn.BatchNorm1d(FEATURES)

    def forward(self, images: Tensor, parts: Sequence[int] = ()) -> Tensor:
        """[B, C, S, S] -> [B, 1024]; batch normalisation takes the statistics of each of the ``parts`` of the
        batch, given as numbers of rows, and each moves the running statistics in turn."""
        x = self.image(images)
        for conv, norm in zip(self.convs, self.conv_norms, strict=True):
            x = normalised(norm, conv(x), parts, self.slope)
        x = self.fc(x.permute(0, 2, 3, 1).flatten(1))
        return normalised(self.fc_norm, x, parts, self.slope)


class QHead(nn.Module):
    """Features to the parameters of Q(c|x). Args: Q's width (:meth:`LatentSpec.q_dim`), the leaky slope."""

    def __init__(self, q_dim: int, slope: float = 0.1) -> None:
        super().__init__()
        self.slope = slope
        self.fc1 = Linear(FEATURES, _Q_FEATURES, bias=False)
        self.fc1_norm = nn.BatchNorm1d(_Q_FEATURES)
        self.fc2 = nn.Linear(_Q_FEATURES, q_dim)

    def forward(self, features: Tensor, parts: Sequence[int] = ()) -> Tensor:
        """[B, 1024] -> [B, q_dim]; ``parts`` as in :meth:`Trunk.forward`."""
        x = normalised(self.fc1_norm, self.fc1(features), parts, self.slope)
        y: Tensor = self.fc2(x)
        return y


class InfoGAN(nn.Module):
    """The four networks: ``generator``, ``trunk``, ``d_head`` and ``q_head``.

    Weights are drawn from N(0, 0.02) by ``seed`` alone, whatever the device; scales of batch normalisation
    are 1, biases 0.

    Args:
        spec: the latents.
        image_size, channels: of the images, at least 16 and 1 or 3.
        learned_variance: whether Q gives log-variances for uniform and normal codes.
        slope: of the leaky units: 0.1 in the paper's text, 0.01 in its authors' code.
        seed: of the weights.

    Raises:
        UserError: the size or the channels are not supported.
    """

    def __init__(
        self,
        spec: LatentSpec,
        image_size: int,
        channels: int,
        *,
        learned_variance: bool = True,
        slope: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.generator = Generator(spec.latent_dim, image_size, channels)
        self.trunk = Trunk(image_size, channels, slope)
        self.d_head = nn.Linear(FEATURES, 1)
        self.q_head = QHead(max(spec.q_dim(learned_variance), 1), slope)
        draw_weights(self, seed)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
