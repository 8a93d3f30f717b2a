"""The events of --tensorboard, read with TensorBoard's own reader."""

from __future__ import annotations

import errno
import io
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from training.runs import SMALL, rows, run

from infogan_fast.train import main as train_main
from infogan_fast.training.tensorboard import EventWriter, scalars

pytest.importorskip("tensorboard", reason="needs the package tensorboard")

FLAGS = ["--network", "D: conv 8 s2, fc 16 bn; Q: fc 8; G: fc 4x4x8 bn, up 8 s2 bn, up 1 s2 sigmoid"]
FLAGS += ["--steps", "4", "--log-every", "1", "--sample-every", "2", "--checkpoint-every", "2"]
PROBLEM = "TensorBoard's events could not be written"


def read(out: Path) -> Any:
    """The events as TensorBoard has them after reading all of its files in their order."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    everything = {"scalars": 0, "images": 0, "tensors": 0}
    accumulator = EventAccumulator(str(out / "tensorboard"), size_guidance=everything)
    accumulator.Reload()
    return accumulator


def check(out: Path, *, steps: list[int]) -> None:
    """The events hold the run's rows, once each, and its pictures."""
    events, table = read(out), rows(out)
    assert [row["step"] for row in table] == steps
    expected: dict[str, list[tuple[int, float]]] = {}
    for row in table:
        for tag, value in scalars(row):
            expected.setdefault(tag, []).append((row["step"], float(np.float32(value))))
    found = {
        tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }
    assert found == expected
    times = [event.wall_time for event in events.Scalars("loss/g")]
    seconds = [row["seconds"] for row in table]
    assert np.diff(times) == pytest.approx(np.diff(seconds), abs=1e-5)
    samples = {path.name: path for path in sorted((out / "samples").iterdir())}
    shown = {f"step-{event.step:08d}.png": event for event in events.Images("samples")}
    assert list(shown) == list(samples)
    assert len(events.Images("samples")) == len(samples)
    for name, path in samples.items():
        check_picture(shown[name], path)
    (last,) = events.Images("traversal")
    assert last.step == steps[-1]
    check_picture(last, out / "traversal.png")


def check_picture(event: Any, path: Path) -> None:
    with Image.open(path) as file, Image.open(io.BytesIO(event.encoded_image_string)) as shown:
        assert np.array_equal(np.asarray(file), np.asarray(shown))
        assert (event.width, event.height) == file.size


def test_the_events_are_the_rows_pictures_and_settings(tmp_path: Path) -> None:
    assert run(tmp_path, *FLAGS, "--tensorboard") == 0
    check(tmp_path, steps=[1, 2, 3, 4])
    events = read(tmp_path)
    text = events.Tensors("config.json")[0].tensor_proto.string_val[0].decode()
    assert json.loads(text) == json.loads((tmp_path / "config.json").read_text())
    assert all(line.startswith("    ") for line in text.splitlines())

    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["steps"].number_value == 4
    assert settings["latents"].string_value == "noise=4,cat=3,uniform=1"
    assert settings["tensorboard"].bool_value is True
    assert "fixed_sigma" not in settings


def test_tags_are_grouped() -> None:
    row: dict[str, Any] = {"step": 5}
    row |= {"seconds": 1.5, "d_real": 1.0, "g": 2.0, "nll_c1": 3.0, "logvar_c12": 4.0, "L_c1": 5.0}
    row |= {"H_c1": 6.0, "L_fitted_c2": 7.0, "diversity": 8.0, "alarms": ["d-won", "code-ignored c2"]}
    assert dict(scalars(row)) == {
        "run/seconds": 1.5,
        "loss/d_real": 1.0,
        "loss/g": 2.0,
        "nll/c1": 3.0,
        "logvar/c12": 4.0,
        "L_I/c1": 5.0,
        "L_I/c1_H": 6.0,
        "L_I/c2_fitted": 7.0,
        "run/diversity": 8.0,
        "alarms/number": 2,
        "alarms/d-won": 1.0,
        "alarms/code-ignored c2": 1.0,
    }


def test_a_resumed_run_has_no_point_twice(tmp_path: Path) -> None:
    assert run(tmp_path, *FLAGS, "--tensorboard") == 0
    (tmp_path / "checkpoints" / "step-00000004.pt").unlink()
    first = read(tmp_path)
    assert train_main(["--resume", str(tmp_path), "--steps", "6"]) == 0
    check(tmp_path, steps=[1, 2, 3, 4, 5, 6])
    # One that has read the first file goes on with the second, and forgets what training has done again.
    assert [event.step for event in first.Scalars("loss/g")] == [1, 2, 3, 4]
    first.Reload()
    assert [event.step for event in first.Scalars("loss/g")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in first.Images("samples")] == [2, 4, 6]
    assert train_main(["--resume", str(tmp_path), "--steps", "7"]) == 0
    check(tmp_path, steps=[1, 2, 3, 4, 5, 6, 7])
    files = sorted(path.name for path in (tmp_path / "tensorboard").iterdir())
    assert files == ["events.out.tfevents.0000000002", "events.out.tfevents.0000000003"]


def test_the_option_may_be_switched_on_and_off_later(tmp_path: Path) -> None:
    assert run(tmp_path, *FLAGS) == 0
    assert not (tmp_path / "tensorboard").exists()
    other = tmp_path / "tensorboard" / "events.out.tfevents.1700000000.host.1.0"
    other.parent.mkdir()
    other.touch()
    (tmp_path / "samples" / "step-00000002.png").write_bytes(b"damaged")
    damaged = '{"step": 2}\n{"step": 2, "seconds": "x", "alarms": 5}\n'
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(damaged + metrics.read_text())
    assert train_main(["--resume", str(tmp_path), "--steps", "5", "--tensorboard"]) == 0
    assert other.exists()
    assert [event.step for event in read(tmp_path).Scalars("loss/g")] == [1, 2, 3, 4, 5]
    assert [event.step for event in read(tmp_path).Images("samples")] == [4, 5]
    assert train_main(["--resume", str(tmp_path), "--steps", "6", "--no-tensorboard"]) == 0
    assert [event.step for event in read(tmp_path).Scalars("loss/g")][-1] == 5


def test_overwriting_a_run_removes_its_events(tmp_path: Path) -> None:
    assert run(tmp_path, *FLAGS, "--tensorboard") == 0
    assert run(tmp_path, *FLAGS, "--overwrite") == 0
    assert not (tmp_path / "tensorboard").exists()


def check_intact(out: Path) -> None:
    """The last file of events is a sequence of whole records."""
    content, position = sorted((out / "tensorboard").iterdir())[-1].read_bytes(), 0
    while position < len(content):
        (length,) = struct.unpack_from("<Q", content, position)
        position += 8 + 4 + length + 4  # with a checksum of the length, and one of the content
    assert position == len(content)


@pytest.mark.parametrize(("full_row", "kept", "samples"), [(2, [1, 3, 4], [4]), (4, [1, 2, 3], [2])])
def test_a_full_disk_costs_only_the_events_of_its_time(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    full_row: int,
    kept: list[int],
    samples: list[int],
) -> None:
    original = EventWriter._of_row

    class Full(io.FileIO):
        """Takes half of a row."""

        def write(self, content: Any) -> int:
            if self.full:
                if self.half:
                    raise OSError(errno.ENOSPC, "No space left on device")
                self.half = True
                return super().write(content[: len(content) // 2])
            return super().write(content)

        full = half = False

    def of_row(self: EventWriter, row: dict[str, Any]) -> Any:
        assert isinstance(self._file, Full)
        self._file.full = row["step"] == full_row
        return original(self, row)

    with monkeypatch.context() as patch:
        patch.setattr(io, "FileIO", Full)
        patch.setattr(EventWriter, "_of_row", of_row)
        assert run(tmp_path, *FLAGS, "--tensorboard") == 1
    printed = capsys.readouterr()
    problem = f"{PROBLEM} ([Errno 28] No space left on device)"
    assert printed.err == f"infogan_fast.train: {problem}\n"
    assert printed.out.count(f"problem   {problem}; training goes on") == 1
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4]
    assert [event.step for event in read(tmp_path).Scalars("loss/g")] == kept
    assert [event.step for event in read(tmp_path).Images("samples")] == samples
    check_intact(tmp_path)
    assert train_main(["--resume", str(tmp_path)]) == 0
    check(tmp_path, steps=[1, 2, 3, 4])


@pytest.mark.parametrize("failures", [2, 3], ids=["until a row", "until a picture"])
def test_a_folder_that_cannot_be_written_at_first_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failures: int
) -> None:
    original, calls = Path.mkdir, iter(range(10))

    def mkdir(self: Path, *arguments: Any, **options: Any) -> None:
        if self.name == "tensorboard" and next(calls) < failures:
            raise OSError(errno.EROFS, "Read-only file system")
        original(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert run(tmp_path, *FLAGS, "--tensorboard") == 1
    assert capsys.readouterr().err.count(PROBLEM) == 1
    check(tmp_path, steps=[1, 2, 3, 4])


def test_without_the_package_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert run(tmp_path / "run", *FLAGS, "--tensorboard") == 2
    error = capsys.readouterr().err
    assert error.startswith("infogan_fast.train: --tensorboard needs tensorboard (")
    assert error.endswith("install it with pip install 'infogan_fast[tensorboard]'\n")
    assert not (tmp_path / "run").exists()


def test_it_imports_neither_what_compiling_needs_nor_tensorflow(tmp_path: Path) -> None:
    flags = [*SMALL, *FLAGS, "--device", "cpu", "--tensorboard", "--out", str(tmp_path / "run")]
    code = (
        f"import sys; from infogan_fast.train import main; assert main({flags!r}) == 0; "
        "assert 'tensorboard' in sys.modules; "
        "sys.exit(not {'torch._dynamo', 'tensorflow', 'torch.utils.tensorboard'}.isdisjoint(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
