"""Timing side by side: every variant in one process, in random order each round, medians and their ratios."""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


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
    """Of nine calls, after one to warm up."""
    return statistics.median([_seconds(run, 1, device) for _ in range(10)][1:])


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second, read and written, in a copy of a gigabyte (on a CPU a quarter)."""
    count = (1 << 28) if device.type == "cuda" else (1 << 26)
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    return 8.0 * count / median_seconds(lambda: target.copy_(source), device)


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were taken on."""
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
    """Leaves the results where they can be read again."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
        print(f"written to {path}")
