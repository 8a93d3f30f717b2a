"""Finding and loading the compiled libraries, and the error when one is missing."""

from __future__ import annotations

import importlib.machinery
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import infogan_fast
from infogan_fast import info
from infogan_fast.errors import UserError
from infogan_fast.runtime import native
from infogan_fast.runtime.device import choose_device

SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]
SOURCE = Path(__file__).resolve().parents[2]
CONFIG = {"cuda_version": "13.0", "cuda_arches": "8.0;9.0+PTX", "cuda_absent": ""}


def make_source_tree(root: Path) -> Path:
    """A source tree without a compiled library; returns its package."""
    (root / "csrc" / "cpu").mkdir(parents=True)
    (root / "csrc" / "cpu" / "op.cpp").write_text("int f() { return 1; }\n")
    (root / "setup.py").touch()
    (root / "infogan_fast").mkdir()
    return root / "infogan_fast"


def make_installed(folder: Path) -> Path:
    (folder / "infogan_fast").mkdir(parents=True)
    library = folder / "infogan_fast" / f"_C{SUFFIX}"
    library.touch()
    return library


def test_loading_twice_is_harmless() -> None:
    module = native.load()
    assert native.load() is module
    assert set(module.build_config()) >= {
        "version", "torch_version", "compiler", "cuda_version", "cuda_arches", "cuda_absent", "csrc_digest",
    }  # fmt: skip
    assert hasattr(torch.ops.infogan_fast, "sample_latents")


def test_the_loaded_library_was_built_from_these_sources() -> None:
    assert native.load().build_config()["csrc_digest"] == native.csrc_digest(SOURCE / "csrc")
    assert native.load().build_config()["version"] == infogan_fast.__version__


def test_digest_sees_every_source_and_nothing_else(tmp_path: Path) -> None:
    csrc = make_source_tree(tmp_path).parent / "csrc"
    first = native.csrc_digest(csrc)
    assert re.fullmatch("[0-9a-f]{16}", first)
    (csrc / "notes.txt").touch()
    assert native.csrc_digest(csrc) == first
    (csrc / "cpu" / "op.cpp").write_text("int f() { return 2; }\n")
    second = native.csrc_digest(csrc)
    (csrc / "cpu" / "op.cpp").rename(csrc / "cpu" / "other.cpp")
    third = native.csrc_digest(csrc)
    (csrc / "cpu" / "new.h").touch()
    assert len({first, second, third, native.csrc_digest(csrc)}) == 4


def test_a_library_beside_the_package_goes_first(tmp_path: Path) -> None:
    package = make_source_tree(tmp_path / "tree")
    installed = make_installed(tmp_path / "site-packages")
    search = [str(package.parent), str(tmp_path / "nothing"), str(tmp_path / "site-packages")]
    assert native.find(package, search) == installed
    (package / f"_C{SUFFIX}").touch()
    assert native.find(package, search) == package / f"_C{SUFFIX}"


def test_an_installed_package_takes_no_library_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a" / "infogan_fast").mkdir(parents=True)
    make_installed(tmp_path / "b")
    assert native.find(tmp_path / "a" / "infogan_fast", [str(tmp_path / "a"), str(tmp_path / "b")]) is None


def test_a_library_built_from_other_sources_is_refused(tmp_path: Path) -> None:
    package = make_source_tree(tmp_path / "tree")
    library = make_installed(tmp_path / "site-packages")
    digest = native.csrc_digest(tmp_path / "tree" / "csrc")
    native.check_digest(library, digest, package)
    with pytest.raises(ImportError, match=r"built from other sources.*pip install"):
        native.check_digest(library, "0" * 16, package)
    with pytest.warns(UserWarning, match="build_ext --inplace"):
        native.check_digest(package / library.name, "0" * 16, package)
    native.check_digest(library, "0" * 16, library.parent)  # installed: there are no sources to differ from


@pytest.mark.parametrize(
    ("arches", "capability", "runs"),
    [
        ("8.0;9.0+PTX", (8, 6), True),
        ("8.0;9.0+PTX", (7, 5), False),
        ("8.6;9.0", (8, 0), False),
        ("8.0;9.0", (10, 0), False),
        ("8.0;9.0+PTX", (12, 0), True),
        ("8.0+PTX;9.0", (12, 0), True),
        ("9.0a", (9, 0), True),
    ],
)
def test_which_devices_the_architectures_cover(arches: str, capability: tuple[int, int], runs: bool) -> None:
    assert native.covers(arches, capability) is runs


def test_a_missing_cuda_library_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "build without CUDA" in str(native._load_cuda(tmp_path, CONFIG))

    monkeypatch.setattr(torch.version, "cuda", "12.8")
    why = str(native._load_cuda(tmp_path, {**CONFIG, "cuda_absent": "no CUDA compiler"}))
    assert why.startswith("no CUDA compiler; build it: ")
    assert "INFOGAN_FAST_CUDA=1 pip install" in why
    assert f"no _C_cuda in {tmp_path}" in str(native._load_cuda(tmp_path, CONFIG))

    library = tmp_path / f"_C_cuda{SUFFIX}"
    library.write_bytes(b"not a library")
    assert "CUDA 13.0, and PyTorch" in str(native._load_cuda(tmp_path, CONFIG))
    monkeypatch.setattr(torch.version, "cuda", "13.1")
    why = str(native._load_cuda(tmp_path, CONFIG))
    assert f"{library} cannot be loaded" in why
    assert "INFOGAN_FAST_CUDA=1 pip install" in why


def test_loading_leaves_cuda_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It may be broken, and a deterministic run sets it up first."""

    def begin(*_: object) -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old")

    (tmp_path / f"_C_cuda{SUFFIX}").touch()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.ops, "load_library", lambda path: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # as the driver's library counts
    monkeypatch.setattr(torch.cuda, "_lazy_init", begin)
    assert native._load_cuda(tmp_path, CONFIG) is None
    monkeypatch.setattr(native, "_cuda_missing", None)
    found = dict(info.report())
    assert found["gpu"].startswith("none that PyTorch can use: The NVIDIA driver on your system is too old")
    assert choose_device("auto").type == "cpu"


def test_a_device_that_the_kernels_were_not_built_for(monkeypatch: pytest.MonkeyPatch) -> None:
    library = SimpleNamespace(build_config=lambda: CONFIG, __file__="_C.so")
    monkeypatch.setattr(native, "load", lambda: library)
    monkeypatch.setattr(native, "_cuda_missing", None)
    for name, value in {
        "is_available": lambda: True,
        "current_device": lambda: 1,
        "device_count": lambda: 2,
        "get_device_capability": lambda index: ((9, 0), (7, 5))[index],
        "get_device_name": lambda index: ("H100", "T4")[index],
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    assert native.not_covered(0) is None
    why = "T4 has compute capability 7.5, and they were built for 8.0;9.0+PTX; TORCH_CUDA_ARCH_LIST=7.5"
    with pytest.raises(UserError, match=re.escape(f"the CUDA kernels do not fit: {why}")):
        choose_device("auto")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert choose_device("auto") == torch.device("cuda", 0)
    assert list(info._not_covered()) == [native.not_covered(1)]


def test_the_cuda_library_is_loaded_or_explained() -> None:
    missing = native.cuda_missing()
    if torch.version.cuda is None:
        assert missing is not None and "build without CUDA" in missing
    elif native.load().build_config()["cuda_version"]:
        assert missing is None
    else:
        assert missing is not None and "INFOGAN_FAST_CUDA=1" in missing


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(native.PACKAGE.parent), *sys.path])},
    )


def test_the_package_loads_before_torch_is_imported(tmp_path: Path) -> None:
    done = run("-c", "from infogan_fast.runtime import native; print(native.load().__name__)", cwd=tmp_path)
    assert done.stdout.strip() == "infogan_fast._C", done.stderr


def test_importing_the_package_is_light(tmp_path: Path) -> None:
    code = "import sys, infogan_fast; print(infogan_fast.__version__, 'torch' in sys.modules)"
    assert run("-c", code, cwd=tmp_path).stdout.split() == [infogan_fast.__version__, "False"]
