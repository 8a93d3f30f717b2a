"""Fixtures and hooks for all tests; GPU tests are skipped, with a note, on machines without a GPU."""

from __future__ import annotations

import infogan_fast  # noqa: F401  before torch: on a busy machine its threads would spin

# isort: split
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cuda_on_cpu import tables
from networks.narrow import narrow

from infogan_fast import seeds
from infogan_fast.errors import NativeError
from infogan_fast.runtime import native
from infogan_fast.train import main as train_main


def pytest_report_header() -> list[str]:
    try:
        cpu = native.load().__file__
        cuda = native.cuda_missing() or "loaded"
    except NativeError as error:
        cpu, cuda = f"MISSING: {error}", "MISSING: it needs the CPU library"
    return [f"torch: {torch.__version__}", f"CPU library: {cpu}", f"CUDA library: {cuda}"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    without = [item for item in items if item.get_closest_marker("gpu")]
    for item in without:
        item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    config.stash[_without_gpu] = len(without)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands what belongs into the summary to the process that prints it."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["tables"] = tables.lines()
        output["without_gpu"] = session.config.stash.get(_without_gpu, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    output = getattr(node, "workeroutput", {})
    for title, lines in output.get("tables", {}).items():
        tables.add(title, *lines)
    config: pytest.Config = node.config
    config.stash[_without_gpu] = max(config.stash.get(_without_gpu, 0), output.get("without_gpu", 0))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for title, lines in tables.lines().items():
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.line(line)
    if count := config.stash.get(_without_gpu, 0):
        terminalreporter.write_line(
            f"{count} GPU tests did NOT run: this machine has no CUDA device", yellow=True
        )


_without_gpu = pytest.StashKey[int]()


def _compiled() -> Any:
    return native.load()


@pytest.fixture(params=["portable", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """The instruction set that the CPU kernels use in this test."""
    best = _compiled().isa()
    try:
        _compiled().set_isa(request.param)
    except ValueError as error:
        pytest.skip(str(error))
    yield request.param
    _compiled().set_isa(best)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Training sets PyTorch's threads, on whose number the last bits of sums depend: each test finds the same
    number."""
    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device that the operators run on."""
    return torch.device(request.param)


@pytest.fixture(scope="session")
def strokes_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four updates on 40 strokes of 16 x 16, with a moving average and two checkpoints; to be read
    only."""
    out = tmp_path_factory.mktemp("strokes") / "run"
    flags = ["--images", "40", "--image-size", "16", "--batch-size", "8", "--seed", "3", "--device", "cpu"]
    flags += ["--latents", "noise=4,cat=3,uniform=1,bernoulli=1", "--steps", "4", "--ema", "0.5"]
    flags += ["--checkpoint-every", "2", "--sample-every", "2", "--log-every", "2"]
    assert train_main([*flags, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def colour_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two updates on labelled colour images without a test split, for reading only; its data is
    data.npz in the parent folder.
    """
    folder = tmp_path_factory.mktemp("colour")
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (30, 16, 16, 3), np.uint8)
    np.savez(folder / "data.npz", images=images, labels=np.arange(30) % 2 + 7)
    flags = ["--batch-size", "8", "--latents", "noise=4,cat=2,normal=1", "--steps", "2", "--device", "cpu"]
    flags += ["--network", narrow(channels=3)]
    flags += ["--data", str(folder / "data.npz"), "--fixed-sigma", "0.5", "--out", str(folder / "run")]
    assert train_main(flags) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def grey_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of labelled grey images without a test split."""
    draws = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("grey") / "images.npz"
    np.savez(path, images=draws.integers(0, 256, (40, 16, 16), np.uint8), labels=np.arange(40) % 2)
    return path


@pytest.fixture(scope="session")
def seed_flags(grey_images: Path) -> list[str]:
    """Options of the seeds command for a fast study of grey_images."""
    latents = ["--latents", "noise=4,cat=2,uniform=2"]
    return [
        "--data",
        str(grey_images),
        "--image-size",
        "16",
        "--batch-size",
        "8",
        "--network",
        narrow(),
        *latents,
        "--device",
        "cpu",
    ]


@pytest.fixture(scope="session")
def three_seeds(grey_images: Path, seed_flags: list[str]) -> Path:
    """A finished study of the seeds 5 to 7 after two updates, for reading only."""
    out = grey_images.parent / "three"
    flags = ["--n", "3", "--first-seed", "5", "--jobs", "1", "--out", str(out)]
    assert seeds.main([*flags, *seed_flags, "--steps", "2"]) == 0
    return out
