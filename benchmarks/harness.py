"""What the benchmarks share: timing side by side, the trainer's step, the machine, and results as JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infogan_fast.config import Config
from infogan_fast.constants import DEVICES
from infogan_fast.errors import UserError
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.networks.linear import faster_linear, set_linear
from infogan_fast.runtime.device import amp_dtype, choose_device
from infogan_fast.runtime.ranks import ALONE, Ranks
from infogan_fast.runtime.threads import tune_allocator
from infogan_fast.training.step import TrainingStep


def _seconds(run: Callable[[], object], calls: int, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / calls


def interleaved(
    variants: dict[str, Callable[[], object]],
    *,
    rounds: int = 21,
    seconds: float = 0.02,
    device: torch.device | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Median seconds a call of each variant.

    Each round times every variant once, in a random order, over as many calls as take about `seconds`; all
    are run beforehand, so that compilation and first allocations are left out.
    """
    device = device or torch.device("cpu")
    calls = {}
    for name, run in variants.items():
        for _ in range(3):
            run()
        once = min(_seconds(run, 1, device) for _ in range(3))
        calls[name] = max(1, round(seconds / once))
    order = random.Random(seed)
    samples: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name in order.sample(list(variants), len(variants)):
            samples[name].append(_seconds(variants[name], calls[name], device))
    return {name: statistics.median(values) for name, values in samples.items()}


def median_seconds(run: Callable[[], object], device: torch.device) -> float:
    """The median over nine calls, after one to warm up."""
    return statistics.median([_seconds(run, 1, device) for _ in range(10)][1:])


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second, read and written, in a copy of a gigabyte (on a CPU a quarter)."""
    count = (1 << 28) if device.type == "cuda" else (1 << 26)
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    return 8.0 * count / median_seconds(lambda: target.copy_(source), device)


def machine(device: torch.device) -> dict[str, Any]:
    """The hardware and the software that the figures belong to."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        cpu = next((line.split(":")[1].strip() for line in info.open() if line.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def write_json(path: Path | None, results: dict[str, Any]) -> None:
    """Write the results where they can be read again; None: nowhere."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
        print(f"written to {path}")


def parser(description: str | None) -> argparse.ArgumentParser:
    """With --device, --threads and --json."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--device", default="cpu", choices=DEVICES, help="default: cpu")
    result.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: PyTorch's choice)")
    result.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    return result


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add --data-dir, of the scripts that read MNIST."""
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=os.environ.get("INFOGAN_FAST_MNIST"),
        metavar="DIR",
        help="folder of the MNIST files (default: INFOGAN_FAST_MNIST, or the cache folder, downloading)",
    )


def add_mnist(parser: argparse.ArgumentParser, updates: int) -> None:
    """Add the options of the scripts that train on MNIST."""
    add_data_dir(parser)
    parser.add_argument(
        "--updates", type=int, default=updates, metavar="N", help=f"at most (default: {updates})"
    )
    parser.add_argument("--every", type=int, default=250, metavar="N", help="between looks (default: 250)")
    parser.add_argument("--batch-size", type=int, default=128, metavar="B")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="S")


def prepare(device: str, threads: int | None) -> torch.device:
    """Set the process up as training does; returns the device of that name."""
    tune_allocator()
    if threads:
        torch.set_num_threads(threads)
    return choose_device(device)


def low_precision(device: torch.device) -> torch.dtype | None:
    """The dtype of mixed precision; None, and a line that says why, where there is none."""
    try:
        return amp_dtype(device)
    except UserError as error:
        print(error)
        return None


def make_step(
    images: Tensor,
    device: torch.device,
    *,
    amp: torch.dtype | None = None,
    batch_size: int = 128,
    seed: int = 0,
    cuda_graph: bool = False,
    matmul_precision: str = "highest",
    linear: str | None = None,
    steps_per_replay: int = 1,
    ranks: Ranks = ALONE,
    batch_norm: str = "global",
    reduce_dtype: torch.dtype = torch.float32,
    **options: Any,
) -> TrainingStep:
    """The trainer's step.

    Args:
        images: uint8 [N, C, S, S].
        amp: dtype of autocast.
        linear: the library of float32 linear layers; by default the faster one.
        ranks, batch_norm, reduce_dtype: see :class:`TrainingStep`.
        options: of the objective and the latents, by name, on top of the recipe for MNIST.
    """
    config = Config.from_options({"data": "mnist", **options}).checked()
    channels, size = images.shape[1:3]
    networks = InfoGAN(
        config.latents,
        size,
        channels,
        network=config.network,
        learned_variance=config.fixed_sigma is None,
        seed=seed,
    ).to(device)
    set_linear(networks, linear or faster_linear())
    return TrainingStep(
        config.latents,
        networks,
        config.objective,
        images.to(device),
        batch_size,
        seed=seed,
        amp=amp,
        cuda_graph=cuda_graph,
        steps_per_replay=steps_per_replay,
        matmul_precision=matmul_precision,
        ranks=ranks,
        batch_norm=batch_norm,
        reduce_dtype=reduce_dtype,
    )


def noise_images(count: int = 20_000) -> Tensor:
    """Images like MNIST's in size and number, for timings: what they show makes no difference."""
    draws = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=draws)


@contextlib.contextmanager
def waiting(*, as_training_does: bool) -> Iterator[None]:
    """Processes started within wait at OpenMP's barriers as training sets it, or as the library does."""
    before = os.environ.pop("GOMP_SPINCOUNT", None)
    if as_training_does and before is not None:
        os.environ["GOMP_SPINCOUNT"] = before
    try:
        yield
    finally:
        if before is not None:
            os.environ["GOMP_SPINCOUNT"] = before


def serve() -> None:
    """Time steps for bench_trees.py: reads a line of JSON with the device, the threads and the arguments of
    :func:`make_step`, then counts of iterations, each answered with their seconds."""
    asked = json.loads(sys.stdin.readline())
    device = prepare(asked["device"], asked["threads"])
    amp = amp_dtype(device) if asked["amp"] else None
    step = make_step(noise_images(), device, amp=amp, cuda_graph=device.type == "cuda", **asked["options"])
    print("ready", flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            times.append(_seconds(step, 1, device))
        print(json.dumps(times), flush=True)
