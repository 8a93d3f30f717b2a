"""How many seconds of training does an accuracy on MNIST take? python benchmarks/bench_train.py

The trainer's iteration next to other ways to write it (benchmarks/baselines.py), each in a process of its
own, one after another. Every --every updates the categorical code that Q reads from each of the 10,000 test
images is matched to the digits (unsupervised accuracy); that and the start are not counted. A variant ends
when it has reached the last of the targets, or after --updates. All have the paper's objective but for the
one whose name says otherwise. That objective does not make the code the digit with every seed, for any
variant: where a target is not reached, the best accuracy is printed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Any

import torch
from baselines import Plain, ThreeOptimizers, assigned
from harness import add_mnist, machine, make_step, parser, prepare, waiting, write_json
from torch import Tensor, nn

from infogan_fast.analysis.clusters import match_clusters
from infogan_fast.data import load_images
from infogan_fast.runtime.device import amp_dtype, choose_device

TARGETS = (0.95, 0.98)
VARIANTS = (
    "infogan_fast --amp",
    "infogan_fast --amp one-stage",
    "infogan_fast --amp default recipe",
    "infogan_fast float32",
    "plain eager bfloat16",
    "plain eager float32",
    "three-optimizer script",
)


def make(name: str, images: Tensor, batch_size: int, device: torch.device, seed: int) -> Any:
    """(iteration, trunk, Q's head, scale and offset of the pixels)."""
    if name == "three-optimizer script":
        script = ThreeOptimizers(images, batch_size, device)
        return script, script.networks.trunk, script.networks.q_head, 2.0, -1.0
    amp = None if "float32" in name else amp_dtype(device)
    if name.startswith("plain"):
        plain = Plain(images, batch_size, device, amp)
        return plain, plain.networks.trunk, plain.networks.q_head, 1.0, 0.0
    step = make_step(
        images,
        device,
        amp=amp,
        batch_size=batch_size,
        seed=seed,
        cuda_graph=device.type == "cuda",
        recipe="default" if "recipe" in name else "paper",
        schedule="one-stage" if "one-stage" in name else "alternating",
    )
    result = step.ema or step.full
    return step, result.trunk, result.q_head, 1.0, 0.0


def _worker(pipe: Connection, name: str, args: argparse.Namespace, seed: int) -> None:
    if name.startswith("infogan_fast"):
        device = prepare(args.device, args.threads)
    else:
        device = choose_device(args.device)
        torch.set_num_threads(args.threads or torch.get_num_threads())
    train, test = (load_images("mnist", data_dir=args.data_dir, split=split) for split in ("train", "test"))
    assert test.labels is not None
    torch.manual_seed(seed)
    iteration, trunk, q_head, scale, offset = make(name, train.images, args.batch_size, device, seed)
    pipe.send(_train(iteration, trunk, q_head, (scale, offset), test.images, test.labels, device, args))


def _train(
    iteration: Any,
    trunk: nn.Module,
    q_head: nn.Module,
    pixels: tuple[float, float],
    images: Tensor,
    labels: Any,
    device: torch.device,
    args: argparse.Namespace,
) -> dict[str, Any]:
    seconds, curve = 0.0, []
    reached: dict[float, tuple[float, int]] = {}
    for done in range(args.every, args.updates + 1, args.every):
        start = time.perf_counter()
        for _ in range(args.every):
            iteration()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds += time.perf_counter() - start
        accuracy = match_clusters(assigned(trunk, q_head, images, *pixels).numpy(), labels).accuracy
        curve.append((done, seconds, accuracy))
        for target in TARGETS:
            if accuracy >= target:
                reached.setdefault(target, (seconds, done))
        if len(reached) == len(TARGETS):
            break
    return {"reached": reached, "best": max(row[2] for row in curve), "curve": curve}


def main() -> None:
    options = parser(__doc__)
    add_mnist(options, updates=5000)
    options.add_argument("--only", action="append", metavar="TEXT", help="variants with this in their name")
    args = options.parse_args()
    where = machine(choose_device(args.device))
    print(", ".join(f"{key}: {value}" for key, value in where.items()), flush=True)
    context = multiprocessing.get_context("spawn")
    results: dict[str, Any] = {"machine": where, "updates": args.updates, "runs": []}
    for seed in args.seeds:
        for name in VARIANTS:
            if args.only is not None and not any(text in name for text in args.only):
                continue
            pipe, end = context.Pipe()
            with waiting(as_training_does=name.startswith("infogan_fast")):
                context.Process(target=_worker, args=(end, name, args, seed), daemon=True).start()
            end.close()
            try:
                run = pipe.recv()
            except EOFError:
                print(f"{name}: NOT measured, its process failed as shown above")
                continue
            reached = [
                f"{target} after {run['reached'][target][0]:.0f} s ({run['reached'][target][1]:,} updates)"
                if target in run["reached"]
                else f"{target} not reached"
                for target in TARGETS
            ]
            done, seconds, _ = run["curve"][-1]
            pace = f"{seconds / done * 1e3:.1f} ms an update"
            print(f"seed {seed}  {name:30} {'; '.join(reached)}; best {run['best']:.4f}; {pace}", flush=True)
            results["runs"].append({"seed": seed, "variant": name, **run})
            write_json(args.json, results)


if __name__ == "__main__":
    main()
