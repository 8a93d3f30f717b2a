"""What an operator's folder gives the tests of its kernels, and the operators that there are.

``tests/operators/NEW/cases.py`` defines ``KERNEL_TESTS``, and ``launcher.cpp`` beside it registers the
launcher of each dtype. Nothing else names an operator: the tests here and in test_gpu.py run what they find.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from cuda_on_cpu.checks import Schedule, name_of
from cuda_on_cpu.harness import CSRC, HERE
from cuda_on_cpu.patches import Mutant, Patch
from cuda_on_cpu.runner import Runner

OPERATORS = HERE.parent / "operators"


class Budget(NamedTuple):
    """Threads of a block, and the threads that an SM's 64 K registers must hold at once."""

    block: int
    resident: int


@dataclass(frozen=True)
class KernelTests:
    """The tests of an operator's kernels. A case is a frozen dataclass of the operator's own with a dtype.

    operator: its name, and that of its folders.
    run: the operator on the tensors of a case on a device.
    compare: raises AssertionError unless what ``run`` gave is what is expected, with the case and a prefix.
    check: the same of the kernels, run on the CPU in the order of each schedule.
    cases: of a dtype, with these numbers of rows.
    several_tiles: on ``small_grid``, patches by which a block takes several tiles of a small batch.
    largest: more tiles than the largest grid has blocks; largest_on_gpu: those that a CPU takes too long for.
    far: with memory that 32 bits do not address.
    mutants: planted bugs that ``mutant_cases`` on the small grid have to catch.
    budgets: of registers, by kernel.
    vectorised: the kernels that load (LDG) or store (STG) global memory in 128-bit vectors.
    """

    operator: str
    run: Callable[[Any, str], Any]
    compare: Callable[[Any, Any, str], None]
    check: Callable[[Runner, Any, Sequence[Schedule]], None]
    cases: Callable[[torch.dtype, tuple[int, ...]], Sequence[Any]]
    several_tiles: tuple[Any, ...]
    mutant_cases: tuple[Any, ...]
    mutants: tuple[Mutant, ...]
    small_grid: tuple[Patch, ...]
    budgets: dict[str, Budget]
    largest: tuple[Any, ...] = ()
    largest_on_gpu: tuple[Any, ...] = ()
    far: tuple[Any, ...] = ()
    vectorised: dict[str, set[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.operator

    @property
    def launcher(self) -> Path:
        """The source of its launchers."""
        return OPERATORS / self.operator / "launcher.cpp"

    @property
    def mutant_dtypes(self) -> tuple[str, ...]:
        """The dtypes of the cases that mutants run."""
        return tuple(sorted({name_of(case.dtype) for case in self.mutant_cases}))

    @property
    def source(self) -> Path:
        """Its CUDA source."""
        return CSRC / self.operator / "cuda.cu"


@functools.cache
def kernel_tests() -> tuple[KernelTests, ...]:
    """Those of every operator, by name.

    Raises:
        AssertionError: an operator with CUDA kernels has none.
    """
    found = sorted(path.parent.name for path in OPERATORS.glob("*/cases.py"))
    compiled = sorted(path.parent.name for path in CSRC.glob("*/cuda.cu"))
    assert found == compiled, f"tests/operators/*/cases.py: {found}; csrc/*/cuda.cu: {compiled}"
    return tuple(importlib.import_module(f"operators.{name}.cases").KERNEL_TESTS for name in found)
