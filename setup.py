"""Builds the two compiled libraries of infogan_fast; everything that is not code is in pyproject.toml.

``infogan_fast._C`` holds the operators' schemas, the CPU kernels and a pybind11 module that says how it was
built. ``infogan_fast._C_cuda`` is a plain shared library with the CUDA kernels, built where nvcc is found and
loaded only under a CUDA build of PyTorch: a CPU build of libtorch lacks symbols that it needs, so one object
cannot serve both. Both are written against PyTorch's stable ABI and link no libtorch_python, so one build
runs under every torch >= 2.10.

Environment variables:
    INFOGAN_FAST_CUDA     auto (default: the CUDA library if nvcc is found), 0 (never), 1 (or fail).
    INFOGAN_FAST_WERROR   1 turns compiler warnings into errors.
    CUDA_HOME             the CUDA toolkit to use; else the one of the nvcc on PATH, else /usr/local/cuda.
    TORCH_CUDA_ARCH_LIST  e.g. "8.0;9.0+PTX"; else every architecture of DEFAULT_ARCHES that nvcc supports.
    MAX_JOBS              parallel compiler processes; else the cores, at most one for every 2 GB of memory.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setuptools import Extension, setup

ROOT = Path(__file__).resolve().parent

#: torch/csrc/stable/version.h: major << 56 | minor << 48.
TARGET = "-DTORCH_TARGET_VERSION=0x020a000000000000"
OLDEST_TORCH = (2, 10)

#: A binary for X.Y runs on every X.Z with Z >= Y; PTX of the last one serves what comes later.
DEFAULT_ARCHES = ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0")

BYTES_PER_JOB = 2 * 1024**3

#: Rounding is part of the operators' contract: results are the same on every machine, so neither compiler may
#: contract a*b+c on its own. The CPU kernels choose AVX2 or AVX-512 at run time, hence no -march.
HOST_FLAGS = (
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-fvisibility-inlines-hidden",
)
#: gcc 12 takes its own AVX-512 header for uninitialised (gcc bug 105593), wherever it is inlined.
WARNINGS = ("-Wall", "-Wextra", "-Wno-uninitialized", "-Wno-maybe-uninitialized")
#: -g0 undoes the -g that CPython's own flags may bring: it would make the library several times as large.
CXX_FLAGS = ("-std=c++20", TARGET, *HOST_FLAGS, "-fopenmp-simd", "-g0", *WARNINGS)
NVCC_FLAGS = (
    "-std=c++20",
    TARGET,
    "-DUSE_CUDA",
    "-O3",
    "-fmad=false",
    "-lineinfo",
    "--expt-relaxed-constexpr",
    "-diag-suppress=1675",  # unknown pragmas: csrc/math has those of each of its compilers
    "-Xcompiler",
    ",".join((*HOST_FLAGS, *WARNINGS, "-Wno-unknown-pragmas")),
)


def fail(problem: str, remedy: str) -> SystemExit:
    return SystemExit(f"\ninfogan_fast cannot be built: {problem}\n  Remedy: {remedy}\n")


def say(text: str) -> None:
    print(f"infogan_fast: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit: its root, version and the architectures its nvcc compiles for, such as ``"9.0"``."""

    home: Path
    version: str
    arches: tuple[str, ...]

    @property
    def nvcc(self) -> Path:
        return self.home / "bin" / "nvcc"

    @property
    def cudart(self) -> Path:
        """The shared runtime: torch's own has the same soname, so that the process has one runtime."""
        folders = [
            self.home / folder
            for folder in ("lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib")
        ]
        folders += [Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib/aarch64-linux-gnu")]
        for folder in folders:
            for library in [folder / "libcudart.so", *sorted(folder.glob("libcudart.so.*"))]:
                if library.exists():
                    return library
        raise fail(
            f"the CUDA toolkit at {self.home} has no libcudart.so",
            "install its runtime's development files, or build the CPU library alone: INFOGAN_FAST_CUDA=0",
        )


def cuda_mode(environ: Mapping[str, str]) -> str:
    mode = environ.get("INFOGAN_FAST_CUDA", "").strip().lower() or "auto"
    if mode not in ("auto", "0", "1"):
        raise fail(f"INFOGAN_FAST_CUDA={mode!r} is not known", "set it to auto, 0 or 1, or unset it")
    return mode


def ask_nvcc(nvcc: Path, *arguments: str) -> str:
    """The output of nvcc; a SystemExit that names the remedy if it cannot be run."""
    try:
        run = subprocess.run([str(nvcc), *arguments], capture_output=True, text=True, timeout=120, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        detail = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise fail(
            f"{nvcc} {shlex.join(arguments)} does not work: {detail[-1] if detail else error}",
            "repair or remove that CUDA toolkit, point CUDA_HOME at another, "
            "or build the CPU library alone: INFOGAN_FAST_CUDA=0",
        ) from error
    return run.stdout + run.stderr


def home_of(nvcc: Path) -> Path:
    """The toolkit that an nvcc belongs to. The nvcc on PATH may be a wrapper script or a link far from its
    toolkit, so the compiler itself is asked: a dry run prints where it looks for its parts."""
    printed = ask_nvcc(nvcc, "--dryrun", "-x", "cu", "-c", os.devnull, "-o", os.devnull)
    top = re.search(r"^#\$ TOP=(.+)$", printed, re.MULTILINE)
    here = re.search(r"^#\$ _HERE_=(.+)$", printed, re.MULTILINE)
    if top:
        return Path(top[1].strip()).resolve()
    return Path(here[1].strip()).resolve().parent if here else nvcc.resolve().parent.parent


def find_toolkit(environ: Mapping[str, str]) -> Toolkit | str:
    """The CUDA toolkit to build with or, as text, why there is none."""
    wanted = environ.get("CUDA_HOME") or environ.get("CUDA_PATH")
    on_path = shutil.which("nvcc", path=environ.get("PATH"))
    usual = Path("/usr/local/cuda/bin/nvcc")
    if wanted:
        nvcc = Path(wanted) / "bin" / "nvcc"
        if not nvcc.is_file():
            return f"CUDA_HOME is {wanted}, which has no bin/nvcc"
        home = Path(wanted)
    elif on_path:
        nvcc = Path(on_path)
        home = home_of(nvcc)
    elif usual.is_file():
        nvcc = usual
        home = home_of(nvcc)
    else:
        return "no CUDA compiler: nvcc is not on PATH and CUDA_HOME is not set"
    release = re.search(r"release (\d+\.\d+)", ask_nvcc(nvcc, "--version"))
    numbers = [int(number) for number in re.findall(r"compute_(\d+)\b", ask_nvcc(nvcc, "--list-gpu-arch"))]
    if not release or not numbers:
        raise fail(
            f"{nvcc} does not tell its version or architectures",
            "point CUDA_HOME at a CUDA toolkit of version 12 or later, or set INFOGAN_FAST_CUDA=0",
        )
    return Toolkit(home, release[1], tuple(f"{n // 10}.{n % 10}" for n in sorted(numbers)))


def check_cuda_major(toolkit: str, torch_version: str, torch_cuda: str | None) -> None:
    """Refuses a toolkit of another CUDA major version than torch's: its runtime library is another one.

    Minor versions go together. torch_cuda is None for a CPU build of torch, which goes with any toolkit."""
    if torch_cuda is None or toolkit.split(".")[0] == torch_cuda.split(".")[0]:
        return
    major = torch_cuda.split(".")[0]
    raise fail(
        f"nvcc is of CUDA {toolkit}, but torch {torch_version} was built for CUDA {torch_cuda}",
        f"point CUDA_HOME at a CUDA {major}.x toolkit; or install a torch for CUDA {toolkit.split('.')[0]}, "
        "then pip install --no-build-isolation; or build the CPU library alone: INFOGAN_FAST_CUDA=0",
    )


def arch_list(requested: str | None, supported: Sequence[str]) -> str:
    """TORCH_CUDA_ARCH_LIST for this toolkit: the user's own, checked, or the default ones that it supports.

    Names such as "Hopper" are left to torch.utils.cpp_extension, which knows them."""
    if not requested or not requested.strip():
        chosen = [arch for arch in DEFAULT_ARCHES if arch in supported] or [supported[-1]]
        return ";".join(chosen) + "+PTX"
    entries = [entry for entry in re.split(r"[;,\s]+", requested) if entry]
    for entry in entries:
        number = re.fullmatch(r"(\d+\.\d+)[af]?(\+PTX)?", entry)
        if entry == "native" or (number and number[1] not in supported):
            raise fail(
                f"TORCH_CUDA_ARCH_LIST={requested!r} asks for {entry}, which this nvcc does not compile for",
                f"choose among {' '.join(supported)}, such as TORCH_CUDA_ARCH_LIST={supported[-1]}+PTX, "
                "or unset it for the default",
            )
    return ";".join(entries)


def available_memory() -> int:
    """Bytes to be had without swapping: what the kernel says, or what is left of the container's limit."""
    sizes = [BYTES_PER_JOB * (os.cpu_count() or 1)]
    try:
        meminfo = Path("/proc/meminfo").read_text()
        sizes = [
            int(match[1]) * 1024 for match in [re.search(r"MemAvailable:\s+(\d+) kB", meminfo)] if match
        ] or sizes
    except OSError:
        pass
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        folder = Path("/sys/fs/cgroup")
        try:
            sizes.append(int((folder / limit).read_text()) - int((folder / used).read_text()))
        except (OSError, ValueError):  # no limit: no file, or the word "max"
            continue
    return min(sizes)


def job_count(cores: int, memory: int) -> int:
    return max(1, min(cores, memory // BYTES_PER_JOB))


def nvcc_threads(jobs: int, files: int, arches: str) -> int:
    """How many architectures one nvcc compiles at a time: the jobs that one for each file leaves idle."""
    return max(1, min(jobs // files, arches.count(";") + 1))


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def csrc_digest() -> str:
    """The digest that the package compares, defined there once: the module imports no torch."""
    digest: str = runpy.run_path(str(ROOT / "infogan_fast" / "runtime" / "native.py"))["csrc_digest"](
        ROOT / "csrc"
    )
    return digest


def write_if_changed(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def define(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'#define INFOGAN_FAST_{name} "{escaped}"\n'


def drop_stale_cuda_objects(folder: Path, csrc: Path) -> None:
    """Under a CPU build of torch, torch's ninja rule for .cu files tracks no headers: drops what is stale."""
    headers = [path.stat().st_mtime for pattern in ("*.h", "*.cuh") for path in csrc.rglob(pattern)]
    for compiled in folder.rglob("cuda.o"):
        if compiled.stat().st_mtime < max(headers, default=0.0):
            compiled.unlink()


def sources(*patterns: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))


try:
    import torch
    from torch.utils import cpp_extension
except ImportError as error:
    from setuptools.command.build_ext import build_ext as _BuildExtension

    NO_TORCH: ImportError | None = error
else:
    _BuildExtension = cpp_extension.BuildExtension
    NO_TORCH = None


class BuildExtension(_BuildExtension):  # type: ignore[misc]
    """Settles what is built, and how, when it is built: metadata and sdist need no torch and no compiler."""

    def run(self) -> None:
        if NO_TORCH is not None:
            raise fail(
                f"torch cannot be imported here ({NO_TORCH})",
                "pip install 'torch>=2.10' setuptools pybind11 ninja, or leave out --no-build-isolation",
            )
        if sys.platform == "win32":
            raise fail("its flags are those of gcc and clang", "build under Linux or WSL 2")
        if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST_TORCH:
            raise fail(f"torch {torch.__version__} is older than 2.10", "pip install --upgrade 'torch>=2.10'")
        self.find_ninja()
        if not os.environ.get("MAX_JOBS", "").isdigit():
            os.environ["MAX_JOBS"] = str(job_count(cores(), available_memory()))
        toolkit = self.choose_toolkit()
        self.configure(toolkit)
        super().run()

    def find_ninja(self) -> None:
        """The pip of an environment that is not activated runs without the environment's ninja on PATH."""
        if shutil.which("ninja") is None:
            try:
                import ninja
            except ImportError:
                say("ninja is not installed: compiling one file at a time (pip install ninja)")
            else:
                os.environ["PATH"] = os.pathsep.join((ninja.BIN_DIR, os.environ.get("PATH", os.defpath)))
                self.use_ninja = self.force = True

    def choose_toolkit(self) -> Toolkit | str:
        mode = cuda_mode(os.environ)
        if mode == "0":
            return "INFOGAN_FAST_CUDA=0 was set when it was built"
        if torch.version.hip is not None:
            return "it was built with a ROCm build of PyTorch"
        toolkit = find_toolkit(os.environ)
        if isinstance(toolkit, Toolkit):
            check_cuda_major(toolkit.version, torch.__version__, torch.version.cuda)
        elif mode == "1":
            raise fail(
                f"INFOGAN_FAST_CUDA=1 asks for the CUDA library, but {toolkit}",
                "install a CUDA toolkit and put its nvcc on PATH or its folder in CUDA_HOME",
            )
        return toolkit

    def configure(self, toolkit: Toolkit | str) -> None:
        try:
            import pybind11
        except ImportError as error:
            raise fail(
                "pybind11 is not installed", "pip install pybind11, or leave out --no-build-isolation"
            ) from error
        if not os.environ.get("CXX", "c++").strip():
            del os.environ["CXX"]  # which PyTorch would call
        compiler = os.environ.get("CXX", "c++")
        if shutil.which(shlex.split(compiler)[0]) is None:
            raise fail(
                f"no C++ compiler: {compiler} is not found", "install g++ (10 or later), or set CXX to one"
            )
        cpu, cuda = self.extensions  # as main() lists them
        built = isinstance(toolkit, Toolkit) and bool(cuda.sources)
        reason = toolkit if isinstance(toolkit, str) else ""
        generated = Path(self.build_temp).resolve() / "generated"
        torch_include = [flag for path in cpp_extension.include_paths() for flag in ("-isystem", path)]
        strict = os.environ.get("INFOGAN_FAST_WERROR") == "1"
        cpu.extra_compile_args = {
            "cxx": [
                *CXX_FLAGS,
                *(["-Werror"] if strict else []),
                f"-I{ROOT / 'csrc'}",
                f"-I{generated}",
                # Before torch's own copy of it, which torch 2.11 closes to code for the stable ABI.
                "-isystem",
                pybind11.get_include(),
                *torch_include,
            ]
        }
        arches = ""
        if isinstance(toolkit, Toolkit) and built:
            arches = arch_list(os.environ.get("TORCH_CUDA_ARCH_LIST"), toolkit.arches)
            os.environ["TORCH_CUDA_ARCH_LIST"] = arches
            # torch looks for a toolkit at import: under a CPU build not at all, else not past a wrapper.
            cpp_extension.CUDA_HOME = str(toolkit.home)
            cuda.extra_compile_args = {
                "nvcc": [
                    *NVCC_FLAGS,
                    *(["-Werror", "all-warnings"] if strict else []),
                    f"--threads={nvcc_threads(int(os.environ['MAX_JOBS']), len(cuda.sources), arches)}",
                    f"-I{ROOT / 'csrc'}",
                    *torch_include,
                ]
            }
            cuda.extra_link_args += [str(toolkit.cudart)]
            drop_stale_cuda_objects(Path(self.build_temp), ROOT / "csrc")
            say(f"building both libraries (CUDA {toolkit.version} at {toolkit.home}, for {arches})")
        else:
            self.extensions.remove(cuda)
            self.remove_earlier(cuda)
            say(f"building WITHOUT the CUDA library: {reason or 'it has no sources'}")
        for extension in self.extensions:
            extension.library_dirs += cpp_extension.library_paths()
        write_if_changed(
            generated / "build_config.h",
            define("VERSION", self.distribution.get_version())
            + define("TORCH_VERSION", torch.__version__)
            + define("CUDA_VERSION", toolkit.version if isinstance(toolkit, Toolkit) and built else "")
            + define("CUDA_ARCHES", arches)
            + define("CUDA_ABSENT", reason)
            + define("CSRC_DIGEST", csrc_digest()),
        )

    def remove_earlier(self, extension: Extension) -> None:
        """Remove a library of an earlier build that this one omits: it would go into the wheel."""
        for path in (
            self.get_ext_fullpath(extension.name),
            Path(self.build_lib) / self.get_ext_filename(extension.name),
        ):
            Path(path).unlink(missing_ok=True)

    def build_extensions(self) -> None:
        try:
            super().build_extensions()
        except ValueError as error:
            raise fail(
                f"{error}: TORCH_CUDA_ARCH_LIST={os.environ.get('TORCH_CUDA_ARCH_LIST')!r}",
                "list architectures as numbers, such as TORCH_CUDA_ARCH_LIST=8.0;9.0+PTX, or unset it",
            ) from error
        except RuntimeError as error:
            raise fail(
                str(error),
                "the compiler's own messages are above (pip shows them with -v); replace a compiler too new "
                "or too old for nvcc through CXX and CC, or leave the CUDA library out: INFOGAN_FAST_CUDA=0",
            ) from error


def extension(name: str, *patterns: str) -> Extension:
    libraries = ["-ltorch", "-ltorch_cpu", "-lc10"]
    # Nothing in a library of operators may need these to load it, yet their symbols come from there.
    keep: list[str] = ["-Wl,--no-as-needed"] if sys.platform.startswith("linux") else []
    return Extension(name, sources(*patterns), language="c++", extra_link_args=keep + libraries)


def main() -> None:
    arguments: dict[str, Any] = {
        "ext_modules": [
            extension("infogan_fast._C", "csrc/**/*.cpp"),
            extension("infogan_fast._C_cuda", "csrc/**/*.cu"),
        ],
        "cmdclass": {"build_ext": BuildExtension},
    }
    setup(**arguments)


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
