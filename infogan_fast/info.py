"""``python -m infogan_fast.info``: versions, what was built, and how to repair what is missing."""

from __future__ import annotations

import contextlib
import platform
import sys
from collections.abc import Sequence

import infogan_fast
from infogan_fast.cli import Parser, command
from infogan_fast.errors import NativeError
from infogan_fast.runtime import native


def report() -> list[tuple[str, str]]:
    """The lines of the report as (name, value)."""
    import torch

    lines = [
        ("infogan_fast", f"{infogan_fast.__version__} ({native.source_tree() or native.PACKAGE.parent})"),
        ("python", f"{platform.python_version()}, {platform.platform()}"),
        ("torch", f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}"),
        ("cpu", f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"),
        ("gpu", ", ".join(_gpus()) or "none found"),
    ]
    try:
        library = native.load()
    except NativeError as error:
        needed = "MISSING: it needs the CPU library"
        return [*lines, ("CPU library", f"MISSING: {error}"), ("CUDA library", needed)]
    config = library.build_config()
    built = f"built against torch {config['torch_version']} by {config['compiler']}"
    if config["version"] != infogan_fast.__version__:
        built += f" from version {config['version']}"
    lines.append(("CPU library", f"loaded, {built} ({library.__file__})"))
    missing = native.cuda_missing()
    lines.append(("CUDA library", "loaded" if missing is None else f"MISSING: {missing}"))
    if config["cuda_version"]:
        lines.append(("", f"built with CUDA {config['cuda_version']} for {config['cuda_arches']}"))
    if missing is None:
        lines += [("", f"UNFIT: {why}") for why in _not_covered()]
    return lines


def _gpus() -> list[str]:
    import torch

    try:
        properties = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    except RuntimeError as error:  # such as a driver that is too old for this PyTorch
        return [f"none that PyTorch can use: {' '.join(str(error).split())}"]
    return [f"{gpu.name} (compute capability {gpu.major}.{gpu.minor})" for gpu in properties]


def _not_covered() -> list[str]:
    import torch

    with contextlib.suppress(RuntimeError):  # as above
        found = [native.not_covered(index) for index in range(torch.cuda.device_count())]
        return [why for why in found if why is not None]
    return []


@command("info")
def main(argv: Sequence[str] | None = None) -> int:
    """Print the report and return 0, even if something is missing."""
    Parser(
        prog="python -m infogan_fast.info",
        description="Print versions, the compiled libraries and their GPU architectures, and how to build a "
        "library that is missing.",
    ).parse_args(argv)
    for name, value in report():
        print(f"{name:13}{value}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
