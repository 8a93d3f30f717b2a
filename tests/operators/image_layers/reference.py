"""What the image layers compute, in PyTorch and float64.

Gradients start from the outputs that a layer gave: rounded, they are all that it knows of its activation.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def image_conv(x: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
    """y."""
    y = functional.conv2d(x.double(), weight.double(), bias.double(), stride=2, padding=1)
    return torch.where(y > 0, y, slope * y)


def image_conv_backward(
    grad_y: Tensor, x: Tensor, y: Tensor, weight: Tensor, slope: float
) -> tuple[Tensor, ...]:
    """The gradients with respect to x, weight and bias."""
    before = torch.where(y > 0, grad_y.double(), slope * grad_y.double())
    x, weight = x.double().requires_grad_(), weight.double().requires_grad_()
    linear = functional.conv2d(x, weight, stride=2, padding=1)
    return *torch.autograd.grad(linear, (x, weight), before), before.sum((0, 2, 3))


def image_conv_transpose(x: Tensor, weight: Tensor, bias: Tensor, size: int) -> Tensor:
    """The image."""
    odd = size % 2
    image = functional.conv_transpose2d(x.double(), weight.double(), bias.double(), 2, 1, odd)
    return 1 / (1 + torch.exp(-image))


def image_conv_transpose_backward(
    grad_image: Tensor, x: Tensor, image: Tensor, weight: Tensor
) -> tuple[Tensor, ...]:
    """The gradients with respect to x, weight and bias."""
    before = grad_image.double() * image.double() * (1 - image.double())
    x, weight = x.double().requires_grad_(), weight.double().requires_grad_()
    linear = functional.conv_transpose2d(x, weight, None, 2, 1, image.shape[-1] % 2)
    return *torch.autograd.grad(linear, (x, weight), before), before.sum((0, 2, 3))
