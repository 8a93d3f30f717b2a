"""Networks of plain PyTorch modules that compute what a run's do, for other programs.

Batch normalisation in evaluation mode is a scale and a shift a channel; they are folded into the weights and
the bias of the layer before. Features lie as (channel, row, column), as PyTorch's modules have them.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init
from torch.nn.utils.fusion import fuse_conv_bn_weights

from infogan_fast.networks.infogan import Generator, QHead, Trunk
from infogan_fast.networks.layers import DownConv, UpConv

_Weighted: TypeAlias = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


def folded_generator(generator: Generator) -> nn.Sequential:
    """A generator of Linear, Unflatten, ConvTranspose2d, Conv2d, ReLU and Sigmoid.

    Args:
        generator: in evaluation mode, on the CPU, in float32; it is left as it is.
    """
    layers: list[nn.Module] = []
    side, _, channels = generator.base
    for name in generator.dense:
        weight, bias = _merged(getattr(generator, name), getattr(generator, f"{name}_norm"))
        if name == generator.dense[-1]:  # its features lie as (row, column, channel)
            order = torch.arange(len(bias)).view(side, side, channels).permute(2, 0, 1).flatten()
            weight, bias = weight[order], bias[order]
        layers += [_linear(weight, bias), nn.ReLU()]
    layers.append(nn.Unflatten(1, (channels, side, side)))
    for up, norm in zip(generator.ups, generator.up_norms, strict=True):
        assert isinstance(up, UpConv)
        layers += [*_up(up, *_merged(up, norm)), nn.ReLU()]
    image = generator.image
    weight, bias = _merged(image, nn.Identity())
    factor = 2 if image.signed else 1  # (tanh(y) + 1) / 2 = sigmoid(2 y)
    return nn.Sequential(*layers, _doubling(factor * weight, factor * bias, image.size % 2), nn.Sigmoid())


def folded_encoder(encoder: nn.Sequential) -> nn.Sequential:
    """An encoder of Conv2d, Flatten, Linear and LeakyReLU.

    Args:
        encoder: of a run, in evaluation mode, on the CPU, in float32; it is left as it is.
    """
    trunk, head = encoder
    assert isinstance(trunk, Trunk) and isinstance(head, QHead)
    first = trunk.image
    weight, bias = _merged(first, nn.Identity())
    if first.signed:  # the convolution of 2 x - 1, whose zeros around the image are 0.5 in x
        layers = [nn.ConstantPad2d(1, 0.5), _conv(2 * weight, bias - weight.sum((1, 2, 3)), 2, 0)]
    else:
        layers = [_conv(weight, bias, 2, 1)]
    layers.append(nn.LeakyReLU(trunk.slope))
    channels = len(bias)
    for conv, norm in zip(trunk.convs, trunk.conv_norms, strict=True):
        assert isinstance(conv, DownConv)
        weight, bias = _merged(conv, norm)
        if conv.stride[0] == 1:
            layers += [nn.ZeroPad2d((1, 2, 1, 2)), _conv(weight, bias, 1, 0)]
        else:
            layers.append(_conv(weight, bias, 2, 1))
        layers.append(nn.LeakyReLU(trunk.slope))
        channels = len(bias)
    layers.append(nn.Flatten())
    dense = [(part, name, part.slope) for part in (trunk, head) for name in part.dense]
    for i, (part, name, slope) in enumerate([*dense, (head, head.output, None)]):
        weight, bias = _merged(getattr(part, name), getattr(part, f"{name}_norm", nn.Identity()))
        if i == 0:  # it reads features that lie as (row, column, channel)
            weight = weight.unflatten(1, (-1, channels)).transpose(1, 2).flatten(1)
        layers.append(_linear(weight, bias))
        if slope is not None:
            layers.append(nn.LeakyReLU(slope))
    return nn.Sequential(*layers)


def _merged(layer: _Weighted, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer with the normalisation behind it, in float64."""
    weight = layer.weight.detach().double()
    outputs = weight.shape[1 if isinstance(layer, nn.ConvTranspose2d) else 0]
    bias = weight.new_zeros(outputs) if layer.bias is None else layer.bias.detach().double()
    if isinstance(norm, nn.Identity):
        return weight, bias
    assert isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d))
    assert norm.running_mean is not None and norm.running_var is not None
    return fuse_conv_bn_weights(
        weight,
        bias,
        norm.running_mean.double(),
        norm.running_var.double(),
        norm.eps,
        norm.weight.double(),
        norm.bias.double(),
        transpose=isinstance(layer, nn.ConvTranspose2d),
    )


def _linear(weight: Tensor, bias: Tensor) -> nn.Module:
    return _filled(skip_init(nn.Linear, weight.shape[1], weight.shape[0]), weight, bias)


def _conv(weight: Tensor, bias: Tensor, stride: int, padding: int) -> nn.Module:
    layer = skip_init(nn.Conv2d, weight.shape[1], weight.shape[0], 4, stride=stride, padding=padding)
    return _filled(layer, weight, bias)


def _doubling(weight: Tensor, bias: Tensor, odd: int) -> nn.Module:
    layer = skip_init(
        nn.ConvTranspose2d, weight.shape[0], weight.shape[1], 4, stride=2, padding=1, output_padding=odd
    )
    return _filled(layer, weight, bias)


def _up(up: UpConv, weight: Tensor, bias: Tensor) -> list[nn.Module]:
    if up.stride[0] == 2:
        return [_doubling(weight, bias, up.odd)]
    # A transposed convolution of stride 1 is a convolution with the weight turned round.
    turned = weight.transpose(0, 1).flip(2, 3)
    return [nn.ZeroPad2d((2, 1, 2, 1)), _conv(turned, bias, 1, 0)]


@torch.no_grad()
def _filled(layer: nn.Module, weight: Tensor, bias: Tensor) -> nn.Module:
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer.eval().requires_grad_(False)
