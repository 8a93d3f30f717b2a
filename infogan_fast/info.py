"""``python -m infogan_fast.info``: what is installed, what was built, and what mends what is missing."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence

import torch

import infogan_fast
from infogan_fast.cli import command
from infogan_fast.errors import NativeError
from infogan_fast.runtime import native


def report() -> list[tuple[str, str]]:
    """The lines of the report as (name, value)."""
    lines = [
        ("infogan_fast", f"{infogan_fast.__version__} ({native.source_tree() or native.PACKAGE.parent})"),
        ("python", f"{platform.python_version()}, {platform.platform()}"),
        ("torch", f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}"),
        ("cpu", f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"),
        ("gpu", ", ".join(_devices()) or "none found"),
    ]
    try:
        config = native.load().build_config()
    except NativeError as error:
        return [*lines, ("CPU half", f"MISSING: {error}"), ("CUDA half", "MISSING: it needs the CPU half")]
    built = f"built against torch {config['torch_version']} by {config['compiler']}"
    if config["version"] != infogan_fast.__version__:
        built += f" from version {config['version']}"
    lines.append(("CPU half", f"loaded, {built} ({native.load().__file__})"))
    missing = native.cuda_missing()
    lines.append(("CUDA half", "loaded" if missing is None else f"MISSING: {missing}"))
    if config["cuda_version"]:
        lines.append(("", f"built with CUDA {config['cuda_version']} for {config['cuda_arches']}"))
    return lines


def _devices() -> list[str]:
    properties = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [f"{device.name} (compute capability {device.major}.{device.minor})" for device in properties]


@command("info")
def main(argv: Sequence[str] | None = None) -> int:
    """Print the report; the status is 0 whatever it says."""
    argparse.ArgumentParser(
        prog="infogan-fast info",
        description="Versions, the architectures built in and, for a missing half, what mends it.",
    ).parse_args(argv)
    for name, value in report():
        print(f"{name:13}{value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
