"""Calls of the image layers, forward and backward, on every device and in every order of threads.

Outputs and the gradients of inputs have the same bits everywhere, except where doubles go through exp. Sums
over the batch have another order on each device.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from cuda_on_cpu.checks import ROWS, Schedule, close, moved, name_of, same_bits
from cuda_on_cpu.kernels import Budget, KernelTests
from cuda_on_cpu.runner import Buffer, Runner, given, poisoned, wanted
from operators.image_layers import reference
from operators.image_layers.mutants import MUTANTS, SMALL_GRID
from torch import Tensor

from infogan_fast.runtime import native

native.load()

#: Of a result of this dtype: one rounding, and for float32 the order of sums.
TOLERANCE = {torch.float64: 1e-11, torch.float32: 4e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@dataclass(frozen=True)
class LayerCase:
    """Both layers between the same images and maps, each way.

    Args:
        batch, channels, size: of the images.
        features: of the maps.
        offset: bytes by which images, weights and biases are misaligned.
        last: whether the convolution's images and weight are in channels_last format.
    """

    batch: int
    channels: int
    size: int
    features: int
    dtype: torch.dtype = torch.float32
    slope: float = 0.1
    offset: int = 0
    last: bool = False

    def __str__(self) -> str:
        images = f"[{self.batch}, {self.channels}, {self.size}, {self.size}]"
        return f"{images} and {self.features} features {name_of(self.dtype)}"

    @property
    def side(self) -> int:
        return self.size // 2

    @property
    def format(self) -> torch.memory_format:
        return torch.channels_last if self.last else torch.contiguous_format

    @property
    def image_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, self.size, self.size)

    @property
    def maps_shape(self) -> tuple[int, ...]:
        return (self.batch, self.features, self.side, self.side)


@dataclass
class LayerInputs:
    """Of both layers; the images, maps and weights serve both. ``grad_images`` is always in channels_last
    format, as the transposed convolution's images are."""

    images: Tensor
    maps: Tensor
    weight: Tensor
    bias_of_maps: Tensor
    bias_of_images: Tensor
    grad_maps: Tensor
    grad_images: Tensor


@dataclass
class LayerResults:
    """Of both layers: what they give, and the gradients of their inputs, weights and biases."""

    y: Tensor
    conv_x: Tensor
    conv_weight: Tensor
    conv_bias: Tensor
    image: Tensor
    transpose_x: Tensor
    transpose_weight: Tensor
    transpose_bias: Tensor


@functools.cache
def layer_inputs(case: LayerCase) -> LayerInputs:
    """Draws the inputs of a case, the same ones each time."""
    generator = torch.Generator().manual_seed(17)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*shape, generator=generator, dtype=torch.float64) * scale).to(case.dtype)

    def last(*shape: int) -> Tensor:
        return draw(*shape).contiguous(memory_format=torch.channels_last)

    return LayerInputs(
        draw(*case.image_shape).contiguous(memory_format=case.format),
        last(*case.maps_shape),
        draw(case.features, case.channels, 4, 4, scale=0.25).contiguous(memory_format=case.format),
        draw(case.features),
        draw(case.channels),
        last(*case.maps_shape),
        last(*case.image_shape),
    )


def both_layers(case: LayerCase, device: str = "cpu") -> LayerResults:
    """The operators, forward and backward."""
    operators = torch.ops.infogan_fast
    tensors = (getattr(layer_inputs(case), field.name) for field in fields(LayerInputs))
    i = LayerInputs(*(moved(tensor, device, case.offset) for tensor in tensors))
    y = operators.image_conv(i.images, i.weight, i.bias_of_maps, case.slope)
    image = operators.image_conv_transpose(i.maps, i.weight, i.bias_of_images, case.size)
    conv = operators.image_conv_backward(i.grad_maps, i.images, y, i.weight, case.slope, True, True)
    transpose = operators.image_conv_transpose_backward(i.grad_images, i.maps, image, i.weight, True, True)
    return LayerResults(*[y, *conv, image, *transpose])


@functools.cache
def _on_the_cpu(case: LayerCase) -> LayerResults:
    result = both_layers(case)
    compare_with_reference(result, case, "the CPU operators' ")
    return result


def compare_with_reference(result: LayerResults, case: LayerCase, what: str) -> None:
    """Raises AssertionError unless the results are those of the float64 statement, within rounding."""
    i = layer_inputs(case)
    y, image = result.y.cpu(), result.image.cpu()
    results = [
        reference.image_conv(i.images, i.weight, i.bias_of_maps, case.slope),
        *reference.image_conv_backward(i.grad_maps, i.images, y, i.weight, case.slope),
        reference.image_conv_transpose(i.maps, i.weight, i.bias_of_images, case.size),
        *reference.image_conv_transpose_backward(i.grad_images, i.maps, image, i.weight),
    ]
    expected = LayerResults(*results)
    for field in fields(LayerResults):
        actual, right = getattr(result, field.name).cpu(), getattr(expected, field.name)
        assert actual.shape == right.shape, f"{what}{field.name}: {actual.shape}, expected {right.shape}"
        assert actual.dtype == case.dtype
        tolerance = TOLERANCE[case.dtype]
        if field.name.endswith(("weight", "bias")):
            tolerance *= (case.batch * case.size**2) ** 0.5  # sums over so many pixels
        close(actual, right, tolerance, what + field.name)


def compare_layers(result: LayerResults, case: LayerCase, what: str) -> None:
    """Raises AssertionError unless the results are what is expected, most of them to the bit."""
    compare_with_reference(result, case, what)
    expected = _on_the_cpu(case)
    for name in ("y", "conv_x") if case.dtype == torch.float64 else ("y", "conv_x", "image", "transpose_x"):
        same_bits(getattr(result, name).cpu(), getattr(expected, name), what + name)


def run_layers(runner: Runner, case: LayerCase, schedule: Schedule) -> LayerResults:
    """The kernels, forward and backward."""
    i, offset = layer_inputs(case), case.offset

    def like(tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor).copy_(poisoned(tuple(tensor.shape), case.dtype))

    out = LayerResults(
        *(like(i.maps), like(i.images), like(i.weight), like(i.bias_of_maps)),
        *(like(i.grad_images), like(i.maps), like(i.weight), like(i.bias_of_images)),
    )

    def run(kernel: str, images: Tensor, *arguments: Buffer | float | None) -> None:
        strides = (given(torch.tensor(tensor.stride())) for tensor in (images, i.weight))
        runner(
            f"{kernel}/{name_of(case.dtype)}/{case.channels}",
            *(case.batch * case.side**2, case.size, case.side, case.features, *strides, *arguments),
            seed=schedule.seed,
            resident_blocks=schedule.resident_blocks,
        )

    weights = given(i.weight, offset)
    pixels, values = given(i.images, offset), given(i.maps)
    run(
        "image_maps",
        i.images,
        *(pixels, None, weights, given(i.bias_of_maps, offset), case.slope, wanted(out.y)),
    )
    run(
        "image_pixels",
        out.image,
        *(values, None, 1.0, weights, given(i.bias_of_images, offset), wanted(out.image, offset)),
    )
    grad_maps = (given(i.grad_maps), given(out.y))
    grad_images = (given(i.grad_images, offset), given(out.image, offset))
    run("image_pixels", out.conv_x, *grad_maps, case.slope, weights, None, wanted(out.conv_x, offset))
    run("image_maps", i.grad_images, *grad_images, weights, None, 1.0, wanted(out.transpose_x))
    run(
        "image_weights",
        i.images,
        *(pixels, None, *grad_maps, case.slope, 1, wanted(out.conv_weight), wanted(out.conv_bias)),
    )
    run(
        "image_weights",
        i.grad_images,
        *(*grad_images, values, None, 1.0, 0, wanted(out.transpose_weight), wanted(out.transpose_bias)),
    )
    return out


def check_layers(runner: Runner, case: LayerCase, schedules: Sequence[Schedule]) -> None:
    """Raises AssertionError when the kernels' results differ from what is expected under any schedule."""
    for schedule in schedules:
        compare_layers(run_layers(runner, case, schedule), case, f"{case}, {schedule}: ")


def layer_cases(dtype: torch.dtype, rows: tuple[int, ...] = ROWS) -> list[LayerCase]:
    """The image layers: batches, the smallest image, odd sizes, colours, several tiles of pixels and of
    features, and images off a 16-byte boundary."""
    size = torch.empty(0, dtype=dtype).element_size()
    cases = [
        *(LayerCase(n, 1, 4, 8, dtype) for n in rows[1:]),
        LayerCase(rows[0], 1, 28, 64, dtype),
        LayerCase(3, 1, 2, 8, dtype, slope=0.0),
        LayerCase(2, 3, 17, 24, dtype, offset=size, last=True),
    ]
    if len(rows) > 2:
        cases.append(LayerCase(1, 1, 35, 72, dtype, slope=1.0))
    return cases


KERNEL_TESTS = KernelTests(
    operator="image_layers",
    run=both_layers,
    compare=compare_layers,
    check=check_layers,
    cases=layer_cases,
    largest_on_gpu=(
        LayerCase(256, 1, 28, 64, torch.bfloat16),
        LayerCase(16, 3, 129, 64, torch.bfloat16),
        LayerCase(5, 3, 40, 136),
    ),
    several_tiles=(
        LayerCase(9, 1, 10, 16),
        LayerCase(3, 3, 15, 72, torch.bfloat16),
    ),
    mutant_cases=(
        LayerCase(3, 1, 21, 72),
        LayerCase(2, 3, 14, 16, torch.bfloat16, offset=2),
    ),
    mutants=MUTANTS,
    small_grid=SMALL_GRID,
    budgets={
        "image_maps_kernel": Budget(128, 512),
        "image_pixels_kernel": Budget(192, 192),
        "image_weight_sums_kernel": Budget(256, 256),
        "image_weight_totals_kernel": Budget(512, 1024),
    },
    vectorised={
        "image_maps_kernel": {"STG"},
        "image_pixels_kernel": {"LDG"},
        "image_weight_sums_kernel": {"LDG"},
    },
)
