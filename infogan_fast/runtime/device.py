"""Which device a run uses, in which precision, and how the process is set up for it."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from infogan_fast.constants import DEVICES
from infogan_fast.errors import UserError
from infogan_fast.runtime import native

_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"}  # the last is ARM's


@functools.cache
def cpu_description() -> dict[str, str]:
    """The system's description of the first processor: ``vendor_id``, ``model name``, ``flags``
    (``Features`` on ARM).

    Empty if the system has no /proc/cpuinfo.
    """
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def choose_device(name: str, local_rank: int | None = None) -> torch.device:
    """The device for ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``.

    Args:
        name: as above.
        local_rank: of this process among those of its host, each of which takes a device of its own.

    Raises:
        UserError: CUDA is asked for and absent, or this package's CUDA kernels are, or do not run there.
    """
    if name not in DEVICES:
        raise UserError(f"device is {name!r}; expected one of {', '.join(DEVICES)}")
    available = torch.cuda.is_available()
    if name == "cpu" or (name == "auto" and not available):
        return torch.device("cpu")
    missing = native.cuda_missing()
    if not available:
        why = missing if torch.version.cuda is None else "PyTorch finds no CUDA device; look at nvidia-smi"
        raise UserError(f"--device cuda: {why}; or train with --device cpu")
    if missing is not None:
        raise UserError(f"the CUDA kernels are missing: {missing}; or train with --device cpu")
    if local_rank is not None:
        count = torch.cuda.device_count()
        if local_rank >= count:
            raise UserError(
                f"--device {name}: there are {count} CUDA devices for more processes; start at most "
                f"--nproc-per-node={count}, or train with --device cpu"
            )
        torch.cuda.set_device(local_rank)
    index = torch.cuda.current_device()
    if (why := native.not_covered(index)) is not None:
        raise UserError(f"the CUDA kernels do not fit: {why}; or train with --device cpu")
    return torch.device("cuda", index)


def describe(device: torch.device) -> str:
    """The processor or card in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = cpu_description().get("model name") or platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return f"{name}, {threads} {'thread' if threads == 1 else 'threads'}"


def cpu_has_bf16() -> bool:
    """Whether the processor has bfloat16 instructions; False where the system does not tell."""
    described = cpu_description()
    return bool(_BF16_FLAGS & {*described.get("flags", "").split(), *described.get("Features", "").split()})


def amp_dtype(device: torch.device) -> torch.dtype:
    """The dtype of mixed precision: bfloat16 where the hardware has it, float16 on other CUDA devices.

    Raises:
        UserError: a CPU without bfloat16 instructions, on which mixed precision would be slower than none.
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if cpu_has_bf16():
        return torch.bfloat16
    raise UserError(
        "--amp: this CPU has no bfloat16 instructions (AVX512_BF16, AMX or AVX_NE_CONVERT), so mixed "
        "precision would be slower than float32; leave --amp out"
    )


def check_matmul_precision(precision: str, device: torch.device) -> None:
    """Refuse ``high`` where there is no TF32.

    Raises:
        UserError: a CPU, or a GPU before compute capability 8.0.
    """
    if precision == "highest":
        return
    if device.type != "cuda":
        raise UserError(f"--matmul-precision {precision}: TF32 is for GPUs, and training runs on the CPU")
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        raise UserError(
            f"--matmul-precision {precision}: {describe(device)} has compute capability {major}.{minor}; "
            "TF32 needs 8.0"
        )


def prepare_deterministic(name: str) -> None:
    """Set up what cuBLAS needs for a fixed order of its sums; call it before :func:`choose_device`, which
    begins CUDA.

    Args:
        name: of the device, as :func:`choose_device` takes it.

    Raises:
        UserError: CUDA has begun without it.
    """
    variable = "CUBLAS_WORKSPACE_CONFIG"
    if name == "cpu" or os.environ.get(variable) in (":4096:8", ":16:8"):
        return
    if torch.cuda.is_initialized():
        raise UserError(f"--deterministic: set {variable}=:4096:8 before this process first uses CUDA")
    os.environ[variable] = ":4096:8"


@contextlib.contextmanager
def usual_modes() -> Iterator[None]:
    """Within the block, PyTorch's modes are those of a fresh process, whatever the caller has set: gradients,
    no autocast, float32 and the CPU as defaults."""
    dtype = torch.get_default_dtype()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device() != torch.device("cpu"):
            stack.enter_context(torch.device("cpu"))
        torch.set_default_dtype(torch.float32)
        stack.callback(torch.set_default_dtype, dtype)
        yield


@contextlib.contextmanager
def exact_modes() -> Iterator[None]:
    """Within the block, :func:`usual_modes`, and :func:`numerics` without TF32: the same bits each time."""
    with usual_modes(), numerics("highest"):
        yield


@contextlib.contextmanager
def numerics(matmul_precision: str, *, deterministic: bool = False) -> Iterator[None]:
    """Within the block, cuDNN adds in a fixed order, and float32 products and convolutions have this
    precision.

    Otherwise cuDNN's gradients of convolutions may add in any order: no two float32 runs would be alike, nor
    a graph its eager updates. On an H100 it costs 2 % of a float32 update, and nothing of a bfloat16 one.

    Args:
        matmul_precision: as ``torch.set_float32_matmul_precision`` takes it.
        deterministic: PyTorch raises a RuntimeError where it has no algorithm with a fixed order.
    """
    fixed = (
        torch.backends.cudnn.deterministic,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
    )
    with _float32_precision(matmul_precision):
        torch.backends.cudnn.deterministic = True
        if deterministic:
            torch.use_deterministic_algorithms(True)
            # Every operator writes all of its results: what filled them before would be lost time.
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.backends.cudnn.deterministic = fixed[0]
            if deterministic:
                torch.use_deterministic_algorithms(fixed[1], warn_only=fixed[2])
                torch.utils.deterministic.fill_uninitialized_memory = fixed[3]  # type: ignore[attr-defined]


@contextlib.contextmanager
def _float32_precision(matmul_precision: str) -> Iterator[None]:
    """Sets the precision through both of PyTorch's interfaces, which have to agree, and leaves unset what is
    unset, so that it goes on following what the caller sets for a whole backend."""
    backends: Any = torch.backends
    parts = (backends.cuda.matmul, backends.mkldnn.matmul, backends.cudnn.conv)
    before = [part.fp32_precision for part in parts]
    inherits = backends.cudnn.fp32_precision == backends.fp32_precision
    of_cuda = "none" if inherits else backends.cudnn.fp32_precision
    older = _older_matmul_precision()
    wanted = "ieee" if matmul_precision == "highest" else "tf32"
    if older != matmul_precision:
        torch.set_float32_matmul_precision(matmul_precision)
    backends.cudnn.fp32_precision = wanted  # of all operators on CUDA; convolutions are in TF32 by default
    for part in parts:
        if part.fp32_precision not in (wanted, "none"):
            part.fp32_precision = wanted
    try:
        yield
    finally:
        backends.cudnn.fp32_precision = of_cuda
        if older != matmul_precision:
            torch.set_float32_matmul_precision(older)
        for part, value in zip(parts, before, strict=True):
            if part.fp32_precision != value:
                part.fp32_precision = value


def _older_matmul_precision() -> str:
    """What ``torch.set_float32_matmul_precision`` has set, which PyTorch tells only while the newer settings
    are alike."""
    backends: Any = torch.backends
    for alike in (None, "ieee", "tf32"):
        if alike is not None:
            backends.cuda.matmul.fp32_precision = backends.mkldnn.matmul.fp32_precision = alike
        with contextlib.suppress(RuntimeError):
            return torch.get_float32_matmul_precision()
    return "highest"
