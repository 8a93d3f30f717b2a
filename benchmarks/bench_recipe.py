"""What a setting does to the codes on MNIST: python benchmarks/bench_recipe.py --data-dir DIR --set lr_q=1e-3

Trains with the default recipe's objective, changed by each --set FIELD=VALUE (fields of
infogan_fast.training.step.Objective; transformation as on the command line), and every --every updates
says how well the digit code that Q reads from the 10,000 test images agrees with the labels, which training
does not see; at the end also what each continuous code moves in generated images. With --threads 1 several
can run side by side.
"""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import mnist
import torch
from baselines import assigned
from timing import machine, write_json

from infogan_fast.analysis.clusters import match_clusters
from infogan_fast.analysis.evaluation import sweep_scores
from infogan_fast.config import Settings
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.networks.linear import faster_linear, set_linear
from infogan_fast.objective.consistency import Transformation
from infogan_fast.runtime.device import amp_dtype, choose_device, tune_allocator
from infogan_fast.training.step import Objective, TrainingStep, calibrated, code_bounds

SPEC = LatentSpec.parse("noise=62,cat=10,uniform=2")


def changed(objective: Objective, changes: list[str]) -> Objective:
    """The objective with each FIELD=VALUE."""
    for change in changes:
        name, _, value = change.partition("=")
        if name == "transformation":
            objective = replace(objective, transformation=Transformation.parse(value))
        else:
            kind = type(getattr(objective, name))
            objective = replace(objective, **{name: kind(value)})
    return objective


def main() -> None:
    parser = mnist.parser(__doc__)
    mnist.add_training(parser, updates=1000)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", dest="changes")
    parser.add_argument("--recipe", choices=("default", "paper"), default="default")
    args = parser.parse_args()
    tune_allocator()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    train, test = mnist.load(args.data_dir)
    assert test.labels is not None
    recipe = Settings(data="mnist", recipe=args.recipe).checked().objective
    objective = changed(recipe, args.changes)
    results: dict[str, Any] = {"machine": machine(device), "runs": []}
    for seed in args.seeds:
        networks = InfoGAN(SPEC, 28, 1, seed=seed).to(device)
        set_linear(networks, faster_linear())
        step = TrainingStep(
            SPEC,
            networks,
            objective,
            train.images.to(device),
            args.batch_size,
            seed=seed,
            amp=amp_dtype(device),
            cuda_graph=device.type == "cuda",
        )
        curve, seconds = [], 0.0
        for done in range(args.every, args.updates + 1, args.every):
            start = time.perf_counter()
            for _ in range(args.every):
                step()
            terms = step.take_terms()
            seconds += time.perf_counter() - start
            read = assigned(networks.trunk, networks.q_head, test.images, 1.0, 0.0).numpy()
            match = match_clusters(read, test.labels)
            bounds = code_bounds(SPEC, terms)
            row = {"updates": done, "accuracy": match.accuracy, "nmi": match.nmi}
            row |= {name: bounds[name] for name in ("L_c1", "L_fitted_c2", "L_fitted_c3")}
            row |= {name: value for name, value in terms.items() if name[:2] in ("I_", "D_")}
            curve.append(row)
            print(
                f"seed {seed}  " + "  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True
            )
        made: Any = SimpleNamespace(spec=SPEC, channels=1, generator=calibrated(networks.generator, SPEC))
        sweeps = sweep_scores(made)
        for code, found in sweeps.items():
            told = [
                f"{name} {s['mean']:.2f} ({s['agreeing']}/{s['categories']})" for name, s in found.items()
            ]
            print(f"seed {seed}  {code} moves " + ", ".join(told), flush=True)
        results["runs"].append(
            {
                "seed": seed,
                "recipe": args.recipe,
                "changes": args.changes,
                "curve": curve,
                "sweeps": sweeps,
                "ms_per_update": seconds / max(1, args.updates) * 1e3,
            }
        )
        write_json(args.json, results)


if __name__ == "__main__":
    main()
