"""What the tests of every operator's kernels share: rows, dtypes and schedules, and comparisons."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: Relative error of a result of this dtype. Latents are drawn in float32, in whatever dtype they are given.
EPSILON = {torch.float64: 1e-6, torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}


@dataclass(frozen=True)
class Schedule:
    """The order in which blocks, warps and lanes run: see simt_engine.h."""

    seed: int = 0
    resident_blocks: int = 1


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def same_bits(actual: Tensor, expected: Tensor, what: str) -> None:
    """Raises AssertionError, naming the first difference, unless two tensors hold the same bytes."""
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    shape, count = torch.atleast_1d(actual).shape, actual.numel()
    if count == 0:
        return
    actual, expected = (tensor.contiguous().as_strided((count,), (1,)) for tensor in (actual, expected))
    different = (actual.view(torch.uint8) != expected.view(torch.uint8)).reshape(count, -1).any(1)
    if different.any():
        at = int(different.nonzero()[0])
        where = [int(i) for i in torch.unravel_index(torch.tensor(at), shape)]
        raise AssertionError(
            f"{what}{where} is {actual[at].item()!r}, expected {expected[at].item()!r}; "
            f"{int(different.sum())} of {actual.numel()} elements differ"
        )


def close(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Raises AssertionError unless |actual - expected| <= tolerance (1 + |expected|) everywhere."""
    actual, expected = actual.double(), expected.double()
    wrong = ~((actual == expected) | ((actual - expected).abs() <= tolerance * (1 + expected.abs())))
    if wrong.any():
        at = [int(i) for i in wrong.nonzero()[0]]
        raise AssertionError(
            f"{what}{at} is {actual[tuple(at)].item()!r}, the reference has {expected[tuple(at)].item()!r}; "
            f"{int(wrong.sum())} of {actual.numel()} elements differ"
        )


def moved(tensor: Tensor, device: str, offset: int) -> Tensor:
    """The same on a device, strides kept, `offset` bytes past the start of an allocation."""
    before = offset // tensor.element_size()
    memory = torch.empty(before + tensor.numel(), dtype=tensor.dtype, device=device)
    return memory[before:].as_strided(tensor.shape, tensor.stride(), before).copy_(tensor)


ROWS = (1, 7, 31, 33, 127, 129)
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
#: In order and in reverse, a block at a time and several at once, and at random.
SCHEDULES = (Schedule(0), Schedule(1, 3), Schedule(2, 2), Schedule(3, 8))
