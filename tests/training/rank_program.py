"""A program, one process of several: updates of a step that they share, and a file of what it computed.

python rank_program.py RANK SIZE GROUP_FILE OUT CASE ...
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from networks.narrow import narrow
from torch import Tensor, distributed
from training.objectives import make_objective

from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.objective.transformation import Transformation
from infogan_fast.runtime.ranks import ALONE, Ranks
from infogan_fast.training.step import Batch, TrainingStep

SPEC = LatentSpec.parse("noise=5,cat=4,cat=3,uniform=2")
LEARNED = LatentSpec.parse("noise=5,cat=4:learned,cat=3,uniform=2")
#: What the default recipe does. Q's head does not start again within so few updates: Adam's first step
#: divides gradients by themselves, and rounding errors of small ones by as little.
DEFAULT: dict[str, Any] = {
    "consistency": 1.0,
    "balance": 0.5,
    "joint_ema": 0.9,
    "equivariance": 0.1,
    "invariance": 0.1,
    "transformation": Transformation(rotation=15, scale=0.15, shear=0.2, shift=0.06),
}
WITH_SMOOTHNESS = DEFAULT | {"smoothness": 1.0, "smoothness_until": 15, "bending": 1.0}
F64, LOW = {"dtype": torch.float64}, {"amp": torch.bfloat16}
#: Options of the step by the name of the case, and those of its objective.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "paper": (F64, {}),
    "paper, one-stage": (F64, {"schedule": "one-stage"}),
    "default": (F64, DEFAULT),
    "default, one-stage": (
        F64 | {"spec": LEARNED},
        DEFAULT | {"schedule": "one-stage", "ema": 0.9, "mi_gradient": "trunk"},
    ),
    "smoothness": (F64, WITH_SMOOTHNESS),
    "bfloat16": (LOW, WITH_SMOOTHNESS),
    "local": (F64 | {"batch_norm": "local"}, {}),
    "local, smoothness": (F64 | {"batch_norm": "local"}, WITH_SMOOTHNESS),
    "reduced in bfloat16": ({"reduce_dtype": torch.bfloat16}, {}),
}
UPDATES = 20


def make(case: str, ranks: Ranks, rows: int) -> TrainingStep:
    """The step of a case, for a rank."""
    options, objective = dict(CASES[case][0]), CASES[case][1]
    return _make("cpu", ranks, rows, objective, options.pop("dtype", torch.float32), **options)


def make_on(device: str, ranks: Ranks, graph: bool) -> TrainingStep:
    """The default recipe with smoothness, in float32, on a device."""
    return _make(device, ranks, 16, WITH_SMOOTHNESS, torch.float32, cuda_graph=graph)


def _make(
    device: str, ranks: Ranks, rows: int, objective: dict[str, Any], dtype: torch.dtype, **options: Any
) -> TrainingStep:
    spec = options.pop("spec", SPEC)
    networks = InfoGAN(spec, 16, 1, network=narrow(), seed=3).to(device, dtype)
    generator = torch.Generator().manual_seed(4)
    images = torch.randint(0, 256, (40, 1, 16, 16), generator=generator, dtype=torch.uint8).to(device)
    made = make_objective(**objective)
    return TrainingStep(spec, networks, made, images, rows, seed=7, ranks=ranks, **options)


def run(case: str, ranks: Ranks, rows: int) -> dict[str, Any]:
    """UPDATES updates: the state and metrics after them, and what was drawn for the first."""
    step = make(case, ranks, rows)
    batch = Batch()
    for name, phase in step.phases[:]:
        if name in ("gather", "transform", "sample", "near copies"):
            phase(batch)
    drawn = {"real": batch.real, **batch.latents._asdict()}
    if step.terms:
        drawn |= {"copies": batch.copies, "slant": batch.slant}
    if step._near_rows:
        drawn["near"] = batch.near
    step = make(case, ranks, rows)
    for _ in range(UPDATES):
        step()
    metrics = step.metrics()
    state: dict[str, Tensor] = {name: t.detach().clone() for name, t in step.state.named_tensors()}
    return {"drawn": drawn, "state": state, "metrics": metrics}


def main() -> None:
    rank, size, group, out, rows, *cases = sys.argv[1:]
    torch.set_num_threads(1)
    ranks = ALONE
    if int(size) > 1:
        distributed.init_process_group(
            "gloo",
            init_method=f"file://{group}",
            rank=int(rank),
            world_size=int(size),
            timeout=timedelta(seconds=600),
        )
        ranks = Ranks(int(rank), int(size), joined=True)
    torch.save({case: run(case, ranks, int(rows)) for case in cases}, Path(out) / f"{rank}.pt")
    if ranks.joined:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
