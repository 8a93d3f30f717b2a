"""Layers of the networks: the convolutions at the images and batch normalisation on operators of our own, and
convolutions between feature maps, which have a gradient of their own in bfloat16 on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from infogan_fast import ops
from infogan_fast.networks.spectral_norm import SpectralNorm, own_weight

WEIGHT_STD = 0.02


class FromImage(nn.Conv2d):
    """The 4x4 convolution that reads images, with its leaky ReLU of that slope. Where ``signed``, it sees
    them in [-1, 1]."""

    def __init__(self, in_channels: int, out_channels: int, slope: float, *, signed: bool = False) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1)
        self.slope, self.signed = slope, signed

    def forward(self, x: Tensor) -> Tensor:
        if self.signed:
            x = 2 * x - 1
        if torch.compiler.is_compiling() or exporting():
            return functional.leaky_relu(super().forward(x), self.slope)
        return ops.image_conv(*_in_the_same_precision(x, self), slope=self.slope)


class ToImage(nn.ConvTranspose2d):
    """The 4x4 transposed convolution that writes images of ``size`` pixels a side, in [0, 1], with its
    sigmoid; where ``signed``, with tanh, which is brought to [0, 1]."""

    def __init__(self, in_channels: int, out_channels: int, size: int, *, signed: bool = False) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1, output_padding=size % 2)
        self.size, self.signed = size, signed

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if torch.compiler.is_compiling() or exporting():
            y = super().forward(x, output_size)
            return torch.sigmoid(2 * y if self.signed else y)
        x = x.contiguous(memory_format=torch.channels_last)
        x, weight, bias = _in_the_same_precision(x, self)
        if self.signed:  # (tanh(y) + 1) / 2 = sigmoid(2 y)
            weight, bias = 2 * weight, 2 * bias
        return ops.image_conv_transpose(x, weight, bias, size=self.size)


def _in_the_same_precision(x: Tensor, layer: nn.Conv2d | nn.ConvTranspose2d) -> tuple[Tensor, Tensor, Tensor]:
    """The operands of an operator of our own: under autocast, cast as it casts those of PyTorch's."""
    weight, bias = layer.weight, layer.bias
    assert bias is not None
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    return x, weight, bias


def _weight_gradient(outer: Tensor, inner: Tensor) -> Tensor:
    """Gradient of a 4x4 weight of stride 2 between the larger maps [B, C, S, S] and the smaller [B, K, s, s]:
    [K, C, 4, 4]."""
    padded = functional.pad(outer, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    patches = padded.unfold(1, 4, 2).unfold(2, 4, 2).permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(0, 2)
    # oneDNN copies the transposed operand: the maps are the smaller one.
    product = inner.permute(0, 2, 3, 1).flatten(0, 2).t() @ patches
    return product.view(inner.shape[1], 4, 4, outer.shape[1]).permute(0, 3, 1, 2)


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
    low = x.device.type == "cpu" and x.dtype == torch.bfloat16
    return low and not torch.compiler.is_compiling() and not exporting()


def exporting() -> bool:
    """Whether torch.export or torch.jit.trace is recording: it should find PyTorch's own operators, for any
    size of the batch."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined]


class DownConv(nn.Conv2d):
    """A 4x4 convolution that halves the side; with a ``stride`` of 1 it keeps it, with one row and column of
    padding before and two behind."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 2, *, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, 4, stride, 1 if stride == 2 else 0, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 1:
            return super().forward(functional.pad(x, (1, 2, 1, 2)))
        if self.bias is None and _own_backward(x):
            y: Tensor = _Down.apply(x, self.weight)
            return y
        return super().forward(x)


class UpConv(nn.ConvTranspose2d):
    """A 4x4 transposed convolution that doubles the side, plus one where ``odd`` is 1; with a ``stride`` of 1
    it keeps it, the transpose of such a :class:`DownConv`."""

    def __init__(
        self, in_channels: int, out_channels: int, odd: int, stride: int = 2, *, bias: bool = False
    ) -> None:
        super().__init__(in_channels, out_channels, 4, stride, 1, output_padding=odd, bias=bias)
        self.odd = odd

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if self.stride[0] == 1:
            return super().forward(x, output_size)[:, :, :-1, :-1]
        if self.bias is None and _own_backward(x):
            y: Tensor = _Up.apply(x, self.weight, self.odd)
            return y
        return super().forward(x, output_size)


def share_statistics(networks: nn.Module, add_up: Callable[[Tensor], None]) -> None:
    """Have batch normalisation take the statistics of all processes' rows; see :func:`ops.batch_norm_act`."""
    for module in networks.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.add_up = add_up  # type: ignore[assignment]


def activated(norm: nn.Module, x: Tensor, parts: Sequence[int] = (), slope: float = 0.0) -> Tensor:
    """Batch normalisation (or the identity), then a leaky ReLU of that slope. In training each part of the
    batch is normalised by its own statistics: real and fake images are not mixed. ``parts`` are numbers of
    rows."""
    if isinstance(norm, nn.Identity):
        return functional.leaky_relu(x, slope)
    assert isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d))
    if not norm.training or norm.momentum is None or torch.compiler.is_compiling() or exporting():
        # For these PyTorch's own operators: a compiler fuses them, and an exported network knows no others.
        several = len(parts) > 1 and norm.training
        y = torch.cat([norm(part) for part in x.split(list(parts))]) if several else norm(x)
        return functional.leaky_relu_(y, slope)
    if x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    mean, var, batches = norm.running_mean, norm.running_var, norm.num_batches_tracked
    assert mean is not None and var is not None and batches is not None
    running = ops.RunningStatistics(mean, var, batches)
    return ops.batch_norm_act(
        x,
        norm.weight,
        norm.bias,
        parts=parts,
        running=running,
        eps=norm.eps,
        momentum=norm.momentum,
        slope=slope,
        add_up=getattr(norm, "add_up", None),
    )


def _normals(seed: int) -> Callable[[Sequence[int]], Tensor]:
    """Draws from N(0, 1), in float32, by all 64 bits of the seed; PyTorch's generator uses 32 of them."""
    if -(2**31) <= seed < 2**31:
        draws = torch.Generator().manual_seed(seed)
        return lambda shape: torch.randn(tuple(shape), generator=draws)
    wide = np.random.Generator(np.random.Philox(seed % 2**64))
    return lambda shape: torch.from_numpy(wide.standard_normal(tuple(shape), np.float32))


@torch.no_grad()
def draw_weights(network: nn.Module, seed: int) -> None:
    """Draw the weights of a network again, in place: weights from N(0, 0.02) by the seed alone, whatever the
    device; scales of batch normalisation are 1, biases 0."""
    normal = _normals(seed)
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            own_weight(module).copy_(normal(own_weight(module).shape) * WEIGHT_STD)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.reset_parameters()
    for module in network.modules():
        if isinstance(module, parametrize.ParametrizationList) and isinstance(module[0], SpectralNorm):
            module[0].draw(normal, module.original)
