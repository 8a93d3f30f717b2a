"""The image layers against their float64 statement and PyTorch's layers, and their errors."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from cuda_on_cpu.checks import DTYPES, name_of, same_bits
from operators.image_layers.cases import (
    LayerCase,
    LayerResults,
    both_layers,
    compare_with_reference,
    layer_cases,
    layer_inputs,
)
from torch import Tensor
from torch.nn import functional

from infogan_fast import ops
from infogan_fast.runtime import native


def odd(dtype: torch.dtype) -> LayerCase:
    """Positions and features that are no whole groups, and several chunks of a sum."""
    return LayerCase(9, 3, 27, 40, dtype, last=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_they_compute_what_the_reference_does(dtype: torch.dtype) -> None:
    large = LayerCase(3, 1, 100, 64, dtype)
    for case in [*layer_cases(dtype), odd(dtype), large]:
        compare_with_reference(both_layers(case), case, f"{case}: ")


def _same(result: LayerResults, expected: LayerResults, what: str) -> None:
    for field in fields(LayerResults):
        same_bits(getattr(result, field.name), getattr(expected, field.name), what + field.name)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_every_instruction_set_gives_the_same_bits(isa: str, dtype: torch.dtype) -> None:
    case = odd(dtype)
    result = both_layers(case)
    native.load().set_isa("portable")
    _same(result, both_layers(case), f"{isa}: ")


def test_threads_do_not_change_a_bit() -> None:
    case = LayerCase(33, 1, 28, 64, torch.bfloat16)
    torch.set_num_threads(1)
    expected = both_layers(case)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        _same(both_layers(case), expected, f"{threads} threads: ")


@pytest.mark.parametrize("size", [2, 16, 17])
@pytest.mark.parametrize("channels", [1, 3])
def test_they_are_pytorch_s_layers(device: torch.device, channels: int, size: int) -> None:
    """In value and gradient, through autograd."""
    case = LayerCase(4, channels, size, 16, torch.float64)
    i = layer_inputs(case)

    def gradients(y: Tensor, inputs: list[Tensor], cotangent: Tensor) -> list[Tensor]:
        return [y.detach(), *torch.autograd.grad(y, inputs, cotangent.to(device))]

    inputs = [t.to(device).requires_grad_() for t in (i.images, i.weight, i.bias_of_maps)]
    x, weight, bias = inputs
    plain = functional.leaky_relu(functional.conv2d(x, weight, bias, 2, 1), 0.2)
    for got, want in zip(
        gradients(ops.image_conv(x, weight, bias, slope=0.2), inputs, i.grad_maps),
        gradients(plain, inputs, i.grad_maps),
        strict=True,
    ):
        torch.testing.assert_close(got, want)
    inputs = [t.detach().to(device).requires_grad_() for t in (i.maps, i.weight, i.bias_of_images)]
    x, weight, bias = inputs
    plain = functional.conv_transpose2d(x, weight, bias, 2, 1, size % 2).sigmoid()
    for got, want in zip(
        gradients(ops.image_conv_transpose(*inputs, size=size), inputs, i.grad_images),
        gradients(plain, inputs, i.grad_images),
        strict=True,
    ):
        torch.testing.assert_close(got, want)


def test_gradcheck() -> None:
    i = layer_inputs(LayerCase(2, 1, 5, 8, torch.float64))
    conv, transpose = (
        [t.clone().requires_grad_() for t in tensors]
        for tensors in ((i.images, i.weight, i.bias_of_maps), (i.maps, i.weight, i.bias_of_images))
    )
    assert torch.autograd.gradcheck(lambda *a: ops.image_conv(*a, slope=0.3), conv)
    assert torch.autograd.gradcheck(lambda *a: ops.image_conv_transpose(*a, size=5), transpose)


@pytest.mark.parametrize("name", ["image_conv", "image_conv_transpose"])
def test_a_gradient_penalty_is_refused(name: str) -> None:
    i = layer_inputs(LayerCase(2, 1, 4, 8, torch.float32))
    x = (i.images if name == "image_conv" else i.maps).clone().requires_grad_()
    weight = i.weight.clone().requires_grad_()
    if name == "image_conv":
        y = ops.image_conv(x, weight, i.bias_of_maps, slope=0.2)
    else:
        y = ops.image_conv_transpose(x, weight, i.bias_of_images, size=4)
    (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=f"^{name}: a second derivative is asked for"):
        gradient.square().sum().backward()


def test_only_the_gradients_that_are_needed() -> None:
    i = layer_inputs(LayerCase(2, 1, 4, 8))
    weight, bias = i.weight.clone().requires_grad_(), i.bias_of_maps.clone().requires_grad_()
    y = ops.image_conv(i.images, weight, bias, slope=0.1)
    y.sum().backward()
    assert weight.grad is not None and bias.grad is not None and i.images.grad is None
    images = i.images.clone().requires_grad_()
    y = ops.image_conv(images, weight, bias, slope=0.1)
    weight.grad = bias.grad = None
    weight.requires_grad_(False), bias.requires_grad_(False)  # frozen since
    y.sum().backward()
    assert images.grad is not None and weight.grad is None and bias.grad is None
    empty = torch.ops.infogan_fast.image_conv_backward(
        i.grad_maps, i.images, y.detach(), i.weight, 0.1, False, False
    )
    assert [t.numel() for t in empty] == [0, 0, 0]


@pytest.mark.parametrize("name", ["image_conv", "image_conv_transpose"])
def test_each_of_weight_and_bias_has_its_gradient_without_the_other(name: str) -> None:
    i, found = layer_inputs(LayerCase(2, 1, 4, 8)), []
    for trained in ((True, True), (True, False), (False, True)):
        weight = i.weight.clone().requires_grad_(trained[0])
        bias = (
            (i.bias_of_maps if name == "image_conv" else i.bias_of_images).clone().requires_grad_(trained[1])
        )
        if name == "image_conv":
            y = ops.image_conv(i.images, weight, bias, slope=0.2)
        else:
            y = ops.image_conv_transpose(i.maps, weight, bias, size=4)
        y.sin().sum().backward()
        found.append((weight.grad, bias.grad))
    (of_weight, of_bias), first, second = found
    assert first[1] is None and second[0] is None
    assert torch.equal(first[0], of_weight) and torch.equal(second[1], of_bias)  # type: ignore[arg-type]


def test_a_nan_spreads_as_far_as_patches_do() -> None:
    i = layer_inputs(LayerCase(2, 1, 8, 8))
    images = i.images.clone()
    images[1, 0, 2, 2] = float("nan")
    lost = ops.image_conv(images, i.weight, i.bias_of_maps, slope=0.1).isnan().any(1)
    assert lost.nonzero().tolist() == [[1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]]
    maps = i.maps.clone(memory_format=torch.preserve_format)
    maps[0, 3, 0, 1] = float("nan")
    lost = ops.image_conv_transpose(maps, i.weight, i.bias_of_images, size=8).isnan()[0, 0]
    assert lost.sum() == 12 and bool(lost[:3, 1:5].all())


_IMAGES, _MAPS = torch.zeros(2, 1, 6, 6), torch.zeros(2, 8, 3, 3).to(memory_format=torch.channels_last)
_WEIGHT = torch.zeros(8, 1, 4, 4)

WRONG: list[tuple[str, str, dict[str, Any]]] = [
    ("image_conv", "x must be float32, float16, bfloat16 or float64, got uint8", {"x": _IMAGES.byte()}),
    ("image_conv", r"x must have shape \[B, C, S, S\] with S >= 2", {"x": torch.zeros(2, 1, 6, 5)}),
    ("image_conv", r"x must have shape \[B, C, S, S\] with S >= 2", {"x": torch.zeros(0, 1, 6, 6)}),
    ("image_conv", r"x must have shape \[B, C, S, S\] with S >= 2", {"x": torch.zeros(2, 1, 1, 1)}),
    (
        "image_conv",
        r"x must have shape \[B, C, S, S\] with S >= 2",
        {"x": torch.zeros(2, 3, 6, 12)[..., ::2]},
    ),
    ("image_conv", "x has 3 channels, but weight has shape", {"x": torch.zeros(2, 3, 6, 6)}),
    ("image_conv", "weight must be float32 of shape", {"weight": _WEIGHT.bfloat16()}),
    ("image_conv", "weight must be float32 of shape", {"weight": torch.zeros(8, 1, 3, 3)}),
    ("image_conv", "images have 1 or 3 channels", {"weight": torch.zeros(8, 2, 4, 4)}),
    ("image_conv", "weight must have a multiple of 8 features", {"weight": torch.zeros(12, 1, 4, 4)}),
    ("image_conv", r"bias must be float32 of shape \[8\]", {"bias": torch.zeros(1)}),
    ("image_conv", r"bias must be float32 of shape \[8\]", {"bias": torch.zeros(8).double()}),
    ("image_conv", r"slope must be in \[0, 1\], got 1.5", {"slope": 1.5}),
    ("image_conv_transpose", "x must be float32, float16, bfloat16 or float64", {"x": _MAPS.int()}),
    ("image_conv_transpose", "x must have .* format; make it with", {"x": torch.zeros(2, 8, 3, 3)}),
    ("image_conv_transpose", r"x must have shape \[B, K, side, side\]", {"x": torch.zeros(2, 8)}),
    ("image_conv_transpose", "x has 8 features, but weight has", {"weight": torch.zeros(16, 1, 4, 4)}),
    ("image_conv_transpose", r"bias must be float32 of shape \[1\]", {"bias": torch.zeros(8)}),
    ("image_conv_transpose", "size must be 6 or 7 for maps of 3 positions a side, got 8", {"size": 8}),
]


@pytest.mark.parametrize(("operator", "message", "changed"), WRONG)
def test_wrong_arguments_are_named(operator: str, message: str, changed: dict[str, Any]) -> None:
    arguments: dict[str, dict[str, Any]] = {
        "image_conv": {"x": _IMAGES, "weight": _WEIGHT, "bias": torch.zeros(8), "slope": 0.1},
        "image_conv_transpose": {"x": _MAPS, "weight": _WEIGHT, "bias": torch.zeros(1), "size": 6},
    }
    with pytest.raises(RuntimeError, match=f"{operator}: {message}"):
        getattr(ops, operator)(**(arguments[operator] | changed))


def test_wrong_gradients_are_named() -> None:
    operators = torch.ops.infogan_fast
    nchw = torch.zeros(2, 8, 3, 3)
    with pytest.raises(RuntimeError, match="image_conv_backward: grad_y must be float32 on the device of x"):
        operators.image_conv_backward(nchw, _IMAGES, _MAPS, _WEIGHT, 0.1, True, True)
    with pytest.raises(RuntimeError, match="image_conv_backward: y must be float32 on the device of x"):
        operators.image_conv_backward(_MAPS, _IMAGES, _MAPS.double(), _WEIGHT, 0.1, True, True)
    transposed = _IMAGES.mT
    for place, name in ((0, "grad_image"), (2, "image")):
        arguments: list[Any] = [_IMAGES, _MAPS, _IMAGES, _WEIGHT, True, True]
        arguments[place] = transposed
        with pytest.raises(RuntimeError, match=f"image_conv_transpose_backward: {name} must be float32"):
            operators.image_conv_transpose_backward(*arguments)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize(("channels", "size"), [(1, 6), (3, 7)])
def test_opcheck(dtype: torch.dtype, channels: int, size: int) -> None:
    i = layer_inputs(LayerCase(2, channels, size, 8, dtype, last=size == 7))
    operators = torch.ops.infogan_fast
    conv = [t.clone().requires_grad_() for t in (i.images, i.weight, i.bias_of_maps)]
    torch.library.opcheck(operators.image_conv.default, (*conv, 0.1))
    transpose = [t.clone().requires_grad_() for t in (i.maps, i.weight, i.bias_of_images)]
    torch.library.opcheck(operators.image_conv_transpose.default, (*transpose, size))
    y = operators.image_conv(i.images, i.weight, i.bias_of_maps, 0.1)
    image = operators.image_conv_transpose(i.maps, i.weight, i.bias_of_images, size)
    for wanted in ((True, True), (True, False), (False, True)):
        arguments: Any = (i.grad_maps, i.images, y, i.weight, 0.1, *wanted)
        torch.library.opcheck(operators.image_conv_backward.default, arguments)
        arguments = (i.grad_images, i.maps, image, i.weight, *wanted)
        torch.library.opcheck(operators.image_conv_transpose_backward.default, arguments)


def test_they_compile_with_their_gradients() -> None:
    i = layer_inputs(LayerCase(3, 1, 9, 8))

    def run(images: Tensor, weight: Tensor, up: Tensor, down: Tensor) -> Tensor:
        y = ops.image_conv(images, weight, up, slope=0.1)
        return ops.image_conv_transpose(y, weight, down, size=9)

    results = []
    for function in (run, torch.compile(run, fullgraph=True, backend="aot_eager")):
        tensors = [t.clone().requires_grad_() for t in (i.images, i.weight, i.bias_of_maps, i.bias_of_images)]
        image = function(*tensors)
        image.backward(i.grad_images)
        results.append([image.detach(), *(t.grad for t in tensors)])
    for eager, compiled in zip(*results, strict=True):
        same_bits(compiled, eager, "")


@pytest.mark.parametrize("layer", ["image_conv", "image_conv_transpose"])
def test_forward_mode_is_refused(layer: str) -> None:
    i = layer_inputs(LayerCase(2, 1, 6, 8))
    x = i.images if layer == "image_conv" else i.maps

    def run(x: Tensor) -> Tensor:
        if layer == "image_conv":
            return ops.image_conv(x, i.weight, i.bias_of_maps, slope=0.1)
        return ops.image_conv_transpose(x, i.weight, i.bias_of_images, size=6)

    with pytest.raises(RuntimeError, match=f"{layer}: a forward-mode derivative is asked for"):
        torch.func.jvp(run, (x,), (torch.ones_like(x),))


@pytest.mark.gpu
def test_two_calls_give_the_same_bits() -> None:
    case = LayerCase(256, 1, 28, 64, torch.bfloat16)
    first, second = (both_layers(case, "cuda") for _ in range(2))
    for field in fields(LayerResults):
        same_bits(getattr(second, field.name).cpu(), getattr(first, field.name).cpu(), field.name)


@pytest.mark.gpu
def test_maps_off_a_boundary_are_copied() -> None:
    i = layer_inputs(LayerCase(2, 1, 6, 8))
    memory = torch.zeros(i.maps.numel() + 1, device="cuda")
    maps = memory[1:].as_strided(i.maps.shape, i.maps.stride(), 1).copy_(i.maps)
    weight, bias = i.weight.cuda(), i.bias_of_images.cuda()
    image = ops.image_conv_transpose(maps, weight, bias, size=6)
    same_bits(image.cpu(), ops.image_conv_transpose(i.maps, i.weight, i.bias_of_images, size=6), "image")
