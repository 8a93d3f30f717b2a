"""What does an option do to the codes? python benchmarks/bench_recipe.py --set lr_q=1e-3

Trains with the default recipe for --data, changed by each --set OPTION=VALUE (an option of training, with
underscores), on all images or, with --shares, on some, so that classes are not equally frequent. Every
--every updates it prints how well the digit code that Q reads from the test images, in the same shares,
agrees with the labels, which training does not see; at the end also what each continuous code moves in
generated images, and a table of all seeds. Several seeds run side by side, one per GPU or CPU thread.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from baselines import assigned
from harness import add_mnist, low_precision, machine, make_step, parser, prepare, write_json

from infogan_fast.analysis.clusters import Matching, match_clusters
from infogan_fast.analysis.evaluation import sweep_scores
from infogan_fast.config import OPTIONS
from infogan_fast.data import load_images
from infogan_fast.data.image_set import ImageSet
from infogan_fast.errors import UserError
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.networks.statistics import calibrated
from infogan_fast.objective.bounds import code_bounds
from infogan_fast.runtime.processes import ProcessPool, Slot, slots
from infogan_fast.training.step import TrainingStep


def changed(texts: list[str]) -> dict[str, Any]:
    """Options by name from texts OPTION=VALUE.

    Raises:
        UserError: an option is not known, or the value cannot be read.
    """
    options: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in OPTIONS:
            raise UserError(f"--set {text}: there is no option {name!r}")
        kind = OPTIONS[name].kind
        try:
            options[name] = kind(value) if kind in (int, float) else value
        except ValueError:
            raise UserError(f"--set {text}: {value!r} is not {kind.__name__}") from None
    return options


def parse_shares(text: str) -> list[float]:
    """Ten shares from a text S/S/...

    Raises:
        UserError: it is none.
    """
    try:
        shares = [float(share) for share in text.split("/")]
    except ValueError:
        shares = []
    if len(shares) != 10 or not all(0 <= share < math.inf for share in shares) or not any(shares):
        raise UserError(f"--shares {text}: expected ten shares, such as 1/1/1/1/1/1/1/1/1/2")
    return shares


def with_shares(data: ImageSet, shares: list[float]) -> tuple[torch.Tensor, np.ndarray]:
    """Images and labels of ten digits in these shares, as many as there are, the same every time."""
    assert data.labels is not None
    draws, labels = np.random.default_rng(0), np.asarray(data.labels)
    of_digit = [np.flatnonzero(labels == digit) for digit in range(10)]
    whole = min(len(found) / share for found, share in zip(of_digit, shares, strict=True) if share)
    chosen = [
        draws.permutation(found)[: int(whole * share)] for found, share in zip(of_digit, shares, strict=True)
    ]
    mixed = draws.permutation(np.concatenate(chosen))
    return data.images[torch.from_numpy(mixed)], labels[mixed]


def looked_at(step: TrainingStep, images: torch.Tensor, labels: np.ndarray, done: int) -> dict[str, Any]:
    """How well the digit code agrees with the labels after so many updates, also with the last weights where
    there is an average, and the means since the last look."""
    means = step.take_metrics()

    def match(networks: InfoGAN) -> Matching:
        return match_clusters(assigned(networks.trunk, networks.q_head, images, 1.0, 0.0).numpy(), labels)

    found, bounds = match(step.ema or step.full), code_bounds(step.spec, means)
    row: dict[str, Any] = {"updates": done, "accuracy": found.accuracy, "nmi": found.nmi}
    if step.ema is not None:
        row["accuracy_last"] = match(step.full).accuracy
    row |= {name: bounds[name] for name in ("L_c1", "L_fitted_c2", "L_fitted_c3") if name in bounds}
    row |= {name: value for name, value in means.items() if name[:2] in ("I_", "D_", "H_")}
    prior = step.current_spec.codes[0].probabilities
    return row if prior is None else row | {"prior": sorted(prior, reverse=True)}


def load(args: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Training images, test images and their labels."""
    folder, of_mnist = args.data_dir, os.environ.get("INFOGAN_FAST_MNIST")
    default = of_mnist is not None and folder == Path(of_mnist)
    if args.data == "strokes" or (args.data != "mnist" and default):
        folder = None
    train, test = (load_images(args.data, data_dir=folder, split=split) for split in ("train", "test"))
    assert test.labels is not None
    if args.shares is None:
        return train.images, test.images, np.asarray(test.labels)
    shares = parse_shares(args.shares)
    return with_shares(train, shares)[0], *with_shares(test, shares)


def train_seed(args: argparse.Namespace, seed: int, device: torch.device) -> dict[str, Any]:
    """Train with one seed, and print as it goes."""
    images, test_images, test_labels = load(args)
    step = make_step(
        images,
        device,
        amp=low_precision(device),
        batch_size=args.batch_size,
        seed=seed,
        cuda_graph=device.type == "cuda",
        recipe=args.recipe,
        data=args.data,
        **changed(args.changes),
    )
    curve, seconds = [], 0.0
    for done in range(args.every, args.updates + 1, args.every):
        start = time.perf_counter()
        for _ in range(args.every):
            step()
        step.losses.metrics.sums.tolist()  # waits for the device
        seconds += time.perf_counter() - start
        row = looked_at(step, test_images, test_labels, done)
        curve.append(row)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "prior")
        print(f"seed {seed}  {shown}", flush=True)
    spec = step.current_spec
    trained: Any = SimpleNamespace(
        spec=spec, channels=1, generator=calibrated((step.ema or step.full).generator, spec)
    )
    sweeps = sweep_scores(trained)
    for code, found in sweeps.items():
        moved = [f"{name} {s['mean']:.2f} ({s['agreeing']}/{s['categories']})" for name, s in found.items()]
        print(f"seed {seed}  {code} moves " + ", ".join(moved), flush=True)
    return {
        "seed": seed,
        "data": args.data,
        "recipe": args.recipe,
        "changes": args.changes,
        "batch_size": args.batch_size,
        "shares": args.shares,
        "curve": curve,
        "sweeps": sweeps,
        "ms_per_update": seconds / max(1, args.updates) * 1e3,
    }


def side_by_side(seeds: Sequence[int], places: list[Slot]) -> list[dict[str, Any]]:
    """Train each seed in a process of its own, one at a time in each place."""
    given, pool = sys.argv[1:], ProcessPool(places)

    def train(seed: int) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder, pool.slot() as slot:
            path = Path(folder) / "result.json"
            own = ["--jobs", "1", "--seeds", str(seed), "--json", str(path)]
            own += [] if slot.threads is None else ["--threads", str(slot.threads)]
            environment = os.environ | slot.environment
            subprocess.run([sys.executable, __file__, *given, *own], check=True, env=environment)
            run: dict[str, Any] = json.loads(path.read_text())["runs"][0]
        return run

    with ThreadPoolExecutor(len(places)) as threads:
        return list(threads.map(train, seeds))


def table(runs: list[dict[str, Any]]) -> str:
    """Of each seed and of all: accuracy, NMI, and what each ordered code moves most, by its |rho|."""
    lines = ["seed  accuracy    NMI  moves"]
    for run in runs:
        last = run["curve"][-1]
        moves = []
        for code, found in run["sweeps"].items():
            means = {name: s["mean"] for name, s in found.items() if s["mean"] is not None}
            name = max(means, key=means.__getitem__)
            moves.append(f"{code} {name} {means[name]:.2f}")
        lines.append(f"{run['seed']:4}    {last['accuracy']:.4f} {last['nmi']:.4f}  {', '.join(moves)}")
    accuracies = [run["curve"][-1]["accuracy"] for run in runs]
    lines.append(
        f"mean {statistics.mean(accuracies):.4f}, deviation "
        f"{statistics.stdev(accuracies) if len(accuracies) > 1 else 0:.4f}, worst {min(accuracies):.4f}, "
        f"mean NMI {statistics.mean(run['curve'][-1]['nmi'] for run in runs):.4f}"
    )
    return "\n".join(lines)


def options() -> argparse.ArgumentParser:
    """The command line."""
    result = parser(__doc__)
    add_mnist(result, updates=1000)
    result.add_argument("--data", choices=("mnist", "fashion-mnist", "strokes"), default="mnist")
    result.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", dest="changes")
    result.add_argument("--recipe", choices=("default", "paper"), default="default")
    result.add_argument(
        "--shares", metavar="S/S/...", help="of the classes 0 to 9 in the images, instead of the data's"
    )
    result.add_argument(
        "--jobs", type=int, metavar="N", help="seeds at a time (default: one per GPU or CPU thread)"
    )
    return result


def main() -> None:
    args = options().parse_args()
    changed(args.changes)  # what is wrong is named before any work
    if args.shares is not None:
        parse_shares(args.shares)
    device = prepare(args.device, args.threads)
    results: dict[str, Any] = {"machine": machine(device), "runs": []}
    places = slots(args.jobs, len(args.seeds), device)
    if len(places) > 1:
        results["runs"] = side_by_side(args.seeds, places)
        write_json(args.json, results)
    else:
        for seed in args.seeds:
            results["runs"].append(train_seed(args, seed, device))
            write_json(args.json, results)
    if args.updates >= args.every:
        print(table(results["runs"]))


if __name__ == "__main__":
    main()
