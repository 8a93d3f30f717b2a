"""Log a training run to Weights & Biases: rows, pictures and settings, through a callback.

pip install wandb && wandb login
python examples/log_to_wandb.py --out runs/logged
python examples/log_to_wandb.py --resume runs/logged --steps 3000
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import wandb
from PIL import Image

import infogan_fast
from infogan_fast.training.callbacks import Callback


class WandbLogger(Callback):
    """Logs a run under the name of its folder; a resumed run continues there.

    W&B keeps what it has of a step, so rows that a resumed run gives again appear once.
    """

    def __init__(self, project: str) -> None:
        self._project = project

    def begin(self, folder: Path, step: int) -> None:
        settings = json.loads((folder / "config.json").read_text())["settings"]
        self._run = wandb.init(
            project=self._project, name=folder.name, id=folder.name, resume="allow", config=settings
        )

    def row(self, row: dict[str, Any]) -> None:
        numbers = {key: value for key, value in row.items() if isinstance(value, (int, float))}
        self._run.log(numbers | {"alarms": len(row["alarms"])}, step=row["step"])

    def picture(self, name: str, step: int, image: Image.Image) -> None:
        self._run.log({name: wandb.Image(image)}, step=step)

    def done(self, folder: Path) -> None:
        self._run.finish()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--project", default="infogan")
    parser.add_argument("--data", help="a name or a path, as for python -m infogan_fast.train")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--out", type=Path, help="folder of a new run")
    parser.add_argument("--resume", type=Path, help="folder of a run to continue")
    args = parser.parse_args()
    infogan_fast.train(
        args.data, steps=args.steps, out=args.out, resume=args.resume, callbacks=WandbLogger(args.project)
    )


if __name__ == "__main__":
    main()
