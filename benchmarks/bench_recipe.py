"""What does an option do to the codes on MNIST? python benchmarks/bench_recipe.py --set lr_q=1e-3

Trains with the default recipe for MNIST, changed by each --set OPTION=VALUE (an option of training, with
underscores), on all images or, with --shares, on some, so that digits are not equally frequent. Every --every
updates it prints how well the digit code that Q reads from the test images, in the same shares, agrees with
the labels, which training does not see; at the end also what each continuous code moves in generated images.
With --threads 1 several can run side by side.
"""

from __future__ import annotations

import math
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from baselines import assigned
from harness import add_mnist, low_precision, machine, make_step, parser, prepare, write_json

from infogan_fast.analysis.clusters import match_clusters
from infogan_fast.analysis.evaluation import sweep_scores
from infogan_fast.config import OPTIONS
from infogan_fast.data import load_images
from infogan_fast.data.image_set import ImageSet
from infogan_fast.errors import UserError
from infogan_fast.networks.statistics import calibrated
from infogan_fast.objective.bounds import code_bounds
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
    """How well the digit code agrees with the labels after so many updates, and the means since the last
    look."""
    means = step.take_metrics()
    read = assigned(step.networks.trunk, step.networks.q_head, images, 1.0, 0.0).numpy()
    match = match_clusters(read, labels)
    bounds = code_bounds(step.spec, means)
    row = {"updates": done, "accuracy": match.accuracy, "nmi": match.nmi}
    row |= {name: bounds[name] for name in ("L_c1", "L_fitted_c2", "L_fitted_c3") if name in bounds}
    row |= {name: value for name, value in means.items() if name[:2] in ("I_", "D_", "H_")}
    prior = step.current_spec.codes[0].probabilities
    return row if prior is None else row | {"prior": sorted(prior, reverse=True)}


def main() -> None:
    options = parser(__doc__)
    add_mnist(options, updates=1000)
    options.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", dest="changes")
    options.add_argument("--recipe", choices=("default", "paper"), default="default")
    options.add_argument(
        "--shares", metavar="S/S/...", help="of the digits 0 to 9 in the images, instead of MNIST's"
    )
    args = options.parse_args()
    shares = None if args.shares is None else parse_shares(args.shares)
    device = prepare(args.device, args.threads)
    train, test = (load_images("mnist", data_dir=args.data_dir, split=split) for split in ("train", "test"))
    assert test.labels is not None
    images, (test_images, test_labels) = train.images, (test.images, np.asarray(test.labels))
    if shares is not None:
        images, _ = with_shares(train, shares)
        test_images, test_labels = with_shares(test, shares)
    results: dict[str, Any] = {"machine": machine(device), "runs": []}
    for seed in args.seeds:
        step = make_step(
            images,
            device,
            amp=low_precision(device),
            batch_size=args.batch_size,
            seed=seed,
            cuda_graph=device.type == "cuda",
            recipe=args.recipe,
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
            spec=spec, channels=1, generator=calibrated(step.networks.generator, spec)
        )
        sweeps = sweep_scores(trained)
        for code, found in sweeps.items():
            moved = [
                f"{name} {s['mean']:.2f} ({s['agreeing']}/{s['categories']})" for name, s in found.items()
            ]
            print(f"seed {seed}  {code} moves " + ", ".join(moved), flush=True)
        results["runs"].append(
            {
                "seed": seed,
                "recipe": args.recipe,
                "changes": args.changes,
                "shares": shares,
                "curve": curve,
                "sweeps": sweeps,
                "ms_per_update": seconds / max(1, args.updates) * 1e3,
            }
        )
        write_json(args.json, results)


if __name__ == "__main__":
    main()
