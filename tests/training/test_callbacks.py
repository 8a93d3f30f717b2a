"""Callbacks: what they are told, in which order, and what becomes of a run when one fails."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from training.runs import rows, run, weights

import infogan_fast
from infogan_fast.errors import UserError
from infogan_fast.training.callbacks import Callback
from infogan_fast.training.step import TrainingStep

ROOT = Path(__file__).parents[2]
#: So small that checkpoints take no time.
NETWORK = "D: conv 8 s2, fc 16 bn; Q: fc 8; G: fc 4x4x8 bn, up 8 s2 bn, up 1 s2 sigmoid"
OPTIONS: dict[str, Any] = {
    "network": NETWORK,
    "images": 40,
    "image_size": 16,
    "batch_size": 8,
    "latents": "noise=4,cat=3,uniform=1",
    "device": "cpu",
    "steps": 4,
    "log_every": 2,
    "sample_every": 3,
    "progress": False,
}
FLAGS = ["--network", NETWORK, "--steps", "4", "--log-every", "2", "--sample-every", "3"]


def test_callbacks_do_not_see_each_other_s_changes(tmp_path: Path) -> None:
    class Changer(Callback):
        def row(self, row: dict[str, Any]) -> None:
            row["alarms"].append("mine")
            row.clear()

        def picture(self, name: str, step: int, image: Image.Image) -> None:
            image.thumbnail((8, 8))

    recorder = Recorder()
    infogan_fast.train(**OPTIONS, out=tmp_path, callbacks=[Changer(), recorder])
    assert [row["step"] for row in recorder.rows] == [2, 4]
    assert all("mine" not in row["alarms"] for row in [*recorder.rows, *rows(tmp_path)])
    assert recorder.pictures and all(min(image.size) > 8 for image in recorder.pictures.values())


def test_a_callback_that_exits_leaves_a_saved_run(tmp_path: Path) -> None:
    def leave(row: dict[str, Any]) -> None:
        sys.exit(3)

    with pytest.raises(SystemExit) as ended:
        infogan_fast.train(**OPTIONS, out=tmp_path, callbacks=leave)
    assert ended.value.code == 3
    assert os.listdir(tmp_path / "checkpoints") == ["step-00000002.pt"]


class Recorder(Callback):
    """Keeps what it is told, under a name, in a list that several may share."""

    def __init__(self, events: list[Any] | None = None, name: str = "") -> None:
        self.events: list[Any] = [] if events is None else events
        self.name = name
        self.pictures: dict[tuple[str, int], Image.Image] = {}
        self.rows: list[dict[str, Any]] = []

    def begin(self, folder: Path, step: int) -> None:
        assert (folder / "config.json").is_file()
        assert [row["step"] for row in _rows(folder) if row["step"] > step] == []
        self.events.append((self.name, "begin", step))

    def row(self, row: dict[str, Any]) -> None:
        self.events.append((self.name, "row", row["step"]))
        self.rows.append(row)

    def picture(self, name: str, step: int, image: Image.Image) -> None:
        self.events.append((self.name, name, step))
        self.pictures[name, step] = image

    def done(self, folder: Path) -> None:
        assert len(list((folder / "checkpoints").iterdir())) > 0
        self.events.append((self.name, "done", folder.name))


def _rows(folder: Path) -> list[dict[str, Any]]:
    return rows(folder) if (folder / "metrics.jsonl").exists() else []


def train(out: Path, *callbacks: Any, **options: Any) -> infogan_fast.Run:
    return infogan_fast.train(out=out, callbacks=callbacks, **{**OPTIONS, **options})


def test_callbacks_are_told_what_the_files_hold_in_order(tmp_path: Path) -> None:
    told: list[Any] = []
    one, two = Recorder(told, "one"), Recorder(told, "two")
    train(tmp_path / "run", one, two)
    expected = [("begin", 0), ("row", 2), ("samples", 3), ("row", 4), ("samples", 4), ("traversal", 4)]
    assert told == [(name, *event) for event in [*expected, ("done", "run")] for name in ("one", "two")]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    for each in (one, two):
        assert [json.dumps(row) for row in each.rows] == lines
        for (name, step), image in each.pictures.items():
            path = "traversal.png" if name == "traversal" else f"samples/step-{step:08d}.png"
            with Image.open(tmp_path / "run" / path) as file:
                assert np.array_equal(np.asarray(file), np.asarray(image)), name


def test_a_function_is_called_with_rows_and_may_change_them(tmp_path: Path) -> None:
    found: list[dict[str, Any]] = []

    def take(row: dict[str, Any]) -> None:
        found.append(dict(row))
        row.clear()

    run = infogan_fast.train(out=tmp_path, callbacks=take, **OPTIONS)
    assert found == rows(tmp_path)
    assert run.updates == 4


def test_callbacks_change_nothing(tmp_path: Path) -> None:
    train(tmp_path / "with", Recorder())
    assert run(tmp_path / "without", *FLAGS) == 0
    a, b = weights(tmp_path / "with"), weights(tmp_path / "without")
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("where", ["begin", "row", "picture", "traversal", "done"])
def test_a_run_survives_a_callback_that_fails(tmp_path: Path, where: str) -> None:
    class Failing(Recorder):
        def begin(self, folder: Path, step: int) -> None:
            super().begin(folder, step)
            self.fail("begin")

        def row(self, row: dict[str, Any]) -> None:
            super().row(row)
            self.fail("row")

        def picture(self, name: str, step: int, image: Image.Image) -> None:
            super().picture(name, step, image)
            self.fail("traversal" if name == "traversal" else "picture")

        def done(self, folder: Path) -> None:
            super().done(folder)
            self.fail("done")

        def fail(self, what: str) -> None:
            if what == where:
                raise OSError(what)  # which ends nothing where the run itself writes

    failing, after = Failing(), Recorder()
    with pytest.raises(OSError, match=where):
        train(tmp_path / "run", failing, after)
    last = {"begin": 0, "row": 2, "picture": 3, "traversal": 4, "done": 4}[where]
    # The one that failed, and those after it, are told no more.
    assert failing.events[-1][1] == {"picture": "samples"}.get(where, where)
    assert after.events == [("", *event[1:]) for event in failing.events[:-1]]
    assert [path.stem for path in (tmp_path / "run" / "checkpoints").iterdir()] == [f"step-{last:08d}"]
    resumed, whole = Recorder(), tmp_path / "whole"
    infogan_fast.train(resume=tmp_path / "run", callbacks=resumed, progress=False)
    assert resumed.events[0] == ("", "begin", last)
    assert run(whole, *FLAGS) == 0
    a, b = weights(tmp_path / "run"), weights(whole)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert [{**row, "seconds": 0} for row in rows(tmp_path / "run")] == [
        {**row, "seconds": 0} for row in rows(whole)
    ]


def test_a_callback_that_names_what_it_writes_may_fail_to(tmp_path: Path) -> None:
    class Disk(Callback):
        writes = "my table"
        calls = 0

        def row(self, row: dict[str, Any]) -> None:
            self.calls += 1
            raise OSError("disk is full")

    disk = Disk()
    with pytest.warns(UserWarning, match=r"^my table could not be written \(disk is full\)$") as warned:
        loaded = train(tmp_path / "run", disk)
    assert (loaded.updates, disk.calls, len(warned)) == (4, 2, 1)


@pytest.mark.parametrize("how", ["signal", "exception"])
def test_an_interruption_in_a_callback_ends_training_in_order(tmp_path: Path, how: str) -> None:
    told: list[Any] = []

    def interrupt(row: dict[str, Any]) -> None:
        if how == "exception":
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGINT)

    loaded = train(tmp_path / "run", interrupt, Recorder(told))
    assert loaded.updates == 2
    assert told == [("", "begin", 0), ("", "row", 2), ("", "done", "run")]
    assert not (tmp_path / "run" / "traversal.png").exists()


def test_a_callback_may_change_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run = infogan_fast.train("strokes", out="run", callbacks=lambda row: os.chdir(elsewhere), **OPTIONS)
    assert run.folder == tmp_path / "run" and (run.folder / "traversal.png").exists()
    assert not (run.folder / ".lock").exists() and os.listdir(elsewhere) == []


def test_an_interruption_while_the_last_picture_is_drawn_loses_nothing(tmp_path: Path) -> None:
    told = []

    class Watcher(Callback):
        def picture(self, name: str, step: int, image: Any) -> None:
            if name == "traversal":
                signal.raise_signal(signal.SIGINT)

        def done(self, folder: Path) -> None:
            told.append(folder)

    run = infogan_fast.train("strokes", out=tmp_path / "run", callbacks=Watcher(), **OPTIONS)
    assert told == [run.folder] and (run.folder / "traversal.png").exists()


def test_a_resumed_run_gives_rows_after_its_checkpoint_again(tmp_path: Path) -> None:
    first, second = Recorder(), Recorder()
    train(tmp_path, first, log_every=1, checkpoint_every=2)
    (tmp_path / "checkpoints" / "step-00000004.pt").unlink()
    infogan_fast.train(resume=tmp_path, callbacks=second, progress=False)
    assert second.events[:3] == [("", "begin", 2), ("", "row", 3), ("", "samples", 3)]
    assert rows(tmp_path) == first.rows[:2] + second.rows
    assert [{**row, "seconds": 0} for row in first.rows[2:]] == [{**row, "seconds": 0} for row in second.rows]


def test_the_row_of_a_divergence_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = TrainingStep.__call__

    def call(self: TrainingStep) -> None:
        original(self)
        self.losses.metrics.sums += math.nan if self.done.value == 3 else 0

    monkeypatch.setattr(TrainingStep, "__call__", call)
    recorder = Recorder()
    with pytest.raises(UserError, match="diverged"):
        train(tmp_path, recorder)
    assert [row["step"] for row in recorder.rows] == [2, 4]
    assert recorder.rows == rows(tmp_path)
    assert recorder.rows[-1]["alarms"] == ["diverged"]
    assert "done" not in [event[1] for event in recorder.events]


@pytest.mark.parametrize(
    ("given", "message"),
    [(5, "callbacks has 5; expected functions of a row"), (Recorder, "give an instance: Recorder()")],
)
def test_what_is_no_callback(tmp_path: Path, given: Any, message: str) -> None:
    for callbacks in (given, [given]):
        with pytest.raises(UserError, match=re.escape(message)):
            infogan_fast.train(out=tmp_path / "run", callbacks=callbacks, **OPTIONS)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("fails", [False, True])
def test_the_first_process_of_a_job_alone_calls_them(tmp_path: Path, fails: bool) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, infogan_fast\n"
        "from infogan_fast.training.callbacks import Callback\n"
        "class Print(Callback):\n"
        "    def begin(self, folder, step):\n"
        "        print('begin', os.environ['RANK'], step, flush=True)\n"
        "    def row(self, row):\n"
        "        print('row', os.environ['RANK'], row['step'], flush=True)\n"
        f"        if {fails}: raise ValueError('no more')\n"
        f"infogan_fast.train(out='run', callbacks=Print(), **{OPTIONS!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    told = [line for line in done.stdout.splitlines() if line.startswith(("begin", "row"))]
    assert (done.returncode == 0) is not fails, done.stdout
    assert told == ["begin 0 0", "row 0 2", *([] if fails else ["row 0 4"])]
    assert ("ValueError: no more" in done.stdout) is fails
    last = "step-00000002.pt" if fails else "step-00000004.pt"
    assert sorted(os.listdir(tmp_path / "run" / "checkpoints"))[-1] == last
