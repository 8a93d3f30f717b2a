"""``python -m infogan_fast.train``: trains an InfoGAN and leaves a folder with its pictures, figures and
checkpoints.

RUN/config.json      settings, versions, machine and data
RUN/metrics.jsonl    a row every --log-every updates: ``step``; ``seconds`` of training; the terms of the
                     loss, means since the row before (``d_real``, ``d_fake``, ``g``, ``nll_CODE``,
                     ``mse_CODE``; ``logvar_CODE`` where Q learns it; of Q's answers to a real image and its
                     copy, in nats, ``I_CODE``, how well those for a categorical code agree, and ``D_CODE``,
                     how far those for the codes of --equivariance and --invariance lie from what these ask
                     for); for each code, in nats,
                     ``L_CODE``, the lower bound of its mutual information, ``H_CODE``, its entropy, and for
                     uniform and normal codes ``L_fitted_CODE``, the bound that the best single sigma would
                     give; ``diversity`` of generated images beside real ones, in the first row from each
                     sample on; ``alarms``, the names of those that hold (:mod:`infogan_fast.training.alarms`)
RUN/samples/         a grid every --sample-every updates, always of the same latents
RUN/checkpoints/     the last --keep-checkpoints
RUN/traversal.png    at the end, what each code does
RUN/profile.json     of --profile on a CPU, in Chrome's trace format
"""

from __future__ import annotations

import infogan_fast.runtime.threads  # before anything that loads PyTorch

# isort: split
import contextlib
import json
import math
import os
import platform
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from tqdm import tqdm

import infogan_fast
from infogan_fast.analysis.run import CONFIG_FORMAT, read_config
from infogan_fast.config import Request, Settings, parse, resumed
from infogan_fast.data import load_images
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import Generator, InfoGAN, stage_channels
from infogan_fast.networks.linear import faster_linear, set_linear
from infogan_fast.pictures import samples
from infogan_fast.runtime.device import amp_dtype, choose_device, describe, tune_allocator, usable_threads
from infogan_fast.runtime.profiling import Bracket
from infogan_fast.training import alarms, checkpoint
from infogan_fast.training.step import TrainingStep, calibrated, code_bounds

INTERRUPTED = 130
_SECONDS_BETWEEN_LINES = 10.0
_OURS = (
    *("config.json", "metrics.jsonl", "samples", "checkpoints", "traversal.png", "profile.json"),
    *("traverse.png", "generated.png"),  # which the other commands leave
)
_SHORT = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


class DivergedError(UserError):
    """A loss or a weight is no longer finite."""


def main(argv: list[str] | None = None) -> int:
    """Train. Returns the exit status: 0, 2 after an error that the user can mend, 130 when interrupted."""
    try:
        return _run(parse(argv))
    except UserError as error:
        print(f"infogan_fast.train: {error}", file=sys.stderr)
        return 2


def _run(request: Request) -> int:
    tune_allocator()
    config: dict[str, Any] | None = None
    if request.resume is not None:
        folder = request.resume
        config = read_config(folder)
        settings = resumed(config["settings"], request.given)
    else:
        settings = Settings(**request.given).checked()
        folder = request.out or Path("runs") / f"{settings.data_name}-seed{settings.seed}"
        _check_free(folder, request.overwrite)

    device = choose_device(settings.device)
    if device.type == "cuda":
        # Said where the first thing that autograd's thread does is a matrix product; nothing is wrong then.
        warnings.filterwarnings("ignore", "Attempting to run cuBLAS, but there was no current CUDA context")
    amp = amp_dtype(device) if settings.amp else None
    torch.set_num_threads(settings.threads or usable_threads())
    linear = faster_linear() if settings.linear == "auto" else settings.linear
    machine = {
        "device": str(device),
        "hardware": describe(device),
        "precision": f"{_SHORT[amp]} autocast" if amp else "float32",
        "linear": linear if device.type == "cpu" and amp is None else "PyTorch's choice",
    }
    data = load_images(
        settings.data,
        data_dir=None if settings.data_dir is None else Path(settings.data_dir).expanduser(),
        image_size=settings.image_size,
        channels=settings.channels,
        crop=settings.crop,
        seed=settings.seed,
        count=settings.images,
    )
    channels, size = data.images.shape[1:3]
    described = {"source": data.source, "images": len(data.images), "image_size": size, "channels": channels}
    stage_channels(size, channels)
    if config is not None and {**config["data"], "source": ""} != {**described, "source": ""}:
        raise UserError(f"{folder} was trained on {config['data']['source']}, and this is {data.source}")

    spec = settings.spec
    networks = InfoGAN(
        spec,
        size,
        channels,
        learned_variance=settings.fixed_sigma is None,
        slope=settings.leaky_slope,
        seed=settings.seed,
    ).to(device)
    set_linear(networks, linear)
    if settings.compile:
        networks.compile_parts()
    images = _placed(data.images, device)
    graph = _graph_wanted(settings, device, images)
    step = TrainingStep(
        spec,
        networks,
        settings.objective,
        images,
        settings.batch_size,
        seed=settings.seed,
        amp=amp,
        cuda_graph=graph,
        steps_per_replay=settings.steps_per_replay,
    )
    done, seconds = 0, 0.0
    if config is not None:
        done, seconds = _continue(step, folder)
        if done > settings.steps:
            raise UserError(
                f"{folder} has {done} updates behind it; --steps is {settings.steps}, expected at least that"
            )
        if done % settings.steps_per_replay:
            raise UserError(
                f"{folder} has {done} updates behind it; --steps-per-replay is {settings.steps_per_replay}, "
                f"expected a divisor of that"
            )
    bracket = None
    if settings.profiled is not None:
        bracket = Bracket(*settings.profiled, device, folder / "profile.json")
        if bracket.start < done < settings.steps:
            raise UserError(f"--profile is {settings.profile}; {folder} has {done} updates behind it already")

    _prepare(folder, networks, settings, request.overwrite)
    _write_config(folder, settings, machine, described)
    _cut_metrics(folder / "metrics.jsonl", done)
    weights = sum(p.numel() for p in networks.parameters())
    print(f"runs on   {machine['hardware']}, {machine['precision']}, PyTorch {torch.__version__}", end="")
    print(f", float32 linear layers through {linear}" if "choice" not in machine["linear"] else "")
    print(f"data      {data.source}, {size} x {size} {'grey' if channels == 1 else 'colour'}")
    print(f"latents   {spec}; networks of {weights / 1e6:.1f} million weights")
    if settings.transformation is not None:
        print(
            f"copies    {settings.transformation}; weight of their consistency {settings.consistency:g}, of "
            f"equivariance {settings.equivariance:g}, of invariance {settings.invariance:g}, of smoothness "
            f"{settings.smoothness:g}"
        )
    from_here = f", from update {done:,}" if done else ""
    print(
        f"writes    {folder}: {settings.steps:,} updates of {settings.batch_size} images{from_here}",
        flush=True,
    )
    if device.type == "cuda":
        kept = "on the device" if images.device == device else "in host memory: they do not fit the device"
        in_one = f"one CUDA graph of {settings.steps_per_replay} updates" if graph else "no CUDA graph"
        print(f"images    {kept}; {in_one}", flush=True)
    return _Loop(step, settings, folder, done, seconds, bracket).run()


def _placed(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The images on the device where they take at most half of its free memory, else as they are."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if images.numel() < free // 2:
            return images.to(device)
    return images


def _graph_wanted(settings: Settings, device: torch.device, images: torch.Tensor) -> bool:
    possible = device.type == images.device.type == "cuda"
    if settings.cuda_graph is None and settings.steps_per_replay == 1:
        return possible
    if settings.cuda_graph is not False and not possible:
        flag = "--cuda-graph" if settings.cuda_graph else f"--steps-per-replay {settings.steps_per_replay}"
        why = "training runs on the CPU" if device.type == "cpu" else "the images do not fit the device"
        remedy = "use --no-cuda-graph" + (" --steps-per-replay 1" if settings.steps_per_replay > 1 else "")
        raise UserError(f"{flag}: {why}, so there can be no CUDA graph; {remedy}")
    return settings.cuda_graph is not False


class _Loop:
    """Updates, and what is written between them."""

    def __init__(
        self,
        step: TrainingStep,
        settings: Settings,
        folder: Path,
        done: int,
        seconds: float,
        bracket: Bracket | None,
    ) -> None:
        self.step, self.settings, self.folder, self.done = step, settings, folder, done
        self.bracket = bracket
        self.calibrated: tuple[int, Generator] | None = None
        self.started = time.monotonic() - seconds
        self.saved = done if done else -1
        self.watch = alarms.Watch(step.spec)
        for line in _lines(folder / "metrics.jsonl"):
            self.watch(json.loads(line))

    def run(self) -> int:
        """Train to the end or to an interruption; returns the exit status."""
        settings, first = self.settings, self.done
        quiet = not sys.stderr.isatty()
        said = -math.inf
        with (
            _interruptible() as stop,
            open(self.folder / "metrics.jsonl", "a") as metrics,
            tqdm(
                total=settings.steps,
                initial=first,
                disable=quiet,
                unit="update",
                dynamic_ncols=True,
                smoothing=0.1,
            ) as bar,
        ):
            while self.done < settings.steps and not stop:
                self._update()
                bar.update(settings.steps_per_replay)
                last = self.done == settings.steps
                if self.done % settings.log_every == 0 or last:
                    row = self._measure(metrics, last)
                    bar.set_postfix_str(summary(self.step.spec, row), refresh=False)
                    if quiet and (time.monotonic() - said > _SECONDS_BETWEEN_LINES or last):
                        said = time.monotonic()
                        rate = self.done / row["seconds"]
                        at = f"update {self.done:,}/{settings.steps:,}, {rate:.1f}/s"
                        print(f"{at}: {summary(self.step.spec, row)}", flush=True)
                if self.done % settings.checkpoint_every == 0 and not last:
                    self._save()
                if self.done % settings.sample_every == 0 or last:
                    self._sample()
            if self.bracket is not None:
                self.bracket.close()
            if self.saved != self.done:
                self._save()
        if stop and self.done < settings.steps:
            print(
                f"stopped after update {self.done:,}, saved; continue with --resume {self.folder}", flush=True
            )
            return INTERRUPTED
        path = self.folder / "traversal.png"
        samples.traversal(self._generator(), self.step.spec).save(path)
        print(f"done: {path} shows what each code does", flush=True)
        return 0

    def _update(self) -> None:
        count = self.settings.steps_per_replay
        if self.bracket is not None:
            self.bracket.move(self.done)
        if self.bracket is not None and self.settings.profile_phases and self.bracket.covers(self.done):
            for _ in range(count):
                self.step.run_phases()
        else:
            self.step()
        self.done += count

    def _generator(self) -> Generator:
        if self.calibrated is None or self.calibrated[0] != self.done:
            generator = calibrated(self.step.ema or self.step.networks.generator, self.step.spec)
            self.calibrated = self.done, generator
        return self.calibrated[1]

    def _measure(self, metrics: TextIO, last: bool) -> dict[str, Any]:
        terms, every = self.step.take_terms(), self.settings.sample_every
        if bad := [name for name, value in terms.items() if not math.isfinite(value)]:
            raise self._diverged(f"{', '.join(bad)} not finite")
        row = self._row_head() | terms | code_bounds(self.step.spec, terms)
        if last or self.done // every > self.watch.step // every:
            row["diversity"] = samples.diversity(self._generator(), self.step.spec, self.step.images)
        row["alarms"], new = self.watch(row)
        print(json.dumps(row), file=metrics, flush=True)
        for name in new:
            with tqdm.external_write_mode():
                print(f"alarm     {name}, update {self.done:,}: {alarms.explained(name)}", flush=True)
        return row

    def _row_head(self) -> dict[str, Any]:
        return {"step": self.done, "seconds": round(time.monotonic() - self.started, 3)}

    def _diverged(self, what: str) -> DivergedError:
        with open(self.folder / "metrics.jsonl", "a") as metrics:
            print(json.dumps(self._row_head() | {"alarms": ["diverged"]}), file=metrics)
        kept = checkpoint.listed(self.folder / "checkpoints")
        last = f"the last good checkpoint is {kept[-1]}" if kept else "no checkpoint was written yet"
        return DivergedError(
            f"training diverged by update {self.done}: {what}; {last}; try {alarms.ALARMS['diverged'].remedy}"
        )

    def _save(self) -> None:
        state = self.step.networks.state_dict()
        if not math.isfinite(self.step.terms.sum().item()) or not all(
            bool(value.isfinite().all()) for value in state.values() if value.is_floating_point()
        ):
            raise self._diverged("weights not finite")
        folder = self.folder / "checkpoints"
        checkpoint.save(
            checkpoint.checkpoint_path(folder, self.done),
            {
                "step": self.done,
                "seconds": time.monotonic() - self.started,
                "settings": asdict(self.settings),
                "training": self.step.state_dict(),
            },
        )
        checkpoint.prune(folder, self.settings.keep_checkpoints)
        self.saved = self.done

    def _sample(self) -> None:
        grid = samples.sample_grid(self._generator(), self.step.spec)
        grid.save(self.folder / "samples" / f"step-{self.done:08d}.png")


def summary(spec: LatentSpec, row: dict[str, Any]) -> str:
    """A row of metrics in a line: each player's loss, then in nats L_I of each code beside its entropy, and
    how well c1 agrees on copies of real images."""
    codes = " ".join(f"{c} {row[f'L_{c}']:.2f}/{row[f'H_{c}']:.2f}" for c in spec.code_names[:6])
    more = " ..." if spec.n_codes > 6 else ""
    agreed = f" | on copies {row['I_c1']:.2f}" if "I_c1" in row else ""
    return f"D {row['d_real'] + row['d_fake']:.2f} G {row['g']:.2f} | L_I/H nats: {codes}{more}{agreed}"


@contextlib.contextmanager
def _interruptible() -> Iterator[list[int]]:
    """A list that SIGINT or SIGTERM fills, for the loop to end after the update at hand; a second one ends at
    once."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    before = {}
    with contextlib.suppress(ValueError):  # not the main thread: whoever started us handles signals
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_config(folder: Path, settings: Settings, machine: dict[str, str], data: dict[str, Any]) -> None:
    versions = {
        "infogan_fast": infogan_fast.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    config = {
        "format": CONFIG_FORMAT,
        "settings": asdict(settings),
        "machine": machine,
        "data": data,
        "versions": versions,
    }
    temporary = folder / ".config.json.part"
    temporary.write_text(json.dumps(config, indent=2) + "\n")
    os.replace(temporary, folder / "config.json")


def _continue(step: TrainingStep, folder: Path) -> tuple[int, float]:
    """Load the last checkpoint; returns the updates and seconds behind it."""
    kept = checkpoint.listed(folder / "checkpoints")
    if not kept:
        raise UserError(
            f"--resume {folder}: there is no checkpoint in {folder / 'checkpoints'}; start a new run"
        )
    state = checkpoint.load(kept[-1])
    try:
        if state["step"] != checkpoint.step_of(kept[-1]):
            raise ValueError(f"it is of update {state['step']}")
        step.load_state_dict(state["training"])
        return int(state["step"]), float(state["seconds"])
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{kept[-1]}: does not belong to this run ({reason}); delete it to continue from the one before"
        ) from None


def _check_free(folder: Path, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder with --out")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is not empty and not a run; give another folder with --out")
    if not overwrite:
        raise UserError(
            f"{folder} holds a run: continue it with --resume {folder}, replace it with --overwrite, "
            f"or give another folder with --out"
        )


def _prepare(folder: Path, networks: InfoGAN, settings: Settings, overwrite: bool) -> None:
    """Make the folders, and see that what the run will write fits."""
    try:
        if overwrite:
            for name in _OURS:
                path = folder / name
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        for part in (folder / "samples", folder / "checkpoints"):
            part.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}); give another folder with --out"
        ) from None
    # A checkpoint holds each weight and Adam's two moments; one more is there while the oldest is not yet
    # deleted.
    copies = 3 * sum(p.numel() * p.element_size() for p in networks.parameters())
    wanted = copies * (settings.keep_checkpoints + 1) + (50 << 20)
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise UserError(
            f"{folder}: {free >> 20} MiB free, and {settings.keep_checkpoints} checkpoints need "
            f"{wanted >> 20} MiB; free some, keep fewer with --keep-checkpoints, or give another folder "
            f"with --out"
        )


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _cut_metrics(path: Path, done: int) -> None:
    """Drop the rows past the checkpoint that the run goes on from."""
    if not path.exists():
        return
    kept = []
    for line in _lines(path):
        try:
            if json.loads(line)["step"] <= done:
                kept.append(line)
        except (ValueError, KeyError, TypeError):  # cut short by a crash
            continue
    temporary = path.with_name(".metrics.jsonl.part")
    temporary.write_text("".join(line + "\n" for line in kept))
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(main())
