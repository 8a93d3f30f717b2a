"""NVTX ranges in the domain ``infogan_fast``, and the profile of the updates that ``--profile`` names."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from pathlib import Path

import torch

try:
    import nvtx
except ImportError:
    nvtx = None


def phase(name: str) -> AbstractContextManager[object]:
    """An NVTX range for Nsight Systems; does nothing without the nvtx package."""
    if nvtx is None:
        return contextlib.nullcontext()
    annotation: AbstractContextManager[object] = nvtx.annotate(name, domain="infogan_fast")
    return annotation


class ProfiledUpdates:
    """Profiles the updates from ``start`` to ``stop``.

    On CUDA the profile is cudaProfilerStart and cudaProfilerStop, for Nsight's ``cudaProfilerApi`` capture
    range; on a CPU PyTorch's profiler writes a trace.

    Args:
        start, stop: updates done when the profile opens and closes.
        device: what is profiled.
        trace: the file of a CPU's trace, in Chrome's trace format.
    """

    def __init__(self, start: int, stop: int, device: torch.device, trace: Path) -> None:
        self.start, self.stop, self.device, self.trace = start, stop, device, trace
        self._profiler: torch.profiler.profile | None = None
        self._open = False

    def covers(self, done: int) -> bool:
        """Whether the update after ``done`` others is within."""
        return self.start <= done < self.stop

    def advance(self, done: int) -> None:
        """Open or close the profile. Call it before each update, and at the end, with the updates done."""
        if self._open and not self.covers(done):
            self.close()
        elif not self._open and self.covers(done):
            self._open = True
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
                torch.cuda.profiler.start()
            else:
                self._profiler = torch.profiler.profile()
                self._profiler.start()

    def close(self) -> None:
        """Close the profile if it is open, for example when a run is interrupted."""
        if not self._open:
            return
        self._open = False
        if self._profiler is None:
            torch.cuda.synchronize(self.device)
            torch.cuda.profiler.stop()
            return
        self._profiler.stop()
        self._profiler.export_chrome_trace(str(self.trace))
        self._profiler = None
