"""The training loop: updates, and what a run writes between them.

A row of metrics.jsonl has ``step``; ``seconds`` of training; means since the row before of the terms of the
loss (``d_real``, ``d_fake``, ``g``, ``nll_CODE``, ``mse_CODE``), of ``logvar_CODE`` where Q learns it, and of
the metrics of the objective's terms (in nats ``I_CODE``, how well Q's answers for a categorical code agree on
images and copies, and ``D_CODE``, how far those for the codes of --equivariance and --invariance lie from
what these ask for); for each code, in nats, ``L_CODE``, the lower bound of its mutual information,
``H_CODE``, its entropy, and for uniform and normal codes ``L_fitted_CODE``, the bound that the best single
sigma would give; ``diversity`` of generated images relative to real ones, in the first row from each sample
on; and ``alarms``, the names of those that hold (:mod:`infogan_fast.training.alarms`).
"""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import math
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image
from tqdm import TqdmWarning

from infogan_fast.config import Config
from infogan_fast.errors import CommonError, printable
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import Generator
from infogan_fast.networks.statistics import calibrated
from infogan_fast.objective.bounds import code_bounds
from infogan_fast.pictures import samples, traversal
from infogan_fast.pictures.grids import save_picture
from infogan_fast.runtime.job import Job
from infogan_fast.runtime.profiling import ProfiledUpdates
from infogan_fast.runtime.signals import stop_signals
from infogan_fast.training import alarms, checkpoint
from infogan_fast.training.callbacks import Callback
from infogan_fast.training.run_folder import read_metrics
from infogan_fast.training.scores import Scores
from infogan_fast.training.step import TrainingStep

with warnings.catch_warnings():  # that a notebook without ipywidgets has no bar: it gets lines
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm

_SECONDS_BETWEEN_LINES = 10.0


class DivergedError(CommonError):
    """A loss is too large to come back from, or a loss or a weight is no longer finite."""


class Loop:
    """Runs the updates of a run, and writes its files between them.

    Args:
        step: with the state from which the run continues.
        config: checked.
        folder: of the run, prepared.
        done, seconds: updates and seconds of training so far.
        profiled: the updates to profile, if any.
        job: of whose processes the first one writes, while the others only compute.
        progress: whether to report: a bar on a terminal and in a notebook, else lines.
        callbacks: what is told the rows and pictures.
    """

    def __init__(
        self,
        step: TrainingStep,
        config: Config,
        folder: Path,
        done: int,
        seconds: float,
        profiled: ProfiledUpdates | None,
        job: Job,
        *,
        progress: bool = True,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.step, self.config, self.done = step, config, done
        # Files are written wherever a callback may have gone.
        self.folder, self._shown = folder.absolute(), folder
        self._first = done, time.monotonic()
        self.profiled, self.job, self.progress = profiled, job, progress
        self._calibrated: tuple[int, Generator] | None = None
        self._started = time.monotonic() - seconds
        self._reported = -math.inf
        self._saved = done if done else -1
        self._monitor = alarms.AlarmMonitor(step.spec)
        self._torn = False
        self._callbacks = callbacks
        self._failed: BaseException | None = None  # what a callback raised
        #: What could not be written, with the first reason.
        self.problems: dict[str, str] = {}
        found = read_metrics(folder) if job.is_first else []
        self._monitor.replay(found)
        self._scores = Scores(found)

    def run(self) -> bool:
        """Train to the end or to an interruption; returns whether the run is complete."""
        config, first = self.config, self.done
        on_a_terminal = sys.stderr is not None and sys.stderr.isatty()
        bar_shown = self.progress and (on_a_terminal or _in_notebook())

        def interrupt(number: int) -> None:
            self.job.interrupt(number)
            if not self.job.ranks.joined:  # torchrun may send it once more, and kills what is left
                signal.signal(number, _on_the_second(number))

        with stop_signals(interrupt), contextlib.ExitStack() as stack:
            metrics = stack.enter_context(_open_metrics(self.folder)) if self.job.is_first else None
            bar = tqdm(
                total=config.steps,
                initial=first,
                disable=not bar_shown,
                unit="update",
                dynamic_ncols=True,
                smoothing=0.1,
            )
            stack.callback(self._close, bar)
            self._tell(lambda callback: callback.begin(self.folder, first))
            while self.done < config.steps and not self._stopped():
                self._update()
                last = self.done == config.steps
                row = self._measure(metrics) if self.done % config.log_every == 0 or last else None
                with self._going_on("progress"):
                    bar.update(config.steps_per_replay)
                    if row is not None:
                        bar.set_postfix_str(summary(self.step.spec, row), refresh=False)
                if row is not None and not bar_shown:
                    self._report(row, last)
                # Before the checkpoint: what a killed run lacks is made again from the checkpoint before.
                if self.job.is_first and (self.done % config.sample_every == 0 or last):
                    self._sample()
                if self.done % config.checkpoint_every == 0 and not last:
                    with self._going_on("a checkpoint"):
                        self._save()
            if self.profiled is not None:
                with self._going_on("profile.json"):
                    self.profiled.close()
            if self.job.ranks.any(self._saved != self.done):
                self._save()
            complete = self.done == config.steps
            if complete and self.job.is_first:
                self._picture("traversal", traversal.traversal, self.folder / "traversal.png")
            if self.job.is_first:
                self._tell(lambda callback: callback.done(self.folder))
        if self._failed is None or not complete:
            self._say_how_it_ended(complete)
        if self._failed is not None:
            raise self._failed
        return complete

    def _say_how_it_ended(self, complete: bool) -> None:
        if not complete:
            self.say(f"stopped after update {self.done:,}, saved; continue with --resume {self._shown}")
        elif self.job.is_first:
            path = self._shown / "traversal.png"
            self.say("done" if self.problems else f"done: {path} shows what each code does")

    def _stopped(self) -> bool:
        """Whether the processes of the job, of which each may be interrupted, stop after this update."""
        interrupted = bool(self.job.interrupted) or self._failed is not None
        if not self.job.ranks.joined:
            return interrupted
        # A GPU's updates are far behind their launch: there the processes wait for each other at rows alone.
        if self.step.device.type == "cuda" and self.done % self.config.log_every:
            return False
        return self.job.ranks.any(interrupted)

    def say(self, text: str) -> None:
        """Print a line, if progress is wanted and the output is there."""
        if self.progress:
            with self._going_on("progress"):
                print(printable(text), flush=True)

    def _close(self, bar: tqdm[Any]) -> None:
        with self._going_on("progress"):
            bar.close()

    @contextlib.contextmanager
    def _going_on(self, what: str) -> Iterator[None]:
        """Training goes on without what cannot be written within the block, and says so once."""
        try:
            yield
        except (OSError, checkpoint.UnwritableError) as error:
            if what == "progress":
                self.progress = False
                _silence(error)
            if what not in self.problems:
                self.problems[what] = f"{what} could not be written ({error})"
                with tqdm.external_write_mode():
                    self.say(f"problem   {self.problems[what]}; training goes on")

    def _report(self, row: dict[str, Any], last: bool) -> None:
        now = time.monotonic()
        if now - self._reported > _SECONDS_BETWEEN_LINES or last:
            self._reported = now
            rate = (self.done - self._first[0]) / max(now - self._first[1], 1e-3)
            position = f"update {self.done:,}/{self.config.steps:,}, {rate:.1f}/s"
            self.say(f"{position}: {summary(self.step.spec, row)}")

    def _update(self) -> None:
        count = self.config.steps_per_replay
        if self.profiled is not None:
            self.profiled.advance(self.done)
        start, stop = self.config.profile or (0, 0)
        # All processes of a job, whose messages a capture would repeat.
        if self.config.profile_phases and start <= self.done < stop:
            for _ in range(count):
                self.step.run_phases()
        else:
            self.step()
        self.done += count
        self.job.update = self.done

    def _generator(self) -> Generator:
        if self._calibrated is None or self._calibrated[0] != self.done:
            generator = calibrated((self.step.ema or self.step.full).generator, self.step.current_spec)
            self._calibrated = self.done, generator
        return self._calibrated[1]

    def _measure(self, metrics: BinaryIO | None) -> dict[str, Any] | None:
        means, every = self.step.take_metrics(), self.config.sample_every
        self._check(means)
        if metrics is None:
            return None
        last = self.done == self.config.steps
        row = self._row_head() | means | code_bounds(self.step.spec, means)
        if last or self.done // every > self._monitor.step // every:
            diversity = samples.diversity(self._generator(), self.step.current_spec, self.step.images)
            row |= {} if diversity is None else {"diversity": diversity}
        row["alarms"], new = self._monitor(row)
        self._scores.add(row)
        with self._going_on("metrics.jsonl"):
            self._write_row(metrics, row)
        self._tell(lambda callback: callback.row(copy.deepcopy(row)))
        for name in new:
            with tqdm.external_write_mode():
                self.say(f"alarm     {name}, update {self.done:,}: {alarms.explained(name)}")
        return row

    def _write_row(self, metrics: BinaryIO, row: dict[str, Any]) -> None:
        # What a full disk cut short must not swallow the row after it.
        line = (b"\n" if self._torn else b"") + json.dumps(row).encode() + b"\n"
        self._torn = True
        written = metrics.write(line)
        if written != len(line):
            raise OSError(errno.ENOSPC, f"{written} of {len(line)} bytes written")
        self._torn = False

    def _row_head(self) -> dict[str, Any]:
        return {"step": self.done, "seconds": round(time.monotonic() - self._started, 3)}

    def _check(self, means: dict[str, float]) -> None:
        """Raise a DivergedError if a mean says that training has diverged; it names the tensors, too."""
        if found := alarms.exploded(means):
            found |= dict.fromkeys(self.step.state.not_finite(), math.nan)
            raise self._diverged(found)

    def _diverged(self, found: dict[str, float]) -> DivergedError:
        if self.job.is_first:
            row = self._row_head() | {"alarms": ["diverged"]}
            with self._going_on("metrics.jsonl"), _open_metrics(self.folder) as metrics:
                self._write_row(metrics, row)
            self._tell(lambda callback: callback.row(copy.deepcopy(row)))
        kept = checkpoint.listed(self.folder / "checkpoints")
        shown = self._shown / "checkpoints"
        last = (
            f"the last good checkpoint is {shown / kept[-1].name}"
            if kept
            else "no checkpoint was written yet"
        )
        named = []
        for name, value in found.items():
            what = f"{value:.1e}" if math.isfinite(value) else "not finite"
            named.append(f"{name} is {what} ({self.step.phase_of(name)})")
        more = f" and {len(named) - 4} more" if len(named) > 4 else ""
        return DivergedError(
            f"training diverged by update {self.done}: {', '.join(named[:4])}{more}; {last}; try "
            f"{alarms.ALARMS['diverged'].remedy}"
        )

    def _save(self) -> None:
        self._check(self.step.metrics())
        if bad := self.step.state.not_finite():
            raise self._diverged(dict.fromkeys(bad, math.nan))
        if not self.job.is_first:
            self._saved = self.done
            return
        with self.job.writing():
            self._write_checkpoint(self.folder / "checkpoints")
        self._saved = self.done

    def _write_checkpoint(self, folder: Path) -> None:
        checkpoint.save(
            checkpoint.checkpoint_path(folder, self.done),
            {
                "step": self.done,
                "seconds": time.monotonic() - self._started,
                "settings": self.config.options(),
                "training": self.step.state_dict(),
            },
        )
        best = self._scores.best(checkpoint.listed(folder))
        checkpoint.prune(folder, self.config.keep_checkpoints, best)

    def _sample(self) -> None:
        path = self.folder / "samples" / f"step-{self.done:08d}.png"
        self._picture("samples", samples.sample_grid, path)

    def _picture(self, name: str, draw: Callable[[Generator, LatentSpec], Image.Image], path: Path) -> None:
        with self.job.writing():
            image = draw(self._generator(), self.step.current_spec)
            with self._going_on("a picture"):
                save_picture(image, path)
        self._tell(lambda callback: callback.picture(name, self.done, image.copy()))

    def _tell(self, event: Callable[[Callback], None]) -> None:
        """Tell the callbacks of an event, until one fails: then training stops, and what it raised is raised
        once the run is saved."""
        for callback in self._callbacks:
            if self._failed is not None:
                return
            going_on = self._going_on(callback.writes) if callback.writes else contextlib.nullcontext()
            try:
                with self.job.writing(), going_on:
                    event(callback)
            except KeyboardInterrupt:
                self.job.interrupt(signal.SIGINT)
            except BaseException as error:  # SystemExit, too: the run is to be saved first
                self._failed = error


def summary(spec: LatentSpec, row: dict[str, Any]) -> str:
    """A row of metrics in one line: each player's loss, L_I and the entropy of each code in nats, and how
    well Q's answers for c1 agree on copies of real images."""
    codes = " ".join(f"{c} {row[f'L_{c}']:.2f}/{row[f'H_{c}']:.2f}" for c in spec.code_names[:6])
    more = " ..." if spec.n_codes > 6 else ""
    agreed = f" | on copies {row['I_c1']:.2f}" if "I_c1" in row else ""
    return f"D {row['d_real'] + row['d_fake']:.2f} G {row['g']:.2f} | L_I/H nats: {codes}{more}{agreed}"


def _silence(error: Exception) -> None:
    """Where nobody reads the output any more, what is printed later, even when Python ends, goes nowhere."""
    if isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.EIO):
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def _open_metrics(folder: Path) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    return open(
        folder / "metrics.jsonl", "ab", buffering=0, opener=lambda name, _: os.open(name, flags, 0o666)
    )


def _on_the_second(number: int) -> Any:
    """What a second signal does: it ends the process at once, or, from an interactive session, which has more
    to lose, training alone."""
    interactive = number == signal.SIGINT and hasattr(sys, "ps1")
    return signal.default_int_handler if interactive else signal.SIG_DFL


def _in_notebook() -> bool:
    return any("notebook" in base.__module__ for base in tqdm.__mro__)
