"""Training from a request to its end: the device, the images, the step, the folder, then the loop."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import mmap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import infogan_fast
from infogan_fast.config import Config, differing, load_config
from infogan_fast.data import ImageSet, load_images
from infogan_fast.data.registry import IN_MEMORY, RANDOM
from infogan_fast.errors import UserError
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.networks.linear import faster_linear, onednn_missing, set_linear
from infogan_fast.request import Request
from infogan_fast.runtime.device import (
    amp_dtype,
    check_matmul_precision,
    choose_device,
    describe,
    prepare_deterministic,
    usual_modes,
)
from infogan_fast.runtime.files import expanded
from infogan_fast.runtime.job import Job, join
from infogan_fast.runtime.profiling import ProfiledUpdates
from infogan_fast.runtime.threads import tune_allocator, use_threads
from infogan_fast.training import checkpoint, run_folder, tensorboard
from infogan_fast.training.callbacks import Callback
from infogan_fast.training.lock import locked
from infogan_fast.training.loop import Loop
from infogan_fast.training.saved import in_words
from infogan_fast.training.step import TrainingStep


@dataclass(frozen=True)
class Outcome:
    """The result of :func:`train`."""

    folder: Path
    complete: bool
    """False if the run was interrupted; it is saved then."""
    problems: tuple[str, ...]
    """What could not be written on the way."""
    is_first: bool = True
    """Whether this process wrote it; False on the others of a job."""


@dataclass(frozen=True)
class Machine:
    """The device, precision and libraries of a run."""

    device: torch.device
    amp: torch.dtype | None
    matmul_precision: str
    linear: str
    """The library of float32 linear layers on a CPU."""
    processes: int = 1

    def described(self) -> dict[str, str]:
        """For config.json."""
        low = str(self.amp).removeprefix("torch.")
        precision = "float32" if self.amp is None else f"{low} with float32 masters"
        if self.matmul_precision != "highest":
            precision += " and TF32 products" if self.amp is None else ""
        uses_linear = self.device.type == "cpu" and self.amp is None
        return {
            "device": str(self.device),
            "hardware": describe(self.device),
            "precision": precision,
            "linear": self.linear if uses_linear else "PyTorch's choice",
            "processes": str(self.processes),
        }


def train(
    request: Request, images: Any = None, *, progress: bool = True, callbacks: Sequence[Callback] = ()
) -> Outcome:
    """Train.

    Args:
        request: options, and the folder.
        images: in memory, as for :func:`infogan_fast.data.load_images`; None: those that the options name.
        progress: whether to report on the way.
        callbacks: what the first process tells its rows and pictures to.

    Raises:
        UserError: the request, the data, the device or the folder cannot be used, or training diverged.
    """
    tune_allocator()
    with join() as job:
        job.check_alike("request", request.described())
        if ended := job.from_first("ended", lambda: job.noted("ended") or ""):
            # To torchrun a run that was stopped has failed, but it need not be trained again.
            folder, complete, problems = json.loads(ended)
            return Outcome(Path(folder), complete, tuple(problems), job.is_first)
        here = Path.cwd()
        with _begin(request, job) as (request, config, folder, saved), usual_modes():
            shown, told = progress and job.is_first, callbacks if job.is_first else ()
            outcome = _train(request, config, folder, saved, images, job, shown, told)
        if Path.cwd() != here:  # a callback has gone elsewhere
            outcome = replace(outcome, folder=here / folder)
        job.note("ended", json.dumps([str(folder), outcome.complete, outcome.problems]))
        return outcome


_Begun = tuple[Request, Config, Path, dict[str, Any] | None]


@contextlib.contextmanager
def _begin(request: Request, job: Job) -> Iterator[_Begun]:
    """The request, the configuration, the folder, and config.json of a run that continues. The first process
    reads, and holds the folder; the others take its word, so that they need not see it."""
    with contextlib.ExitStack() as stack:
        begun: list[_Begun] = []

        def decide() -> str:
            begun.append(stack.enter_context(_decided(request, job.noted("folder"))))
            _, config, folder, saved = begun[0]
            return json.dumps({"options": config.options(), "folder": str(folder), "saved": saved})

        told = json.loads(job.from_first("begin", decide))
        if not begun:
            config = Config.from_options(told["options"])
            begun.append((request, config, Path(told["folder"]), told["saved"]))
        yield begun[0]


@contextlib.contextmanager
def _decided(request: Request, own: str | None) -> Iterator[_Begun]:
    """``own`` is the folder that an earlier attempt of this job writes to."""
    if own is not None and request.resume is None:
        request = _of_a_restart(request, Path(own))
    if request.resume is not None:
        folder = request.resume
        load_config(run_folder.read_config(folder)["settings"]).resumed(request.given)
        with locked(folder):
            saved = run_folder.read_config(folder)
            yield request, load_config(saved["settings"]).resumed(request.given), folder, saved
        return
    config = Config.from_options(request.given).checked()
    config.check_effects(request.given)
    folder = request.out or Path("runs") / f"{config.data_name}-seed{config.seed}"
    run_folder.check_free(folder, request.overwrite)
    with locked(folder):
        run_folder.check_free(folder, request.overwrite)
        yield request, config, folder, None


def _of_a_restart(request: Request, folder: Path) -> Request:
    """What a job does that torchrun starts again: it continues its run, or begins anew if that has left no
    checkpoint."""
    if checkpoint.listed(folder / "checkpoints"):
        return Request(given={}, resume=folder)
    return replace(request, overwrite=True)


def _train(
    request: Request,
    config: Config,
    folder: Path,
    saved: dict[str, Any] | None,
    images: Any,
    job: Job,
    progress: bool,
    callbacks: Sequence[Callback],
) -> Outcome:
    if config.tensorboard and job.is_first:
        callbacks = [*callbacks, tensorboard.EventWriter()]
    machine = _set_up(config, job)
    data = _load(config, images, folder if saved is not None else None)
    _check_varied(data)
    described = _described(data)
    lines: list[str] = []
    if saved is not None:
        moved = load_config(saved["settings"]).data != config.data
        _check_same_data(folder, saved["data"], described, config.data, moved=moved)
        if config.deterministic:
            _check_same_machine(folder, saved, machine)
        lines = _changes(folder, saved, described, machine, deterministic=config.deterministic)
    if job.ranks.size > 1:
        job.check_alike("data", _compared(described, machine))
    job.connect(machine.device, config.rank_timeout)
    step = _make_step(config, machine, data, job)

    def state() -> dict[str, Any]:
        done, seconds, found = _continue(step, folder, config) if saved is not None else (0, 0.0, [])
        lines.extend(found)
        return {"done": done, "seconds": seconds, "training": step.state_dict()}

    begun = job.shared(state)
    done, seconds = begun["done"], begun["seconds"]
    if not job.is_first:
        step.load_state_dict(begun["training"])
    profiled = _profiled(config, machine.device, folder, done) if job.is_first else None
    if config.deterministic:
        step.check_repeatable()

    if job.is_first:
        run_folder.prepare(folder, step.state.tensors(), config.keep_checkpoints, request.overwrite)
        run_folder.write_config(folder, config, machine.described(), described)
        run_folder.write_left_out(folder, data.left_out)
        run_folder.write_report(folder, data)
        run_folder.cut_metrics(folder, done)
        job.note("folder", str(folder.resolve()))
    job.say_on_failure(lambda: _kept(folder))
    loop = Loop(step, config, folder, done, seconds, profiled, job, progress=progress, callbacks=callbacks)
    for line in (*lines, *_announcement(step, config, machine, data, folder, done)):
        loop.say(line)
    complete = loop.run()
    return Outcome(folder, complete, tuple(loop.problems.values()), job.is_first)


def _kept(folder: Path) -> str:
    """What to do after a process of the job has failed."""
    found = checkpoint.listed(folder / "checkpoints")
    if not found:
        return f"{folder} has no checkpoint yet: start again with --overwrite"
    return f"the last checkpoint is {found[-1]}: continue with --resume {folder}"


def _compared(described: dict[str, Any], machine: Machine) -> dict[str, str]:
    """What all processes of a job should have alike, by what it is called in an error."""
    return {
        "infogan_fast": infogan_fast.__version__,
        "PyTorch": torch.__version__,
        "the device": machine.device.type,
        "the precision": machine.described()["precision"],
        "the digest of the images": described["digest"],
    }


def _set_up(config: Config, job: Job) -> Machine:
    """Choose the device and set the process up for it."""
    if config.deterministic:
        prepare_deterministic(config.device)
    device = choose_device(config.device, job.local_rank)
    if config.linear == "onednn" and (reason := onednn_missing()) is not None:
        raise UserError(f"--linear onednn: {reason}; leave --linear out")
    if device.type == "cuda":
        # PyTorch warns if autograd's thread begins with a matrix product; it is harmless.
        warnings.filterwarnings("ignore", "Attempting to run cuBLAS, but there was no current CUDA context")
    amp = amp_dtype(device) if config.amp else None
    use_threads(config.threads)
    check_matmul_precision(config.matmul_precision, device)
    linear = faster_linear() if config.linear == "auto" else config.linear
    return Machine(device, amp, config.matmul_precision, linear, job.ranks.size)


def _load(config: Config, images: Any, resumed: Path | None) -> ImageSet:
    if config.data == IN_MEMORY and images is None and resumed is not None:
        raise UserError(
            f"{resumed} was trained on images in memory; continue it from Python, with "
            f"infogan_fast.train(data=images, resume={str(resumed)!r})"
        )
    return load_images(
        config.data if images is None else images,
        data_dir=None if config.data_dir is None else expanded(config.data_dir),
        image_size=config.image_size,
        channels=config.channels,
        crop=config.crop,
        skip_damaged=config.skip_damaged,
        background=config.background,
        pixel_range=config.pixel_range,
        label=config.label,
        seed=config.seed,
        count=config.images,
    )


def _check_varied(data: ImageSet) -> None:
    """Refuse images that are all alike."""
    images = data.images
    if not any(bool((part != images[0]).any()) for part in images.split(1024)):
        alike = "is a single image" if len(images) == 1 else "its images are all alike"
        remedy = "give different ones"
        if bool((images[0] == images[0, :, :1, :1]).all()):
            colour = ", ".join(map(str, images[0, :, 0, 0].tolist()))
            remedy += (
                f"; or, as every pixel is {colour}, look at --background if they are transparent, and at "
                "--pixel-range if they are in an array"
            )
        raise UserError(f"{data.source}: {alike}, so there is nothing to learn; {remedy}")


def _described(data: ImageSet) -> dict[str, Any]:
    """For config.json."""
    channels, size = data.images.shape[1:3]
    return {
        "source": data.source,
        "images": len(data.images),
        "image_size": size,
        "channels": channels,
        "digest": _digest(data.images),
    }


def _digest(images: Tensor) -> str:
    """Of the pixels in the order channels, rows, columns."""
    result = hashlib.sha256()
    for part in images.split(1024):  # of images that may be more than memory holds
        result.update(part.contiguous().numpy().data)
    return result.hexdigest()[:16]


def _check_same_data(
    folder: Path, saved: dict[str, Any], found: dict[str, Any], name: str, *, moved: bool
) -> None:
    """Check that a run continues on its images, which ``--data`` may name at another place if ``moved``."""
    ignored = {"source"}  # files may have moved with their folder
    # The source of images in memory ends with their digest.
    memory = not moved and name == IN_MEMORY
    ends = {data["source"].rpartition(" ")[2] for data in (saved, found)} if memory else {""}
    if not moved:
        ignored.add("digest")  # another processor may draw or decode images with other roundings
    elif "digest" not in saved:
        raise UserError(
            f"--data {name}: {folder} is of an earlier version, which kept no digest of its images; put them "
            "where they were, and leave --data out"
        )
    keys = (saved.keys() & found.keys()) - ignored
    if len(ends) > 1 or any(saved[key] != found[key] for key in keys):
        raise UserError(
            f"{folder} was trained on {saved['source']}, and this is {found['source']}"
            + (", with other pixels" if saved["images"] == found["images"] else "")
            + (RANDOM if name == IN_MEMORY else "; put its images back, or name their place with --data")
        )


def _check_same_machine(folder: Path, saved: dict[str, Any], machine: Machine) -> None:
    """Check that a deterministic run goes on where its bits are the same."""
    before, now = {"processes": "1", **saved["machine"]}, machine.described()
    for name, version in (("infogan_fast", infogan_fast.__version__), ("torch", torch.__version__)):
        before[name], now[name] = saved["versions"][name], version
    if other := [name for name in now if before.get(name) != now[name]]:
        theirs, ours = (", ".join(f"{name} {of.get(name)}" for name in other) for of in (before, now))
        raise UserError(
            f"--deterministic: {folder} was trained with {theirs}, and this is {ours}, where bits differ; "
            "continue it there, or start a new run"
        )


def _changes(
    folder: Path, saved: dict[str, Any], described: dict[str, Any], machine: Machine, *, deterministic: bool
) -> list[str]:
    """A line for each thing that a run may continue with, and that changes what it computes.

    Raises:
        UserError: a deterministic run would continue on other pixels.
    """
    lines = []
    if saved["data"].get("digest", described["digest"]) != described["digest"]:
        pixels = f"the pixels of {described['source']} are not those that {folder} was trained on"
        if deterministic:
            raise UserError(f"--deterministic: {pixels}; put the images back, or start a new run")
        lines.append(f"changed   {pixels}; it goes on with these")
    before, now = saved["machine"]["precision"], machine.described()["precision"]
    if before != now:
        lines.append(f"changed   {folder} was trained in {before}; it goes on in {now}")
    return lines


def _make_step(config: Config, machine: Machine, data: ImageSet, job: Job) -> TrainingStep:
    channels, size = data.images.shape[1:3]
    networks = InfoGAN(
        config.latents,
        size,
        channels,
        network=config.network,
        learned_variance=config.fixed_sigma is None,
        slope=config.leaky_slope,
        seed=config.seed,
    ).to(machine.device)
    set_linear(networks, machine.linear)
    placed = _placed(data.images, machine.device, job)
    mapped = data.mapped if placed is data.images else None
    if mapped is not None:  # to read pages around those that are wanted would fill the memory there is
        mapped.madvise(mmap.MADV_RANDOM)
    return TrainingStep(
        config.latents,
        networks,
        config.objective,
        placed,
        config.batch_size,
        seed=config.seed,
        amp=machine.amp,
        cuda_graph=_uses_graph(config, machine.device, placed),
        steps_per_replay=config.steps_per_replay,
        prefetch=mapped is not None,
        matmul_precision=config.matmul_precision,
        deterministic=config.deterministic,
        ranks=job.ranks,
        batch_norm=config.batch_norm,
        reduce_dtype=getattr(torch, config.reduce_dtype),
    )


def _placed(images: Tensor, device: torch.device, job: Job) -> Tensor:
    """The images on the device if they take at most half of its free memory, on every process of the job;
    else as they are."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # Together: with a graph here and none there, messages would not match.
        if not job.ranks.any(images.numel() >= free // 2):
            return images.to(device)
    return images


def _uses_graph(config: Config, device: torch.device, images: Tensor) -> bool:
    possible = device.type == images.device.type == "cuda"
    if config.cuda_graph is None and config.steps_per_replay == 1:
        return possible
    if config.cuda_graph is not False and not possible:
        flag = "--cuda-graph" if config.cuda_graph else f"--steps-per-replay {config.steps_per_replay}"
        reason = "training runs on the CPU" if device.type == "cpu" else "the images do not fit the device"
        remedy = "use --no-cuda-graph" + (" --steps-per-replay 1" if config.steps_per_replay > 1 else "")
        raise UserError(f"{flag}: {reason}, so there can be no CUDA graph; {remedy}")
    return config.cuda_graph is not False


def _continue(step: TrainingStep, folder: Path, config: Config) -> tuple[int, float, list[str]]:
    """Load the last checkpoint that is whole; returns its number of updates, seconds of training, and a line
    for each damaged one, which is renamed."""
    checkpoints = folder / "checkpoints"
    if not checkpoint.listed(checkpoints):
        raise UserError(
            f"--resume {folder}: there is no checkpoint in {checkpoints}; start again, with --overwrite"
        )
    path, state, damaged = checkpoint.load_last(checkpoints)
    done, seconds = restore(step, path, state, config)
    lines = [f"damaged   {error}; kept as {checkpoint.set_aside(error.path).name}" for error in damaged]
    behind = f"{folder} has {done} updates behind it"
    if done > config.steps:
        raise UserError(f"{behind}; --steps is {config.steps}, expected at least that")
    if done % config.steps_per_replay:
        raise UserError(
            f"{behind}; --steps-per-replay is {config.steps_per_replay}, expected a divisor of that"
        )
    return done, seconds, lines


def restore(step: TrainingStep, path: Path, state: dict[str, Any], config: Config) -> tuple[int, float]:
    """Bring a step to the state in a checkpoint; returns its number of updates and seconds of training.

    Raises:
        UserError: the checkpoint, read from ``path``, is not of this run; nothing has changed.
    """
    try:
        if clashes := differing(config, state["settings"]):
            raise ValueError(f"{', '.join(clashes)} differ")
        done, seconds = state["step"], state["seconds"]
        if type(done) is not int or done != checkpoint.step_of(path):
            raise ValueError(f"it is of update {done}")
        if type(seconds) is not float or not 0 <= seconds < math.inf:
            raise ValueError(f"seconds is {in_words(seconds)}")
        step.load_state_dict(state["training"])
    except (AttributeError, KeyError, RuntimeError, ValueError, TypeError, UserError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{path}: does not belong to this run ({reason}); move it elsewhere to continue from the one "
            "before"
        ) from None
    return done, seconds


def _profiled(config: Config, device: torch.device, folder: Path, done: int) -> ProfiledUpdates | None:
    if config.profile is None:
        return None
    start, stop = config.profile
    if start < done < config.steps:
        raise UserError(f"--profile is {start}:{stop}; {folder} has {done} updates behind it already")
    return ProfiledUpdates(start, stop, device, folder / "profile.json")


def _announcement(
    step: TrainingStep, config: Config, machine: Machine, data: ImageSet, folder: Path, done: int
) -> list[str]:
    """The lines that a run prints before its first update."""
    described, (channels, size) = machine.described(), data.images.shape[1:3]
    weights = sum(p.numel() for p in step.networks.parameters())
    hardware = f"{described['hardware']}, {described['precision']}, PyTorch {torch.__version__}"
    if described["linear"] == machine.linear:
        hardware += f", float32 linear layers through {machine.linear}"
    lines = [
        f"runs on   {hardware}",
        f"data      {data.source}, {size} x {size} {'grey' if channels == 1 else 'colour'}",
        f"latents   {config.latents}; networks of {weights / 1e6:.1f} million weights",
    ]
    lines.append(f"report    {folder / 'data.txt'}; data.png shows some of the images")
    if data.left_out:
        lines.append(f"left out  {len(data.left_out):,} files; {folder / 'left-out.txt'} names them")
    if config.transformation is not None:
        used = ", ".join(f"{term.name} {term.weight:g}" for term in config.objective.terms if term.weight)
        lines.append(f"copies    {config.transformation}; weights of their terms: {used}")
    if step.ranks.size > 1:
        norm = "" if config.batch_norm == "global" else ", batch normalisation of each by itself"
        lines.append(f"processes {step.ranks.size}, {step.rows} images each{norm}")
    start = f", from update {done:,}" if done else ""
    lines.append(f"writes    {folder}: {config.steps:,} updates of {config.batch_size} images{start}")
    if machine.device.type == "cuda":
        on_device = step.images.device == machine.device
        kept = "on the device" if on_device else "in host memory: they do not fit the device"
        graph = f"one CUDA graph of {config.steps_per_replay} updates" if step.cuda_graph else "no CUDA graph"
        lines.append(f"images    {kept}; {graph}")
    return lines
