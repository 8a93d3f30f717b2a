"""How a run is set up: the device, exact continuation, and runs that cannot be continued."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks.narrow import narrow
from PIL import Image
from training.runs import SMALL, copy_of, rows, run, signalling, weights

import infogan_fast
from infogan_fast.config import Config
from infogan_fast.data.registry import SOURCES
from infogan_fast.errors import UserError
from infogan_fast.runtime import threads
from infogan_fast.runtime.job import Job
from infogan_fast.train import main as train_main
from infogan_fast.training import checkpoint, session
from infogan_fast.training.step import TrainingStep


@pytest.mark.parametrize("amp", [[], ["--amp"]], ids=["float32", "amp"])
def test_continuation_is_exact(tmp_path: Path, amp: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infogan_fast.runtime.device.cpu_has_bf16", lambda: True)
    flags = [*amp, "--log-every", "4", "--ema", "0.9"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(whole, *flags, "--steps", "12") == 0
    assert run(parts, *flags, "--steps", "7") == 0
    assert train_main(["--resume", str(parts), "--steps", "12"]) == 0
    a, b = weights(whole), weights(parts)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    # The first part has a last row of its own at update 7, after which the next mean starts.
    untimed = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in rows(out)] for out in (whole, parts)
    ]
    assert untimed[0][0] == untimed[1][0]
    assert untimed[0][-1]["step"] == untimed[1][-1]["step"] == 12
    assert untimed[0][-1] == untimed[1][-1]
    for name in ("traversal.png", "samples/step-00000012.png"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()


@pytest.mark.parametrize("change", ["versions", "machine", None])
def test_a_deterministic_run_goes_on_where_its_bits_are_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str | None
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    flags = ["--deterministic", "--threads", "1", "--log-every", "2"]
    assert run(whole, *flags, "--steps", "4") == 0
    assert run(parts, *flags, "--steps", "2") == 0
    path = parts / "config.json"
    config = json.loads(path.read_text())
    name = {"versions": "torch", "machine": "hardware", None: "numpy"}[change]
    config[change or "versions"][name] = "9.9"
    path.write_text(json.dumps(config))
    capsys.readouterr()
    status = train_main(["--resume", str(parts), "--steps", "4", "--threads", "1"])
    if change is not None:
        assert status == 2
        assert f"was trained with {name} 9.9, and this is {name} " in capsys.readouterr().err
        return
    assert status == 0
    assert all(torch.equal(value, weights(parts)[name]) for name, value in weights(whole).items())
    assert rows(whole)[-1]["g"] == rows(parts)[-1]["g"]


def test_a_deterministic_run_needs_its_threads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--deterministic", "--threads", "1", "--steps", "1") == 0
    assert train_main(["--resume", str(tmp_path), "--steps", "2", "--threads", "2"]) == 2
    assert "1 thread, and this is hardware" in capsys.readouterr().err


def test_threads_are_of_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one run sets is not the process's number to another one; what the caller sets is."""
    before = torch.get_num_threads()
    used = []
    update = TrainingStep.__call__

    def noted(self: TrainingStep) -> None:
        used.append(torch.get_num_threads())
        update(self)

    monkeypatch.setattr(TrainingStep, "__call__", noted)
    monkeypatch.setattr(threads, "_set", None)
    torch.set_num_threads(2)
    try:
        usable = threads.usable_threads()
        for name, flags in (("one", ["--threads", "1"]), ("more", []), ("again", ["--threads", "1"])):
            assert run(tmp_path / name, *flags, "--steps", "1") == 0
        assert threads.usable_threads() == usable
        torch.set_num_threads(3)
        assert run(tmp_path / "chosen", "--steps", "1") == 0
    finally:
        torch.set_num_threads(before)
    assert used[:3] == [1, usable, 1] and used[3] == max(usable, min(3, used[3]))


def test_a_forked_process_trains_with_one_thread(tmp_path: Path) -> None:
    """OpenMP's threads do not survive a fork, and would be waited for without end."""
    code = (
        "import multiprocessing, pathlib, sys, torch, infogan_fast\n"
        "out = pathlib.Path(sys.argv[1])\n"
        "def train(name):\n"
        "    run = infogan_fast.train(images=60, image_size=16, latents='noise=4,cat=3', batch_size=12,\n"
        "        network=sys.argv[2], device='cpu', steps=1, threads=1, out=out / name, progress=False)\n"
        "    return float(run.generate(2, seed=1).sum())\n"
        "torch.set_num_threads(2)\n"
        "torch.ones(1 << 22).add(1)\n"
        "train('parent')\n"
        "infogan_fast.train(images=60, image_size=16, latents='noise=4,cat=3', batch_size=12, steps=1,\n"
        "    network=sys.argv[2], device='cpu', out=out / 'several', progress=False)\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        "    print(pool.apply_async(train, ('child',)).get(60))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), narrow()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "mode",
    [
        lambda: torch.no_grad(),
        lambda: torch.inference_mode(),
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: default_dtype(torch.float64),
        lambda: torch.device("meta"),
    ],
    ids=["no_grad", "inference_mode", "autocast", "float64", "meta"],
)
def test_the_caller_s_modes_change_nothing(tmp_path: Path, mode: Callable[[], Any]) -> None:
    small: dict[str, Any] = {"images": 60, "image_size": 16, "latents": "noise=4,cat=3", "network": narrow()}
    small |= {"batch_size": 12, "device": "cpu", "steps": 2, "threads": 1, "progress": False}
    usual = infogan_fast.train(**small, out=tmp_path / "usual")
    with mode():
        found = infogan_fast.train(**small, out=tmp_path / "found")
    assert torch.get_default_dtype() == torch.float32
    assert found.digest == usual.digest == infogan_fast.load_run(tmp_path / "found", device="cpu").digest
    assert (
        found.networks.d_head.weight.dtype == torch.float32
        and not found.networks.d_head.weight.is_inference()
    )


@pytest.mark.parametrize("door", ["flag", "python"])
def test_a_home_folder_in_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    if door == "flag":
        assert train_main([*SMALL, "--steps", "1", "--out=~/run"]) == 0
    else:
        small: dict[str, Any] = {"images": 60, "image_size": 16, "network": narrow(), "batch_size": 12}
        infogan_fast.train(**small, device="cpu", steps=1, out="~/run", progress=False)
    assert infogan_fast.load_run("~/run", device="cpu").folder == tmp_path / "run"
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


def test_cublas_is_set_up_before_cuda_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """cuBLAS reads the variable once; to choose a device begins CUDA."""
    begun: list[str | None] = []

    def choose(*_: object) -> torch.device:
        begun.append(os.environ.get("CUBLAS_WORKSPACE_CONFIG"))
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        return torch.device("cpu")

    monkeypatch.setattr(session, "choose_device", choose)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "x")  # so that it is put back
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    config = Config.from_options({"deterministic": True, "device": "auto", "threads": 1}).checked()
    session._set_up(config, Job())
    assert begun == [":4096:8"]
    session._set_up(config, Job())  # another run of the process
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    with pytest.raises(UserError, match="set CUBLAS_WORKSPACE_CONFIG=:4096:8 before this process first uses"):
        session._set_up(config, Job())


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
        assert train_main([*SMALL, "--device", device, "--out", str(tmp_path / "run")]) == 2
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


def test_onednn_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("infogan_fast.training.session.onednn_missing", lambda: "PyTorch has none")
    assert run(tmp_path / "run", "--linear", "onednn") == 2
    assert "--linear onednn: PyTorch has none; leave --linear out" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_default_folder_names_data_and_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("my digits.npy", np.random.default_rng(0).integers(0, 255, (20, 16, 16), np.uint8))
    assert train_main(["--data", "my digits.npy", "--steps", "1", "--seed", "5", "--latents", "cat=2"]) == 0
    assert (tmp_path / "runs" / "my digits.npy-seed5" / "traversal.png").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    assert run(out, "--steps", "2") == 0
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
    assert train_main(["--resume", str(finished), *flags]) == 2
    assert message in capsys.readouterr().err
    assert {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()} == before


def test_agreeing_resume(finished: Path, tmp_path: Path) -> None:
    out = copy_of(finished, tmp_path)
    same = ["--batch-size", "8", "--latents", "noise=4, cat=3, uniform=1", "--no-amp", "--seed", "0"]
    same += [
        "--recipe",
        "default",
        "--consistency",
        "1",
        "--transformation",
        str(SOURCES["strokes"].transformation),
    ]
    assert train_main(["--resume", str(out), *same, "--steps", "3", "--log-every", "1"]) == 0
    assert rows(out)[-1]["step"] == 3
    assert json.loads((out / "config.json").read_text())["settings"]["steps"] == 3


def test_files_may_move_between_parts_of_a_run(tmp_path: Path) -> None:
    before, after = tmp_path / "sha256-of-nothing", tmp_path / "after"
    before.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 16), np.uint8)
    for name, kind, values in (("images-idx3", 0x803, pixels), ("labels-idx1", 0x801, pixels[:, 0, 0])):
        header = np.array([kind, *values.shape], ">u4").tobytes()
        (before / f"train-{name}-ubyte").write_bytes(header + values.tobytes())
    flags = ["--data", "mnist", "--data-dir", str(before), "--batch-size", "4", "--device", "cpu"]
    assert train_main([*flags, "--steps", "1", "--out", str(tmp_path / "run")]) == 0
    before.rename(after)
    flags = ["--resume", str(tmp_path / "run"), "--data-dir", str(after), "--steps", "2"]
    assert train_main(flags) == 0


def test_damaged_pictures_are_named_in_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    for i in range(9):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{i}.png")
    (tmp_path / "data" / "4.png").write_bytes(b"not a picture")
    flags = ["--data", str(tmp_path / "data"), "--batch-size", "4", "--latents", "noise=4,cat=3"]
    flags += ["--device", "cpu", "--steps", "1", "--out", str(tmp_path / "run")]
    assert train_main(flags) == 2 and "or leave it out with --skip-damaged" in capsys.readouterr().err
    assert train_main([*flags, "--skip-damaged"]) == 0
    assert f"left out  1 files; {tmp_path / 'run' / 'left-out.txt'} names them" in capsys.readouterr().out
    listed = (tmp_path / "run" / "left-out.txt").read_text()
    assert listed == f"{tmp_path / 'data' / '4.png'}: not a picture that Pillow can read, or damaged\n"
    assert train_main(["--resume", str(tmp_path / "run"), "--steps", "2"]) == 0
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "data" / "4.png")
    assert train_main([*flags, "--skip-damaged", "--overwrite"]) == 0
    assert not (tmp_path / "run" / "left-out.txt").exists()


def test_a_tenth_of_5000_photographs_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFOGAN_FAST_CACHE", str(tmp_path / "cache"))
    draws = np.random.default_rng(0)
    folder = tmp_path / "photographs"
    folder.mkdir()
    damaged = set(draws.choice(5000, 500, replace=False).tolist())
    for i, pixels in enumerate(draws.integers(0, 256, (5000, 16, 16, 3), np.uint8)):
        path = folder / f"{i:04}.jpg"
        Image.fromarray(pixels).save(path)
        if i in damaged:
            content = path.read_bytes()
            path.write_bytes((content[: len(content) // 2], b"", draws.bytes(900), content[20:])[i % 4])
    flags = ["--data", str(folder), "--skip-damaged", "--batch-size", "4", "--latents", "noise=4,cat=3"]
    assert train_main([*flags, "--device", "cpu", "--steps", "2", "--out", str(tmp_path / "run")]) == 0
    lines = (tmp_path / "run" / "left-out.txt").read_text().splitlines()
    assert {line.partition(": ")[0] for line in lines} == {str(folder / f"{i:04}.jpg") for i in damaged}
    assert len(lines) == 500
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["images"] == 4500


def test_images_may_move_if_they_stay_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 16), np.uint8)
    for name, images in (
        ("first", pixels),
        ("moved", pixels),
        ("other", pixels[::-1]),
        ("fewer", pixels[1:]),
    ):
        np.save(tmp_path / f"{name}.npy", images)
    out = tmp_path / "run"
    flags = ["--batch-size", "4", "--latents", "noise=4,cat=3", "--device", "cpu", "--steps", "1"]
    assert train_main(["--data", str(tmp_path / "first.npy"), *flags, "--out", str(out)]) == 0
    (tmp_path / "first.npy").unlink()

    def resume(name: str) -> int:
        return train_main(["--resume", str(out), "--data", str(tmp_path / f"{name}.npy"), "--steps", "2"])

    assert resume("other") == 2
    error = capsys.readouterr().err
    assert "was trained on first.npy: 12 images" in error and "other.npy, with other pixels" in error
    assert resume("fewer") == 2 and "this is fewer.npy: 11 images" in capsys.readouterr().err
    assert resume("moved") == 0
    config = json.loads((out / "config.json").read_text())
    assert config["settings"]["data"] == str(tmp_path / "moved.npy")
    with pytest.raises(UserError, match=r"in memory.*with other pixels; a dataset must give the same"):
        infogan_fast.train(data=pixels[::-1].copy(), resume=out, steps=3, progress=False)
    infogan_fast.train(data=pixels, resume=out, steps=3, progress=False)  # the images themselves
    config["settings"]["steps"] = 3
    del config["data"]["digest"]
    (out / "config.json").write_text(json.dumps(config))
    (tmp_path / "moved.npy").rename(tmp_path / "first.npy")
    assert resume("first") == 2
    assert "is of an earlier version, which kept no digest of its images" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--deterministic", "--threads", "1"]])
def test_other_images_at_the_same_place_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    data, out = tmp_path / "images.npy", tmp_path / "run"
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 16), np.uint8)
    np.save(data, pixels)
    small = ["--batch-size", "4", "--latents", "noise=4,cat=3", "--device", "cpu", "--steps", "1"]
    assert train_main(["--data", str(data), *small, *flags, "--out", str(out)]) == 0
    assert train_main(["--resume", str(out), "--steps", "2"]) == 0
    assert "changed" not in capsys.readouterr().out
    np.save(data, 255 - pixels)
    status = train_main(["--resume", str(out), "--steps", "3"])
    output, error = capsys.readouterr()
    said = f"from {data} are not those that {out} was trained on"
    if flags:
        assert status == 2 and said in error and "put the images back" in error
    else:
        assert status == 0 and re.search(
            f"^changed   the pixels of .* {re.escape(said)}; it goes on", output, re.M
        )


def test_a_run_in_bfloat16_goes_on_in_float16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A GPU of another age has the other half type, whose gradients are scaled."""
    monkeypatch.setattr(session, "amp_dtype", lambda device: torch.bfloat16)
    assert run(tmp_path, "--amp", "--steps", "2") == 0
    for dtype, steps in ((torch.float16, "4"), (torch.bfloat16, "5")):
        monkeypatch.setattr(session, "amp_dtype", lambda device, dtype=dtype: dtype)
        capsys.readouterr()
        assert train_main(["--resume", str(tmp_path), "--steps", steps]) == 0
        before, after = ("bfloat16", "float16") if steps == "4" else ("float16", "bfloat16")
        said = f"was trained in {before} with float32 masters; it goes on in {after} with float32 masters"
        assert said in capsys.readouterr().out
        saved = checkpoint.load_last(tmp_path / "checkpoints")[1]["training"]
        assert bool(saved["scaler_d"]) == (dtype == torch.float16)


#: Options of version 0.1; later ones have a value for runs that lack them.
FIRST_OPTIONS = re.findall(
    r"\w+",
    """data data_dir images image_size channels crop latents leaky_slope recipe lambda_categorical
    lambda_continuous fixed_sigma mi_gradient schedule consistency balance joint_ema equivariance invariance
    smoothness smoothness_until bending transformation restart_q steps batch_size seed lr_d lr_q lr_g beta1
    beta2 ema amp device threads linear cuda_graph steps_per_replay profile profile_phases log_every
    sample_every checkpoint_every keep_checkpoints""",
)


def test_a_run_of_an_earlier_version_is_continued_and_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has fewer options, and --compile, which is gone."""
    out = tmp_path / "run"
    assert run(out, "--steps", "2", "--network", "auto") == 0
    path = out / "config.json"
    config = json.loads(path.read_text())
    assert set(FIRST_OPTIONS) < config["settings"].keys()
    config["settings"] = {name: config["settings"][name] for name in FIRST_OPTIONS} | {"compile": False}
    path.write_text(json.dumps(config))
    (first,) = (out / "checkpoints").iterdir()
    state = torch.load(first, weights_only=True)
    torch.save(state | {"format": 3, "settings": config["settings"]}, first)
    loaded = infogan_fast.load_run(out)
    assert (loaded.config.network, loaded.updates) == ("auto", 2)
    assert loaded.config.get("balance_until") == 0
    assert train_main(["--resume", str(out), "--steps", "3"]) == 0
    assert json.loads(path.read_text())["settings"]["network"] == "auto"
    assert infogan_fast.load_run(out).updates == 3
    config["settings"]["compile"] = True
    path.write_text(json.dumps(config))
    assert train_main(["--resume", str(out), "--steps", "4"]) == 2
    assert "another version of infogan_fast: compile differ" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, hurt = tmp_path / "whole", tmp_path / "hurt"
    flags = ["--steps", "6", "--checkpoint-every", "2", "--log-every", "2"]
    for out in (whole, hurt):
        assert run(out, *flags) == 0
    last = hurt / "checkpoints" / "step-00000006.pt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 4
    last.write_bytes(content)
    with pytest.warns(UserWarning, match=r"step-00000006\.pt: not .*; this is of step-00000004\.pt"):
        assert infogan_fast.load_run(hurt).updates == 4
    capsys.readouterr()
    assert train_main(["--resume", str(hurt)]) == 0
    assert "damaged   " in (printed := capsys.readouterr().out)
    assert "step-00000006.pt: not a readable checkpoint (its record" in printed
    assert "kept as step-00000006.pt.damaged" in printed
    assert last.with_name("step-00000006.pt.damaged").read_bytes() == content
    a, b = weights(whole), weights(hurt)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert [row["step"] for row in rows(hurt)] == [2, 4, 6]


@pytest.mark.parametrize("key", ["lr_g", "latents"])
def test_a_checkpoint_of_other_settings_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    out = copy_of(finished, tmp_path)
    path = out / "config.json"
    config = json.loads(path.read_text())
    config["settings"][key] = {"lr_g": 0.5, "latents": "noise=4,cat=4,uniform=1"}[key]
    path.write_text(json.dumps(config))
    assert train_main(["--resume", str(out), "--steps", "3"]) == 2
    assert f"does not belong to this run ({key} differ)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out", "a" * 300], "File name too long"),
        (["--out", "a/" * 3000], "File name too long"),
        (["--data", "~nobody-of-that-name/pictures"], "there is no such user; write the folder out"),
        (["--data", "mnist", "--data-dir", "~nobody-of-that-name"], "there is no such user"),
        (["--out", "/proc/nothing/run"], "/proc/nothing/run: cannot be written"),
    ],
)
def test_paths_that_cannot_be(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train_main([*SMALL, "--device", "cpu", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = sorted((finished / "checkpoints").iterdir())[0]
    assert train_main(["--resume", str(file)]) == 2
    assert f"{file} is a file; give the folder of a run" in capsys.readouterr().err


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
    assert train_main(["--resume", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_resumed_run_is_not_profiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        signalling(patch, 3, signal.SIGINT)
        assert run(tmp_path, "--steps", "9", "--profile", "1:8") == 130
    (tmp_path / "profile.json").unlink()
    assert train_main(["--resume", str(tmp_path)]) == 0
    assert not (tmp_path / "profile.json").exists()
    assert train_main(["--resume", str(tmp_path), "--steps", "12", "--profile", "4:10"]) == 2
    assert train_main(["--resume", str(tmp_path), "--steps", "12", "--profile", "10:12"]) == 0
    names = [e.get("name", "") for e in json.loads((tmp_path / "profile.json").read_text())["traceEvents"]]
    assert names.count("infogan_fast::gather_images") == 2


def test_tf32_is_refused_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "run", "--steps", "1", "--matmul-precision", "high", "--device", "cpu") == 2
    assert (
        "--matmul-precision high: TF32 is for GPUs, and training runs on the CPU" in capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
@pytest.mark.parametrize("flags", [[], ["--amp"], ["--no-cuda-graph"]], ids=str)
def test_deterministic_updates_on_a_gpu(tmp_path: Path, flags: list[str]) -> None:
    # In a process of its own: cuBLAS reads its configuration when CUDA begins.
    command = [sys.executable, "-m", "infogan_fast.train", *SMALL, "--steps", "4", "--device", "cuda"]
    command += ["--deterministic", "--out", str(tmp_path / "run"), *flags]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


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
    assert train_main(["--resume", str(parts), "--steps", "8"]) == 0
    wanted = weights(eager)
    for out in (graph, parts):
        assert all(torch.equal(wanted[name], value) for name, value in weights(out).items())
        for mine, other in zip(rows(out), rows(eager), strict=True):
            assert {**mine, "seconds": 0} == {**other, "seconds": 0}
