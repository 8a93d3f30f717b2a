"""What a run leaves, interruption, divergence and profiles."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pytest
import torch
from PIL import Image
from tqdm import tqdm
from training.runs import SMALL, rows, rows_without_time, run, signalling, weights

from infogan_fast.config import Config, load_config
from infogan_fast.data.registry import SOURCES
from infogan_fast.latents import LatentSpec
from infogan_fast.objective.objective import Objective
from infogan_fast.objective.term import make_terms
from infogan_fast.train import main as train_main
from infogan_fast.training import checkpoint
from infogan_fast.training.loop import Loop
from infogan_fast.training.run_folder import read_metrics
from infogan_fast.training.step import TrainingStep


def test_what_a_run_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "run"
    flags = ["--steps", "5", "--log-every", "2", "--sample-every", "3", "--checkpoint-every", "2"]
    assert run(out, *flags, "--network", "auto") == 0
    printed = capsys.readouterr()
    for part in (
        "float32",
        "strokes: 40 images",
        "16 x 16 grey",
        "noise=4,cat=3,uniform=1",
        f"copies    {SOURCES['strokes'].transformation}; weights of their terms: consistency 1",
        "L_I/H nats: c1 ",
        "/1.10",
        " | on copies ",
    ):
        assert part in printed.out
    assert printed.err == ""

    config = json.loads((out / "config.json").read_text())
    assert load_config(config["settings"]).steps == 5
    assert re.fullmatch("[0-9a-f]{16}", config["data"].pop("digest"))
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
        "data.png",
        "data.txt",
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


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]
)
def test_interruption_saves_and_continues(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    outer = signal.getsignal(number)
    if outer is signal.SIG_IGN:  # these tests under nohup
        signal.signal(number, signal.SIG_DFL)
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        signalling(patch, 3, number)
        assert run(parts, "--steps", "6", "--log-every", "2") == 130
    assert signal.getsignal(number) is handler
    signal.signal(number, outer)
    assert f"stopped after update 3, saved; continue with --resume {parts}" in capsys.readouterr().out
    assert [row["step"] for row in rows(parts)] == [2]
    assert not (parts / "traversal.png").exists()
    assert train_main(["--resume", str(parts)]) == 0
    assert run(whole, "--steps", "6", "--log-every", "2") == 0
    a, b = weights(whole), weights(parts)
    assert all(torch.equal(a[name], b[name]) for name in a)
    timeless = [[{**row, "seconds": 0} for row in rows(out)] for out in (whole, parts)]
    assert timeless[0] == timeless[1]


#: The train command, interrupted twice in its first update.
INTERRUPTED_TWICE = """
import os, signal, sys
from infogan_fast.train import main
from infogan_fast.training.step import TrainingStep

def call(self):
    os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGINT)
    print("went on")

TrainingStep.__call__ = call
handler = signal.getsignal(signal.SIGINT)
if sys.argv[1] == "interactive":
    sys.ps1 = ">>> "
try:
    sys.exit(main(sys.argv[2:]))
except KeyboardInterrupt:
    print("still here", signal.getsignal(signal.SIGINT) is handler)
"""


@pytest.mark.parametrize("where", ["script", "interactive"])
def test_second_interruption_ends_the_process_or_in_a_session_training_alone(
    tmp_path: Path, where: str
) -> None:
    command = [sys.executable, "-c", INTERRUPTED_TWICE, where, *SMALL, "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "went on" not in done.stdout
    assert done.returncode == (0 if where == "interactive" else -signal.SIGINT), done.stderr
    assert ("still here True" in done.stdout) == (where == "interactive")


def test_names_that_are_no_utf8_do_not_stop_training(tmp_path: Path) -> None:
    out = os.fsencode(tmp_path) + b"/f\xfcr"
    done = subprocess.run(
        [sys.executable, "-m", "infogan_fast.train", *SMALL, "--steps", "1", "--out", out],
        capture_output=True,
        env=os.environ | {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert done.returncode == 0, done.stderr
    assert rb"f\udcfcr: 1 updates" in done.stdout
    made = subprocess.run(
        [sys.executable, "-m", "infogan_fast.generate", out],
        capture_output=True,
        env=os.environ | {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert made.returncode == 0, made.stderr
    assert rb"f\udcfcr" in made.stdout


def full_disk(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("target", "what"),
    [
        ("infogan_fast.training.loop.save_picture", "a picture"),
        ("infogan_fast.training.loop.Loop._write_row", "metrics.jsonl"),
        ("infogan_fast.runtime.profiling.ProfiledUpdates.close", "profile.json"),
    ],
)
def test_training_goes_on_without_what_cannot_be_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    target: str,
    what: str,
) -> None:
    whole, lacking = tmp_path / "whole", tmp_path / "lacking"
    flags = ["--steps", "4", "--log-every", "1", "--sample-every", "2"]
    assert run(whole, *flags) == 0
    monkeypatch.setattr(target, full_disk)
    profile = ["--profile", "1:4"] if what == "profile.json" else []
    capsys.readouterr()
    assert run(lacking, *flags, *profile) == 1
    printed = capsys.readouterr()
    problem = f"{what} could not be written ([Errno 28] No space left on device)"
    assert printed.out.count(f"problem   {problem}; training goes on") == 1
    assert printed.err == f"infogan_fast.train: {problem}\n"
    a, b = weights(whole), weights(lacking)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_checkpoint_that_cannot_be_written_is_written_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--steps", "4", "--checkpoint-every", "1"]
    save, calls = torch.save, iter(range(10))
    monkeypatch.setattr(torch, "save", lambda *a: full_disk() if next(calls) in (1, 2) else save(*a))
    assert run(tmp_path / "run", *flags) == 1
    assert sorted(os.listdir(tmp_path / "run" / "checkpoints")) == ["step-00000001.pt", "step-00000004.pt"]
    assert "a checkpoint could not be written" in capsys.readouterr().err
    monkeypatch.setattr(torch, "save", lambda *a: full_disk())
    assert run(tmp_path / "none", *flags) == 2
    assert "step-00000004.pt: the checkpoint cannot be written" in capsys.readouterr().err


def test_a_row_that_was_cut_short_does_not_swallow_the_next(tmp_path: Path) -> None:
    class Short:
        """Writes ten bytes of the second row."""

        def __init__(self) -> None:
            self.content, self.calls = b"", 0

        def write(self, line: bytes) -> int:
            self.calls += 1
            self.content += line if self.calls != 2 else line[:10]
            return len(line) if self.calls != 2 else 10

    loop, file = Loop.__new__(Loop), Short()
    loop._torn = False
    for step in (1, 2, 3):
        with contextlib.suppress(OSError):
            loop._write_row(cast(BinaryIO, file), {"step": step})
    (tmp_path / "metrics.jsonl").write_bytes(file.content)
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 3}]


@pytest.mark.parametrize("output", ["closed pipe", "/dev/full"])
def test_training_goes_on_without_an_output(tmp_path: Path, output: str) -> None:
    command = [sys.executable, "-m", "infogan_fast.train", *SMALL, "--steps", "3", "--log-every", "1"]
    command += ["--out", str(tmp_path / "run")]
    if output == "closed pipe":
        read, write = os.pipe()
        os.close(read)
    else:
        write = os.open(output, os.O_WRONLY)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.returncode == 1
    assert re.fullmatch(r"infogan_fast.train: progress could not be written \(.*\)\n", done.stderr)
    assert (tmp_path / "run" / "traversal.png").exists() and len(rows(tmp_path / "run")) == 3


@pytest.mark.parametrize("junk", [b"\xff\xfe", b"[1]", b'{"step": "4"}', b"[" * 100_000, b'{"step": 2}'])
def test_a_damaged_row_does_not_stop_a_run(tmp_path: Path, junk: bytes) -> None:
    assert run(tmp_path, "--steps", "3", "--log-every", "1") == 0
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(junk + b"\n" + path.read_bytes())
    assert train_main(["--resume", str(tmp_path), "--steps", "4"]) == 0
    assert [row["step"] for row in rows(tmp_path)][-4:] == [1, 2, 3, 4]


def test_rows_past_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    assert run(tmp_path, "--steps", "4", "--log-every", "1", "--checkpoint-every", "2") == 0
    (tmp_path / "checkpoints" / "step-00000004.pt").unlink()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "sec')
    before = rows_without_time(tmp_path, 4)
    assert train_main(["--resume", str(tmp_path)]) == 0
    assert rows_without_time(tmp_path, 4) == before
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4]


def test_finished_run_makes_its_figure_again(tmp_path: Path) -> None:
    assert run(tmp_path, "--steps", "2") == 0
    before = (tmp_path / "traversal.png").read_bytes()
    (tmp_path / "traversal.png").unlink()
    assert train_main(["--resume", str(tmp_path)]) == 0
    assert (tmp_path / "traversal.png").read_bytes() == before


@pytest.mark.parametrize("metric", ["d_real", "nll_c1"], ids=["discriminator", "mutual information"])
def test_divergence_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    metric: str,
) -> None:
    original, calls = TrainingStep.__call__, iter(range(1, 1000))

    def call(self: TrainingStep) -> None:
        original(self)
        if next(calls) == 5:
            metrics = self.losses.metrics
            metrics.sums[metrics.names.index(metric)] = math.nan

    monkeypatch.setattr(TrainingStep, "__call__", call)
    assert run(tmp_path, "--steps", "9", "--log-every", "2", "--checkpoint-every", "2") == 2
    error = capsys.readouterr().err
    phase = "discriminator gradients" if metric == "d_real" else "generator gradients"
    assert f"training diverged by update 6: {metric} is not finite ({phase}); the last" in error
    assert rows(tmp_path)[-1]["alarms"] == ["diverged"]
    assert "step-00000004.pt" in error
    assert "--lr-g" in error
    assert len(error.splitlines()) == 1
    assert checkpoint.listed(tmp_path / "checkpoints")[-1].name == "step-00000004.pt"


def test_losses_beyond_all_bounds_end_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--lr-d", "3", "--lr-g", "3", "--steps", "100", "--log-every", "2", "--checkpoint-every", "200"]
    flags += ["--network", "auto"]
    assert run(tmp_path, *flags) == 2
    error = capsys.readouterr().err
    assert re.search(r"diverged by update \d+: (d_real|d_fake|g) is \d\.\de\+\d\d \(\w+ gradients\)", error)
    assert "no checkpoint was written yet; try lower learning rates (--lr-g, --lr-d)" in error
    assert rows(tmp_path)[-1]["alarms"] == ["diverged"]


def test_a_checkpoint_between_rows_is_judged_by_the_losses_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = TrainingStep.__call__

    def call(self: TrainingStep) -> None:
        original(self)
        metrics = self.losses.metrics
        metrics.sums[metrics.names.index("g")] += 1e5 if self.done.value == 3 else 0

    monkeypatch.setattr(TrainingStep, "__call__", call)
    assert run(tmp_path, "--steps", "9", "--log-every", "9", "--checkpoint-every", "2") == 2
    assert "diverged by update 4: g is 2.5e+04 (generator gradients); the last good checkpoint is" in (
        capsys.readouterr().err
    )
    assert [path.name for path in checkpoint.listed(tmp_path / "checkpoints")] == ["step-00000002.pt"]


@pytest.mark.parametrize("count", [1, 30])
def test_images_that_are_all_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int) -> None:
    np.savez(tmp_path / "alike.npz", images=np.full((count, 16, 16), 7, np.uint8))
    assert train_main(["--data", str(tmp_path / "alike.npz"), "--out", str(tmp_path / "run")]) == 2
    alike = "is a single image" if count == 1 else "its images are all alike"
    remedy = "give different ones; or, as every pixel is 7, look at --background if they are transparent"
    assert f"{alike}, so there is nothing to learn; {remedy}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


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
    error = capsys.readouterr().err
    assert "networks.d_head.weight is not finite (discriminator update)" in error
    assert "no checkpoint was written yet" in error
    assert [row["alarms"] for row in rows(tmp_path)] == [["diverged"]]
    assert checkpoint.listed(tmp_path / "checkpoints") == []


def test_the_papers_recipe_is_the_papers_objective(tmp_path: Path) -> None:
    assert run(tmp_path, "--steps", "1", "--recipe", "paper") == 0
    assert "I_c1" not in rows(tmp_path)[0]
    assert Config(recipe="paper").checked().objective == Objective(terms=make_terms({}))


def test_colour_and_trunk_and_fixed_sigma(tmp_path: Path) -> None:
    flags = [
        "--network",
        "auto",
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
    assert names.count("infogan_fast::sample_latents") == 2
    assert names.count("infogan_fast::transform_images") == 2


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


@pytest.mark.gpu
def test_phases_of_a_profile_run_outside_of_the_graph(tmp_path: Path) -> None:
    plain, profiled = tmp_path / "plain", tmp_path / "profiled"
    for out, flags in ((plain, []), (profiled, ["--profile", "2:4", "--profile-phases"])):
        assert run(out, "--steps", "6", "--device", "cuda", *flags) == 0
    a, b = weights(plain), weights(profiled)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_notebook_shows_a_bar_instead_of_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bars: list[dict[str, Any]] = []

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            bars.append(options)
            super().__init__(*arguments, **options)

    monkeypatch.setattr("infogan_fast.training.loop.tqdm", Bar)
    for module, disabled in (("tqdm.std", True), ("tqdm.notebook", False)):
        Bar.__module__ = module
        assert run(tmp_path / module, "--steps", "2") == 0
        assert bars[-1]["disable"] is disabled
        printed = capsys.readouterr()
        assert ("update 2/2" in printed.out) is disabled
        assert ("2/2" in printed.err) is not disabled
