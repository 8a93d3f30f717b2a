"""Checks of what a checkpoint holds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def in_words(value: Any) -> str:
    """A value from a checkpoint, short."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor {list(value.shape)}"
    text = repr(value) if isinstance(value, (bool, int, float, str)) else ""
    return text if 0 < len(text) <= 40 else f"of type {type(value).__name__}"


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor has no infinity and no NaN; waits for the device."""
    if tensor.numel() == 0 or not tensor.is_floating_point():
        return True
    # The ends of the range tell: one pass without a tensor of truth values.
    return bool(torch.stack(torch.aminmax(tensor)).isfinite().all())


def check_like(name: str, value: Any, own: Tensor) -> None:
    """Check that a tensor can be copied into another one without changing its meaning.

    Raises:
        ValueError: it is no tensor, of another shape or dtype, or not finite.
    """
    fits = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
    if not fits or value.shape != own.shape or value.dtype != own.dtype:
        raise ValueError(f"{name} is {in_words(value)}; expected {in_words(own)}")
    if not is_finite(value):
        raise ValueError(f"{name} is not finite")
