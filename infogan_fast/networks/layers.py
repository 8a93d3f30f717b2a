"""Layers of the networks: convolutions with a faster way, and batch normalisation by parts.

Images at the ends of the networks go through matrix products over patches; on a CPU convolutions between
feature maps have a gradient of their own in bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from infogan_fast import ops

WEIGHT_STD = 0.02


def _patches_of(image: Tensor) -> Tensor:
    """[B, C, S, S] -> [B * side * side, C * 16]: the inputs of each output of a 4x4 convolution of stride 2,
    in the order of :func:`_matrix_of`."""
    size, side = image.shape[-1], image.shape[-1] // 2
    past = 2 * side + 1 - size
    padded = functional.pad(image, (1, past, 1, past))
    return _patch_rows(padded, side) if image.device.type == "cuda" else _patch_columns(padded, side)


def _patch_rows(padded: Tensor, side: int) -> Tensor:
    """Patches of padded images, pixels by channel, row and column; a GPU writes them in one go."""
    batch, channels = padded.shape[:2]
    of_batch, of_channel, of_row, of_column = padded.stride()
    patches = padded.as_strided(
        (batch, side, side, channels, 4, 4),
        (of_batch, 2 * of_row, 2 * of_column, of_channel, of_row, of_column),
    )
    return patches.reshape(batch * side * side, channels * 16)


def _patch_columns(padded: Tensor, side: int) -> Tensor:
    """Patches of padded images for a CPU. A patch is 2 x 2 blocks of 2 x 2 pixels.

    The result is a transposed view: in memory each of its columns, a pixel of all patches, lies by itself, so
    that only long runs are moved.
    """
    pixels = padded.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).permute(1, 3, 5, 0, 2, 4).contiguous()
    patches = padded.new_empty(pixels.shape[0], 2, 2, 2, 2, len(padded), side, side)
    for row in range(2):
        for column in range(2):
            patches[:, row, column] = pixels[..., row : row + side, column : column + side]
    return patches.flatten(5).flatten(0, 4).t()


def _image_of(patches: Tensor, batch: int, size: int) -> Tensor:
    """The adjoint: [B * side * side, C * 16] -> [B, C, size, size]; overlaps are summed."""
    side = size // 2
    if patches.device.type == "cuda":
        return _sum_of_rows(patches, batch, size)
    blocks = patches.t().contiguous().view(-1, 2, 2, 2, 2, batch, side, side)
    columns = functional.pad(blocks[:, :, 0], (0, 1))
    columns += functional.pad(blocks[:, :, 1], (1, 0))
    pixels = functional.pad(columns[:, 0], (0, 0, 0, 1))
    pixels += functional.pad(columns[:, 1], (0, 0, 1, 0))
    image = pixels.permute(3, 0, 4, 1, 5, 2).flatten(4).flatten(2, 3)
    return image[..., 1 : size + 1, 1 : size + 1]


def _sum_of_rows(patches: Tensor, batch: int, size: int) -> Tensor:
    """The adjoint of :func:`_patch_rows` and the padding."""
    by_place = patches.view(batch, -1, patches.shape[1]).transpose(1, 2)
    return functional.fold(by_place, (size, size), 4, padding=1, stride=2)


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


def _matrix_of(weight: Tensor) -> Tensor:
    """[n, C, 4, 4] -> [n, C * 16], in the patches' order of pixels."""
    if weight.device.type == "cuda":
        return weight.flatten(1)
    return weight.unflatten(3, (2, 2)).unflatten(2, (2, 2)).transpose(3, 4).flatten(1)


class _Linear(torch.autograd.Function):
    # On a GPU PyTorch's sum over the rows, for the bias, takes several times as long as a product with ones.
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        grad_x = gradient @ weight if ctx.needs_input_grad[0] else None
        grad_weight = gradient.t() @ x if ctx.needs_input_grad[1] else None
        grad_bias = (gradient.new_ones(1, len(x)) @ gradient)[0] if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias


class FromImage(nn.Conv2d):
    """The 4x4 convolution that reads the image, as a matrix product over patches.

    With one or three input channels, the gradient that PyTorch's convolution returns to the image runs ten
    times below the product's rate on a CPU, and cuDNN's own layouts cost more than the convolution on a GPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        if exporting():
            return super().forward(x)
        side = x.shape[-1] // 2
        assert self.bias is not None
        product = _Linear.apply if _on_a_gpu_by_hand(x) else functional.linear
        y: Tensor = product(_Patches.apply(x), _matrix_of(self.weight), self.bias)
        return y.view(len(x), side, side, -1).permute(0, 3, 1, 2)


class ToImage(nn.ConvTranspose2d):
    """The 4x4 transposed convolution that writes the image, as a matrix product, for the same reason."""

    def __init__(self, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1, output_padding=size % 2)
        self.size = size

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if exporting():
            return super().forward(x, output_size)
        assert self.bias is not None
        patches = x.permute(0, 2, 3, 1).flatten(0, 2) @ _matrix_of(self.weight)
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


def _on_a_gpu_by_hand(x: Tensor) -> bool:
    by_hand = not torch.compiler.is_compiling() and not torch.is_autocast_enabled("cuda")
    return x.device.type == "cuda" and by_hand


def _own_backward(x: Tensor) -> bool:
    low = x.device.type == "cpu" and x.dtype == torch.bfloat16
    return low and not torch.compiler.is_compiling() and not exporting()


def exporting() -> bool:
    """Whether torch.export or torch.jit.trace is recording: it should find PyTorch's own operators, for any
    size of the batch."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined]


class DownConv(nn.Conv2d):
    """A 4x4 convolution that halves the side."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if _own_backward(x):
            y: Tensor = _Down.apply(x, self.weight)
            return y
        return super().forward(x)


class UpConv(nn.ConvTranspose2d):
    """A 4x4 transposed convolution that doubles the side, plus one where ``odd`` is 1."""

    def __init__(self, in_channels: int, out_channels: int, odd: int) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1, output_padding=odd, bias=False)
        self.odd = odd

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if _own_backward(x):
            y: Tensor = _Up.apply(x, self.weight, self.odd)
            return y
        return super().forward(x, output_size)


def normalised(norm: nn.Module, x: Tensor, parts: Sequence[int] = (), slope: float = 0.0) -> Tensor:
    """Batch normalisation, then a leaky ReLU of that slope. In training each part of the batch is normalised
    by its own statistics: real and fake images are not mixed. ``parts`` are numbers of rows."""
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
    )


@torch.no_grad()
def draw_weights(network: nn.Module, seed: int) -> None:
    """Draw the weights of a network again, in place: weights from N(0, 0.02) by the seed alone, whatever the
    device; scales of batch normalisation are 1, biases 0."""
    draws = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            module.weight.copy_(torch.randn(module.weight.shape, generator=draws) * WEIGHT_STD)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.reset_parameters()
