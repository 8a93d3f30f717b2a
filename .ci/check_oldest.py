"""Compiles csrc against the headers of the oldest torch that is supported, and looks up every symbol that the
built libraries take from libtorch among those which that version has.

    python .ci/check_oldest.py TORCH_WHEEL ENVIRONMENT CUDA(0|1)
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("libtorch_cpu.so", "libtorch_cuda.so", "libc10.so", "libc10_cuda.so", "libtorch.so")


def unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith("torch/include/") or name in [f"torch/lib/{library}" for library in LIBRARIES]:
                archive.extract(name, folder)


def symbols(library: Path, *options: str) -> set[str]:
    run = subprocess.run(["nm", "-D", *options, str(library)], capture_output=True, text=True, check=True)
    return {line.split()[-1].split("@")[0] for line in run.stdout.splitlines() if line.strip()}


def main(wheel: Path, environment: Path, cuda: bool) -> None:
    setup = runpy.run_path(str(ROOT / "setup.py"))
    toolkit = setup["find_toolkit"](os.environ)
    with tempfile.TemporaryDirectory() as scratch:
        unpack(wheel, Path(scratch))
        torch = Path(scratch) / "torch"
        include = [f"-I{ROOT / 'csrc'}", "-isystem", str(torch / "include")]
        include += ["-isystem", str(torch / "include/torch/csrc/api/include")]
        for source in sorted(path for path in (ROOT / "csrc").rglob("*.cpp") if path.name != "bindings.cpp"):
            print(f"g++ {source.relative_to(ROOT)}", flush=True)
            subprocess.run(["g++", *setup["CXX_FLAGS"], *include, "-fsyntax-only", str(source)], check=True)
        for source in sorted((ROOT / "csrc").rglob("*.cu")) if cuda else []:
            print(f"nvcc {source.relative_to(ROOT)}", flush=True)
            flags = [*setup["NVCC_FLAGS"], *include, "-Xcompiler", "-fPIC", "-arch=sm_90"]
            subprocess.run([str(toolkit.nvcc), *flags, "-c", str(source), "-o", f"{scratch}/x.o"], check=True)
        provided = set[str]().union(
            *(symbols(torch / "lib" / library, "--defined-only") for library in LIBRARIES)
        )
        libraries = sorted(environment.glob("lib/python*/site-packages/infogan_fast/_C*.so"))
        if len(libraries) != 1 + cuda:
            sys.exit(f"expected {1 + cuda} compiled libraries in {environment}, found {libraries}")
        for library in libraries:
            needed = {
                name for name in symbols(library, "--undefined-only") if "torch" in name or "c10" in name
            }
            if not needed or needed - provided:
                sys.exit(f"{library.name} needs what {wheel.name} lacks: {sorted(needed - provided)}")
            print(f"{library.name}: {len(needed)} symbols of libtorch, all in {wheel.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), sys.argv[3] == "1")
