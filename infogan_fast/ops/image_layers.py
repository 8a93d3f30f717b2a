"""The layers between images and feature maps: 4x4 convolutions of stride 2 with their activation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from infogan_fast.ops.fakes import one_device
from infogan_fast.ops.first_order import first_order, needed, refuse_tangents, where
from infogan_fast.runtime import native

native.load()
_conv = torch.ops.infogan_fast.image_conv.default
_conv_backward = torch.ops.infogan_fast.image_conv_backward.default
_conv_transpose = torch.ops.infogan_fast.image_conv_transpose.default
_conv_transpose_backward = torch.ops.infogan_fast.image_conv_transpose_backward.default


def image_conv(x: Tensor, weight: Tensor, bias: Tensor, *, slope: float) -> Tensor:
    """A 4x4 convolution of stride 2 and padding 1 that reads images, then a leaky ReLU; differentiable, once,
    in x, weight and bias.

    Sums are in float32, or float64 for float64.

    Args:
        x: [B, C, S, S], contiguous or channels_last; C is 1 or 3, S at least 2; float32, float16, bfloat16 or
            float64.
        weight: [K, C, 4, 4], as a ``torch.nn.Conv2d`` has it, contiguous or channels_last, in the dtype of x;
            K is a multiple of 8.
        bias: [K], in the dtype of x.
        slope: of the leaky ReLU, in [0, 1]; 0 is ReLU, 1 no activation.

    Returns:
        [B, K, S // 2, S // 2] in channels_last format.

    Raises:
        RuntimeError: an argument has the wrong shape, dtype, device or range; the text names it.
    """
    refuse_tangents("image_conv", x, weight, bias)
    y: Tensor = _conv(x, weight, bias, slope)
    return y


def image_conv_transpose(x: Tensor, weight: Tensor, bias: Tensor, *, size: int) -> Tensor:
    """A 4x4 transposed convolution of stride 2 and padding 1 that writes images, then a sigmoid;
    differentiable, once, in x, weight and bias.

    Sums are in float32, or float64 for float64.

    Args:
        x: [B, K, s, s] in channels_last format; K is a multiple of 8; float32, float16, bfloat16 or float64.
        weight: [K, C, 4, 4], as a ``torch.nn.ConvTranspose2d`` has it, contiguous or channels_last, in the
            dtype of x; C is 1 or 3.
        bias: [C], in the dtype of x.
        size: S, the side of the images: 2 s, or 2 s + 1, which takes an output padding of 1.

    Returns:
        [B, C, S, S] in channels_last format, in [0, 1].

    Raises:
        RuntimeError: an argument has the wrong shape, dtype, device or range; the text names it.
    """
    refuse_tangents("image_conv_transpose", x, weight, bias)
    image: Tensor = _conv_transpose(x, weight, bias, size)
    return image


def _channels_last(x: Tensor, channels: int, side: int) -> Tensor:
    return x.new_empty(x.shape[0], side, side, channels).permute(0, 3, 1, 2)


def _gradients_like(
    x: Tensor, weight: Tensor, bias: int, of_x: bool, of_weights: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(x) if of_x else x.new_empty(0),
        torch.empty_like(weight) if of_weights else weight.new_empty(0, *weight.shape[1:]),
        weight.new_empty(bias if of_weights else 0),
    )


@torch.library.register_fake("infogan_fast::image_conv")
def _(x: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
    one_device("image_conv", x, weight, bias)
    return _channels_last(x, weight.shape[0], x.shape[2] // 2)


@torch.library.register_fake("infogan_fast::image_conv_backward")
def _(
    grad_y: Tensor, x: Tensor, y: Tensor, weight: Tensor, slope: float, of_x: bool, of_weights: bool
) -> tuple[Tensor, Tensor, Tensor]:
    one_device("image_conv_backward", grad_y, x, y, weight)
    return _gradients_like(x, weight, weight.shape[0], of_x, of_weights)


@torch.library.register_fake("infogan_fast::image_conv_transpose")
def _(x: Tensor, weight: Tensor, bias: Tensor, size: int) -> Tensor:
    one_device("image_conv_transpose", x, weight, bias)
    return _channels_last(x, weight.shape[1], size)


@torch.library.register_fake("infogan_fast::image_conv_transpose_backward")
def _(
    grad_image: Tensor, x: Tensor, image: Tensor, weight: Tensor, of_x: bool, of_weights: bool
) -> tuple[Tensor, Tensor, Tensor]:
    one_device("image_conv_transpose_backward", grad_image, x, image, weight)
    return _gradients_like(x, weight, weight.shape[1], of_x, of_weights)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, ctx.argument = inputs
    ctx.save_for_backward(x, weight, bias, output)


def _wanted(ctx: Any, weight: Tensor, bias: Tensor) -> tuple[bool, ...]:
    return ctx.needs_input_grad[0], *needed(ctx.needs_input_grad[1:3], weight, bias)


@first_order("image_conv")
def _conv_gradients(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias, y = ctx.saved_tensors
    wanted = _wanted(ctx, weight, bias)
    grad_y = grad_y.contiguous(memory_format=torch.channels_last)
    found = _conv_backward(grad_y, x, y, weight, ctx.argument, wanted[0], any(wanted[1:]))
    return *where(wanted, *found), None


@first_order("image_conv_transpose")
def _conv_transpose_gradients(ctx: Any, grad_image: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias, image = ctx.saved_tensors
    wanted = _wanted(ctx, weight, bias)
    grad_image = grad_image.contiguous(memory_format=torch.channels_last)
    found = _conv_transpose_backward(grad_image, x, image, weight, wanted[0], any(wanted[1:]))
    return *where(wanted, *found), None


torch.library.register_autograd("infogan_fast::image_conv", _conv_gradients, setup_context=_save)
torch.library.register_autograd(
    "infogan_fast::image_conv_transpose", _conv_transpose_gradients, setup_context=_save
)
