"""The command line: what a run leaves, exact continuation, interruption, and an error for every wrong
flag."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from infogan_fast import train
from infogan_fast.config import CHANGEABLE, Settings, parse, parser, resumed
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.objective.consistency import TRANSFORMATIONS, Transformation
from infogan_fast.training import checkpoint
from infogan_fast.training.step import Objective, TrainingStep

#: Small images and few of them.
SMALL = ["--images", "40", "--image-size", "16", "--batch-size", "8", "--latents", "noise=4,cat=3,uniform=1"]


def run(out: Path, *flags: str) -> int:
    return train.main([*SMALL, "--device", "cpu", "--out", str(out), *flags])


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(out: Path) -> dict[str, Tensor]:
    state = checkpoint.load(checkpoint.listed(out / "checkpoints")[-1])
    networks: dict[str, Tensor] = state["training"]["networks"]
    return networks


def test_what_a_run_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "run"
    assert run(out, "--steps", "5", "--log-every", "2", "--sample-every", "3", "--checkpoint-every", "2") == 0
    said = capsys.readouterr()
    for part in (
        "float32",
        "strokes: 40 images",
        "16 x 16 grey",
        "noise=4,cat=3,uniform=1",
        f"copies    {TRANSFORMATIONS['strokes']}; weight of their consistency 1",
        "L_I/H nats: c1 ",
        "/1.10",
        " | on copies ",
    ):
        assert part in said.out
    assert said.err == ""

    config = json.loads((out / "config.json").read_text())
    assert Settings(**config["settings"]).steps == 5
    assert config["data"] == {
        "source": "strokes: 40 images drawn from seed 0",
        "images": 40,
        "image_size": 16,
        "channels": 1,
    }
    assert config["versions"]["torch"] == torch.__version__
    assert config["machine"]["precision"] == "float32"

    table = rows(out)
    assert [row["step"] for row in table] == [2, 4, 5]
    spec = LatentSpec.parse("noise=4,cat=3,uniform=1")
    for row in table:
        assert list(row) == [
            *("step", "seconds", "d_real", "d_fake", "g", "nll_c1", "nll_c2", "mse_c2", "logvar_c2", "I_c1"),
            *("L_c1", "H_c1", "L_c2", "H_c2", "L_fitted_c2"),
            *(["diversity"] if row["step"] > 2 else []),  # after the samples of updates 3 and 5
            "alarms",
        ]
        assert row["alarms"] == []
        assert 0 < row["I_c1"] < math.log(3)
        assert row["H_c1"] == pytest.approx(math.log(3))
        assert row["L_c1"] == pytest.approx(spec.codes[0].entropy - row["nll_c1"])
        fitted = math.log(2) - 0.5 * math.log(2 * math.pi * math.e * row["mse_c2"])
        assert row["L_fitted_c2"] == pytest.approx(fitted)
    assert [row["seconds"] for row in table] == sorted(row["seconds"] for row in table)

    assert sorted(os.listdir(out / "samples")) == ["step-00000003.png", "step-00000005.png"]
    assert sorted(os.listdir(out / "checkpoints")) == [f"step-0000000{i}.pt" for i in (2, 4, 5)]
    assert sorted(os.listdir(out)) == [
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "samples",
        "traversal.png",
    ]
    with Image.open(out / "samples" / "step-00000005.png") as image:
        assert image.size == (10 * 65 + 1, 3 * 65 + 1)
        assert np.asarray(image).std() > 1
    with Image.open(out / "traversal.png") as image:
        assert image.size[0] > 11 * 65


def test_checkpoints_kept(tmp_path: Path) -> None:
    assert run(tmp_path, "--steps", "4", "--checkpoint-every", "1", "--keep-checkpoints", "2") == 0
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["step-00000003.pt", "step-00000004.pt"]


@pytest.mark.parametrize("amp", [[], ["--amp"]], ids=["float32", "amp"])
def test_continuation_is_exact(tmp_path: Path, amp: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infogan_fast.runtime.device.cpu_has_bf16", lambda: True)
    flags = [*amp, "--log-every", "4", "--ema", "0.9"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(whole, *flags, "--steps", "12") == 0
    assert run(parts, *flags, "--steps", "7") == 0
    assert train.main(["--resume", str(parts), "--steps", "12"]) == 0
    a, b = weights(whole), weights(parts)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    # The first part has a last row of its own at update 7, which starts the next mean anew.
    untimed = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in rows(out)] for out in (whole, parts)
    ]
    assert untimed[0][0] == untimed[1][0]
    assert untimed[0][-1]["step"] == untimed[1][-1]["step"] == 12
    assert untimed[0][-1] == untimed[1][-1]
    for name in ("traversal.png", "samples/step-00000012.png"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()


def signalling(monkeypatch: pytest.MonkeyPatch, at: int, number: int) -> None:
    """Send this process a signal in the middle of an update."""
    original, calls = TrainingStep.__call__, iter(range(1, 1000))

    def call(self: TrainingStep) -> None:
        if next(calls) == at:
            os.kill(os.getpid(), number)
        original(self)

    monkeypatch.setattr(TrainingStep, "__call__", call)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_saves_and_continues(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        signalling(patch, 3, number)
        assert run(parts, "--steps", "6", "--log-every", "2") == 130
    assert signal.getsignal(number) is handler
    assert f"stopped after update 3, saved; continue with --resume {parts}" in capsys.readouterr().out
    assert [row["step"] for row in rows(parts)] == [2]
    assert not (parts / "traversal.png").exists()
    assert train.main(["--resume", str(parts)]) == 0
    assert run(whole, "--steps", "6", "--log-every", "2") == 0
    a, b = weights(whole), weights(parts)
    assert all(torch.equal(a[name], b[name]) for name in a)
    timeless = [[{**row, "seconds": 0} for row in rows(out)] for out in (whole, parts)]
    assert timeless[0] == timeless[1]


def test_second_interruption_ends_at_once(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from infogan_fast import train\n"
        "from infogan_fast.training.step import TrainingStep\n"
        "def call(self):\n"
        "    os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('went on')\n"
        "TrainingStep.__call__ = call\n"
        "sys.exit(train.main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *SMALL, "--out", str(tmp_path / "run")], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGINT
    assert "went on" not in done.stdout


def test_rows_past_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    assert run(tmp_path, "--steps", "4", "--log-every", "1", "--checkpoint-every", "2") == 0
    (tmp_path / "checkpoints" / "step-00000004.pt").unlink()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "sec')
    before = rows_without_time(tmp_path, 4)
    assert train.main(["--resume", str(tmp_path)]) == 0
    assert rows_without_time(tmp_path, 4) == before
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4]


def rows_without_time(out: Path, count: int) -> list[dict[str, Any]]:
    lines = (out / "metrics.jsonl").read_text().splitlines()[:count]
    return [{**json.loads(line), "seconds": 0} for line in lines]


def test_finished_run_makes_its_figure_again(tmp_path: Path) -> None:
    assert run(tmp_path, "--steps", "2") == 0
    before = (tmp_path / "traversal.png").read_bytes()
    (tmp_path / "traversal.png").unlink()
    assert train.main(["--resume", str(tmp_path)]) == 0
    assert (tmp_path / "traversal.png").read_bytes() == before


@pytest.mark.parametrize(
    ("term", "position"), [("d_real", 0), ("nll_c1", 3)], ids=["discriminator", "mutual information"]
)
def test_divergence_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    term: str,
    position: int,
) -> None:
    original, calls = TrainingStep.__call__, iter(range(1, 1000))

    def call(self: TrainingStep) -> None:
        original(self)
        if next(calls) == 5:
            self.terms[position] = math.nan

    monkeypatch.setattr(TrainingStep, "__call__", call)
    assert run(tmp_path, "--steps", "9", "--log-every", "2", "--checkpoint-every", "2") == 2
    error = capsys.readouterr().err
    assert f"training diverged by update 6: {term} not finite" in error
    assert rows(tmp_path)[-1]["alarms"] == ["diverged"]
    assert "step-00000004.pt" in error
    assert "--lr-g" in error
    assert len(error.splitlines()) == 1
    assert checkpoint.listed(tmp_path / "checkpoints")[-1].name == "step-00000004.pt"


def test_diverged_weights_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = TrainingStep.__call__

    def call(self: TrainingStep) -> None:
        original(self)
        with torch.no_grad():
            self.networks.d_head.weight[0, 0] = math.inf

    monkeypatch.setattr(TrainingStep, "__call__", call)
    assert run(tmp_path, "--steps", "9", "--checkpoint-every", "1") == 2
    assert "weights not finite; no checkpoint was written yet" in capsys.readouterr().err
    assert [row["alarms"] for row in rows(tmp_path)] == [["diverged"]]
    assert checkpoint.listed(tmp_path / "checkpoints") == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--steps", "0"], "--steps is 0; expected at least 1"),
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
            "--consistency 2: it is of categorical codes, and --latents noise=5,uniform=2 has none",
        ),
        (["--balance", "-1"], "--balance is -1.0; expected a number of at least 0"),
        (["--balance", "2", "--recipe", "paper"], "--balance 2 needs --consistency WEIGHT"),
        (["--joint-ema", "1"], "--joint-ema is 1.0; expected at least 0 and below 1"),
        (["--joint-ema", "nan"], "--joint-ema is nan"),
        (["--joint-ema", "0.5", "--data", "pictures"], "--joint-ema 0.5 needs --consistency WEIGHT"),
        (["--invariance", "-1"], "--invariance is -1.0; expected a number of at least 0"),
        (
            ["--invariance", "2", "--latents", "noise=5,cat=3,bernoulli=1"],
            "--invariance 2: each is of another uniform or normal code, and --latents "
            "noise=5,cat=3,bernoulli=1 has 0; leave it out",
        ),
        (["--smoothness", "-1"], "--smoothness is -1.0; expected a number of at least 0"),
        (
            ["--smoothness", "1", "--latents", "noise=5,uniform=2"],
            "--smoothness 1: it is of categorical codes, and",
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
            "--equivariance 2: each is of another uniform",
        ),
        (
            ["--equivariance", "2", "--invariance", "1", "--latents", "noise=5,cat=3,normal=1"],
            "--equivariance 2 and --invariance 1: each is of another uniform or normal code, and --latents "
            "noise=5,cat=3,normal=1 has 1; leave it out, or add two",
        ),
        (
            ["--transformation", "rotation=9,flip=1"],
            "--equivariance 0.3 is to how far copies are turned, and those of --transformation rotation=9,",
        ),
        (
            ["--transformation", "scale=0.1"],
            "are mirrored, or not turned; give --equivariance 0, or rotation",
        ),
        (["--recipe", "old"], "--recipe"),
        (["--transformation", "warp=1"], "transformation 'warp=1': cannot read 'warp=1'"),
        (
            ["--transformation", "flip=1", "--recipe", "paper"],
            "--transformation flip=1 needs --consistency WEIGHT",
        ),
        (
            ["--transformation", "flip=1", "--data", "pictures"],
            "--transformation flip=1 needs --consistency WEIGHT",
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
    assert train.main(flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("infogan_fast.train: ")
    assert len(error.splitlines()) == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "run", "--device", "cuda") == 2
    assert "--device cuda: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_cuda_without_its_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        "infogan_fast.runtime.native.cuda_missing", lambda: "no _C_cuda here; build it: pip install ."
    )
    for device in ("auto", "cuda"):
        assert train.main([*SMALL, "--device", device, "--out", str(tmp_path / "run")]) == 2
        assert "no _C_cuda here; build it: pip install ." in capsys.readouterr().err


def test_amp_without_bfloat16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("infogan_fast.runtime.device.cpu_description", lambda: {"flags": "fpu avx2 avx512f"})
    assert run(tmp_path / "run", "--amp") == 2
    assert "--amp: this CPU has no bfloat16 instructions" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["flags", "Features"])
def test_bfloat16_is_found(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    from infogan_fast.runtime.device import amp_dtype

    flag = {"flags": "avx512f avx512_bf16", "Features": "fp asimd bf16"}[key]
    monkeypatch.setattr("infogan_fast.runtime.device.cpu_description", lambda: {key: flag})
    assert amp_dtype(torch.device("cpu")) == torch.bfloat16


def make_run(folder: Path) -> None:
    assert run(folder, "--steps", "2") == 0


def not_a_run(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.txt").touch()


def a_file(folder: Path) -> None:
    folder.touch()


@pytest.mark.parametrize(
    ("prepare", "flags", "message"),
    [
        (make_run, [], "holds a run: continue it with --resume"),
        (not_a_run, [], "is not empty and not a run"),
        (not_a_run, ["--overwrite"], "is not empty and not a run"),
        (a_file, [], "is a file; give a folder with --out"),
    ],
)
def test_folders_that_are_not_free(
    prepare: Callable[[Path], None],
    flags: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    prepare(out)
    capsys.readouterr()
    assert run(out, *flags) == 2
    assert message in capsys.readouterr().err


def test_overwrite_replaces_a_run_and_nothing_else(tmp_path: Path) -> None:
    assert run(tmp_path, "--steps", "3") == 0
    (tmp_path / "notes.txt").touch()
    assert run(tmp_path, "--steps", "2", "--overwrite") == 0
    assert [row["step"] for row in rows(tmp_path)] == [2]
    assert os.listdir(tmp_path / "checkpoints") == ["step-00000002.pt"]
    assert (tmp_path / "notes.txt").exists()


def test_default_folder_names_data_and_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("my digits.npy", np.random.default_rng(0).integers(0, 255, (20, 16, 16), np.uint8))
    assert train.main(["--data", "my digits.npy", "--steps", "1", "--seed", "5", "--latents", "cat=2"]) == 0
    assert (tmp_path / "runs" / "my digits.npy-seed5" / "traversal.png").exists()


def test_unwritable_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run(tmp_path / "file" / "run") == 2
    assert "cannot be written" in capsys.readouterr().err
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1 << 20}))
    assert run(tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "1 MiB free" in error
    assert "--keep-checkpoints" in error


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    assert run(out, "--steps", "2") == 0
    return out


def copy_of(finished: Path, tmp_path: Path) -> Path:
    out = tmp_path / "run"
    subprocess.run(["cp", "-r", str(finished), str(out)], check=True)
    return out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch-size", "16"], "--batch-size (8 in the run, 16 given)"),
        (
            ["--seed", "3", "--lr-g", "0.5"],
            "--seed (0 in the run, 3 given), --lr-g (0.001 in the run, 0.5 given)",
        ),
        (["--latents", "noise=4,cat=4"], "--latents (noise=4,cat=3,uniform=1 in the run"),
        (["--ema", "0.9"], "--ema"),
        (["--consistency", "0"], "--consistency (1.0 in the run, 0.0 given)"),
        (["--balance", "2"], "--balance (1.0 in the run, 2.0 given)"),
        (["--joint-ema", "0"], "--joint-ema (0.9 in the run, 0.0 given)"),
        (["--invariance", "1"], "--invariance (0.0 in the run, 1.0 given)"),
        (["--equivariance", "1"], "--equivariance (0.0 in the run, 1.0 given)"),
        (["--smoothness", "1"], "--smoothness (0.0 in the run, 1.0 given)"),
        (["--smoothness-until", "0"], "--smoothness-until (1500 in the run, 0 given)"),
        (["--restart-q", "0"], "--restart-q (500 in the run, 0 given)"),
        (["--transformation", "flip=1"], "--transformation (rotation=15,scale=0.15"),
        (["--recipe", "paper"], "--recipe (default in the run, paper given)"),
        (["--steps", "1"], "has 2 updates behind it; --steps is 1"),
        (["--steps", "0"], "--steps is 0"),
    ],
)
def test_contradictory_resume(
    finished: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}
    assert train.main(["--resume", str(finished), *flags]) == 2
    assert message in capsys.readouterr().err
    assert {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()} == before


def test_agreeing_resume(finished: Path, tmp_path: Path) -> None:
    out = copy_of(finished, tmp_path)
    same = ["--batch-size", "8", "--latents", "noise=4, cat=3, uniform=1", "--no-amp", "--seed", "0"]
    same += ["--recipe", "default", "--consistency", "1", "--transformation", str(TRANSFORMATIONS["strokes"])]
    assert train.main(["--resume", str(out), *same, "--steps", "3", "--log-every", "1"]) == 0
    assert rows(out)[-1]["step"] == 3
    assert json.loads((out / "config.json").read_text())["settings"]["steps"] == 3


def damage_config(out: Path) -> None:
    (out / "config.json").write_text("{")


def old_config(out: Path) -> None:
    (out / "config.json").write_text(json.dumps({"format": 0, "settings": {}, "data": {}}))


def other_settings(out: Path) -> None:
    config = json.loads((out / "config.json").read_text())
    config["settings"]["warp"] = 9
    (out / "config.json").write_text(json.dumps(config))


def other_data(out: Path) -> None:
    config = json.loads((out / "config.json").read_text())
    config["data"]["images"] = 41
    (out / "config.json").write_text(json.dumps(config))


def no_checkpoint(out: Path) -> None:
    (out / "checkpoints" / "step-00000002.pt").unlink()


def damage_checkpoint(out: Path) -> None:
    (out / "checkpoints" / "step-00000002.pt").write_bytes(b"PK")


def renamed_checkpoint(out: Path) -> None:
    (out / "checkpoints" / "step-00000002.pt").rename(out / "checkpoints" / "step-00000009.pt")


def other_networks(out: Path) -> None:
    path = out / "checkpoints" / "step-00000002.pt"
    state = checkpoint.load(path)
    state["training"]["networks"]["d_head.weight"] = torch.zeros(1, 7)
    checkpoint.save(path, state)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_config, "config.json: cannot be read"),
        (old_config, "config.json: format 0, expected 3"),
        (other_settings, "another version of infogan_fast: warp"),
        (other_data, "was trained on strokes: 40 images"),
        (no_checkpoint, "there is no checkpoint in"),
        (damage_checkpoint, "step-00000002.pt: not a readable checkpoint"),
        (renamed_checkpoint, "step-00000009.pt: does not belong to this run (it is of update 2)"),
        (other_networks, "does not belong to this run"),
    ],
)
def test_damaged_run(
    damage: Callable[[Path], None],
    message: str,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = copy_of(finished, tmp_path)
    damage(out)
    assert train.main(["--resume", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_settings_survive_the_round_trip() -> None:
    settings = Settings(steps=7, fixed_sigma=0.5, latents="cat=3 , uniform=1", amp=True).checked()
    assert settings.latents == "noise=0,cat=3,uniform=1"
    saved = json.loads(json.dumps(vars(settings)))
    assert resumed(saved, {}) == settings
    assert resumed(saved, {"steps": 9}).steps == 9
    own = Settings(invariance=0.0, balance=2.0, transformation="shear=1").checked()
    assert resumed(vars(own), {"invariance": 0.0, "steps": 9}) == replace(own, steps=9)
    own = Settings(equivariance=0.0, balance=2.0, transformation="flip=1").checked()
    assert resumed(vars(own), {"equivariance": 0.0, "steps": 9}) == replace(own, steps=9)


@pytest.mark.parametrize(
    ("flags", "consistency", "transformation"),
    [
        ([], 1.0, "rotation=15,scale=0.15,shear=0,shift=0.06,colour=0,flip=0"),
        (["--data", "mnist"], 1.0, "rotation=15,scale=0.15,shear=0.2,shift=0.06,colour=0,flip=0"),
        (["--data", "fashion-mnist"], 1.0, str(TRANSFORMATIONS["fashion-mnist"])),
        (["--data", "pictures"], 0.0, None),
        (["--data", "pictures", "--consistency", "0.5"], 0.5, str(Transformation())),
        (
            ["--data", "pictures", "--consistency", "2", "--transformation", "flip=1"],
            2.0,
            "rotation=0,scale=0,shear=0,shift=0,colour=0,flip=1",
        ),
        (["--transformation", "shear=0.1"], 1.0, "rotation=0,scale=0,shear=0.1,shift=0,colour=0,flip=0"),
        (["--consistency", "0"], 0.0, None),
        (["--recipe", "paper"], 0.0, None),
        (["--recipe", "paper", "--consistency", "0.5"], 0.5, str(TRANSFORMATIONS["strokes"])),
        (["--latents", "noise=5,uniform=2"], 0.0, None),
        (["--latents", "noise=5,uniform=2", "--consistency", "0"], 0.0, None),
    ],
    ids=lambda value: " ".join(value) or "default" if isinstance(value, list) else "",
)
def test_the_recipe_decides_what_is_not_given(
    flags: list[str], consistency: float, transformation: str | None
) -> None:
    settings = Settings(**parse(flags).given).checked()
    assert (settings.consistency, settings.transformation) == (consistency, transformation)
    assert settings.objective.consistency == consistency
    if transformation is not None:
        assert settings.objective.transformation == Transformation.parse(transformation)
    # What is saved says it all, and is what a resumed run goes by.
    saved = json.loads(json.dumps(vars(settings)))
    assert settings.checked() == settings
    assert resumed(saved, parse(["--resume", "x", *flags, "--steps", "9000"]).given).steps == 9000
    other = ["--resume", "x", "--consistency", "7"] if "noise=5" not in str(flags) else ["--resume", "x"]
    other += ["--recipe", "default" if settings.recipe == "paper" else "paper"]
    with pytest.raises(UserError, match=r"--recipe \(\w+ in the run"):
        resumed(saved, parse(other).given)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], (0.3, 1e-3, 1.0, 0.9, 0.3, 0.02, 0.0, 1500, 500)),
        (["--data", "mnist"], (0.1, 1e-3, 1.0, 0.9, 0.3, 0.02, 1.0, 1500, 500)),
        (["--data", "fashion-mnist"], (0.1, 1e-3, 1.0, 0.9, 0.0, 0.02, 0.0, 1500, 500)),
        (["--recipe", "paper"], (1.0, 2e-4, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0)),
        (["--consistency", "0"], (1.0, 2e-4, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0)),
        (["--data", "pictures"], (1.0, 2e-4, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0)),
        (["--data", "pictures", "--consistency", "1"], (0.1, 1e-3, 1.0, 0.9, 0.0, 0.02, 0.0, 1500, 500)),
        (["--recipe", "paper", "--consistency", "1"], (1.0, 2e-4, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0)),
        (["--lr-q", "5e-4"], (0.3, 5e-4, 1.0, 0.9, 0.3, 0.02, 0.0, 1500, 500)),
        (["--lambda-categorical", "1"], (1.0, 1e-3, 1.0, 0.9, 0.3, 0.02, 0.0, 1500, 500)),
        (["--lambda-categorical", "0"], (0.0, 1e-3, 1.0, 0.9, 0.3, 0.02, 0.0, 1500, 500)),
        (["--balance", "0", "--joint-ema", "0.5"], (0.3, 1e-3, 0.0, 0.5, 0.3, 0.02, 0.0, 1500, 500)),
        (["--invariance", "0"], (0.3, 1e-3, 1.0, 0.9, 0.3, 0.0, 0.0, 1500, 500)),
        (["--recipe", "paper", "--invariance", "1"], (1.0, 2e-4, 0.0, 0.0, 0.0, 1.0, 0.0, 0, 0)),
        (["--equivariance", "0"], (0.3, 1e-3, 1.0, 0.9, 0.0, 0.02, 0.0, 1500, 500)),
        (["--data", "pictures", "--equivariance", "2"], (1.0, 2e-4, 0.0, 0.0, 2.0, 0.0, 0.0, 0, 0)),
        (["--restart-q", "0"], (0.3, 1e-3, 1.0, 0.9, 0.3, 0.02, 0.0, 1500, 0)),
        (["--recipe", "paper", "--restart-q", "7"], (1.0, 2e-4, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 7)),
        (["--data", "mnist", "--smoothness", "0"], (0.1, 1e-3, 1.0, 0.9, 0.3, 0.02, 0.0, 1500, 500)),
        (["--recipe", "paper", "--smoothness", "2"], (1.0, 2e-4, 0.0, 0.0, 0.0, 0.0, 2.0, 0, 0)),
        (["--smoothness-until", "0"], (0.3, 1e-3, 1.0, 0.9, 0.3, 0.02, 0.0, 0, 500)),
        # One code alone has nobody to leave anything to.
        (
            ["--latents", "noise=5,cat=3,uniform=1,bernoulli=2"],
            (0.3, 1e-3, 1.0, 0.9, 0.0, 0.0, 0.0, 1500, 500),
        ),
        (["--latents", "noise=5,cat=3,uniform=1,normal=1"], (0.3, 1e-3, 1.0, 0.9, 0.3, 0.02, 0.0, 1500, 500)),
    ],
)
def test_what_goes_with_consistency(flags: list[str], expected: tuple[float, ...]) -> None:
    settings = Settings(**parse(flags).given).checked()
    for found in (settings, settings.objective):
        decided: tuple[Any, ...] = found.lambda_categorical, found.lr_q, found.balance, found.joint_ema
        decided += found.equivariance, found.invariance, found.smoothness
        decided += found.smoothness_until, found.restart_q
        assert decided == expected
    copies = settings.consistency or settings.equivariance or settings.invariance or settings.smoothness
    assert (settings.transformation is not None) == bool(copies)
    again = parse(["--resume", "x", *flags, "--steps", "9000"]).given
    assert resumed(json.loads(json.dumps(vars(settings))), again).steps == 9000


def test_the_papers_recipe_is_the_papers_objective(tmp_path: Path) -> None:
    assert run(tmp_path, "--steps", "1", "--recipe", "paper") == 0
    assert "I_c1" not in rows(tmp_path)[0]
    assert Settings(recipe="paper").checked().objective == Objective()


def test_every_setting_has_a_flag_and_help_says_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    actions = {action.dest: action for action in parser()._actions}
    assert set(vars(Settings())) <= set(actions)
    for name in vars(Settings()):
        assert "(default: " in (actions[name].help or ""), name
    assert set(vars(Settings())) >= CHANGEABLE
    with pytest.raises(SystemExit) as stop:
        train.main(["--help"])
    assert stop.value.code == 0
    assert "optimisation:" in capsys.readouterr().out


def test_flags_arrive_in_the_objective() -> None:
    flags = ["--lr-d", "1", "--lr-q", "2", "--lr-g", "3", "--beta1", ".1", "--beta2", ".2", "--ema", ".3"]
    flags += ["--lambda-categorical", "4", "--lambda-continuous", "5", "--fixed-sigma", "6"]
    flags += ["--balance", "9", "--joint-ema", ".4"]
    flags += ["--consistency", "7", "--equivariance", "10", "--invariance", "8"]
    flags += ["--transformation", "colour=0.5,rotation=1", "--restart-q", "11"]
    flags += ["--smoothness", "12", "--smoothness-until", "13"]
    request = parse([*flags, "--mi-gradient", "trunk", "--schedule", "one-stage"])
    objective = Settings(**request.given).checked().objective
    assert vars(objective) == {
        "lr_d": 1.0,
        "lr_q": 2.0,
        "lr_g": 3.0,
        "beta1": 0.1,
        "beta2": 0.2,
        "ema": 0.3,
        "lambda_categorical": 4.0,
        "lambda_continuous": 5.0,
        "fixed_sigma": 6.0,
        "mi_gradient": "trunk",
        "schedule": "one-stage",
        "consistency": 7.0,
        "balance": 9.0,
        "joint_ema": 0.4,
        "equivariance": 10.0,
        "restart_q": 11,
        "smoothness": 12.0,
        "smoothness_until": 13,
        "invariance": 8.0,
        "transformation": Transformation(1, 0, 0, 0, 0.5),
    }


def test_colour_and_trunk_and_fixed_sigma(tmp_path: Path) -> None:
    flags = [
        "--channels",
        "3",
        "--fixed-sigma",
        "1",
        "--mi-gradient",
        "trunk",
        "--steps",
        "2",
        "--threads",
        "1",
    ]
    assert run(tmp_path, *flags) == 0
    with Image.open(tmp_path / "samples" / "step-00000002.png") as image:
        assert (np.asarray(image) != np.asarray(image.convert("L"))[..., None]).any()


def test_profile_on_a_cpu_leaves_a_trace_of_the_updates_asked_for(tmp_path: Path) -> None:
    assert run(tmp_path, "--steps", "5", "--profile", "2:4", "--device", "cpu") == 0
    events = json.loads((tmp_path / "profile.json").read_text())["traceEvents"]
    names = [event.get("name", "") for event in events]
    assert names.count("infogan_fast::gather_images") == 2
    assert names.count("infogan_fast::sample_latents") == 2 * 2  # and of the copies


def test_an_interrupted_profile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signalling(monkeypatch, 3, signal.SIGINT)
    assert run(tmp_path, "--steps", "9", "--profile", "1:8", "--device", "cpu") == 130
    names = [e.get("name", "") for e in json.loads((tmp_path / "profile.json").read_text())["traceEvents"]]
    assert names.count("infogan_fast::gather_images") == 2


def test_every_phase_has_its_range(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ranges: list[tuple[str, str]] = []

    class Nvtx:
        @staticmethod
        def annotate(name: str, domain: str) -> contextlib.AbstractContextManager[None]:
            ranges.append((domain, name))
            return contextlib.nullcontext()

    monkeypatch.setattr("infogan_fast.runtime.profiling.nvtx", Nvtx)
    assert run(tmp_path, "--steps", "2") == 0
    phases = ["gather", "transform", "sample", "generate", "discriminator gradients", "discriminator update"]
    phases += ["generator gradients", "generator update"]
    assert ranges == [("infogan_fast", name) for name in phases * 2]


def test_without_the_nvtx_package_there_are_no_ranges(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("infogan_fast.runtime.profiling.nvtx", None)
    assert run(tmp_path, "--steps", "1") == 0


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
        (["--steps-per-replay", "2"], "--steps is 5; expected a multiple of --steps-per-replay 2"),
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


def test_a_resumed_run_is_not_profiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        signalling(patch, 3, signal.SIGINT)
        assert run(tmp_path, "--steps", "9", "--profile", "1:8") == 130
    (tmp_path / "profile.json").unlink()
    assert train.main(["--resume", str(tmp_path)]) == 0
    assert not (tmp_path / "profile.json").exists()
    assert train.main(["--resume", str(tmp_path), "--steps", "12", "--profile", "4:10"]) == 2
    assert train.main(["--resume", str(tmp_path), "--steps", "12", "--profile", "10:12"]) == 0
    names = [e.get("name", "") for e in json.loads((tmp_path / "profile.json").read_text())["traceEvents"]]
    assert names.count("infogan_fast::gather_images") == 2


def test_compile_compiles_the_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[InfoGAN] = []
    monkeypatch.setattr(InfoGAN, "compile_parts", lambda networks: compiled.append(networks))
    assert run(tmp_path / "without", "--steps", "1") == 0
    assert not compiled
    assert run(tmp_path / "with", "--steps", "1", "--compile") == 0
    assert len(compiled) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("flags", [[], ["--amp"], ["--schedule", "one-stage", "--ema", "0.9"]], ids=str)
def test_replays_equal_eager_updates_and_a_resumed_run_an_uninterrupted_one(
    tmp_path: Path, flags: list[str]
) -> None:
    eager, graph, parts = (tmp_path / name for name in ("eager", "graph", "parts"))
    # The last update of a run has a sample, whose diversity is in its row: of the first part too.
    often = ["--log-every", "2", "--checkpoint-every", "4", "--sample-every", "4", "--device", "cuda", *flags]
    assert run(eager, "--steps", "8", *often, "--no-cuda-graph") == 0
    assert run(graph, "--steps", "8", *often, "--steps-per-replay", "2") == 0
    assert run(parts, "--steps", "4", *often) == 0
    assert train.main(["--resume", str(parts), "--steps", "8"]) == 0
    wanted = weights(eager)
    for out in (graph, parts):
        assert all(torch.equal(wanted[name], value) for name, value in weights(out).items())
        for mine, other in zip(rows(out), rows(eager), strict=True):
            assert {**mine, "seconds": 0} == {**other, "seconds": 0}


@pytest.mark.gpu
def test_phases_of_a_profile_run_outside_of_the_graph(tmp_path: Path) -> None:
    plain, profiled = tmp_path / "plain", tmp_path / "profiled"
    for out, flags in ((plain, []), (profiled, ["--profile", "2:4", "--profile-phases"])):
        assert run(out, "--steps", "6", "--device", "cuda", *flags) == 0
    a, b = weights(plain), weights(profiled)
    assert all(torch.equal(a[name], b[name]) for name in a)
