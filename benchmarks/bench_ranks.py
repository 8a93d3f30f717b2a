"""What do several processes cost? python benchmarks/bench_ranks.py [--model]

Updates of 1, 2 and 4 processes on this machine, which share a batch through gloo: what they send, how long
they wait for it, and what the model of docs/distributed.md says of it. With --model only the model's tables
for GPUs, which need no measurement.

A collective of S bytes over N processes takes the shorter of two times, with a latency a of each hop and a
bandwidth b of each process's link: 2 (N - 1) a + 2 (N - 1) / N S / b for a ring, 2 log2(N) a + 2 S / b for a
tree. Messages of an update follow one another, and nothing is computed meanwhile.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from harness import low_precision, machine, make_step, noise_images, parser, prepare, write_json
from torch import Tensor, distributed

from infogan_fast.runtime.ranks import Ranks

UPDATES = 20
RECIPES = ("paper", "default")


@dataclass(frozen=True)
class Link:
    """Of each process: seconds a hop, bytes a second, and the most processes that it connects."""

    name: str
    latency: float
    bandwidth: float
    most: int = 1024


#: Bandwidths by the data sheets (NVLink 4: 900 GB/s both ways together), of which 80 % are reached: an
#: assumption, like the latencies.
LINKS = (
    Link("NVLink 4", 2e-6, 0.8 * 450e9, 8),
    Link("400 Gbit/s", 6e-6, 0.8 * 50e9),
    Link("100 Gbit/s", 6e-6, 0.8 * 12.5e9),
)
#: Milliseconds of an update on one H200 by images: with 128 as measured (bench_trees-fused.json of
#: results/2026-11-27-nvidia-h200), with 4,096 an estimate: 1.18 TFLOP at 40 % of 989 TFLOP/s.
COMPUTE = {128: 0.66, 4096: 3.0}


@dataclass(frozen=True)
class RecordingRanks(Ranks):
    """Notes the bytes of each collective and the seconds that it takes; without a group it takes none."""

    sent: list[tuple[int, float]] = field(default_factory=list)

    def add_up(self, tensor: Tensor) -> None:
        self._timed(tensor, super().add_up)

    def average(self, tensor: Tensor) -> None:
        self._timed(tensor, super().average)

    def _timed(self, tensor: Tensor, run: Callable[[Tensor], None]) -> None:
        start = time.perf_counter()
        if distributed.is_initialized():
            run(tensor)
        self.sent.append((tensor.numel() * tensor.element_size(), time.perf_counter() - start))


def step_of(recipe: str, ranks: Ranks, batch_size: int, device: torch.device, **options: Any) -> Any:
    images = noise_images(1000)
    return make_step(images, device, batch_size=batch_size, recipe=recipe, ranks=ranks, **options)


def messages(recipe: str, **options: Any) -> list[int]:
    """The bytes of each collective of an update."""
    ranks = RecordingRanks(joined=True)
    step = step_of(recipe, ranks, 8, torch.device("cpu"), **options)
    step()
    return [size for size, _ in ranks.sent]


def seconds(sizes: Sequence[int], processes: int, link: Link) -> float:
    """What the model says of an update's collectives."""
    n, a, b = processes, link.latency, link.bandwidth
    if n == 1:
        return 0.0
    ring = (2 * (n - 1) * a + 2 * (n - 1) / n * size / b for size in sizes)
    tree = (2 * math.ceil(math.log2(n)) * a + 2 * size / b for size in sizes)
    return sum(map(min, ring, tree))


def worker(rank: int, size: int, group: str, out: Path, batch_size: int) -> None:
    """Times updates of both recipes, then all-reduces of several sizes, in one of several processes."""
    torch.set_num_threads(1)
    device = prepare("cpu", 1)
    if size > 1:
        distributed.init_process_group("gloo", init_method=f"file://{group}", rank=rank, world_size=size)
    found: dict[str, Any] = {}
    for recipe in RECIPES:
        ranks = RecordingRanks(rank, size, joined=size > 1)
        step = step_of(recipe, ranks, batch_size, device, amp=low_precision(device))
        times: list[tuple[float, float]] = []
        for _ in range(UPDATES + 3):
            del ranks.sent[:]
            start = time.perf_counter()
            step()
            times.append((time.perf_counter() - start, sum(s for _, s in ranks.sent)))
        found[recipe] = {
            "seconds": statistics.median(t for t, _ in times[3:]),
            "in_collectives": statistics.median(s for _, s in times[3:]),
            "messages": [b for b, _ in ranks.sent],
        }
    if size > 1:
        found["all_reduce"] = {}
        for count in (256, 4096, 65536, 1 << 20, 1 << 23):
            tensor, found_seconds = torch.zeros(count), []
            for _ in range(15):
                distributed.barrier()
                start = time.perf_counter()
                distributed.all_reduce(tensor)
                found_seconds.append(time.perf_counter() - start)
            found["all_reduce"][str(4 * count)] = statistics.median(found_seconds)
        distributed.destroy_process_group()
    (out / f"{rank}.json").write_text(json.dumps(found))


def measured(size: int, batch_size: int) -> dict[str, Any]:
    """What the first of so many processes found."""
    with tempfile.TemporaryDirectory() as folder:
        group, arguments = f"{folder}/group", [sys.executable, __file__, "--worker"]
        processes = [
            subprocess.Popen([*arguments, f"{rank},{size},{group},{folder},{batch_size}"], env=os.environ)
            for rank in range(size)
        ]
        if any(process.wait() for process in processes):
            raise SystemExit(f"a process of {size} failed as shown above")
        result: dict[str, Any] = json.loads(Path(folder, "0.json").read_text())
        return result


def interpolated(times: dict[str, float], size: int) -> float:
    """The seconds of an all-reduce from those of other sizes."""
    known = sorted((int(s), t) for s, t in times.items())
    for (s0, t0), (s1, t1) in itertools.pairwise(known):
        if size <= s1:
            return t0 + max(size - s0, 0) * (t1 - t0) / (s1 - s0)
    return known[-1][1] * size / known[-1][0]


def print_model() -> dict[str, Any]:
    """The tables of docs/distributed.md."""
    result: dict[str, Any] = {}
    print("| recipe | batch normalisation | gradients in | messages | MB an update |")
    print("| --- | --- | --- | ---: | ---: |")
    for recipe in RECIPES:
        for norm in ("global", "local"):
            for dtype in ("float32", "bfloat16"):
                sizes = messages(
                    recipe, amp=torch.bfloat16, batch_norm=norm, reduce_dtype=getattr(torch, dtype)
                )
                result[f"{recipe}, {norm}, {dtype}"] = sizes
                print(f"| {recipe} | {norm} | {dtype} | {len(sizes)} | {sum(sizes) / 1e6:.1f} |")
    for images, compute in COMPUTE.items():
        print(f"\nShare of the time that computes, {images:,} images a GPU, paper's objective:\n")
        kinds = [(link, kind) for link in LINKS for kind in ("global, float32", "local, bfloat16")]
        print("| GPUs | " + " | ".join(f"{link.name}, {kind}" for link, kind in kinds) + " |")
        print("| ---: |" + " ---: |" * len(kinds))
        for n in (2, 8, 16, 64, 256, 1024):
            cells = []
            for link, kind in kinds:
                spent = 1e3 * seconds(result[f"paper, {kind}"], n, link)
                cells.append(f"{compute / (compute + spent):.0%}" if n <= link.most else "")
            print(f"| {n:,} | " + " | ".join(cells) + " |")
    return result


def print_measured(batch_size: int) -> dict[str, Any]:
    """Updates of several processes on this machine."""
    result = {}
    print("| recipe | processes | images each | ms an update | of these in messages | by the model |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for size in (1, 2, 4):
        found = result[str(size)] = measured(size, batch_size)
        for recipe in RECIPES:
            f = found[recipe]
            said = sum(interpolated(found["all_reduce"], s) for s in f["messages"]) if size > 1 else 0.0
            print(
                f"| {recipe} | {size} | {batch_size // size} | {1e3 * f['seconds']:.0f} "
                f"| {1e3 * f['in_collectives']:.0f} | {1e3 * said:.0f} |",
                flush=True,
            )
    return result


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--model", action="store_true", help="print the model's tables alone")
    arguments.add_argument("--batch-size", type=int, default=128, metavar="B", help="default: 128")
    arguments.add_argument("--worker", help="used by the script itself")
    args = arguments.parse_args()
    if args.worker:
        rank, size, group, out, batch_size = args.worker.split(",")
        return worker(int(rank), int(size), group, Path(out), int(batch_size))
    results: dict[str, Any] = {"machine": machine(torch.device("cpu"))}
    if not args.model:
        results["measured"] = print_measured(args.batch_size)
        print()
    results["messages"] = print_model()
    write_json(args.json, results)


if __name__ == "__main__":
    main()
