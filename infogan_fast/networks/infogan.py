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
sigmoid outputs beside data divided by 255. Layers that batch normalisation follows have no bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.limits import MIN_SIZE
from infogan_fast.networks.linear import Linear

WEIGHT_STD = 0.02
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


def _patches_of(image: Tensor) -> Tensor:
    """[B, C, S, S] -> [B * side * side, C * 16]: what each output of a 4x4 convolution of stride 2 reads.

    A patch is 2 x 2 blocks of 2 x 2 pixels. The result is a transposed view: in memory each of its columns, a
    pixel of all patches, lies by itself, so that only long runs are moved.
    """
    size, side = image.shape[-1], image.shape[-1] // 2
    past = 2 * side + 1 - size
    padded = functional.pad(image, (1, past, 1, past))
    pixels = padded.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).permute(1, 3, 5, 0, 2, 4).contiguous()
    patches = image.new_empty(pixels.shape[0], 2, 2, 2, 2, len(image), side, side)
    for row in range(2):
        for column in range(2):
            patches[:, row, column] = pixels[..., row : row + side, column : column + side]
    return patches.flatten(5).flatten(0, 4).t()


def _image_of(patches: Tensor, batch: int, size: int) -> Tensor:
    """The adjoint: [B * side * side, C * 16] -> [B, C, size, size], what overlaps is summed."""
    side = size // 2
    blocks = patches.t().contiguous().view(-1, 2, 2, 2, 2, batch, side, side)
    columns = functional.pad(blocks[:, :, 0], (0, 1))
    columns += functional.pad(blocks[:, :, 1], (1, 0))
    pixels = functional.pad(columns[:, 0], (0, 0, 0, 1))
    pixels += functional.pad(columns[:, 1], (0, 0, 1, 0))
    image = pixels.permute(3, 0, 4, 1, 5, 2).flatten(4).flatten(2, 3)
    return image[..., 1 : size + 1, 1 : size + 1]


class _Patches(torch.autograd.Function):
    # Autograd would go back through the views one by one, and PyTorch's unfold and fold go image by image.
    @staticmethod
    def forward(ctx: Any, image: Tensor) -> Tensor:
        ctx.batch, ctx.size = len(image), image.shape[-1]
        return _patches_of(image)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _image_of(gradients[0], ctx.batch, ctx.size)


class _Image(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, patches: Tensor, batch: int, size: int) -> Tensor:
        return _image_of(patches, batch, size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _patches_of(gradients[0]), None, None


def _by_blocks(weight: Tensor) -> Tensor:
    """[n, C, 4, 4] -> [n, C * 16], in the patches' order of pixels."""
    return weight.unflatten(3, (2, 2)).unflatten(2, (2, 2)).transpose(3, 4).flatten(1)


class _FromImage(nn.Conv2d):
    """The 4x4 convolution that reads the image.

    On a CPU as a matrix product over patches: with one or three input channels, the gradient that PyTorch's
    convolution returns to the image runs ten times below the product's rate.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        side = x.shape[-1] // 2
        y = functional.linear(_Patches.apply(x), _by_blocks(self.weight), self.bias)
        return y.view(len(x), side, side, -1).permute(0, 3, 1, 2)


class _ToImage(nn.ConvTranspose2d):
    """The 4x4 transposed convolution that writes the image; on a CPU as a matrix product, for the same
    reason."""

    def __init__(self, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1, output_padding=size % 2)
        self.size = size

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x, output_size)
        assert self.bias is not None
        patches = x.permute(0, 2, 3, 1).flatten(0, 2) @ _by_blocks(self.weight)
        image: Tensor = _Image.apply(patches, len(x), self.size)
        return image + self.bias.to(image.dtype)[:, None, None]


def _weight_gradient(outer: Tensor, inner: Tensor) -> Tensor:
    """Gradient of a 4x4 weight of stride 2 between the larger maps [B, C, S, S] and the smaller [B, K, s, s]:
    [K, C, 4, 4]."""
    padded = functional.pad(outer, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    patches = padded.unfold(1, 4, 2).unfold(2, 4, 2).permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(0, 2)
    product = patches.t() @ inner.permute(0, 2, 3, 1).flatten(0, 2)
    return product.t().reshape(inner.shape[1], 4, 4, outer.shape[1]).permute(0, 3, 1, 2)


class _Down(torch.autograd.Function):
    # In bfloat16 oneDNN's own weight gradient runs at half the rate of a matrix product.
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return functional.conv2d(x, weight.to(x.dtype), None, 2, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            odd = x.shape[-1] % 2
            grad_x = functional.conv_transpose2d(gradient, weight.to(x.dtype), None, 2, 1, odd)
        if ctx.needs_input_grad[1] and weight.requires_grad:  # it may have been frozen since
            grad_weight = _weight_gradient(x, gradient).to(weight.dtype)
        return grad_x, grad_weight


class _Up(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, output_padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        return functional.conv_transpose2d(x, weight.to(x.dtype), None, 2, 1, output_padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = functional.conv2d(gradient, weight.to(x.dtype), None, 2, 1)
        if ctx.needs_input_grad[1] and weight.requires_grad:
            grad_weight = _weight_gradient(gradient, x).to(weight.dtype)
        return grad_x, grad_weight, None


def _own_backward(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.bfloat16 and not torch.compiler.is_compiling()


class _DownConv(nn.Conv2d):
    """A 4x4 convolution that halves the side."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if _own_backward(x):
            y: Tensor = _Down.apply(x, self.weight)
            return y
        return super().forward(x)


class _UpConv(nn.ConvTranspose2d):
    """A 4x4 transposed convolution that doubles the side, plus one where ``odd`` is 1."""

    def __init__(self, in_channels: int, out_channels: int, odd: int) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1, output_padding=odd, bias=False)
        self.odd = odd

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if _own_backward(x):
            y: Tensor = _Up.apply(x, self.weight, self.odd)
            return y
        return super().forward(x, output_size)


def _normalised(norm: nn.Module, x: Tensor, parts: Sequence[int]) -> Tensor:
    """Batch normalisation with the statistics of each of the parts of the batch, of so many rows: real and
    fake are not mixed."""
    if len(parts) < 2 or not norm.training:
        y: Tensor = norm(x)
        return y
    return torch.cat([norm(part) for part in x.split(list(parts))])


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
        self.ups = nn.ModuleList(_UpConv(width[i], width[i - 1], side[i - 1] % 2) for i in inner)
        self.up_norms = nn.ModuleList(nn.BatchNorm2d(width[i - 1]) for i in inner)
        self.image = _ToImage(width[1], channels, image_size)

    def forward(self, latents: Tensor) -> Tensor:
        """[B, latent_dim] -> [B, C, S, S] in [0, 1]."""
        x = functional.relu_(self.fc1_norm(self.fc1(latents)))
        x = functional.relu_(self.fc2_norm(self.fc2(x)))
        # Features lie as (row, column, channel), which is what channels_last convolutions read without a
        # copy.
        x = x.unflatten(1, self.base).permute(0, 3, 1, 2)
        for up, norm in zip(self.ups, self.up_norms, strict=True):
            x = functional.relu_(norm(up(x)))
        return torch.sigmoid(self.image(x))


class Trunk(nn.Module):
    """Images to the features that the discriminator and Q share. Args: the images' side and channels, the
    leaky slope."""

    def __init__(self, image_size: int, channels: int, slope: float = 0.1) -> None:
        super().__init__()
        side, width = sides(image_size), stage_channels(image_size, channels)
        self.slope = slope
        self.image = _FromImage(channels, width[1], 4, 2, 1)
        inner = range(2, len(width))
        self.convs = nn.ModuleList(_DownConv(width[i - 1], width[i]) for i in inner)
        self.conv_norms = nn.ModuleList(nn.BatchNorm2d(width[i]) for i in inner)
        self.fc = Linear(side[-1] * side[-1] * width[-1], FEATURES, bias=False)
        self.fc_norm = nn.BatchNorm1d(FEATURES)

    def forward(self, images: Tensor, parts: Sequence[int] = ()) -> Tensor:
        """[B, C, S, S] -> [B, 1024]; batch normalisation takes the statistics of each of the ``parts`` of the
        batch, given as numbers of rows, and each moves the running statistics in turn."""
        # Not in place: on a CPU the image layer's output is a view, which autograd would copy back and forth.
        x = functional.leaky_relu(self.image(images), self.slope)
        for conv, norm in zip(self.convs, self.conv_norms, strict=True):
            x = functional.leaky_relu_(_normalised(norm, conv(x), parts), self.slope)
        x = self.fc(x.permute(0, 2, 3, 1).flatten(1))
        return functional.leaky_relu_(_normalised(self.fc_norm, x, parts), self.slope)


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
        x = _normalised(self.fc1_norm, self.fc1(features), parts)
        y: Tensor = self.fc2(functional.leaky_relu_(x, self.slope))
        return y


@torch.no_grad()
def draw_weights(network: nn.Module, seed: int) -> None:
    """Start a network anew, in place: weights from N(0, 0.02) by the seed alone, whatever the device, scales
    of batch normalisation 1, biases 0."""
    draws = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            module.weight.copy_(torch.randn(module.weight.shape, generator=draws) * WEIGHT_STD)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.reset_parameters()


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

    def compile_parts(self) -> None:
        """torch.compile the generator, the trunk and Q's head in place; the names of the weights stay."""
        for part in (self.generator, self.trunk, self.q_head):
            part.compile(dynamic=False)
