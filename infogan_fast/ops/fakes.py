"""What the fake kernels of all operators check."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def one_device(operator: str, *tensors: Tensor | Sequence[Tensor] | None) -> None:
    """Refuse tensors on several devices.

    Next to a meta tensor PyTorch runs the fake kernel even where the others hold values: what it returned for
    them was memory that nobody had written.

    Raises:
        RuntimeError: the devices differ.
    """
    flat = [each for given in tensors for each in ([given] if isinstance(given, Tensor) else given or ())]
    devices = sorted({str(tensor.device) for tensor in flat})
    if len(devices) > 1:
        raise RuntimeError(f"{operator}: its tensors are on several devices, {' and '.join(devices)}")
