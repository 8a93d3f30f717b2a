"""Sends the arguments of a launch to a running program of the kernels, and reads its outputs.

What goes wrong in a kernel ends that process, and its report is raised as a :class:`KernelFault`.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import struct
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cuda_on_cpu.harness import Build


class KernelFault(AssertionError):
    """The report of a kernel that broke a rule of CUDA, or of a sanitizer."""


@dataclass
class Buffer:
    """A tensor as a kernel gets it: the memory from its first element to its last, strides and all, `offset`
    bytes past a 256-byte boundary. Outputs are sent as they are (poison them first) and read back."""

    tensor: torch.Tensor
    output: bool
    offset: int = 0

    def span(self) -> torch.Tensor:
        """The bytes between the first and the last element, as a flat view."""
        t = self.tensor
        if t.numel() == 0:
            return t.new_empty(0, dtype=torch.uint8)
        extent = 1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))
        return t.as_strided((extent,), (1,)).view(torch.uint8)


def given(tensor: torch.Tensor | None, offset: int = 0) -> Buffer | None:
    """An input: the run fails when the kernel changes it."""
    return None if tensor is None else Buffer(tensor, output=False, offset=offset)


def wanted(tensor: torch.Tensor, offset: int = 0) -> Buffer:
    """An output, or a buffer that the kernel updates."""
    return Buffer(tensor, output=True, offset=offset)


def poisoned(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """An output that nothing has been written to: NaN in floating types, -1 in integers."""
    out = torch.empty(shape, dtype=dtype)
    out.view(torch.uint8).fill_(0xFF) if out.numel() else None
    return out


Argument = int | float | None | Buffer


@functools.cache
def _without_randomisation() -> list[str]:
    command = ["setarch", "-R"]
    if (
        shutil.which("setarch") is None
        or subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode
    ):
        return []
    return command


class Runner:
    """A running program of :func:`compile_runner`: started at the first call and again after a fault."""

    def __init__(
        self,
        build: Build,
        program: Path,
        timeout: float = 300.0,
        environment: Mapping[str, str] | None = None,
    ):
        self.build = build
        self.program = program
        self.timeout = timeout
        self.environment = {**os.environ, **build.environment, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._reports: Any = None

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets the program end."""
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait()
            self._process = None
            self._reports.close()

    def _start(self) -> subprocess.Popen[bytes]:
        self._reports = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        command = [*(_without_randomisation() if self.build.fixed_addresses else []), str(self.program)]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._reports, env=self.environment
        )

    def __call__(self, launcher: str, *arguments: Argument, seed: int = 0, resident_blocks: int = 1) -> None:
        """Runs one launch.

        Args:
            launcher: name of a runner::Entry.
            arguments: in the order in which that entry reads them.
            seed: of the schedule: 0 in order, 1 in reverse, others random.
            resident_blocks: how many blocks may be under way at once.

        Raises:
            KernelFault: the report, when the kernel did something wrong.
        """
        if self._process is None:
            self._process = self._start()
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        name = launcher.encode()
        message = [
            struct.pack("=I", len(name)),
            name,
            struct.pack("=QiI", seed, resident_blocks, len(arguments)),
        ]
        for argument in arguments:
            if isinstance(argument, Buffer):
                data = argument.span().numpy().tobytes()
                message += [
                    struct.pack("=BIQ", 4 if argument.output else 3, argument.offset, len(data)),
                    data,
                ]
            elif argument is None:
                message.append(struct.pack("=B", 2))
            elif isinstance(argument, float):
                message.append(struct.pack("=Bd", 1, argument))
            else:
                message.append(struct.pack("=Bq", 0, int(argument)))
        watchdog = threading.Timer(self.timeout, process.kill)
        watchdog.start()
        try:
            process.stdin.write(b"".join(message))
            process.stdin.flush()
            for argument in arguments:
                if not isinstance(argument, Buffer) or not argument.output:
                    continue
                span = argument.span()
                data = process.stdout.read(span.numel())
                if len(data) != span.numel():
                    raise EOFError
                if data:
                    span.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
            # Without outputs there is nothing to wait for, and a fault would go unseen.
            if not any(isinstance(a, Buffer) and a.output for a in arguments):
                raise ValueError("a launch without outputs proves nothing")
        except (EOFError, BrokenPipeError):
            raise KernelFault(self._report(launcher, seed, resident_blocks)) from None
        finally:
            watchdog.cancel()

    def _report(self, launcher: str, seed: int, resident_blocks: int) -> str:
        assert self._process is not None
        status = self._process.wait()
        self._reports.seek(0)
        text = self._reports.read().decode(errors="replace").strip()
        self._process = None
        self._reports.close()
        if status == -9 and not text:
            text = f"no end within {self.timeout:.0f} s"
        # Frames between the engine and the kernel say nothing.
        text = re.sub(
            r"^ *#\d+ .*(\bstd::|infogan_fast::launch<|\bsimt::run\b).*\n", "", text, flags=re.MULTILINE
        )
        text = re.sub(r"\n{2,}", "\n", text)
        run = f"{launcher} [{self.build.name}, seed {seed}, {resident_blocks} resident]"
        return f"{run}: exit status {status}\n{text}"
