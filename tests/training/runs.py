"""Small runs for tests of training, and what they leave."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from networks.narrow import narrow
from torch import Tensor

from infogan_fast.train import main as train_main
from infogan_fast.training import checkpoint
from infogan_fast.training.step import TrainingStep

#: Small images, few of them, and few weights.
SMALL = ["--images", "40", "--image-size", "16", "--batch-size", "8", "--latents", "noise=4,cat=3,uniform=1"]
SMALL += ["--network", narrow()]


def run(out: Path, *flags: str) -> int:
    """Train on few and small drawings, on the CPU unless the flags say otherwise."""
    return train_main([*SMALL, "--device", "cpu", "--out", str(out), *flags])


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(out: Path) -> dict[str, Tensor]:
    state = checkpoint.load(checkpoint.listed(out / "checkpoints")[-1])
    networks: dict[str, Tensor] = state["training"]["networks"]
    return networks


def rows_without_time(out: Path, count: int) -> list[dict[str, Any]]:
    lines = (out / "metrics.jsonl").read_text().splitlines()[:count]
    return [{**json.loads(line), "seconds": 0} for line in lines]


def signalling(monkeypatch: pytest.MonkeyPatch, at: int, number: int) -> None:
    """Send this process a signal in the middle of an update."""
    original, calls = TrainingStep.__call__, iter(range(1, 1000))

    def call(self: TrainingStep) -> None:
        if next(calls) == at:
            os.kill(os.getpid(), number)
        original(self)

    monkeypatch.setattr(TrainingStep, "__call__", call)


def copy_of(finished: Path, tmp_path: Path) -> Path:
    out = tmp_path / "run"
    subprocess.run(["cp", "-r", str(finished), str(out)], check=True)
    return out
