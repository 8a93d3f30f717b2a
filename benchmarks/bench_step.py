"""How fast is a training iteration, next to other ways to write it? python benchmarks/bench_step.py [--sweep]

The paper's MNIST networks, batches of 128. The other ways are in benchmarks/baselines.py. Each variant runs
in a process of its own, as its users would run it (the trainer sets up the allocator of its process), one at
a time: in each round every process has a turn of one iteration to warm up and --iterations timed ones, in
random order. Figures are medians over all of them.

The last columns: matrix products and convolutions of an iteration; the share of its bound that a variant
reaches, where the bound is the larger of that arithmetic at the measured rate of a large matrix product in
its dtype, and Adam's traffic (7 passes over float32 arrays of the weights' size) at the measured bandwidth
of a large copy; the most memory that the process held, and what it held after the last turn (on CUDA: of the
device); page faults an iteration (on CUDA: allocations that reached the driver); kernels launched (on a CPU:
operators called).
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from baselines import Plain, ThreeOptimizers
from harness import (
    copy_bandwidth,
    low_precision,
    machine,
    make_step,
    median_seconds,
    noise_images,
    parser,
    prepare,
    waiting,
    write_json,
)
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.networks.linear import Linear, faster_linear, set_linear
from infogan_fast.runtime.device import choose_device

SPEC = LatentSpec.parse("noise=62,cat=10,uniform=2")
SWEEP = (32, 128, 512, 1024, 4096)
BASELINE = "plain eager float32"


@dataclass(frozen=True)
class Variant:
    """A way to run the iteration.

    Args:
        kind: ``"infogan_fast"``, ``"plain"`` or ``"three optimizers"``.
        amp: dtype of autocast.
        options: of the class that implements it.
    """

    kind: str
    amp: torch.dtype | None = None
    options: tuple[tuple[str, Any], ...] = ()

    def make(self, batch_size: int, device: torch.device) -> Callable[[], object]:
        images, options = noise_images(), dict(self.options)
        if self.kind == "three optimizers":
            return ThreeOptimizers(images, batch_size, device)
        if self.kind == "plain":
            return Plain(images, batch_size, device, self.amp, **options)
        options = {"recipe": "paper", **options}
        return make_step(images, device, amp=self.amp, batch_size=batch_size, **options)

    def flops(self, batch_size: int, device: torch.device) -> float:
        """Multiplications and additions of one iteration's matrix products and convolutions."""
        # Compilation and graphs change nothing in that, but hide it from the counter.
        kept = tuple((k, v) for k, v in self.options if k in ("schedule", "recipe"))
        if self.kind == "infogan_fast":
            kept += (("linear", "mkl"),)
        iteration = Variant(self.kind, self.amp, kept).make(batch_size, device)
        with FlopCounterMode(display=False) as counter:
            iteration()
        return float(counter.get_total_flops())


def variants(device: torch.device, compiled: bool, autotuned: bool) -> dict[str, Variant]:
    """Those that run on the device, by name."""
    dtypes: dict[str, torch.dtype | None] = {"float32": None}
    if low_precision(device) == torch.bfloat16:  # the baselines have no GradScaler
        dtypes["bfloat16"] = torch.bfloat16
    cuda = device.type == "cuda"
    result = {"three-optimizer script": Variant("three optimizers")}
    for name, dtype in dtypes.items():
        result[f"plain eager {name}"] = Variant("plain", dtype)
        if compiled:
            modes = (
                "default",
                *(("reduce-overhead",) if cuda else ()),
                *(("max-autotune",) if autotuned else ()),
            )
            for mode in modes:
                title = f"torch.compile {name}" if mode == "default" else f"torch.compile {mode} {name}"
                result[title] = Variant("plain", dtype, (("compile_mode", mode),))
        if cuda:
            result[f"make_graphed_callables {name}"] = Variant("plain", dtype, (("graphed", True),))
    for dtype in dtypes.values():
        flag = "--amp" if dtype else "float32"
        for schedule in ("alternating", "one-stage"):
            options = (("schedule", schedule),)
            title = f"infogan_fast {flag}" + ("" if schedule == "alternating" else " one-stage")
            graphed = (("cuda_graph", True),) if cuda else ()
            result[f"{title} default recipe"] = Variant(
                "infogan_fast", dtype, (*options, ("recipe", "default"), *graphed)
            )
            if not cuda:
                result[title] = Variant("infogan_fast", dtype, options)
                continue
            result[f"{title}, eager"] = Variant("infogan_fast", dtype, options)
            result[title] = Variant("infogan_fast", dtype, (*options, ("cuda_graph", True)))
            if schedule == "alternating" and dtype is None:
                high = (*options, ("cuda_graph", True), ("matmul_precision", "high"))
                result["infogan_fast --matmul-precision high"] = Variant("infogan_fast", None, high)
    return result


def matmul_flops(dtype: torch.dtype, device: torch.device) -> float:
    """Multiplications and additions a second in a product of square matrices: the median of nine."""
    size = 8192 if device.type == "cuda" else 2048
    a = torch.randn(size, size, device=device, dtype=dtype)
    product = nn.Linear(size, size, bias=False, device=device, dtype=dtype)
    if device.type == "cpu" and dtype == torch.float32:
        product = Linear(size, size, bias=False)
        set_linear(product, faster_linear())
    with torch.no_grad():
        return 2.0 * size**3 / median_seconds(lambda: product(a), device)


def _resident(device: torch.device) -> tuple[float, float]:
    """(most, now) bytes held."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device), torch.cuda.memory_reserved(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if platform.system() != "Linux":
        return most, most
    return most, int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _faults(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.memory_stats(device).get("num_device_alloc", 0))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _launches(iteration: Callable[[], object], device: torch.device) -> int:
    """Kernels of one iteration; on a CPU, operators that PyTorch's dispatcher calls from outside others."""
    with torch.profiler.profile() as profiler:
        iteration()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    events = profiler.events() or []
    if device.type == "cuda":
        kernels = [event for event in events if event.device_type == torch._C._autograd.DeviceType.CUDA]
        return sum(not event.name.lower().startswith(("memcpy", "memset")) for event in kernels)
    return sum(event.cpu_parent is None for event in events)


def _worker(
    pipe: Connection, variant: Variant, batch_size: int, device_name: str, threads: int | None
) -> None:
    """Answers each count of iterations with the seconds of every one, and 0 with the rest."""
    if variant.kind == "infogan_fast":
        device = prepare(device_name, threads)
    else:
        device = choose_device(device_name)
        torch.set_num_threads(threads or torch.get_num_threads())
    iteration = variant.make(batch_size, device)
    counted = faults = 0
    while (count := pipe.recv()) > 0:
        iteration()
        times, before = [], _faults(device)
        for _ in range(count):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            iteration()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
        # The first turn, which is not used, is when memory is found.
        if counted:
            faults += _faults(device) - before
        counted += count
        pipe.send((times, faults))
    most, now = _resident(device)
    pipe.send({"peak_bytes": most, "resident_bytes": now, "launches": _launches(iteration, device)})


def _busy() -> None:
    while True:
        pass


def measure(
    chosen: dict[str, Variant], batch_size: int, device: torch.device, args: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Everything about each variant at a batch size."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    samples: dict[str, list[float]] = {name: [] for name in chosen}
    rows: dict[str, dict[str, Any]] = {}
    for name, variant in chosen.items():
        pipes[name], end = context.Pipe()
        arguments = (end, variant, batch_size, args.device, args.threads)
        # The process reads it when it loads PyTorch, before anything of ours runs in it.
        with waiting(as_training_does=variant.kind == "infogan_fast"):
            context.Process(target=_worker, args=arguments, daemon=True).start()
        end.close()
        pipes[name].send(5)
    for name in chosen:
        try:
            pipes[name].recv()
        except EOFError:
            print(f"{name}: NOT measured, its process failed as shown above")
            del pipes[name]
    order, faults = random.Random(0), dict.fromkeys(pipes, 0)
    for _ in range(args.rounds):
        for name in order.sample(list(pipes), len(pipes)):
            pipes[name].send(args.iterations)
            times, faults[name] = pipes[name].recv()
            samples[name] += times
    for name, pipe in pipes.items():
        pipe.send(0)
        low, _, high = statistics.quantiles(samples[name], n=4)
        rows[name] = {"seconds": statistics.median(samples[name]), "quartiles": [low, high], **pipe.recv()}
        rows[name]["faults"] = faults[name] / (args.rounds * args.iterations)
        rows[name]["flops"] = chosen[name].flops(batch_size, device)
    return rows


def report(rows: dict[str, dict[str, Any]], chosen: dict[str, Variant], batch_size: int, rates: Any) -> None:
    """Adds what follows from the measurements to the rows, and prints them."""
    weights = sum(p.numel() for p in InfoGAN(SPEC, 28, 1).parameters())
    adam = 28.0 * weights / rates["copy_bytes_a_second"]
    print(f"\nbatch {batch_size}")
    print(f"{'':34}     ms  half within    images/s  ratio  GFLOP  bound  peak MB  held  faults  launches")
    for name, row in rows.items():
        dtype = "float32" if chosen[name].amp is None else str(chosen[name].amp).removeprefix("torch.")
        row["bound_seconds"] = max(row["flops"] / rates["matmul_flops_a_second"][dtype], adam)
        row["ratio"] = rows[BASELINE]["seconds"] / row["seconds"]
        low, high = row["quartiles"]
        print(
            f"{name:34}{row['seconds'] * 1e3:7.2f}  {low * 1e3:6.2f}-{high * 1e3:6.2f} "
            f"{batch_size / row['seconds']:9,.0f} {row['ratio']:5.2f}x {row['flops'] / 1e9:6.1f} "
            f"{row['bound_seconds'] / row['seconds']:5.0%} {row['peak_bytes'] / 1e6:8,.0f} "
            f"{row['resident_bytes'] / 1e6:5,.0f} {row['faults']:7.1f} {row['launches']:9,}"
        )


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--batch-size", type=int, default=128, metavar="B")
    options.add_argument(
        "--rounds", type=int, default=15, metavar="N", help="turns of each variant (default: 15)"
    )
    options.add_argument("--iterations", type=int, default=3, metavar="N", help="timed a turn (default: 3)")
    options.add_argument("--only", action="append", metavar="TEXT", help="variants with this in their name")
    options.add_argument(
        "--sweep", action="store_true", help=f"batches of {', '.join(map(str, SWEEP))}, without torch.compile"
    )
    options.add_argument(
        "--max-autotune", action="store_true", help="also torch.compile in this mode, which takes minutes"
    )
    options.add_argument(
        "--beside", type=int, default=0, metavar="N", help="keep N other processes busy meanwhile"
    )
    args = options.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    chosen = {
        name: variant
        for name, variant in variants(device, not args.sweep, args.max_autotune).items()
        if name == BASELINE or args.only is None or any(text in name for text in args.only)
    }
    where = machine(device)
    print(", ".join(f"{key}: {value}" for key, value in where.items()))
    dtypes = {variant.amp or torch.float32 for variant in chosen.values()}
    rates: dict[str, Any] = {
        "copy_bytes_a_second": copy_bandwidth(device),
        "matmul_flops_a_second": {
            str(dtype).removeprefix("torch."): matmul_flops(dtype, device) for dtype in dtypes
        },
    }
    print(f"a copy moves {rates['copy_bytes_a_second'] / 1e9:,.0f} GB/s; matrix products run at ", end="")
    print(", ".join(f"{v / 1e9:,.0f} GFLOP/s in {k}" for k, v in rates["matmul_flops_a_second"].items()))
    print(f"{args.rounds} rounds of {args.iterations} iterations")
    results: dict[str, Any] = {"machine": where, "rates": rates, "beside": args.beside, "batches": {}}
    for _ in range(args.beside):
        multiprocessing.Process(target=_busy, daemon=True).start()
    for batch_size in SWEEP if args.sweep else (args.batch_size,):
        rows = measure(chosen, batch_size, device, args)
        report(rows, chosen, batch_size, rates)
        results["batches"][batch_size] = rows
    write_json(args.json, results)


if __name__ == "__main__":
    main()
