"""A program: the operators of the library that test_wrappers.py makes of the .cu files, argument checks and
all, give on CPU tensors what the CPU operators give. A process of its own, since a faulty kernel ends it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from cuda_on_cpu.checks import DTYPES, SCHEDULES
from cuda_on_cpu.kernels import kernel_tests
from torch.utils._python_dispatch import TorchDispatchMode

from infogan_fast import ops
from infogan_fast.latents import LatentSpec

ROWS = (1, 33, 129)


class CudaKernels(TorchDispatchMode):
    """Sends the operators of infogan_fast to the kernels registered for CUDA, wherever the tensors are."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.namespace != "infogan_fast":
            return func(*args, **(kwargs or {}))
        return func.redispatch(torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA), *args, **(kwargs or {}))


def main() -> None:
    torch.ops.load_library(sys.argv[1])
    library = ctypes.CDLL(sys.argv[1])
    library.launched_on_current_stream.restype = ctypes.c_bool
    checked = 0
    for number, dtype in enumerate(DTYPES):
        schedule = SCHEDULES[number]
        library.set_schedule(ctypes.c_uint64(schedule.seed), ctypes.c_int(schedule.resident_blocks))
        for tests in kernel_tests():
            for case in [*tests.cases(dtype, ROWS), *(replace(case, dtype=dtype) for case in tests.far)]:
                with CudaKernels():
                    result = tests.run(case, "cpu")
                assert library.launched_on_current_stream(), f"{case}: not launched on the current stream"
                tests.compare(result, case, f"{case}: ")
                checked += 1
    with CudaKernels():
        spec, q = LatentSpec.parse("noise=1,bernoulli=65"), torch.zeros(4, 65)
        weights = ops.LossWeights(codes=(1.0,) * 65)
        refused(lambda: ops.sample_latents(ops.rng_state(0), 4, spec))
        refused(lambda: ops.infogan_loss(spec, weights=weights, q_output=q, continuous=q))
        many = LatentSpec.parse(",".join(["cat=2"] * 65))
        refused(lambda: ops.agreement(many, torch.zeros(4, 130), ops.Agreement(), fixed_log_variance=0.0))
    print(f"{checked} calls of the CUDA operators equal to the CPU operators")


def refused(call: Callable[[], object]) -> None:
    """The kernels' parameters hold 64 codes of a kind."""
    try:
        call()
    except RuntimeError as error:
        assert "at most 64" in str(error), error
    else:
        raise AssertionError("65 codes of a kind: expected an error")


if __name__ == "__main__":
    main()
