"""A program, one process of several: updates of a step that they share, and a file of what it computed.

python rank_program.py RANK SIZE GROUP_FILE OUT CASE ...
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from training.objectives import make_objective

from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.objective.transformation import Transformation
from infogan_fast.runtime.ranks import ALONE, Ranks
from infogan_fast.training.step import Batch, TrainingStep

SPEC = LatentSpec.parse("noise=5,cat=4,cat=3,uniform=2")
#: What the default recipe does on MNIST, with every term.
DEFAULT: dict[str, Any] = {
    "consistency": 1.0,
    "balance": 0.5,
    "joint_ema": 0.9,
    "smoothness": 1.0,
    "smoothness_until": 15,
    "equivariance": 0.1,
    "invariance": 0.1,
    "restart_q": 10,
    "transformation": Transformation(rotation=15, scale=0.15, shear=0.2, shift=0.06),
}
F64, LOW = {"dtype": torch.float64}, {"amp": torch.bfloat16}
#: Options of the step by the name of the case, and those of its objective.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "paper": (F64, {}),
    "paper, one-stage": (F64, {"schedule": "one-stage"}),
    "default": (F64, DEFAULT),
    "default, one-stage": (F64, DEFAULT | {"schedule": "one-stage", "ema": 0.9, "mi_gradient": "trunk"}),
    "bfloat16": (LOW, DEFAULT),
    "local": (F64 | {"batch_norm": "local"}, {}),
    "reduced in bfloat16": ({"reduce_dtype": torch.bfloat16}, {}),
}
UPDATES = 20


def make(case: str, ranks: Ranks, rows: int) -> TrainingStep:
    """The step of a case, for a rank."""
    options, objective = dict(CASES[case][0]), make_objective(**CASES[case][1])
    networks = InfoGAN(SPEC, 16, 1, seed=3).to(options.pop("dtype", torch.float32))
    generator = torch.Generator().manual_seed(4)
    images = torch.randint(0, 256, (40, 1, 16, 16), generator=generator, dtype=torch.uint8)
    return TrainingStep(SPEC, networks, objective, images, rows, seed=7, ranks=ranks, **options)


def run(case: str, ranks: Ranks, rows: int) -> dict[str, Any]:
    """UPDATES updates: the state and metrics after them, and what was drawn for the first."""
    step = make(case, ranks, rows)
    batch = Batch()
    for name, phase in step.phases[:]:
        if name in ("gather", "transform", "sample", "adversary"):
            phase(batch)
    drawn = {"real": batch.real, **batch.latents._asdict()}
    if step.terms:
        drawn |= {"copies": batch.copies, "slant": batch.slant}
    if step._adversarial_rows:
        drawn["adversarial"] = batch.adversarial
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
            timeout=timedelta(seconds=120),
        )
        ranks = Ranks(int(rank), int(size), joined=True)
    torch.save({case: run(case, ranks, int(rows)) for case in cases}, Path(out) / f"{rank}.pt")
    if ranks.joined:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
