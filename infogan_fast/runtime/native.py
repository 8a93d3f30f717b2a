"""Finds and loads the compiled libraries: ``_C`` (CPU) and, under a CUDA build of PyTorch, ``_C_cuda``.

Only the standard library is imported at the top: setup.py takes :func:`csrc_digest` from this file.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import sys
import threading
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

#: The folder of the package that is running.
PACKAGE = Path(__file__).resolve().parents[1]
_MODULE = "infogan_fast._C"

_lock = threading.RLock()
_cuda_missing: str | None = None


def csrc_digest(csrc: Path) -> str:
    """A digest of the sources in csrc: their sorted names and their bytes. 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(csrc.rglob("*"), key=lambda path: path.relative_to(csrc).as_posix()):
        if path.suffix in (".cpp", ".h", ".cu", ".cuh"):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(csrc).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()[:16]


def source_tree(package: Path = PACKAGE) -> Path | None:
    """The folder of sources that the package is imported from; None for an installed package."""
    root = package.parent
    return root if (root / "setup.py").is_file() and (root / "csrc").is_dir() else None


def install_command(cuda: bool = False) -> str:
    """The command that builds the compiled libraries from the sources."""
    root = source_tree()
    where = f"in {root}" if root else "in the folder of the sources"
    prefix = "INFOGAN_FAST_CUDA=1 " if cuda else ""
    tools = "pip install --upgrade setuptools pybind11 ninja"
    return f"{tools} && {prefix}pip install --no-build-isolation --no-deps --force-reinstall .   ({where})"


def _library(name: str, folder: Path) -> Path | None:
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = folder / f"{name}{suffix}"
        if path.is_file():
            return path
    return None


def find(package: Path = PACKAGE, search: Iterable[str] | None = None) -> Path | None:
    """The ``_C`` to load: in the package or, when the package is imported from a source tree without one
    (as by ``python -m`` in the repository's root after a plain ``pip install .``), in the installed copy."""
    own = _library("_C", package)
    if own is not None or source_tree(package) is None:
        return own
    for entry in sys.path if search is None else search:
        folder = Path(entry or ".").resolve() / "infogan_fast"
        if folder != package and (installed := _library("_C", folder)) is not None:
            return installed
    return None


def check_digest(library: Path, built_from: str, package: Path = PACKAGE) -> None:
    """Refuses an installed library that was built from sources other than those next to the package.

    For a library in the source tree itself, built by a developer who may be in mid-edit, it is a warning.

    Raises:
        NativeError: the digests differ.
    """
    root = source_tree(package)
    if root is None or csrc_digest(root / "csrc") == built_from:
        return
    if library.parent == package:
        warnings.warn(
            f"{library.name} is older than the latest change to csrc/: python setup.py build_ext --inplace",
            stacklevel=3,
        )
        return
    from infogan_fast.errors import NativeError

    raise NativeError(
        f"the compiled library in {library.parent} was built from other sources than those in "
        f"{root / 'csrc'}; build it again: {install_command()}"
    )


def load() -> ModuleType:
    """Loads the compiled libraries, once, and returns the module ``infogan_fast._C``.

    A CUDA library that is missing or cannot be loaded is no error here: :func:`cuda_missing` says why.

    Raises:
        NativeError: there is no compiled library, it cannot be loaded, or it was built from other sources.
    """
    global _cuda_missing
    # PyTorch's libraries must be in the process before these, which carry no path to them.
    import torch  # noqa: F401

    with _lock:
        if _MODULE in sys.modules:
            return sys.modules[_MODULE]
        from infogan_fast.errors import NativeError

        path = find()
        if path is None:
            raise NativeError(f"infogan_fast has no compiled library; build it: {install_command()}")
        spec = importlib.util.spec_from_file_location(_MODULE, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except ImportError as error:
            raise NativeError(
                f"{path} cannot be loaded ({error}); build it again: {install_command()}"
            ) from error
        check_digest(path, module.build_config()["csrc_digest"])
        _cuda_missing = _load_cuda(path.parent, module.build_config())
        sys.modules[_MODULE] = module
        return module


def cuda_missing() -> str | None:
    """Why the CUDA kernels cannot be used on any device and what repairs it; None where they can. CUDA itself
    is left alone: it may be broken, and what runs on the CPU need not know.

    Raises:
        NativeError: as :func:`load`.
    """
    load()
    return _cuda_missing


def not_covered(index: int) -> str | None:
    """Why the CUDA kernels, which are there, do not run on the device of that index and what repairs it; None
    where they do. It begins CUDA.

    Raises:
        RuntimeError: CUDA cannot begin.
    """
    import torch

    arches, capability = load().build_config()["cuda_arches"], torch.cuda.get_device_capability(index)
    if covers(arches, capability):
        return None
    number = f"{capability[0]}.{capability[1]}"
    return (
        f"{torch.cuda.get_device_name(index)} has compute capability {number}, and they were built for "
        f"{arches}; TORCH_CUDA_ARCH_LIST={number} {install_command(cuda=True)}"
    )


def covers(arches: str, capability: tuple[int, int]) -> bool:
    """Whether code built for these architectures, such as ``"8.0;9.0+PTX"``, runs on a device of that compute
    capability: machine code within its major version, PTX on whatever came later."""
    for entry in arches.split(";"):
        number = entry.removesuffix("+PTX")
        if not number.replace(
            ".", ""
        ).isdigit():  # 9.0a and the like: that device only, and not this check's to judge
            return True
        major, minor = (int(part) for part in number.split("."))
        if (major == capability[0] and minor <= capability[1]) or (
            entry.endswith("+PTX") and (major, minor) <= capability
        ):
            return True
    return False


def _load_cuda(folder: Path, config: dict[str, str]) -> str | None:
    import torch

    rebuild = f"build it: {install_command(cuda=True)}"
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is a build without CUDA; install a CUDA build (see pytorch.org)"
    path = _library("_C_cuda", folder)
    if path is None:
        return f"{config['cuda_absent'] or f'there is no _C_cuda in {folder}'}; {rebuild}"
    built, runs = config["cuda_version"], torch.version.cuda
    if built.split(".")[0] != runs.split(".")[0]:
        return (
            f"it was built with CUDA {built}, and PyTorch {torch.__version__} runs on CUDA {runs}; {rebuild}"
        )
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        return f"{path} cannot be loaded ({error}); {rebuild}"
    return None
