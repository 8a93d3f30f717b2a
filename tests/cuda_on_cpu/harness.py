"""Builds the kernels' own source with g++, to be run with one fiber a CUDA thread.

A :class:`Build` is a way to compile (plain, with sanitizers, with coverage); :func:`compile_runner` makes the
program for a build and a tree of sources.
"""

from __future__ import annotations

import functools
import hashlib
import os
import runpy
import shutil
import site
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils import cpp_extension

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CSRC = ROOT / "csrc"

#: How setup.py asks for the host half of the same arithmetic: no contraction of a*b+c.
ARITHMETIC = ("-std=c++20", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")


@dataclass(frozen=True)
class Build:
    """One way to compile and run the kernels.

    Args:
        name: as shown in tests and tables.
        flags: for the kernels' files.
        engine_flags: for the engine, which no sanitizer instruments.
        link_flags: for the program.
        environment: of the running program.
        fixed_addresses: run without address space randomisation, under which g++ 12's ThreadSanitizer
            does not start on some systems.
    """

    name: str
    flags: tuple[str, ...]
    engine_flags: tuple[str, ...] = ()
    link_flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    fixed_addresses: bool = False


_SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")

#: Uninitialised locals hold a pattern that no correct result survives.
PLAIN = Build("plain", ("-O2", "-g1", "-ftrivial-auto-var-init=pattern"))
ASAN = Build(
    "asan+ubsan",
    ("-O1", "-g1", *_SANITIZE),
    ("-DSIMT_ASAN",),
    _SANITIZE,
    {
        "ASAN_OPTIONS": "exitcode=66:detect_leaks=0:detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": "exitcode=66:print_stacktrace=1",
    },
)
TSAN = Build(
    "tsan",
    ("-O1", "-g1", "-fsanitize=thread"),
    ("-DSIMT_TSAN",),
    ("-fsanitize=thread",),
    {"TSAN_OPTIONS": "exitcode=66:halt_on_error=1:report_thread_leaks=0"},
    fixed_addresses=True,
)
COVERAGE = Build("coverage", ("-O0", "-g1", "--coverage"), (), ("--coverage",))


@functools.cache
def setup_py() -> dict[str, Any]:
    """setup.py's own functions and flags."""
    return runpy.run_path(str(ROOT / "setup.py"), run_name="setup_for_tests")


@functools.cache
def toolkit() -> Any:
    """The CUDA toolkit that setup.py would build with or, as text, why there is none."""
    try:
        return setup_py()["find_toolkit"](os.environ)
    except SystemExit as error:  # a broken toolkit, with the remedy
        return str(error).strip()


@functools.cache
def cuda_headers() -> tuple[str, ...]:
    """Compiler flags for CUDA's headers, of the toolkit or NVIDIA's packages; empty where there are none."""
    found = toolkit()
    folders = [] if isinstance(found, str) else [found.home / "include"]
    for packages in {*site.getsitepackages(), *sys.path}:
        folders += sorted(Path(packages).glob("nvidia/*/include"))
    for folder in folders:
        together = (folder, folder / "cccl")
        needed = ("cuda_fp16.h", "cuda_bf16.h", "cuda_runtime.h", "crt/host_defines.h", "nv/target")
        if all(any((place / name).is_file() for place in together) for name in needed):
            return tuple(flag for place in together for flag in ("-isystem", str(place)))
    return ()


@functools.cache
def why_not_here() -> str | None:
    """What the shim lacks on this machine, and the remedy; None when nothing."""
    if shutil.which("g++") is None:
        return "g++ is not installed: the CUDA kernels were NOT run on the CPU"
    if not cuda_headers():
        return (
            "no CUDA headers: the CUDA kernels were NOT run on the CPU. "
            "Install a CUDA toolkit, or "
            "its headers: pip install nvidia-cuda-runtime nvidia-cuda-crt nvidia-cuda-cccl"
        )
    return None


@functools.cache
def cache_folder() -> Path:
    """Where what is compiled goes: INFOGAN_FAST_TEST_CACHE, which outlives the run, or a temporary folder."""
    chosen = os.environ.get("INFOGAN_FAST_TEST_CACHE")
    if chosen:
        Path(chosen).mkdir(parents=True, exist_ok=True)
        return Path(chosen)
    folder = tempfile.TemporaryDirectory(prefix="infogan_fast_shim_")
    _keep.append(folder)  # deleted when the interpreter exits
    return Path(folder.name)


_keep: list[tempfile.TemporaryDirectory[str]] = []


def run_tool(command: list[str], **options: Any) -> str:
    """Standard output of a command; its whole output in the error when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\nexited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return str(done.stdout)


@functools.cache
def _compiler_version() -> str:
    return run_tool(["g++", "--version"])


def digest(parts: Iterable[str | Path]) -> str:
    """A name for what is made from these texts and the contents of these files by this compiler."""
    made = hashlib.sha256(_compiler_version().encode())
    for part in parts:
        made.update(part.read_bytes() if isinstance(part, Path) else part.encode())
        made.update(b"\0")
    return made.hexdigest()[:16]


def headers(folder: Path) -> list[Path]:
    """The files of csrc that a kernel's object may depend on."""
    return sorted(path for suffix in ("*.h", "*.cuh") for path in folder.rglob(suffix))


#: Of a kernel's file, what takes longest to read: it is the same in all of them.
_SYSTEM_HEADERS = """
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <device_launch_parameters.h>
"""
_precompiling = threading.Lock()


def _system_headers(flags: Iterable[str]) -> list[str]:
    """Flags for the system's headers, precompiled by the first file that is compiled with these flags."""
    flags = [flag for flag in flags if not flag.startswith("-DRUNNER_DTYPES")]
    header = cache_folder() / f"system-{digest([*flags, *cuda_headers(), _SYSTEM_HEADERS])}.h"
    made = header.with_suffix(".h.gch")
    with _precompiling:
        if not made.exists():
            header.write_text(_SYSTEM_HEADERS)
            unfinished = made.with_suffix(f".{os.getpid()}")
            run_tool(["g++", *flags, *cuda_headers(), "-x", "c++-header", str(header), "-o", str(unfinished)])
            unfinished.replace(made)
    return ["-Winvalid-pch", "-Werror=invalid-pch", "-include", str(header)]


def _compile(
    source: Path, flags: Iterable[str], csrc: Path, inputs: Iterable[Path], system_headers: bool = False
) -> Path:
    """The object of one source, made again only when it, a file of `inputs` or a flag has changed."""
    flags = [*ARITHMETIC, "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-DINFOGAN_FAST_SIMT", *flags]
    name = f"{source.parent.name}-{source.stem}"
    made = cache_folder() / f"{name}-{digest([name, *flags, source, *inputs])}.o"
    if made.exists():
        return made
    include = [f"-I{csrc}", f"-I{HERE}", *cuda_headers()]
    if system_headers:
        include += _system_headers(flags)
    # Reports and debug information name the files by their place in the project, wherever the tree lies.
    prefix = [f"-ffile-prefix-map={csrc}=csrc", f"-ffile-prefix-map={HERE}=tests/cuda_on_cpu"]
    # Coverage notes are named after the object: it is made under its final name, elsewhere.
    with tempfile.TemporaryDirectory(dir=cache_folder()) as work:
        run_tool(["g++", *flags, *prefix, *include, "-c", str(source), "-o", str(Path(work) / made.name)])
        for path in sorted(Path(work).iterdir(), key=lambda path: path.suffix == ".o"):
            path.replace(cache_folder() / path.name)
    return made


def object_of(build: Build, case: Path, csrc: Path = CSRC, dtypes: tuple[str, ...] = ()) -> Path:
    """The object of a file of launchers: all of them, or those of some dtypes."""
    flags = [*build.flags, *([f'-DRUNNER_DTYPES="{",".join(dtypes)}"'] if dtypes else [])]
    inputs = [*headers(csrc), *sorted(HERE.glob("*.h"))]
    return _compile(case, flags, csrc, inputs, system_headers=build is not COVERAGE)


def compile_runner(
    build: Build, cases: tuple[Path, ...], csrc: Path = CSRC, dtypes: tuple[str, ...] = ()
) -> Path:
    """The program that runs the launchers which the files `cases` register, from the sources in `csrc`: all
    of them, or those of some dtypes.

    Raises:
        RuntimeError: it does not compile.
    """
    engine = ("-O2", "-g1", *build.engine_flags)
    objects = [object_of(build, case, csrc, dtypes) for case in cases]
    for name in ("simt.cpp", "runner.cpp"):
        objects.append(_compile(HERE / name, engine, csrc, sorted(HERE.glob("*.h"))))
    program = cache_folder() / f"runner-{digest([build.name, *(path.name for path in objects)])}"
    if not program.exists():
        made = program.with_suffix(f".{os.getpid()}")
        # Exported symbols are how reports find a kernel's name.
        run_tool(["g++", *build.link_flags, *map(str, objects), "-rdynamic", "-ldl", "-o", str(made)])
        made.replace(program)
    return program


def compile_library() -> Path:
    """The .cu files as a library of operators, registered for CUDA, whose kernels run on the CPU.

    Raises:
        RuntimeError: it does not compile.
    """
    sources = [*sorted(CSRC.rglob("*.cu")), HERE / "wrappers.cpp", HERE / "simt.cpp"]
    flags = [*ARITHMETIC, setup_py()["TARGET"], "-DINFOGAN_FAST_SIMT", "-DUSE_CUDA", "-Wno-unknown-pragmas"]
    flags += ["-O1", "-g1", "-fPIC", "-shared"]
    inputs = [*sources, *headers(CSRC), *sorted(HERE.glob("*.h"))]
    made = cache_folder() / f"wrappers-{digest([*flags, torch.__version__, *inputs])}.so"
    if not made.exists():
        include = [f"-I{CSRC}", f"-I{HERE}"]
        include += [flag for path in cpp_extension.include_paths() for flag in ("-isystem", path)]
        include += cuda_headers()
        # Its own names before those of a CUDA build of torch, and no name left open.
        link = ["-Wl,-Bsymbolic", "-Wl,-z,defs", *(f"-L{path}" for path in cpp_extension.library_paths())]
        link += ["-ltorch", "-ltorch_cpu", "-lc10", "-ldl"]
        unfinished = made.with_suffix(f".{os.getpid()}")
        names = [name for source in sources for name in ("-x", "c++", str(source))]
        run_tool(["g++", *flags, *include, *names, "-x", "none", "-o", str(unfinished), *link])
        unfinished.replace(made)
    return made
