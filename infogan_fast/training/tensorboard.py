"""A run for TensorBoard: a callback that writes its rows, pictures and settings to RUN/tensorboard.

The events repeat metrics.jsonl and samples/. A session of training writes a new file, which has TensorBoard
forget the one before: first what the run has behind it, then what comes. So a resumed run has no point twice,
and the option may be switched on late.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from infogan_fast.extras import extra
from infogan_fast.training.callbacks import Callback, Row
from infogan_fast.training.run_folder import read_config, read_metrics

_PREFIX = "events.out.tfevents."  # TensorBoard reads such files in the order of their names
_NAME = re.compile(re.escape(_PREFIX) + r"\d{10}")
_LOSSES = ("d_real", "d_fake", "g")
_BOUNDS = {"L": "L_I/{}", "H": "L_I/{}_H", "L_fitted": "L_I/{}_fitted"}


class EventWriter(Callback):
    """Writes a run's events as TensorBoard's file format has them.

    It uses TensorBoard's own records and messages, and no thread: PyTorch's writer loses what its thread
    could not write.

    Raises:
        UserError: tensorboard is not installed.
    """

    writes = "TensorBoard's events"

    def __init__(self) -> None:
        proto = "tensorboard.compat.proto"
        self._event, self._summary, self._types = (
            extra("tensorboard", f"{proto}.{name}", "--tensorboard")
            for name in ("event_pb2", "summary_pb2", "types_pb2")
        )
        self._hparams, self._records = (
            extra("tensorboard", name, "--tensorboard")
            for name in (
                "tensorboard.plugins.hparams.plugin_data_pb2",
                "tensorboard.summary.writer.record_writer",
            )
        )
        self._file: io.FileIO | None = None
        self._size = 0
        self._started = 0.0

    def begin(self, folder: Path, step: int) -> None:
        self._folder, self._samples, self._written = folder, folder / "samples", folder / "tensorboard"
        rows = read_metrics(folder)
        # Training that went on yesterday and today has gone on without a break.
        self._started = time.time() - (_seconds(rows[-1]) if rows else 0.0)
        self._start(step)

    def row(self, row: Row) -> None:
        if self._file is None:  # it could not be opened before; the row is in metrics.jsonl
            self._start(row["step"])
        else:
            self._write(self._of_row(row))

    def picture(self, name: str, step: int, image: Image.Image) -> None:
        missing = self._file is None
        if missing:
            self._start(step)
        if not missing or name == "traversal":
            self._write(self._of_picture(name, step, time.time(), image))

    def done(self, folder: Path) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _start(self, step: int) -> None:
        """Open a new file, write what the run has behind it, and remove old files."""
        self._written.mkdir(exist_ok=True)
        older = sorted(path for path in self._written.iterdir() if _NAME.fullmatch(path.name))
        number = int(older[-1].name.removeprefix(_PREFIX)) if older else 0
        path = self._written / f"{_PREFIX}{number + 1:010d}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        file = io.FileIO(path, "w", opener=lambda name, _: os.open(name, flags, 0o666))
        try:
            self._file, self._size = file, 0
            self._write(*self._history(step))
        except BaseException:
            self._file = None
            file.close()
            path.unlink(missing_ok=True)
            raise
        for each in older[:-1]:  # a TensorBoard that is open waits at the last one, and goes on from there
            each.unlink(missing_ok=True)

    def _history(self, step: int) -> Iterator[Any]:
        """The events of a run that has so many updates behind it."""
        start = self._event.SessionLog(status=self._event.SessionLog.START)
        yield self._event.Event(wall_time=self._started, file_version="brain.Event:2")
        # TensorBoard forgets what it has read of this run before.
        yield self._event.Event(wall_time=self._started, step=0, session_log=start)
        config = read_config(self._folder)
        values = [self._of_text("config.json", json.dumps(config, indent=2)), self._of_settings(config)]
        yield self._event.Event(wall_time=self._started, summary=self._summary.Summary(value=values))
        for row in read_metrics(self._folder):
            yield self._of_row(row)
        for path in sorted(self._samples.glob("step-*.png")):
            number = path.stem.removeprefix("step-")
            if number.isdecimal() and int(number) <= step:
                with contextlib.suppress(OSError), Image.open(path) as image:  # a damaged one is passed over
                    yield self._of_picture("samples", int(number), path.stat().st_mtime, image)

    def _write(self, *events: Any) -> None:
        """Write events, all of them or none."""
        assert self._file is not None
        buffer = io.BytesIO()
        records = self._records.RecordWriter(buffer)
        for event in events:
            records.write(event.SerializeToString())
        content = buffer.getbuffer()
        try:
            done = 0
            while done < len(content):
                done += self._file.write(content[done:])
        except OSError:
            # A record that is cut short would hide all that follow.
            self._file.truncate(self._size)
            self._file.seek(self._size)
            raise
        self._size += len(content)

    def _of_row(self, row: Row) -> Any:
        summary = self._summary.Summary(
            value=[self._summary.Summary.Value(tag=tag, simple_value=value) for tag, value in scalars(row)]
        )
        when = self._started + _seconds(row)
        return self._event.Event(wall_time=when, step=row["step"], summary=summary)

    def _of_picture(self, name: str, step: int, when: float, image: Image.Image) -> Any:
        file = io.BytesIO()
        image.save(file, format="png")
        encoded = self._summary.Summary.Image(
            height=image.height, width=image.width, colorspace=3, encoded_image_string=file.getvalue()
        )
        value = self._summary.Summary.Value(tag=name, image=encoded)
        return self._event.Event(wall_time=when, step=step, summary=self._summary.Summary(value=[value]))

    def _of_text(self, tag: str, text: str) -> Any:
        """A text that TensorBoard shows as it is."""
        indented = "".join(f"    {line}\n" for line in text.splitlines())
        value = self._summary.Summary.Value(tag=tag)
        value.metadata.plugin_data.plugin_name = "text"
        value.tensor.dtype = self._types.DT_STRING
        value.tensor.string_val.append(indented.encode())
        value.tensor.tensor_shape.dim.add(size=1)
        return value

    def _of_settings(self, config: Mapping[str, Any]) -> Any:
        """The settings by which TensorBoard's table of hyperparameters compares runs."""
        data = self._hparams.HParamsPluginData(version=0)
        data.session_start_info.group_name = str(self._folder)
        data.session_start_info.start_time_secs = self._started
        for name, setting in config["settings"].items():
            if isinstance(setting, bool):
                data.session_start_info.hparams[name].bool_value = setting
            elif isinstance(setting, (int, float)):
                data.session_start_info.hparams[name].number_value = setting
            elif setting is not None:
                data.session_start_info.hparams[name].string_value = str(setting)
        value = self._summary.Summary.Value(tag="_hparams_/session_start_info")
        value.metadata.plugin_data.plugin_name = "hparams"
        value.metadata.plugin_data.content = data.SerializeToString()
        value.tensor.dtype = self._types.DT_FLOAT
        value.tensor.tensor_shape.dim.add(size=0)
        return value


def scalars(row: Row) -> Iterator[tuple[str, float]]:
    """The numbers of a row with their tags in TensorBoard, which groups by what is before the slash:
    ``loss/g``, ``L_I/c1`` and its entropy ``L_I/c1_H``, ``nll/c1``, ``run/diversity``, ``alarms/d-won``."""
    for key, value in row.items():
        if key == "alarms" and isinstance(value, list):
            yield "alarms/number", len(value)
            yield from ((f"alarms/{name}", 1.0) for name in value)
        elif key != "step" and isinstance(value, (int, float)):
            code = re.fullmatch(r"(.+)_(c\d+)", key)
            if code is not None:
                yield _BOUNDS.get(code[1], f"{code[1]}/{{}}").format(code[2]), value
            else:
                yield f"{'loss' if key in _LOSSES else 'run'}/{key}", value


def _seconds(row: Row) -> float:
    """Of training; 0 in a damaged row."""
    found = row.get("seconds")
    return float(found) if isinstance(found, (int, float)) else 0.0
