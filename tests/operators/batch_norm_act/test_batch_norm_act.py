"""batch_norm_act: the plain statement, forward and gradients, torch.nn.BatchNorm, the same bits for every
number of threads and instruction set, and errors that name the argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import torch
from cuda_on_cpu.checks import DTYPES, name_of, same_bits
from operators.batch_norm_act.cases import (
    NormCase,
    NormResults,
    compare_norm,
    norm_cases,
    norm_inputs,
    normalise,
)
from torch import Tensor, nn
from torch.nn import functional

from infogan_fast import ops

LARGE = NormCase((150, 72, 5, 5), torch.bfloat16, parts=(40, 110))


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_it_computes_what_the_reference_does(dtype: torch.dtype) -> None:
    for case in [*norm_cases(dtype), NormCase((150, 72, 5, 5), dtype, parts=(40, 110))]:
        compare_norm(normalise(case), case, f"{case}: ")


def _same(result: NormResults, expected: NormResults, what: str) -> None:
    for field in fields(NormResults):
        same_bits(getattr(result, field.name), getattr(expected, field.name), what + field.name)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_every_instruction_set_gives_the_same_bits(isa: str, dtype: torch.dtype) -> None:
    case = NormCase((150, 72, 5, 5), dtype, parts=(40, 110))
    _same(normalise(case), _with_the_best_instruction_set(case), f"{isa}: ")


def _with_the_best_instruction_set(case: NormCase) -> NormResults:
    from infogan_fast.runtime import native

    compiled = native.load()
    chosen = compiled.isa()
    for name in ("avx512", "avx2", "portable"):
        try:
            compiled.set_isa(name)
            break
        except ValueError:
            continue
    result = normalise(case)
    compiled.set_isa(chosen)
    return result


def test_threads_do_not_change_a_bit() -> None:
    torch.set_num_threads(1)
    expected = normalise(LARGE)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        _same(normalise(LARGE), expected, f"{threads} threads: ")


@pytest.mark.parametrize("shape", [(12, 16), (6, 16, 5, 4)], ids=str)
def test_it_is_torch_s_batch_norm(device: torch.device, shape: tuple[int, ...]) -> None:
    """Its modules' weights and statistics, the parts one after the other, through autograd."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(shape, generator=generator).to(device)
    if x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    norm = (nn.BatchNorm1d if x.dim() == 2 else nn.BatchNorm2d)(16).to(device)
    own = (nn.BatchNorm1d if x.dim() == 2 else nn.BatchNorm2d)(16).to(device)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    expected = functional.leaky_relu(
        torch.cat([norm(part) for part in inputs[0].split([2, shape[0] - 2])]), 0.2
    )
    assert own.running_mean is not None and own.running_var is not None
    assert own.num_batches_tracked is not None
    running = ops.RunningStatistics(own.running_mean, own.running_var, own.num_batches_tracked)
    y = ops.batch_norm_act(
        inputs[1], own.weight, own.bias, parts=(2, shape[0] - 2), running=running, slope=0.2
    )
    assert y.stride() == x.stride()
    for output in (expected, y):
        output.square().sum().backward()
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(own.weight.grad, norm.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(own.bias.grad, norm.bias.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(own.state_dict(), norm.state_dict(), rtol=1e-5, atol=1e-6)


def test_gradcheck() -> None:
    x = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    weight, bias = (torch.rand(5, dtype=torch.float64).add(0.5).requires_grad_() for _ in range(2))

    def function(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return ops.batch_norm_act(x, weight, bias, parts=(3, 4), slope=0.3)

    assert torch.autograd.gradcheck(function, (x, weight, bias))


def test_frozen_weights_get_no_gradient() -> None:
    x = torch.randn(7, 5, requires_grad=True)
    weight, bias = torch.ones(5, requires_grad=True), torch.zeros(5, requires_grad=True)
    y = ops.batch_norm_act(x, weight, bias)
    weight.requires_grad_(False), bias.requires_grad_(False)
    y.square().sum().backward()
    assert x.grad is not None and weight.grad is None and bias.grad is None


@pytest.mark.parametrize("add_up", [None, lambda sums: None], ids=["alone", "shared"])
def test_each_of_weight_and_bias_has_its_gradient_without_the_other(
    add_up: Callable[[Tensor], None] | None,
) -> None:
    x, found = torch.randn(7, 5), []
    for trained in ((True, True), (True, False), (False, True)):
        weight, bias = (torch.rand(5).mul(0).add(0.5).requires_grad_(each) for each in trained)
        ops.batch_norm_act(x, weight, bias, add_up=add_up).sin().sum().backward()
        found.append((weight.grad, bias.grad))
    (of_weight, of_bias), first, second = found
    assert first[1] is None and second[0] is None
    assert torch.equal(first[0], of_weight) and torch.equal(second[1], of_bias)  # type: ignore[arg-type]


def test_a_second_derivative_is_refused() -> None:
    x = torch.randn(7, 5, requires_grad=True)
    y = ops.batch_norm_act(x, torch.ones(5), torch.zeros(5))
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"^batch_norm_act: a second derivative is asked for"):
        gradient.sum().backward()


def test_a_nan_stays_in_its_channel_and_part() -> None:
    x = torch.randn(8, 5)
    x[1, 2] = float("nan")
    y = ops.batch_norm_act(x, torch.ones(5), torch.zeros(5), parts=(4, 4))
    assert y[:4, 2].isnan().all() and y.isnan().sum() == 4


def _arguments(**changed: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"x": torch.randn(6, 4), "weight": torch.ones(4), "bias": torch.zeros(4)}
    return arguments | changed


def _running(**changed: Any) -> dict[str, Any]:
    buffers: dict[str, Any] = {
        "mean": torch.zeros(4),
        "var": torch.ones(4),
        "batches": torch.zeros((), dtype=torch.int64),
    }
    return {"running": ops.RunningStatistics(**(buffers | changed))}


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("x must be float32, float16, bfloat16 or float64", {"x": torch.zeros(6, 4, dtype=torch.int64)}),
    (r"x must have shape \[N, C\] or", {"x": torch.zeros(6, 4, 2)}),
    (r"x must have shape \[N, C\] or", {"x": torch.zeros(0, 4)}),
    ("x must be contiguous; make it with", {"x": torch.zeros(4, 6).t()}),
    ("x must be in channels_last format; make it with", {"x": torch.zeros(2, 4, 3, 3)}),
    ("weight must be float32 of shape", {"weight": torch.ones(4, dtype=torch.float64)}),
    ("weight must be float32 of shape", {"weight": torch.ones(5)}),
    ("bias must be float32 of shape", {"bias": torch.zeros(4).bfloat16()}),
    ("weight must be float64 of shape", {"x": torch.zeros(6, 4, dtype=torch.float64)}),
    (r"slope must be in \[0, 1\], got -0.1", {"slope": -0.1}),
    ("parts must add up to the 6 rows of x, got 5", {"parts": (2, 3)}),
    (r"parts\[1\] must be 1 to the 6 rows of x, got 0", {"parts": (6, 0)}),
    (r"parts\[0\] must be 1 to the 6 rows of x, got 4611686018427387904", {"parts": (2**62, 6)}),
    ("at most 16 parts, got 17", {"x": torch.zeros(34, 4), "parts": (2,) * 17}),
    ("a part has a single value for each channel", {"parts": (5, 1)}),
    ("eps must be positive, got 0", {"eps": 0.0}),
    (r"momentum must be in \[0, 1\], got 2", {"momentum": 2.0}),
    ("running_mean must be float32 of shape", _running(mean=torch.zeros(5))),
    ("running_var must be float32 of shape", _running(var=torch.zeros(4, dtype=torch.float64))),
    ("batches must be one int64 value", _running(batches=torch.zeros(()))),
    ("give running_mean, running_var and batches, or none", _running(var=None)),
]


@pytest.mark.parametrize(("message", "changed"), WRONG)
def test_wrong_arguments_are_named(message: str, changed: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match=f"batch_norm_act: {message}"):
        ops.batch_norm_act(**_arguments(**changed))


@pytest.mark.parametrize(
    ("message", "place", "value"),
    [
        ("grad_y must be like x", 0, torch.zeros(6, 4).bfloat16()),
        ("grad_y must be like x", 0, torch.zeros(4, 6).t()),
        ("mean must be float32 of shape", 2, torch.zeros(2, 4)),
        ("rstd must be float32 of shape", 3, torch.zeros(1, 5)),
        ("sums hold the gradients of weight and bias already", 9, torch.zeros(1, 9, dtype=torch.float64)),
    ],
)
def test_wrong_gradients_are_named(message: str, place: int, value: Tensor) -> None:
    statistics, weights = (torch.ones(1, 4), torch.ones(1, 4)), (torch.ones(4), torch.zeros(4))
    arguments: list[Any] = [torch.zeros(6, 4), torch.zeros(6, 4), *statistics, *weights, [], 0.1, True, None]
    arguments[place] = value
    with pytest.raises(RuntimeError, match=f"batch_norm_act: {message}"):
        torch.ops.infogan_fast.batch_norm_act_backward(*arguments)


@pytest.mark.parametrize(
    "sums",
    [torch.zeros(2, 9, dtype=torch.float64), torch.zeros(1, 8, dtype=torch.float64), torch.zeros(1, 9)],
)
def test_wrong_sums_are_named(sums: Tensor) -> None:
    arguments: Any = (
        torch.zeros(6, 4),
        torch.ones(4),
        torch.zeros(4),
        None,
        None,
        None,
        [],
        1e-5,
        0.1,
        0.1,
        sums,
    )
    with pytest.raises(RuntimeError, match=r"batch_norm_act: sums must be float64 of shape \[1, 9\]"):
        torch.ops.infogan_fast.batch_norm_act(*arguments)


def test_processes_that_share_a_batch_have_its_statistics_and_gradients() -> None:
    """Through autograd: each of two processes, one after the other, with what the other adds."""
    generator = torch.Generator().manual_seed(5)
    x, grad_y = (torch.randn(11, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    weight, bias = (torch.rand(6, generator=generator, dtype=torch.float64) + 0.5 for _ in range(2))
    whole = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
    y = ops.batch_norm_act(*whole, parts=(4, 7), slope=0.1)
    expected = torch.autograd.grad(y, whole, grad_y)
    shares = [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9]]
    parts = [(2, 4), (2, 3)]
    sent: list[list[Tensor]] = [[], []]
    for _ in range(3):  # each round one more of the two collectives has what the other rank sends
        received, sent = sent, [[], []]
        outputs, gradients = torch.empty_like(x), []
        for rank, rows in enumerate(shares):

            def add_up(
                sums: Tensor, own: list[Tensor] = sent[rank], other: list[Tensor] = received[1 - rank]
            ) -> None:
                own.append(sums.clone())
                sums += other[len(own) - 1] if len(own) <= len(other) else 0

            given = [x[rows].requires_grad_(), weight.clone().requires_grad_(), bias.clone().requires_grad_()]
            part = ops.batch_norm_act(*given, parts=parts[rank], slope=0.1, add_up=add_up)
            outputs[rows] = part.detach()
            gradients.append(torch.autograd.grad(part, given, grad_y[rows]))
    torch.testing.assert_close(outputs, y.detach(), rtol=0, atol=1e-12)
    for rank, rows in enumerate(shares):
        torch.testing.assert_close(gradients[rank][0], expected[0][rows], rtol=0, atol=1e-11)
    for i in (1, 2):
        torch.testing.assert_close(gradients[0][i] + gradients[1][i], expected[i], rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("shape", [(12, 16), (6, 16, 5, 4)], ids=str)
def test_opcheck(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    case = NormCase(shape, dtype)
    i = norm_inputs(case)
    running = (i.running_mean.clone(), i.running_var.clone(), torch.zeros((), dtype=torch.int64))
    weights = (i.weight.clone().requires_grad_(), i.bias.clone().requires_grad_())
    operators = torch.ops.infogan_fast
    x = i.x.clone().requires_grad_()
    torch.library.opcheck(operators.batch_norm_act.default, (x, *weights, *running, [], 1e-5, 0.1, 0.1, None))
    torch.library.opcheck(operators.batch_norm_act_sums.default, (i.x, []))
    sums = operators.batch_norm_act_sums(i.x, [])
    _, mean, rstd = operators.batch_norm_act(
        i.x, i.weight, i.bias, None, None, None, [], 1e-5, 0.1, 0.1, sums
    )
    for of_weights in (True, False):
        arguments: Any = (i.grad_y, i.x, mean, rstd, i.weight, i.bias, [], 0.1, of_weights)
        torch.library.opcheck(operators.batch_norm_act_backward.default, (*arguments, None))
    torch.library.opcheck(operators.batch_norm_act_backward.default, (*arguments, sums))
    torch.library.opcheck(operators.batch_norm_act_backward_sums.default, arguments[:-1])


def test_it_compiles_with_its_gradients() -> None:
    i = norm_inputs(NormCase((6, 16, 5, 4)))
    results = []
    for compile in (False, True):
        tensors = [t.clone().requires_grad_() for t in (i.x, i.weight, i.bias)]
        running = ops.RunningStatistics(torch.zeros(16), torch.ones(16), torch.zeros((), dtype=torch.int64))

        def run(x: Tensor, weight: Tensor, bias: Tensor, running: Any = running) -> Tensor:
            return ops.batch_norm_act(x, weight, bias, parts=(2, 4), running=running, slope=0.1)

        function = torch.compile(run, fullgraph=True, backend="aot_eager") if compile else run
        y = function(*tensors)
        y.backward(i.grad_y)
        results.append([y.detach(), *running, *(t.grad for t in tensors)])
    for eager, compiled in zip(*results, strict=True):
        same_bits(compiled, eager, "")


def test_one_row_in_all_processes_has_no_variance() -> None:
    with pytest.raises(RuntimeError, match="a single value for each channel in all processes together"):
        ops.batch_norm_act(
            torch.ones(1, 3), torch.ones(3), torch.zeros(3), running=None, add_up=lambda sums: None
        )


@pytest.mark.gpu
def test_two_calls_give_the_same_bits() -> None:
    case = NormCase((256, 128, 7, 7), torch.bfloat16, parts=(128, 128))
    first, second = (normalise(case, "cuda") for _ in range(2))
    for field in fields(NormResults):
        same_bits(getattr(second, field.name).cpu(), getattr(first, field.name).cpu(), field.name)
