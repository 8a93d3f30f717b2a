"""The examples run, with small settings, as their users would run them: in a folder of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def run_example(name: str, *arguments: str, cwd: Path) -> str:
    """The standard output of an example."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py"), *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_custom_loop(tmp_path: Path) -> None:
    output = run_example("custom_loop", "--updates", "800", "--images", "2000", cwd=tmp_path)
    last = output.splitlines()[-1]
    assert last.startswith("update 800: ")
    # The generator keeps its categorical code: of 2.30 nats, Q reads more than a third back.
    assert float(last.split("c1 ")[1].split(",")[0]) > 0.8


SMALL = ("--steps", "3", "--batch-size", "16")


def check_own_images(output: str, run: Path) -> None:
    assert "shows what each code does" in output
    assert (run / "config.json").is_file()
    with Image.open(run / "codes.png") as picture:
        assert picture.width > picture.height > 0


def test_own_images_as_an_array(tmp_path: Path) -> None:
    output = run_example("own_images", *SMALL, "--image-size", "16", "--out", "run", cwd=tmp_path)
    check_own_images(output, tmp_path / "run")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that own_images.py made of a file."""
    folder = tmp_path_factory.mktemp("own-images")
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 300), ("test", 100)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 16, 16), dtype=np.uint8)
        arrays[f"{split}_labels"] = rng.integers(0, 2, count)
    np.savez(folder / "images.npz", **arrays)
    output = run_example("own_images", *SMALL, "--data", "images.npz", "--out", "run", cwd=folder)
    check_own_images(output, folder / "run")
    return folder / "run"


def test_explore_run(trained: Path, tmp_path: Path) -> None:
    picture = str(tmp_path / "sweep.png")
    output = run_example("explore_run", "run", "--out", picture, cwd=trained.parent)
    for code in ("c1", "c2", "c3"):
        assert f"\n{code} (" in output
    assert "accuracy" in output
    with Image.open(picture) as swept:
        assert swept.size == (9 * 16, 2 * 16)  # nine values of each of two codes


FAKE_WANDB = """
import json

class Image:
    def __init__(self, image):
        self.size = image.size

class Run:
    def log(self, values, step):
        shown = {key: value.size if isinstance(value, Image) else value for key, value in values.items()}
        self.note("log", step=step, values=shown)

    def finish(self):
        self.note("finish")

    def note(self, what, **values):
        with open("wandb.jsonl", "a") as file:
            file.write(json.dumps({"what": what, **values}) + "\\n")

def init(**given):
    run = Run()
    run.note("init", **given)
    return run
"""


def test_log_to_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "wandb.py").write_text(FAKE_WANDB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"), prepend=os.pathsep)
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (40, 16, 16), np.uint8))
    run_example("log_to_wandb", "--data", "images.npy", "--steps", "1", "--out", "logged", cwd=tmp_path)
    run_example("log_to_wandb", "--resume", "logged", "--steps", "2", cwd=tmp_path)
    told = [json.loads(line) for line in (tmp_path / "wandb.jsonl").read_text().splitlines()]
    assert [event["what"] for event in told] == ["init", "log", "log", "log", "finish"] * 2
    rows = [json.loads(line) for line in (tmp_path / "logged" / "metrics.jsonl").read_text().splitlines()]
    for step, (begin, row, samples, traversal, _) in enumerate((told[:5], told[5:]), 1):
        assert (begin["id"], begin["resume"], begin["config"]["steps"]) == ("logged", "allow", step)
        assert row["values"] == rows[step - 1] | {"alarms": 0}
        assert [event["step"] for event in (row, samples, traversal)] == [step] * 3
        with Image.open(tmp_path / "logged" / "samples" / f"step-0000000{step}.png") as picture:
            assert samples["values"] == {"samples": list(picture.size)}
        assert list(traversal["values"]) == ["traversal"]


def test_every_example_is_tested() -> None:
    tested = {"log_to_wandb", "custom_loop", "own_images", "explore_run"}
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == tested
