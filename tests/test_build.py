"""setup.py's decisions: which toolkit, which architectures, how many jobs, and what it says when not."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
DRYRUN = "#$ _HERE_={here}\n#$ TOP={top}\n#$ PATH=/usr/bin\n"


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("infogan_fast_setup", ROOT / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def make_toolkit(
    home: Path, release: str = "13.0", arches: str = "75 80 86 90 100 120", top: str | None = None
) -> Path:
    """A folder that answers as a CUDA toolkit does; returns its nvcc."""
    nvcc = home / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    (home / "lib64").mkdir()
    (home / "lib64" / "libcudart.so").touch()
    dryrun = DRYRUN.format(here=home / "bin", top=top or home / "bin" / "..")
    listed = "\n".join(f"compute_{number}" for number in arches.split())
    nvcc.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        f"--version) echo 'Cuda compilation tools, release {release}, V{release}.88';;\n"
        f"--list-gpu-arch) echo '{listed}';;\n"
        f"--dryrun) echo '{dryrun}' >&2;;\n"
        "*) exit 1;;\nesac\n"
    )
    nvcc.chmod(0o755)
    return nvcc


def make_wrapper(path: Path, nvcc: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {nvcc} "$@"\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("value", "mode"), [(None, "auto"), ("", "auto"), (" AUTO ", "auto"), ("0", "0"), ("1", "1")]
)
def test_cuda_mode(build: ModuleType, value: str | None, mode: str) -> None:
    assert build.cuda_mode({} if value is None else {"INFOGAN_FAST_CUDA": value}) == mode


def test_cuda_mode_refuses_what_it_does_not_know(build: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"INFOGAN_FAST_CUDA='on'.*\n.*auto, 0 or 1"):
        build.cuda_mode({"INFOGAN_FAST_CUDA": "on"})


@pytest.mark.parametrize(
    ("supported", "expected"),
    [
        (("7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "12.0", "12.1"),
         "7.5;8.0;8.6;8.9;9.0;10.0;12.0+PTX"),
        (("5.0", "6.0", "7.0", "7.5", "8.0", "8.6", "8.9", "9.0"), "7.5;8.0;8.6;8.9;9.0+PTX"),
        (("14.0", "15.0"), "15.0+PTX"),
    ],
)  # fmt: skip
def test_default_architectures_are_those_that_nvcc_supports(
    build: ModuleType, supported: tuple[str, ...], expected: str
) -> None:
    assert build.arch_list(None, supported) == expected
    assert build.arch_list("  ", supported) == expected


def test_a_given_architecture_list_is_kept(build: ModuleType) -> None:
    supported = ("8.0", "9.0", "10.0")
    assert build.arch_list("8.0 9.0a;10.0+PTX", supported) == "8.0;9.0a;10.0+PTX"
    assert build.arch_list("Hopper", supported) == "Hopper"


@pytest.mark.parametrize("requested", ["7.0", "8.0;12.0+PTX", "native"])
def test_an_architecture_that_nvcc_lacks_is_refused(build: ModuleType, requested: str) -> None:
    with pytest.raises(SystemExit, match=r"TORCH_CUDA_ARCH_LIST=.*\n.*choose among 8.0 9.0"):
        build.arch_list(requested, ("8.0", "9.0"))


def test_toolkit_is_found_past_a_wrapper_script(build: ModuleType, tmp_path: Path) -> None:
    nvcc = make_toolkit(tmp_path / "cuda-13.0")
    wrapper = make_wrapper(tmp_path / "local" / "bin" / "nvcc", nvcc)
    toolkit = build.find_toolkit({"PATH": f"{wrapper.parent}{os.pathsep}/usr/bin:/bin"})
    assert toolkit.home == tmp_path / "cuda-13.0"
    assert toolkit.version == "13.0"
    assert toolkit.arches == ("7.5", "8.0", "8.6", "9.0", "10.0", "12.0")
    assert toolkit.nvcc == nvcc
    assert toolkit.cudart == tmp_path / "cuda-13.0" / "lib64" / "libcudart.so"


def test_cuda_home_goes_before_the_path(build: ModuleType, tmp_path: Path) -> None:
    make_toolkit(tmp_path / "wanted", release="12.8")
    other = make_toolkit(tmp_path / "other")
    environ = {"CUDA_HOME": str(tmp_path / "wanted"), "PATH": f"{other.parent}:/usr/bin:/bin"}
    assert build.find_toolkit(environ).version == "12.8"


def test_a_missing_toolkit_is_explained(build: ModuleType, tmp_path: Path) -> None:
    why = build.find_toolkit({"CUDA_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    assert why == f"CUDA_HOME is {tmp_path}, which has no bin/nvcc"
    if not Path("/usr/local/cuda/bin/nvcc").exists():
        assert "nvcc is not on PATH" in build.find_toolkit({"PATH": str(tmp_path)})


def test_a_broken_nvcc_is_named(build: ModuleType, tmp_path: Path) -> None:
    nvcc = make_wrapper(tmp_path / "bin" / "nvcc", tmp_path / "gone")
    with pytest.raises(SystemExit, match=f"(?s){nvcc}.*does not work.*INFOGAN_FAST_CUDA=0"):
        build.find_toolkit({"PATH": f"{nvcc.parent}:/usr/bin:/bin"})


def test_a_toolkit_without_a_runtime_library_is_named(build: ModuleType, tmp_path: Path) -> None:
    toolkit = build.Toolkit(tmp_path, "13.0", ("9.0",))
    if not list(Path("/usr/lib").glob("*-linux-gnu/libcudart.so*")):
        with pytest.raises(SystemExit, match=f"{tmp_path} has no libcudart.so"):
            _ = toolkit.cudart
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libcudart.so.13").touch()  # as in PyPI's packages, which have no libcudart.so
    assert toolkit.cudart == tmp_path / "lib" / "libcudart.so.13"


def test_only_another_cuda_major_is_refused(build: ModuleType) -> None:
    build.check_cuda_major("13.2", "2.14.1", "13.0")
    build.check_cuda_major("13.2", "2.13.0+cpu", None)
    with pytest.raises(SystemExit, match=r"(?s)CUDA 12\.8.*torch 2\.14\.1.*CUDA 13\.0.*--no-build-isolation"):
        build.check_cuda_major("12.8", "2.14.1", "13.0")


@pytest.mark.parametrize(("cores", "gigabytes", "jobs"), [(8, 64, 8), (64, 16, 8), (2, 1, 1), (4, 5, 2)])
def test_jobs_are_capped_by_cores_and_memory(
    build: ModuleType, cores: int, gigabytes: int, jobs: int
) -> None:
    assert build.job_count(cores, gigabytes * 1024**3) == jobs


def test_idle_jobs_go_to_nvcc(build: ModuleType) -> None:
    assert build.nvcc_threads(2, 2, "8.0;9.0+PTX") == 1
    assert build.nvcc_threads(8, 2, "7.5;8.0;8.6;8.9;9.0+PTX") == 4
    assert build.nvcc_threads(64, 2, "8.0;9.0+PTX") == 2


def test_memory_is_measured(build: ModuleType) -> None:
    assert 2**20 < build.available_memory() < 2**50


def test_values_survive_as_c_strings(build: ModuleType) -> None:
    assert build.define("A", 'a "b" \\c\nd') == '#define INFOGAN_FAST_A "a \\"b\\" \\\\c d"\n'


def test_a_changed_header_makes_cuda_objects_stale(build: ModuleType, tmp_path: Path) -> None:
    header = tmp_path / "csrc" / "math" / "row.h"
    header.parent.mkdir(parents=True)
    header.touch()
    compiled = tmp_path / "temp" / "csrc" / "op" / "cuda.o"
    compiled.parent.mkdir(parents=True)
    compiled.touch()
    os.utime(header, (1, 1))
    build.drop_stale_cuda_objects(tmp_path / "temp", tmp_path / "csrc")
    assert compiled.exists()
    os.utime(header, (2**33, 2**33))
    build.drop_stale_cuda_objects(tmp_path / "temp", tmp_path / "csrc")
    assert not compiled.exists()


def run_setup(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "setup.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=300,
    )


def build_ext(tmp_path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Builds away from the source tree, in another process."""
    lib, temp = tmp_path / "lib", tmp_path / "temp"
    return run_setup("build_ext", f"--build-lib={lib}", f"--build-temp={temp}", **environ)


def test_a_forced_cuda_library_without_nvcc_fails_with_the_remedy(tmp_path: Path) -> None:
    run = build_ext(tmp_path, INFOGAN_FAST_CUDA="1", CUDA_HOME=str(tmp_path))
    assert run.returncode != 0
    assert "INFOGAN_FAST_CUDA=1 asks for the CUDA library, but CUDA_HOME is" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_missing_compiler_is_named(tmp_path: Path) -> None:
    run = build_ext(tmp_path, INFOGAN_FAST_CUDA="0", CXX="no-such-compiler")
    assert run.returncode != 0
    assert "no C++ compiler: no-such-compiler" in run.stderr
    assert "Traceback" not in run.stderr


def test_an_empty_compiler_is_the_usual_one(tmp_path: Path) -> None:
    run = build_ext(tmp_path, INFOGAN_FAST_CUDA="0", CXX=" ", PATH=str(tmp_path))
    assert "no C++ compiler: c++ is not found" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_missing_torch_is_named(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('not here')")
    run = build_ext(tmp_path, PYTHONPATH=str(tmp_path))
    assert run.returncode != 0
    assert "torch cannot be imported here (not here)" in run.stderr
    assert "--no-build-isolation" in run.stderr
    assert "Traceback" not in run.stderr
    assert run_setup("--version", PYTHONPATH=str(tmp_path)).stdout.strip() == "0.1.0"
