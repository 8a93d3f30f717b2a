"""Where does the time of a training iteration go? python benchmarks/profile_step.py [--device cuda]

On a GPU: the kernels of one replay of the iteration's graph by name, with their number and microseconds, for
several objectives; then a table of what they do. --read prints the table of a result.

With --launches, without a GPU: the operators of an iteration that compute something, by name, for the same
objectives. On a GPU each is one kernel or a few; a CPU's own ways around PyTorch's layers are among them.

On a CPU: the iteration under PyTorch's profiler, the time inside each operator by what it does,
medians over iterations, and what lies outside of any operator (Python, autograd's engine). The first line of
each table is what the arithmetic would take at the measured rate of a large matrix product. The profiler
itself slows small operators; the time without it is printed too.
"""

from __future__ import annotations

import infogan_fast  # noqa: F401 -- before PyTorch, as in training

# isort: split
import json
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from bench_step import Variant, matmul_flops
from harness import low_precision, machine, make_step, noise_images, parser, prepare, write_json
from torch.utils._python_dispatch import TorchDispatchMode

#: What an operator does, by the first of these that its name contains.
GROUPS = {
    "matrix products and convolutions": ("mm", "convolution", "linear_pointwise", "mkldnn_linear"),
    "Adam": ("adam", "Optimizer"),
    "batch normalisation": ("batch_norm", "BatchNorm"),
    "image layers": ("image_conv",),
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


#: The same for a GPU's kernels.
KERNEL_GROUPS = {
    "Adam": ("adam_update",),
    "batch normalisation with activations": ("batch_norm_act",),
    "image layers": ("image_maps", "image_pixels", "image_weight", "im2col", "col2im"),
    "copies and the terms of the recipe": ("agreement", "transform_images"),
    "sampling, loss, gathering": ("infogan_fast::",),
    "convolutions and their layouts": ("fprop", "dgrad", "wgrad", "cudnn", "nchwToNhwc", "nhwcToNchw"),
    "matrix products": (
        *("gemm", "gemv", "nvjet", "splitKreduce", "cublas", "cutlass"),
        *("dot_kernel", "reduce_1Block", "scal_kernel"),
    ),
    "activations": ("relu", "sigmoid"),
    "casts, copies, fills, concatenation": ("copy", "Copy", "Memcpy", "Memset", "Fill"),
}


def group_of(name: str, groups: Mapping[str, Sequence[str]]) -> str:
    """The group of an operator or a kernel, or ``"other"``."""
    for group, parts in groups.items():
        if any(part in name for part in parts):
            return group
    return "other"


def kernel_table(results: Mapping[str, Any]) -> str:
    """Microseconds and number of the kernels of each group, a column an objective, in Markdown."""
    titles = [title for title, row in results.items() if isinstance(row, dict) and "rows" in row]
    cells: dict[str, dict[str, list[float]]] = {name: {} for name in (*KERNEL_GROUPS, "other")}
    for title in titles:
        for name, number, microseconds in results[title]["rows"]:
            cell = cells[group_of(name, KERNEL_GROUPS)].setdefault(title, [0.0, 0.0])
            cell[0] += microseconds
            cell[1] += number
    lines = [f"| | {' | '.join(titles)} |", f"| --- |{' ---: |' * len(titles)}"]
    for group, row in cells.items():
        found = (row.get(title) for title in titles)
        shown = ("0" if cell is None else f"{cell[0]:.0f} ({cell[1]:.0f})" for cell in found)
        lines.append(f"| {group} | {' | '.join(shown)} |")
    sums = (f"**{results[t]['microseconds']:.0f} ({results[t]['kernels']:.0f})**" for t in titles)
    return "\n".join([*lines, f"| **sum** | {' | '.join(sums)} |"])


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
            seconds[group_of(event.name, GROUPS)] += event.self_cpu_time_total / 1e6
        seconds["outside of operators"] = max(0.0, wall[-1] - sum(seconds.values()))
        for group, value in seconds.items():
            groups[group].append(value)
    return {
        "seconds": statistics.median(plain),
        "profiled_seconds": statistics.median(wall),
        "groups": {group: statistics.median(values) for group, values in groups.items()},
    }


#: Objectives whose kernels are listed, by options of training; every replay of one is like the others.
OBJECTIVES: dict[str, dict[str, Any]] = {
    "paper": {"recipe": "paper"},
    "default": {"smoothness": 0.0, "restart_q": 0},
    "default with smoothness": {"smoothness": 1.0, "smoothness_until": 0, "restart_q": 0},
}


def kernels(device: torch.device, amp: torch.dtype | None, batch_size: int, **options: Any) -> dict[str, Any]:
    """The kernels of a replay: rows of name, number and microseconds, the longest first; their sums; and the
    seconds of a replay that is waited for, and of one among many."""
    step = make_step(noise_images(), device, amp=amp, batch_size=batch_size, cuda_graph=True, **options)
    for _ in range(20):
        step()
    torch.cuda.synchronize(device)
    alone = []
    for _ in range(50):
        start = time.perf_counter()
        step()
        torch.cuda.synchronize(device)
        alone.append(time.perf_counter() - start)
    start = time.perf_counter()
    for _ in range(100):
        step()
    torch.cuda.synchronize(device)
    among = (time.perf_counter() - start) / 100
    replays = 5
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(replays):
            step()
        torch.cuda.synchronize(device)
    found: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for event in profiler.events() or []:
        if event.device_type.name == "CUDA":
            found[event.name][0] += 1 / replays
            found[event.name][1] += event.device_time / replays
    rows = [[name, *found[name]] for name in sorted(found, key=lambda name: -found[name][1])]
    return {
        "seconds": statistics.median(alone),
        "seconds_back_to_back": among,
        "kernels": sum(number for number, _ in found.values()),
        "microseconds": sum(time for _, time in found.values()),
        "rows": rows,
    }


class Launches(TorchDispatchMode):
    """Counts the operators that compute something: neither views nor allocations."""

    NOTHING = (
        "empty",
        "new_empty",
        "_unsafe_view",
        "lift_fresh",
        "resize_",
        "set_",
        "_local_scalar_dense",
        "promote_types",
    )

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(func.overloadpacket)
        if not func.is_view and not name.removeprefix("aten.").startswith(self.NOTHING):
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def print_launches(batch_size: int, results: dict[str, Any]) -> None:
    """Count and print the operators of each objective."""
    device = torch.device("cpu")
    for title, options in OBJECTIVES.items():
        step = make_step(noise_images(), device, amp=torch.bfloat16, batch_size=batch_size, **options)
        step()
        with Launches() as launches:
            step()
        counts = launches.counts
        results[f"{title} --amp"] = dict(counts.most_common())
        print(f"\n{title} --amp: {counts.total()} operators")
        print("\n".join(f"  {number:4}  {name}" for name, number in counts.most_common()))


def on_gpu(device: torch.device, batch_size: int, results: dict[str, Any]) -> None:
    """Measure and print the kernels of each objective and precision."""
    for flag, amp in (("--amp", low_precision(device)), ("float32", None)):
        for title, options in OBJECTIVES.items():
            row = kernels(device, amp, batch_size, **options)
            results[f"{title} {flag}"] = row
            print(
                f"\n{title} {flag}: {row['seconds'] * 1e3:.3f} ms, back to back "
                f"{row['seconds_back_to_back'] * 1e3:.3f} ms; {row['kernels']:.0f} kernels, "
                f"{row['microseconds']:.0f} us"
            )
            for name, number, microseconds in row["rows"][:12]:
                print(f"  {microseconds:7.1f} us {number:6.1f}  {name[:90]}")
    print(f"\nmicroseconds (kernels)\n{kernel_table(results)}")


def on_cpu(device: torch.device, batch_size: int, iterations: int, results: dict[str, Any]) -> None:
    """Measure and print what the operators take, by group."""
    amp = low_precision(device)
    for name, dtype, schedule in (
        *((("--amp", amp, "alternating"), ("--amp one-stage", amp, "one-stage")) if amp else ()),
        ("float32", None, "alternating"),
    ):
        variant = Variant("infogan_fast", dtype, (("schedule", schedule),))
        row = profiled(variant, batch_size, iterations)
        rate = matmul_flops(dtype or torch.float32, device)
        row["bound_seconds"] = variant.flops(batch_size, device) / rate
        results[name] = row
        print(f"\n{name}: {row['seconds'] * 1e3:.1f} ms, profiled {row['profiled_seconds'] * 1e3:.1f} ms")
        print(f"  {'arithmetic alone':40}{row['bound_seconds'] * 1e3:7.2f} ms")
        for group, value in sorted(row["groups"].items(), key=lambda item: -item[1]):
            print(f"  {group:40}{value * 1e3:7.2f} ms  {value / row['profiled_seconds']:4.0%}")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--batch-size", type=int, default=128, metavar="B")
    options.add_argument("--iterations", type=int, default=20, metavar="N", help="on a CPU (default: 20)")
    options.add_argument("--launches", action="store_true", help="count the operators, on a CPU")
    options.add_argument("--read", type=Path, metavar="FILE", help="print the table of a GPU's result")
    args = options.parse_args()
    if args.read is not None:
        print(kernel_table(json.loads(args.read.read_text())))
        return
    device = prepare("cpu" if args.launches else args.device, args.threads)
    results: dict[str, Any] = {"machine": machine(device), "batch_size": args.batch_size}
    if args.launches:
        print_launches(args.batch_size, results)
    elif device.type == "cuda":
        on_gpu(device, args.batch_size, results)
    else:
        on_cpu(device, args.batch_size, args.iterations, results)
    write_json(args.json, results)


if __name__ == "__main__":
    main()
