"""What operators do with each argument in every dtype, layout and device, and with sizes out of range."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from operators.arguments import GOOD, OPERATORS, call, is_tensors, named
from torch import Tensor


def test_every_operator_is_here() -> None:
    named = {name for name in dir(OPERATORS) if not name.startswith("_") and name != "name"}
    assert named == set(GOOD)
    for operator in GOOD:
        call(operator)


TENSORS = [(op, name) for op, given in GOOD.items() for name, value in given.items() if is_tensors(value)]


def in_each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The tensor, or each of the list, copied and changed."""
    return [change(each.clone()) for each in value] if isinstance(value, list) else change(value.clone())


def copies(operator: str) -> dict[str, Any]:
    given = GOOD[operator].items()
    return {name: in_each(value, Tensor.clone) if is_tensors(value) else value for name, value in given}


def outcome(operator: str, name: str, value: Any) -> tuple[str, list[Tensor]]:
    """The error's text, or the results and the tensors given, which may have changed in place."""
    arguments = copies(operator) | {name: value}
    try:
        result = call(operator, **arguments)
    except (RuntimeError, TypeError, ValueError) as error:
        return str(error), []
    flat, stack = [], [result, *(each for each in arguments.values() if is_tensors(each))]
    while stack:
        each = stack.pop()
        flat += [each] if isinstance(each, Tensor) else []
        stack += list(each) if isinstance(each, (list, tuple)) else []
    return "", flat


ONE_TENSOR = {op for op in GOOD if sum(op == other for other, _ in TENSORS) == 1}


@pytest.mark.parametrize(("operator", "name"), [each for each in TENSORS if each[0] not in ONE_TENSOR])
def test_a_meta_tensor_among_others_is_refused(operator: str, name: str) -> None:
    value = GOOD[operator][name]
    moved = [each.to("meta") for each in value] if isinstance(value, list) else value.to("meta")
    with pytest.raises(RuntimeError, match=f"{operator}: .*device"):
        call(operator, **{name: moved})


EVERY_DTYPE = [
    *(torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.int16),
    *(torch.int8, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.uint16),
]
_FLOATS = {torch.float32, torch.float64, torch.bfloat16, torch.float16}
_NO_DOUBLE = _FLOATS - {torch.float64}
#: Arguments that may have another dtype than :data:`GOOD` has, while the others stay as there.
SEVERAL_DTYPES: dict[tuple[str, str], set[torch.dtype]] = {
    ("transform_images", "images"): _FLOATS,
    ("agreement", "answers"): _NO_DOUBLE,
    ("agreement", "slants"): {torch.float32, torch.float64},
    ("batch_norm_act", "x"): _NO_DOUBLE,
    ("batch_norm_act_sums", "x"): _FLOATS,
    ("adam_update", "weights"): {torch.bfloat16, torch.float16},
    ("adam_update", "gradients"): {torch.float32, torch.bfloat16},
}


@pytest.mark.parametrize(("operator", "name"), TENSORS)
def test_dtypes(operator: str, name: str) -> None:
    given = GOOD[operator][name]
    own = (given[0] if isinstance(given, list) else given).dtype
    accepted = set()
    for dtype in EVERY_DTYPE:
        error, _ = outcome(operator, name, in_each(given, functools.partial(Tensor.to, dtype=dtype)))
        accepted |= set() if error else {dtype}
        assert not error or error.startswith(named(operator)), error
    assert accepted == SEVERAL_DTYPES.get((operator, name), {own})


def _first_repeated(tensor: Tensor) -> Tensor:
    return tensor[:1].expand(tensor.shape) if tensor.ndim else tensor


STRIDES: dict[str, Callable[[Tensor], Tensor]] = {
    "every second element": lambda t: torch.stack([t, t], -1)[..., 0],
    "transposed": lambda t: t.transpose(0, -1).contiguous().transpose(0, -1) if t.ndim > 1 else t,
    "within a larger tensor": lambda t: torch.cat([t.reshape(-1)[:1], t.reshape(-1)])[1:].view(t.shape),
    "one element many times": _first_repeated,
}


@pytest.mark.parametrize("strides", STRIDES)
@pytest.mark.parametrize(("operator", "name"), TENSORS)
def test_strides(operator: str, name: str, strides: str) -> None:
    """The result is that of the same values as :data:`GOOD` has them in memory, or the error says what."""
    given, change = GOOD[operator][name], STRIDES[strides]

    def dense(each: Tensor, like: Tensor) -> Tensor:
        return torch.empty_like(like).copy_(change(each.clone()))

    error, found = outcome(operator, name, in_each(given, change))
    if isinstance(given, list):
        same: Any = [dense(each, each) for each in given]
    else:
        same = dense(given, given)
    _, wanted = outcome(operator, name, same)
    if error:
        assert error.startswith(named(operator)) and name in error
    else:
        assert len(found) == len(wanted) > 0
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("layout", ["sparse", "nested"])
@pytest.mark.parametrize(("operator", "name"), TENSORS)
def test_layouts(operator: str, name: str, layout: str) -> None:
    def changed(each: Tensor) -> Tensor:
        return each.to_sparse() if layout == "sparse" else torch.nested.as_nested_tensor([each])

    error, _ = outcome(operator, name, in_each(GOOD[operator][name], changed))
    assert error.startswith(f"Could not run 'infogan_fast::{operator}'")


@pytest.mark.parametrize("operator", ["sample_latents", "infogan_loss", "agreement"])
@pytest.mark.parametrize("sizes", [[2**62, 2**62], [2**63 - 1], [2**24], [1], [-(2**63)]])
def test_categories_are_bounded(operator: str, sizes: list[int]) -> None:
    with pytest.raises(RuntimeError, match=rf"{operator}: categorical_sizes must lie in \[2, 2\^24\)"):
        call(operator, categorical_sizes=sizes)
