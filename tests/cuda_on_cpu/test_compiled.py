"""csrc/*/cuda.cu through nvcc for every architecture that the build covers: no warning, no spill."""

from __future__ import annotations

import os
import re
import shutil
import site
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from cuda_on_cpu import tables
from cuda_on_cpu.harness import CSRC, cache_folder, digest, headers, run_tool, setup_py, toolkit
from cuda_on_cpu.kernels import Budget, KernelTests, kernel_tests
from torch.utils import cpp_extension

BUDGETS: dict[str, Budget] = {name: budget for t in kernel_tests() for name, budget in t.budgets.items()}

operators = pytest.mark.parametrize("tests", kernel_tests(), ids=str)
vectorised = pytest.mark.parametrize("tests", [t for t in kernel_tests() if t.vectorised], ids=str)


def arches() -> list[int]:
    """Those that the build covers by default and nvcc compiles for, such as 75 or 90."""
    found = toolkit()
    assert not isinstance(found, str)
    return [round(float(arch) * 10) for arch in setup_py()["DEFAULT_ARCHES"] if arch in found.arches]


pytestmark = pytest.mark.skipif(
    isinstance(toolkit(), str), reason=f"the CUDA sources were NOT compiled by nvcc: {toolkit()}"
)


def compiled(tests: KernelTests) -> Path:
    """A file's machine code for every architecture; RuntimeError, in nvcc's words, for a warning or spill."""
    found, flags = toolkit(), list(setup_py()["NVCC_FLAGS"])
    flags += ["-Werror", "all-warnings", "-Xptxas", "-warn-spills,-warn-lmem-usage"]
    flags += [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in arches()]
    source = tests.source
    inputs = [source, *headers(CSRC)]  # and not torch: no kernel depends on it
    made = cache_folder() / f"{tests}-{digest([*flags, found.version, *inputs])}.fatbin"
    if not made.exists():
        include = [flag for path in cpp_extension.include_paths() for flag in ("-isystem", path)]
        command = [str(found.nvcc), *flags, f"-I{CSRC}", *include, f"--threads={os.cpu_count() or 1}"]
        unfinished = made.with_suffix(".unfinished")
        run_tool([*command, "-fatbin", str(source), "-o", str(unfinished)])
        unfinished.replace(made)
    return made


@operators
def test_no_warning_no_spill_on_any_architecture(tests: KernelTests) -> None:
    compiled(tests)
    tables.add(
        "nvcc", f"{tests!s:<20} sm_{', '.join(map(str, arches()))}: no warning, no spill, no local memory"
    )


def tool(name: str) -> str | None:
    """A CUDA binary utility on PATH, of the toolkit, or of the package nvidia-cuda-NAME."""
    found = toolkit()
    folders = [] if isinstance(found, str) else [str(found.home / "bin")]
    for packages in {*site.getsitepackages(), *sys.path}:
        folders += map(str, sorted(Path(packages).glob("nvidia/*/bin")))
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *folders]))


def cuobjdump(*arguments: str) -> str:
    """What cuobjdump prints; a skip where it or nvdisasm is missing."""
    programs = [tool("cuobjdump"), tool("nvdisasm")]
    if None in programs:
        pytest.skip(
            "the machine code was NOT checked: cuobjdump and nvdisasm are missing "
            "(pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm)"
        )
    folders = {str(Path(str(program)).parent) for program in programs}
    path = os.pathsep.join([*sorted(folders), os.environ.get("PATH", "")])
    return run_tool([str(programs[0]), *arguments], env={**os.environ, "PATH": path})


def kernel_of(symbol: str) -> str:
    """``infogan_loss_kernel`` of ``_ZN12infogan_fast19infogan_loss_kernelI...``."""
    return next(name for name in BUDGETS if f"{len(name)}{name}" in symbol)


@operators
def test_registers_leave_room_for_the_intended_blocks(tests: KernelTests) -> None:
    most: dict[str, int] = defaultdict(int)
    arch, symbol, seen = "", "", set()
    for line in cuobjdump("-res-usage", str(compiled(tests))).splitlines():
        if found := re.match(r"arch = (sm_\d+)", line):
            arch = found[1]
        elif found := re.match(r" Function (\w+):", line):
            symbol = found[1]
        elif found := re.match(r"  REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)", line):
            registers, stack, local = map(int, found.groups())
            name = kernel_of(symbol)
            assert stack == local == 0, f"{arch} {symbol}: {stack} bytes of stack, {local} of local memory"
            allocated = (registers + 7) // 8 * 8  # registers are handed out in eights
            resident = 65536 // (allocated * BUDGETS[name].block) * BUDGETS[name].block
            assert resident >= BUDGETS[name].resident, (
                f"{arch} {symbol}: {registers} registers leave room for {resident} threads on an SM, "
                f"not the {BUDGETS[name].resident} intended"
            )
            most[name] = max(most[name], registers)
            seen.add(arch)
    assert seen == {f"sm_{arch}" for arch in arches()}
    for name, registers in most.items():
        tables.add(
            "nvcc",
            f"{name:<28} at most {registers} registers a thread, {BUDGETS[name].block} threads a block",
        )


def test_every_promise_of_vectors_is_checked() -> None:
    promising = {path.parent.name for path in CSRC.glob("*/kernel.cuh") if "128-bit" in path.read_text()}
    assert promising == {tests.operator for tests in kernel_tests() if tests.vectorised}


@vectorised
def test_global_memory_moves_in_128_bit_vectors(tests: KernelTests) -> None:
    wide: dict[tuple[str, str], set[str]] = {}
    arch, symbol = "", ""
    for line in cuobjdump("-sass", str(compiled(tests))).splitlines():
        if found := re.match(r"arch = (sm_\d+)", line):
            arch = found[1]
        elif found := re.match(r"\s*Function : (\w+)", line):
            symbol = found[1]
            wide[arch, symbol] = set()
        elif found := re.search(r"\b(LDG|STG)\.\S*128\b", line):
            wide[arch, symbol].add(found[1])
    for name, wanted in tests.vectorised.items():
        kernels = {key: kinds for key, kinds in wide.items() if kernel_of(key[1]) == name}
        assert {arch for arch, _ in kernels} == {f"sm_{arch}" for arch in arches()}
        for (arch, symbol), kinds in kernels.items():
            assert kinds >= wanted, f"{arch} {symbol} has no 128-bit {sorted(wanted - kinds)}"
        moves = " and ".join(f"{kind}.128" for kind in sorted(wanted))
        tables.add("nvcc", f"{name:<28} {len(kernels)} instances, each with {moves}")
