"""Backward passes of operators: none has a second derivative, each gives the gradients that are needed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def needed(by_forward: Sequence[bool], *tensors: Tensor) -> tuple[bool, ...]:
    """Which of these inputs need a gradient: autograd knows what the forward pass needed, and what was frozen
    since then needs nothing."""
    return tuple(then and tensor.requires_grad for then, tensor in zip(by_forward, tensors, strict=True))


def where(wanted: Sequence[bool], *gradients: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients that are wanted, and None for each other one."""
    return tuple(gradient if want else None for want, gradient in zip(wanted, gradients, strict=True))


def refuse_tangents(operator: str, *tensors: Tensor | None) -> None:
    """PyTorch would give an operator's results no tangent, as if they were constants.

    Raises:
        RuntimeError: an input has a tangent.
    """
    if torch.compiler.is_compiling():
        return
    if any(tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        raise RuntimeError(
            f"{operator}: a forward-mode derivative is asked for; it has a backward pass alone"
        )


Backward = Callable[..., tuple[Tensor | None, ...]]


def first_order(operator: str) -> Callable[[Backward], Backward]:
    """A decorator of the backward pass of an operator, whose gradients then refuse to be differentiated.

    PyTorch's ``once_differentiable`` takes them for constants where the incoming gradient is one: a gradient
    penalty would silently lose its part through the operator.
    """

    def decorate(backward: Backward) -> Backward:
        @functools.wraps(backward)
        def run(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
            with torch.no_grad():
                results = backward(ctx, *gradients)
            if not torch.is_grad_enabled():
                return results
            message = f"{operator}: a second derivative is asked for; it can be differentiated once"
            refuse = torch._C._functions.DelayedError(message.encode(), len(results))
            aliases: Any = (
                None if result is None else result.detach().requires_grad_() for result in results
            )
            return tuple(refuse(*aliases))

        return run

    return decorate
