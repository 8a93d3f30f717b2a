"""NVTX ranges in the domain ``infogan_fast``, for Nsight Systems; nothing where the nvtx package is
absent."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

try:
    import nvtx
except ImportError:
    nvtx = None


def phase(name: str) -> AbstractContextManager[object]:
    """A range around a part of the work."""
    if nvtx is None:
        return contextlib.nullcontext()
    annotation: AbstractContextManager[object] = nvtx.annotate(name, domain="infogan_fast")
    return annotation
