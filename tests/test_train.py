"""The train command: an error for every wrong flag."""

from __future__ import annotations

import copy
import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from training.runs import run

import infogan_fast
from infogan_fast.analysis.run import load_run
from infogan_fast.presets import PRESETS
from infogan_fast.train import main as train_main
from infogan_fast.training.run_folder import read_metrics


def test_the_function_goes_to_other_processes() -> None:
    """``infogan_fast.train`` is a module that can be called."""
    for found in (pickle.loads(pickle.dumps(infogan_fast.train)), copy.deepcopy(infogan_fast.train)):
        assert found is infogan_fast.train


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--steps", "0"], "--steps is 0; expected 1 to 16777215"),
        (["--batch-size", "1"], "--batch-size is 1; expected at least 2"),
        (["--log-every", "0"], "--log-every is 0"),
        (["--sample-every", "-1"], "--sample-every is -1"),
        (["--checkpoint-every", "0"], "--checkpoint-every is 0"),
        (["--keep-checkpoints", "0"], "--keep-checkpoints is 0"),
        (["--threads", "0"], "--threads is 0"),
        (["--images", "0"], "--images is 0"),
        (["--image-size", "8"], "--image-size is 8; expected at least 16"),
        (["--lr-g", "0"], "--lr-g is 0.0; expected a number above 0"),
        (["--lr-d", "nan"], "--lr-d is nan"),
        (["--lr-q", "inf"], "--lr-q is inf"),
        (["--beta1", "1"], "--beta1 is 1.0; expected at least 0 and below 1"),
        (["--beta2", "-0.1"], "--beta2 is -0.1"),
        (["--ema", "1"], "--ema is 1.0"),
        (["--leaky-slope", "-1"], "--leaky-slope is -1.0"),
        (["--lambda-categorical", "-1"], "--lambda-categorical is -1.0"),
        (["--lambda-continuous", "nan"], "--lambda-continuous is nan"),
        (["--consistency", "-1"], "--consistency is -1.0; expected a number of at least 0"),
        (["--consistency", "inf"], "--consistency is inf"),
        (
            ["--consistency", "2", "--latents", "noise=5,uniform=2"],
            "--consistency 2 needs a categorical code, and --latents noise=5,uniform=2 has none;",
        ),
        (["--balance", "-1"], "--balance is -1.0; expected a number of at least 0"),
        (["--balance", "2", "--recipe", "paper"], "--balance 2 needs --consistency WEIGHT"),
        (["--joint-ema", "1"], "--joint-ema is 1.0; expected at least 0 and below 1"),
        (["--joint-ema", "nan"], "--joint-ema is nan"),
        (["--joint-ema", "0.5", "--data", "pictures"], "--joint-ema 0.5 needs --consistency WEIGHT"),
        (["--invariance", "-1"], "--invariance is -1.0; expected a number of at least 0"),
        (
            ["--invariance", "2", "--latents", "noise=5,cat=3,bernoulli=1"],
            "--invariance 2 needs a uniform or normal code, and --latents noise=5,cat=3,bernoulli=1 has none",
        ),
        (["--smoothness", "-1"], "--smoothness is -1.0; expected a number of at least 0"),
        (
            ["--smoothness", "1", "--latents", "noise=5,uniform=2"],
            "--smoothness 1 needs a categorical code, and",
        ),
        (["--smoothness-until", "-1"], "--smoothness-until is -1; expected at least 0"),
        (
            ["--smoothness-until", "7", "--steps-per-replay", "5"],
            "--smoothness-until is 7; expected a multiple of",
        ),
        (["--restart-q", "-1"], "--restart-q is -1; expected at least 0"),
        (
            ["--restart-q", "7", "--steps-per-replay", "5"],
            "--restart-q is 7; expected a multiple of --steps-per",
        ),
        (["--equivariance", "nan"], "--equivariance is nan; expected a number of at least 0"),
        (
            ["--equivariance", "2", "--latents", "noise=5,cat=3"],
            "--equivariance 2 needs a uniform or normal code, and",
        ),
        (
            ["--equivariance", "2", "--invariance", "1", "--latents", "noise=5,cat=3,normal=1"],
            "--equivariance 2 and --invariance 1 need a uniform or normal code each, and --latents "
            "noise=5,cat=3,normal=1 has only c2; leave one out, or add a code, for example --latents",
        ),
        (
            ["--transformation", "rotation=9,flip=1"],
            "--equivariance 0.3 follows how far copies are turned, and --transformation rotation=9,",
        ),
        (
            ["--transformation", "scale=0.1"],
            "mirrors them, or does not turn them; give --equivariance 0, or rotation",
        ),
        (["--recipe", "old"], "--recipe"),
        (["--transformation", "warp=1"], "transformation 'warp=1': cannot read 'warp=1'"),
        (
            ["--transformation", "flip=1", "--recipe", "paper"],
            "flip=1 needs --consistency WEIGHT, such as 1, or one of --equivariance",
        ),
        (
            ["--transformation", "flip=1", "--data", "pictures"],
            "flip=1 needs --consistency WEIGHT, such as 1, or one of --equivariance",
        ),
        (["--fixed-sigma", "0"], "--fixed-sigma is 0.0"),
        (["--fixed-sigma", "1e-4"], "--fixed-sigma is 0.0001"),
        (["--seed", str(2**63)], "--seed is 9223372036854775808; expected a 64-bit integer"),
        (["--latents", "noise=5"], "needs at least one code"),
        (["--latents", "fish=5"], "unknown kind 'fish'"),
        (["--mi-gradient", "both"], "--mi-gradient"),
        (["--channels", "2"], "--channels"),
        (["--steps", "many"], "--steps"),
        (["--step", "5"], "--step"),
        (["--device", "tpu"], "--device"),
        (["--data", "nowhere/to/be/found"], "nowhere/to/be/found"),
        (["--resume", "nowhere", "--out", "x"], "leave --out out"),
        (["--resume", "nowhere", "--overwrite"], "leave --overwrite out"),
        (["--resume", "nowhere"], "there is no nowhere/config.json"),
        (["--threads", "100000"], "--threads is 100000; expected 1 to 1024"),
        (
            ["--lambda-categorical", "2", "--latents", "noise=5,uniform=2"],
            "--lambda-categorical 2.0 is of categorical codes, and --latents noise=5,uniform=2 has none;",
        ),
        (
            ["--lambda-continuous", "2", "--latents", "noise=5,cat=3"],
            "--lambda-continuous 2.0 is of continuous codes, and --latents noise=5,cat=3 has none; leave",
        ),
        (
            ["--fixed-sigma", "2", "--latents", "noise=5,cat=3,bernoulli=2"],
            "--fixed-sigma 2.0 is of uniform or normal codes, and --latents noise=5,cat=3,bernoulli=2 has",
        ),
        (["--smoothness-until", "100"], "--smoothness-until 100 needs --smoothness WEIGHT, such as 1; leave"),
        (["--data", "mnist", "--data-dir", "no/where"], "--data-dir no/where: there is no folder no"),
        (
            ["--pixel-range", "-1..1"],
            "range of its pixels is known; leave out --pixel-range -1..1",
        ),
        (["--out", ""], "argument --out: is empty; expected a path"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_flags(
    flags: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train_main(flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("infogan_fast.train: ")
    assert len(error.splitlines()) == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--profile", "4"], "--profile is '4'; expected START:STOP"),
        (["--profile", "4:4"], "--profile is '4:4'; expected START:STOP"),
        (["--profile", "-1:4"], "--profile"),
        (
            ["--profile", "3:9"],
            "--profile is 3:9; expected multiples of --steps-per-replay 1, up to --steps 5",
        ),
        (["--profile-phases"], "--profile-phases needs --profile START:STOP"),
        (["--steps-per-replay", "0"], "--steps-per-replay is 0; expected at least 1"),
        (
            ["--steps-per-replay", "2"],
            "of --steps-per-replay 2: give --steps 6, or --steps-per-replay 1",
        ),
        (
            ["--steps-per-replay", "5"],
            "--steps-per-replay 5: training runs on the CPU, so there can be no CUDA",
        ),
        (["--steps-per-replay", "5", "--no-cuda-graph"], "--steps-per-replay 5 needs --cuda-graph"),
        (["--cuda-graph"], "--cuda-graph: training runs on the CPU, so there can be no CUDA graph"),
        (["--schedule", "both"], "--schedule"),
    ],
    ids=str,
)
def test_what_cannot_be_replayed_or_profiled_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert run(tmp_path / "run", "--steps", "5", "--device", "cpu", *flags) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains_generates_and_resumes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infogan_fast.runtime.device.cpu_has_bf16", lambda: True)
    preset = PRESETS[name]
    size, channels = preset["image_size"], preset["channels"]
    data = np.random.default_rng(0).integers(0, 256, (12, size, size, channels), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=data)
    flags = ["--batch-size", "4", "--log-every", "1", "--checkpoint-every", "1", "--keep-checkpoints", "1"]
    folder, source = str(tmp_path / "run"), ["--preset", name, "--data", str(tmp_path / "data.npz")]
    amp_flags = ["--amp"] if name in ("svhn", "chairs") else []
    assert train_main([*source, *flags, *amp_flags, "--steps", "1", "--out", folder]) == 0
    assert train_main(["--resume", folder, "--steps", "2"]) == 0
    loaded = load_run(folder, device="cpu")
    assert loaded.updates == 2
    made = loaded.generate(5, seed=1)
    assert made.shape == (5, channels, size, size)
    rows = read_metrics(Path(folder))
    assert all(math.isfinite(value) for row in rows for value in row.values() if isinstance(value, float))
