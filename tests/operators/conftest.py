"""Fixtures for tests of operators: running programs of their kernels."""

from __future__ import annotations

from cuda_on_cpu.fixtures import runners

__all__ = ["runners"]
