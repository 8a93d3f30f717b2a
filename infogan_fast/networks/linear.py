"""Linear layers for float32 on a CPU: through oneDNN where PyTorch's choice, MKL, is the slower one."""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from infogan_fast.networks.layers import exporting
from infogan_fast.ops.first_order import first_order, needed
from infogan_fast.runtime.device import cpu_description


def onednn_missing() -> str | None:
    """Why float32 linear layers cannot go through oneDNN; None where they can."""
    if not torch.backends.mkldnn.is_available():
        return "this build of PyTorch has no oneDNN"
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return "this build of PyTorch has no operator mkldnn::_linear_pointwise"
    x, weight = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3)
    try:
        same = torch.equal(_product(x, weight), x @ weight.t())
    except RuntimeError as error:
        return f"mkldnn::_linear_pointwise does not run here ({error})"
    return None if same else "mkldnn::_linear_pointwise gives other values than a matrix product"


def faster_linear() -> str:
    """``"onednn"`` or ``"mkl"``, by the processor's maker and not by a timing, so that a run can be repeated
    exactly.

    MKL takes an AVX2 path on AMD processors even where they have AVX-512; elsewhere it is as fast as oneDNN.
    """
    amd = cpu_description().get("vendor_id") == "AuthenticAMD" or "AMD" in platform.processor()
    return "onednn" if amd and onednn_missing() is None else "mkl"


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T by oneDNN; transposed views are read as they are."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return result


class _OneDNNLinear(torch.autograd.Function):
    # The operator has no autograd of its own.
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight)

    @staticmethod
    @first_order("a linear layer through oneDNN")
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        grad_x = _product(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        (weighed,) = needed(ctx.needs_input_grad[1:], weight)
        return grad_x, _product(gradient.t(), x.t()) if weighed else None


class Linear(nn.Linear):
    """nn.Linear whose float32 product on a CPU goes through oneDNN when :attr:`onednn` is set; biasless
    there."""

    onednn = False

    def forward(self, x: Tensor) -> Tensor:
        """[B, in] -> [B, out]."""
        if (
            self.onednn
            and self.bias is None
            and x.dtype == self.weight.dtype == torch.float32
            and x.device.type == "cpu"
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()  # the compiler has its own choice
            and not exporting()
        ):
            return _OneDNNLinear.apply(x, self.weight)
        return functional.linear(x, self.weight, self.bias)


def set_linear(module: nn.Module, choice: str) -> None:
    """Send the float32 CPU products of every :class:`Linear` within through ``"onednn"`` or ``"mkl"``."""
    for child in module.modules():
        if isinstance(child, Linear):
            child.onednn = choice == "onednn"
