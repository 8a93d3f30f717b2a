"""Where the time of a training iteration goes: python benchmarks/profile_step.py [--json FILE]

The trainer's iteration on a CPU under PyTorch's profiler, the time inside each operator by what it does,
medians over iterations, and what lies outside of any operator (Python, autograd's engine). The first line of
each table is what the arithmetic would take at the measured rate of a large matrix product. The profiler
itself slows small operators; the unprofiled time stands beside.
"""

from __future__ import annotations

import infogan_fast.runtime.threads  # noqa: F401 -- before PyTorch, as in the trainer

# isort: split
import argparse
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from bench_step import Variant, matmul_flops
from timing import machine, write_json

from infogan_fast.runtime.device import amp_dtype, tune_allocator

#: What an operator does, by the first of these that its name contains.
GROUPS = {
    "matrix products and convolutions": ("mm", "convolution", "linear_pointwise", "mkldnn_linear"),
    "Adam": ("adam", "Optimizer"),
    "batch normalisation": ("batch_norm",),
    "activations": ("relu", "threshold", "sigmoid"),
    "sampling, loss, gathering": ("infogan_fast::",),
    "casts, copies, padding": (
        "copy",
        "cat",
        "pad",
        "fill",
        "zero",
        "to",
        "contiguous",
        "clone",
    ),
    "sums": ("sum", "add", "mul"),
}


def group_of(operator: str) -> str:
    """The group of :data:`GROUPS`, or ``"other"``."""
    for group, parts in GROUPS.items():
        if any(part in operator for part in parts):
            return group
    return "other"


def profiled(variant: Variant, batch_size: int, iterations: int) -> dict[str, Any]:
    """Seconds by group, in all with the profiler, and without."""
    step = variant.make(batch_size, torch.device("cpu"))
    for _ in range(10):
        step()
    plain = []
    for _ in range(iterations):
        start = time.perf_counter()
        step()
        plain.append(time.perf_counter() - start)
    groups: dict[str, list[float]] = defaultdict(list)
    wall = []
    for _ in range(iterations):
        start = time.perf_counter()
        with torch.profiler.profile() as profiler:
            began = time.perf_counter()
            step()
            wall.append(time.perf_counter() - began)
        seconds: dict[str, float] = dict.fromkeys([*GROUPS, "other"], 0.0)
        for event in profiler.events() or []:
            seconds[group_of(event.name)] += event.self_cpu_time_total / 1e6
        seconds["outside of operators"] = max(0.0, wall[-1] - sum(seconds.values()))
        for group, value in seconds.items():
            groups[group].append(value)
    return {
        "seconds": statistics.median(plain),
        "profiled_seconds": statistics.median(wall),
        "groups": {group: statistics.median(values) for group, values in groups.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=int, default=128, metavar="B")
    parser.add_argument("--iterations", type=int, default=20, metavar="N", help="default: 20")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    tune_allocator()
    device = torch.device("cpu")
    results: dict[str, Any] = {
        "machine": machine(device),
        "batch_size": args.batch_size,
    }
    amp = amp_dtype(device)
    for name, dtype, schedule in (
        ("--amp", amp, "alternating"),
        ("--amp one-stage", amp, "one-stage"),
        ("float32", None, "alternating"),
    ):
        variant = Variant("infogan_fast", dtype, (("schedule", schedule),))
        row = profiled(variant, args.batch_size, args.iterations)
        row["bound_seconds"] = variant.flops(args.batch_size, device) / matmul_flops(
            dtype or torch.float32, device
        )
        results[name] = row
        print(f"\n{name}: {row['seconds'] * 1e3:.1f} ms, profiled {row['profiled_seconds'] * 1e3:.1f} ms")
        print(f"  {'arithmetic alone':40}{row['bound_seconds'] * 1e3:7.2f} ms")
        for group, value in sorted(row["groups"].items(), key=lambda item: -item[1]):
            print(f"  {group:40}{value * 1e3:7.2f} ms  {value / row['profiled_seconds']:4.0%}")
    write_json(args.json, results)


if __name__ == "__main__":
    main()
