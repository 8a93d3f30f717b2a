"""A trained run: its generator and encoder, and what they make and read.

run = infogan_fast.load_run("runs/mnist-seed0")
images = run.generate(n=64, c1=3)
codes = run.encode(images)
"""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from infogan_fast.analysis.codes import read_codes
from infogan_fast.config import Config, differing, load_config
from infogan_fast.constants import PICTURE_SEED
from infogan_fast.data import ImageSet, Split, load_images
from infogan_fast.data.pixel_range import PixelRange
from infogan_fast.data.registry import IN_MEMORY, RANDOM, SOURCES, is_published
from infogan_fast.errors import MissingSplitError, RunWarning, UserError
from infogan_fast.latents import Code, LatentSpec
from infogan_fast.networks.infogan import Generator, InfoGAN
from infogan_fast.networks.linear import faster_linear, set_linear
from infogan_fast.networks.statistics import calibrated, with_statistics
from infogan_fast.pictures import traversal
from infogan_fast.pictures.samples import check_count, draw_inputs, render, with_codes
from infogan_fast.runtime.device import choose_device, exact_modes
from infogan_fast.runtime.files import expanded
from infogan_fast.runtime.memory import free_memory
from infogan_fast.training import checkpoint, run_folder
from infogan_fast.training.scores import Scores

#: What ``checkpoint_file`` and --checkpoint call the best one.
BEST = "best"
STATISTICS_IMAGES = 8192
_BATCH = 256


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A run at one of its checkpoints; see :func:`load_run`.

    folder: of the run.
    config: its options.
    spec: the latents, with the priors that the run has learned.
    image_size, channels: of its images.
    train_images: how many it was trained on.
    updates: of each player, behind the checkpoint.
    generator: latents float32 [N, spec.latent_dim], in the columns of :attr:`LatentSpec.codes`, to images
        float32 [N, C, S, S] in [0, 1]. In evaluation mode, without gradients, on :attr:`device`; batch
        statistics by :func:`calibrated`. torch.export and torch.jit.trace take it with any size of the batch.
    networks: in training mode, with the moving average of the weights where the run has one, else the last
        ones.
    device: of the networks.
    memory: the images that the run was trained on, where they were given in memory.
    pixel_range, label: of the images to load, instead of the run's own; see :func:`load_images`.
    """

    folder: Path
    config: Config
    spec: LatentSpec
    image_size: int
    channels: int
    train_images: int
    updates: int
    generator: Generator
    networks: InfoGAN
    device: torch.device
    memory: Any = None
    pixel_range: PixelRange | str | None = None
    label: str | None = None

    def __repr__(self) -> str:
        side, colour = self.image_size, "grey" if self.channels == 1 else "colour"
        return (
            f"<Run {str(self.folder)!r}: {self.updates:,} updates on {self.train_images:,} images of "
            f"{side} x {side} {colour}, {self.spec}>"
        )

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of the weights: those of another checkpoint or another run are others."""
        result = hashlib.sha256()
        for parameter in self.networks.parameters():
            result.update(parameter.detach().float().contiguous().cpu().numpy().data)
        return result.hexdigest()[:16]

    @property
    def metrics(self) -> Any:
        """The rows of metrics.jsonl: a pandas DataFrame where pandas is installed, else a list of dicts. See
        :mod:`infogan_fast.training.loop` for the columns."""
        rows = run_folder.read_metrics(self.folder)
        if importlib.util.find_spec("pandas") is None:
            return rows
        return importlib.import_module("pandas").DataFrame(rows)

    @exact_modes()
    def generate(self, n: int = 64, *, seed: int = PICTURE_SEED, **codes: Any) -> Tensor:
        """Images with chosen codes: float32 [n, C, S, S] in [0, 1], on the CPU.

        Noise, and codes that are not given, are drawn from their priors. Image i depends on the seed, its
        codes and i alone: it has the same noise whatever is chosen, and however many images there are.

        Args:
            n: how many images.
            seed: a 64-bit integer.
            codes: a value for all images, or n values, by the code's name, as in ``c1=3, c2=-1.5``. Uniform
                codes are in [-1, 1] in training, normal ones mostly in [-2, 2]; other values extrapolate.

        Raises:
            UserError: a code does not exist or does not take a value, or n or the seed is out of range.
        """
        check_count("n", n)
        # What the batches give, and all together.
        size = 8 * n * (self.channels * self.image_size**2 + self.spec.latent_dim)
        if (free := free_memory()) is not None and size > free:
            raise UserError(
                f"n is {n:,}, which takes {size / 2**30:,.1f} GiB of memory, and {free / 2**30:,.1f} GiB are "
                "free; make fewer images at a time, with another seed each"
            )
        values = {name: _values(self.spec.code(name), value, n) for name, value in codes.items()}
        inputs = draw_inputs(self.generator, self.spec, n, seed)
        return render(self.generator, with_codes(inputs, self.spec, values))

    @exact_modes()
    def encode(self, images: Any) -> dict[str, Tensor]:
        """What Q reads from images: for each code by name a tensor [N] on the CPU.

        Categories are int64: the most likely one. The others are float32: the posterior mean of a uniform or
        normal code, the probability of a 1 of a Bernoulli code. :attr:`encoder` gives the whole posterior.

        Args:
            images: array or tensor, uint8 in 0 to 255 or floating-point in 0 to 1, of the run's size and
                channels: [N, H, W], [N, H, W, C] or [N, C, H, W].

        Raises:
            UserError: the images have another form, or the training images cannot be loaded.
        """
        output = in_batches(self.encoder, self._as_batch(images), self.device)
        return {
            name: torch.from_numpy(values) if values.dtype == np.int64 else torch.from_numpy(values).float()
            for name, values in read_codes(self.spec, output).items()
        }

    @exact_modes()
    def traversal(
        self, *, reach: float = 2.0, columns: int = 11, seed: int = PICTURE_SEED, row_labels: Any = None
    ) -> Image.Image:
        """What each continuous code changes; see :func:`infogan_fast.pictures.traversal.traversal`."""
        return traversal.traversal(
            self.generator, self.spec, reach=reach, columns=columns, seed=seed, row_labels=row_labels
        )

    @exact_modes()
    def animation(
        self, *, reach: float = 2.0, steps: int = 10, seed: int = PICTURE_SEED, row_labels: Any = None
    ) -> list[Image.Image]:
        """The traversal in time, as frames; see :func:`infogan_fast.pictures.traversal.animation`."""
        return traversal.animation(
            self.generator, self.spec, reach=reach, steps=steps, seed=seed, row_labels=row_labels
        )

    def evaluate(self, **options: Any) -> dict[str, Any]:
        """Scores of what the codes mean: what ``evaluate --json`` writes. See docs/evaluation.md.

        Args and errors as :func:`infogan_fast.analysis.evaluation.evaluate`.
        """
        from infogan_fast.analysis import evaluation  # it builds on this module

        return evaluation.evaluate(self, **options)

    def load_images(
        self, split: Split, *, data: Any = None, data_dir: Path | None = None, count: int | None = None
    ) -> ImageSet:
        """Images of the size and channels that the networks take.

        Args:
            split: drawings have the run's seed, and the test ones are none of the training ones.
            data: as in :func:`infogan_fast.data.load_images`; by default what the run was trained on.
            data_dir: of the files of a published source; by default the run's.
            count: how many; by default all.

        Raises:
            MissingSplitError: the data has no such split.
            UserError: it cannot be loaded.
        """
        own = data is None or (isinstance(data, str) and data == self.config.data)
        if data is None:
            data = self.config.data if self.memory is None else self.memory
        if isinstance(data, str) and data == IN_MEMORY:
            raise UserError(
                f"{self.folder} was trained on images in memory; give them again, with "
                "load_run(folder, images=images), or other ones with data"
            )
        named = self.config.folder_of_data
        if data_dir is None and named is not None and is_published(data):
            data_dir = Path(named)
        images = load_images(
            data,
            data_dir=None if data_dir is None else expanded(data_dir),
            split=split,
            image_size=self.image_size,
            channels=self.channels,
            crop=self.config.crop,
            skip_damaged=self.config.skip_damaged,
            background=self.config.background,
            pixel_range=self.pixel_range or (self.config.pixel_range if own else None),
            label=self.label or (self.config.label if own else None),
            seed=self.config.seed,
            count=count,
        )
        if data is self.memory is not None:
            trained_on = run_folder.read_config(self.folder)["data"]["source"]
            if images.source.rpartition(" ")[2] != trained_on.rpartition(" ")[2]:  # the digest
                raise UserError(
                    f"{self.folder} was trained on {trained_on}, and load_run was given {images.source}; "
                    f"give other images with data{RANDOM}"
                )
        return images

    def held_out(
        self, *, data: Any = None, data_dir: Path | None = None, count: int | None = None
    ) -> tuple[ImageSet, str | None]:
        """The test images, and None; of data without any the training images, and the reason. Test images of
        which training has seen some have a reason, too.

        Args and errors as :meth:`load_images`.
        """
        try:
            images = self.load_images("test", data=data, data_dir=data_dir, count=count)
            return images, self._overlap(len(images.images), self.config.data if data is None else data)
        except MissingSplitError as error:
            return self.load_images("train", data=data, data_dir=data_dir, count=count), str(error)

    def _overlap(self, count: int, data: Any) -> str | None:
        """How many of this many test drawings the run was trained on, in words; None if on none."""
        if not (isinstance(data, str) and data == self.config.data and data in SOURCES):
            return None
        total = SOURCES[data].total
        seen = 0 if total is None else self.train_images + count - total
        if seen <= 0:
            return None
        return f"{min(seen, count):,} of them: training drew {self.train_images:,} of the {total:,} {data}"

    @cached_property
    def encoder(self) -> nn.Sequential:
        """Q for real images like those of training: float32 [N, C, S, S] in [0, 1] to Q's output [N, q_dim],
        in the columns of :attr:`LatentSpec.codes`. In evaluation mode, without gradients, on :attr:`device`;
        it can be exported as :attr:`generator`. The first use loads the training images, as
        :meth:`encoder_for` does.
        """
        return self.encoder_for()

    @exact_modes()
    def encoder_for(self, *, data: Any = None, data_dir: Path | None = None) -> nn.Sequential:
        """The encoder for images like those of this data.

        Batch normalisation needs statistics, and training leaves none that fit: the running ones mix real and
        generated batches, and without consistency the head has seen generated ones alone. They are measured
        again here, on 8,192 training images (all, if there are fewer), evenly spaced and shuffled. So Q reads
        an image the same way whatever else is in the batch, and the test split has no influence.

        Args:
            data, data_dir: as :meth:`load_images`; the statistics are those of this data's training part.

        Raises:
            UserError: it cannot be loaded, or is a single image.
        """
        count: int | None = STATISTICS_IMAGES
        if data is None or (isinstance(data, str) and data == self.config.data):
            count = min(STATISTICS_IMAGES, self.train_images)
        elif not (isinstance(data, str) and data in SOURCES and SOURCES[data].drawn):
            count = None  # not known how many there are
        images = self.load_images("train", data=data, data_dir=data_dir, count=count).images
        if len(images) < 2:
            raise UserError("the training part is a single image, which has no batch statistics; give more")
        wanted = min(STATISTICS_IMAGES, len(images))
        chosen = images[torch.arange(wanted) * len(images) // wanted]
        # Data may be sorted by class, and the statistics of one class are not those of a mixed batch.
        mixed = chosen[torch.randperm(wanted, generator=torch.Generator().manual_seed(0))]
        parts = mixed.chunk(max(1, wanted // _BATCH))
        q = nn.Sequential(self.networks.trunk, self.networks.q_head)
        return with_statistics(q, (as_input(part, self.device) for part in parts))

    def _as_batch(self, images: Any) -> Tensor:
        """Images as uint8 or float32 [N, C, S, S]."""
        if isinstance(images, Tensor):
            batch = images.detach()
        else:
            array = np.asarray(images)
            if array.dtype != np.uint8 and array.dtype.kind != "f":
                raise UserError(f"images are {array.dtype}; expected uint8 or floating-point in 0 to 1")
            batch = torch.from_numpy(np.ascontiguousarray(array))
        given = tuple(batch.shape)
        if batch.ndim == 4 and batch.shape[1] != self.channels and batch.shape[3] == self.channels:
            batch = batch.permute(0, 3, 1, 2)
        batch = batch[:, None] if batch.ndim == 3 else batch
        wanted = (self.channels, self.image_size, self.image_size)
        if batch.ndim != 4 or tuple(batch.shape[1:]) != wanted or len(batch) == 0:
            raise UserError(
                f"images have shape {given}; the run takes N images of {self.image_size} x "
                f"{self.image_size} with {self.channels} channels"
            )
        if batch.dtype == torch.uint8:
            return batch
        if not batch.is_floating_point():
            raise UserError(f"images are {batch.dtype}; expected uint8 or floating-point in 0 to 1")
        batch = batch.float()
        if bool(batch.isnan().any()):
            raise UserError("floating-point images hold NaN; expected 0 to 1")
        if not (batch.min() >= 0 and batch.max() <= 1):
            raise UserError(
                f"floating-point images run from {batch.min():g} to {batch.max():g}; expected 0 to 1"
            )
        return batch


def _values(code: Code, value: Any, n: int) -> Tensor:
    """The value of each of n images: one for all, or n of them."""
    several = value.tolist() if isinstance(value, (Tensor, np.ndarray, np.generic)) else value
    if not isinstance(several, (list, tuple, range)):
        several = [several] * n
    if len(several) != n:
        raise UserError(f"{code.name} has {len(several)} values for {n} images; give one, or {n}")
    checked = [code.value(one) for one in several]
    return torch.tensor(checked, dtype=torch.int64 if code.is_categorical else torch.float32)


def as_input(images: Tensor, device: torch.device) -> Tensor:
    """Images [B, C, S, S], uint8 or in [0, 1], as the networks take them: float32 in [0, 1] on the device."""
    batch = images.to(device).float()
    batch = batch.div_(255) if images.dtype == torch.uint8 else batch
    return batch.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def in_batches(network: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """The output of a network in evaluation mode for images [N, C, S, S], see :func:`as_input`: float32
    [N, ...], on the CPU."""
    return torch.cat([network(as_input(part, device)).float().cpu() for part in images.split(_BATCH)])


@exact_modes()
def load_run(
    folder: str | PathLike[str],
    *,
    checkpoint_file: str | PathLike[str] | None = None,
    device: str = "auto",
    images: Any = None,
    pixel_range: PixelRange | str | None = None,
    label: str | None = None,
) -> Run:
    """Load a trained run.

    Args:
        folder: of the run.
        checkpoint_file: one of its checkpoints, or ``"best"``, see
            :mod:`infogan_fast.training.scores`; by default the last.
        device: ``auto``, ``cpu`` or ``cuda``.
        images: the images that the run was trained on, where they were given in memory.
        pixel_range, label: of the images that the run is evaluated on, as for
            :func:`infogan_fast.data.load_images`; by default the run's, for the images it was trained on.

    Raises:
        UserError: the folder is not a run's, or of another version; the checkpoint is missing, damaged or
            another run's; or the device is absent.
    """
    folder = expanded(Path(folder))
    config = run_folder.read_config(folder)
    saved = config["settings"]
    # The library of linear layers is chosen for this machine: it may lack that of the training machine.
    run_config = load_config({**saved, "linear": "auto"})
    kept = checkpoint.listed(folder / "checkpoints")
    if checkpoint_file is None and not kept:
        raise UserError(
            f"{folder}: there is no checkpoint in {folder / 'checkpoints'}; train again, with --overwrite"
        )
    if checkpoint_file is None:
        path, state, damaged = checkpoint.load_last(folder / "checkpoints")
        for error in damaged:
            warnings.warn(f"{error}; this is of {path.name}, the one before", RunWarning, stacklevel=2)
    else:
        path = Path(checkpoint_file)
        if path == Path(BEST):
            path = Scores(run_folder.read_metrics(folder)).best(kept) or path
        if not path.is_file():
            raise UserError(
                f"{path}: there is no such checkpoint; {folder} has {', '.join(map(str, kept)) or 'none'}"
            )
        state = checkpoint.load(path)
    where = choose_device(device)
    try:
        image_size, channels = config["data"]["image_size"], config["data"]["channels"]
        networks = InfoGAN(
            run_config.latents,
            image_size,
            channels,
            network=run_config.network,
            learned_variance=run_config.fixed_sigma is None,
            slope=run_config.leaky_slope,
        )
        if clashes := differing(run_config, state["settings"]):
            raise ValueError(f"{', '.join(clashes)} differ")
        for weights in ("networks", "ema") if run_config.objective.ema > 0 else ("networks",):
            networks.load_state_dict(state["training"][weights])
        updates, train_images = int(state["step"]), int(config["data"]["images"])
        priors = [prior.tolist() for prior in state["training"].get("prior", ())]
        spec = run_config.latents.with_priors(priors)
    except (AttributeError, KeyError, RuntimeError, ValueError, TypeError, UserError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{path}: does not belong to the run in {folder} ({reason}); name another with --checkpoint"
        ) from None
    networks.to(where)
    if where.type == "cpu":
        set_linear(networks, faster_linear())
    return Run(
        folder,
        run_config,
        spec,
        image_size,
        channels,
        train_images,
        updates,
        calibrated(networks.generator, spec),
        networks,
        where,
        images,
        pixel_range,
        label,
    )
