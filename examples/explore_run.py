"""Explore a trained run: generate images, encode them, sweep a code, and print the evaluation.

python examples/explore_run.py runs/strokes-seed0
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import infogan_fast


def save_rows(rows: list[Tensor], path: Path) -> None:
    """Save images float [N, C, S, S] in [0, 1] as a picture, one row for each tensor."""
    grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)  # [C, rows * S, N * S]
    pixels = (grid * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    Image.fromarray(pixels.squeeze()).save(path)


def print_evaluation(evaluation: dict[str, Any]) -> None:
    """The main figures of each code; see docs/evaluation.md."""
    for name, code in evaluation["codes"].items():
        line = f"{name} ({code['kind']}): L_I {code['L']:.2f} of {code['H']:.2f} nats"
        if "accuracy" in code:
            line += f", accuracy {code['accuracy']:.3f}"
        for measure, sweep in code.get("sweeps", {}).items():
            if sweep["mean"] is not None:
                line += f", moves {measure} {sweep['mean']:.2f}"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder that training left")
    parser.add_argument("--out", type=Path, default=Path("sweep.png"), help="picture of the sweep")
    args = parser.parse_args()

    run = infogan_fast.load_run(args.run)
    print(f"{run.folder}: {run.updates} updates, latents {run.spec}")

    # Generate images with chosen codes, and read the codes back.
    for code in run.spec.categorical_codes:
        images = run.generate(n=100, seed=0, **{code.name: 0})
        read = run.encode(images)[code.name]
        print(f"{code.name} = 0 is read back from {(read == 0).double().mean():.0%} of the images")

    # Sweep each continuous code: a row holds the same noise and the same other codes throughout.
    rows = []
    for code in run.spec.ordered_codes:
        sweep = torch.linspace(-2.0, 2.0, 9).tolist()
        rows.append(torch.cat([run.generate(n=1, seed=0, **{code.name: value}) for value in sweep]))
    if rows:
        save_rows(rows, args.out)
        print(f"{args.out} sweeps {', '.join(code.name for code in run.spec.ordered_codes)} from -2 to 2")

    print_evaluation(run.evaluate())


if __name__ == "__main__":
    main()
