"""A run's folder, loaded to be used: its generator for pictures, and Q for images that are real."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from infogan_fast.config import RESUMABLE, Config, load_config
from infogan_fast.data import ImageSet, Split, load_images
from infogan_fast.errors import MissingSplitError, UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import Generator, InfoGAN
from infogan_fast.networks.linear import faster_linear, set_linear
from infogan_fast.networks.statistics import calibrated, measured_anew
from infogan_fast.runtime.device import choose_device
from infogan_fast.training import checkpoint
from infogan_fast.training.run_folder import read_config

STATISTICS_IMAGES = 8192
_BATCH = 256


@dataclass(frozen=True, eq=False)
class Run:
    """A run at one of its checkpoints; see :func:`load_run`."""

    folder: Path
    config: Config
    image_size: int
    channels: int
    train_images: int
    """How many images it was trained on."""
    updates: int
    """Updates behind the checkpoint."""
    generator: Generator
    """In evaluation mode: the moving average of its weights where the run has one, by
    :func:`infogan_fast.training.step.calibrated`.
    """
    networks: InfoGAN
    """In training mode, as the checkpoint has them."""
    device: torch.device

    @property
    def spec(self) -> LatentSpec:
        """The latents."""
        return self.config.spec

    def load_images(
        self, split: Split, *, data: str | None = None, data_dir: Path | None = None, count: int | None = None
    ) -> ImageSet:
        """Images of the size and channels that the networks take.

        Args:
            split: strokes are drawn from the run's seed, and the test ones are none of the training ones.
            data: as in :func:`infogan_fast.data.load_images`; by default what the run was trained on.
            data_dir: of the MNIST files; by default the run's.
            count: how many; by default all.

        Raises:
            MissingSplitError: the data has no such part.
            UserError: it cannot be loaded.
        """
        if data_dir is None and self.config.data_dir is not None:
            data_dir = Path(self.config.data_dir)
        return load_images(
            data or self.config.data,
            data_dir=None if data_dir is None else data_dir.expanduser(),
            split=split,
            image_size=self.image_size,
            channels=self.channels,
            crop=self.config.crop,
            seed=self.config.seed,
            count=count,
        )

    def held_out(
        self, *, data: str | None = None, data_dir: Path | None = None, count: int | None = None
    ) -> tuple[ImageSet, str | None]:
        """The test images, and None; of data without any the training images, and the reason.

        Args and errors as :meth:`load_images`.
        """
        try:
            return self.load_images("test", data=data, data_dir=data_dir, count=count), None
        except MissingSplitError as error:
            return self.load_images("train", data=data, data_dir=data_dir, count=count), str(error)

    def encoder(self, *, data: str | None = None, data_dir: Path | None = None) -> nn.Sequential:
        """Trunk and Q's head for real images: float32 [B, C, S, S] in [0, 1] -> [B, q_dim], in evaluation
        mode.

        Batch normalisation needs statistics, and training leaves none that fit: the running ones mix real and
        generated batches, and without consistency the head has seen generated ones alone. They are measured
        anew here, on 8,192 training images (all, where there are fewer), evenly spaced and shuffled. So Q
        reads an image the same way whatever else it is given with it, and nothing of the test part enters.

        Args:
            data, data_dir: as :meth:`load_images`; the statistics are those of this data's training part.

        Raises:
            UserError: it cannot be loaded, or is a single image.
        """
        count: int | None = STATISTICS_IMAGES
        if data in (None, self.config.data):
            count = min(STATISTICS_IMAGES, self.train_images)
        elif data != "strokes":
            count = None  # not known how many there are
        images = self.load_images("train", data=data, data_dir=data_dir, count=count).images
        if len(images) < 2:
            raise UserError("the training part is a single image, which has no batch statistics; give more")
        wanted = min(STATISTICS_IMAGES, len(images))
        chosen = images[torch.arange(wanted) * len(images) // wanted]
        # Data may be sorted by class, and batches of one class have other statistics than mixed ones.
        mixed = chosen[torch.randperm(wanted, generator=torch.Generator().manual_seed(0))]
        parts = mixed.chunk(max(1, wanted // _BATCH))
        q = nn.Sequential(self.networks.trunk, self.networks.q_head)
        return measured_anew(q, (as_input(part, self.device) for part in parts))


def as_input(images: Tensor, device: torch.device) -> Tensor:
    """Images uint8 [B, C, S, S] as the networks take them: float32 in [0, 1] on the device."""
    return images.to(device).float().div_(255).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def in_batches(network: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """What a network in evaluation mode gives for images uint8 [N, C, S, S]: float32 [N, ...], on the CPU."""
    return torch.cat([network(as_input(part, device)).float().cpu() for part in images.split(_BATCH)])


def load_run(folder: Path, *, checkpoint_file: Path | None = None, device: str = "auto") -> Run:
    """Load a run's networks.

    Args:
        folder: of the run.
        checkpoint_file: one of its checkpoints; by default the last.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        UserError: the folder is not a run's, or of another version; the checkpoint is missing, damaged or
            another run's; or the device is absent.
    """
    config = read_config(folder)
    saved = config["settings"]
    # What multiplies matrices is this machine's affair, and may be absent where the run was not trained.
    run_config = load_config({**saved, "linear": "auto"})
    kept = checkpoint.listed(folder / "checkpoints")
    if checkpoint_file is None and not kept:
        raise UserError(f"{folder}: there is no checkpoint in {folder / 'checkpoints'}; train it first")
    path = kept[-1] if checkpoint_file is None else checkpoint_file
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
            learned_variance=run_config.fixed_sigma is None,
            slope=run_config.leaky_slope,
        )
        theirs = state["settings"]
        if clashes := [k for k in saved if k not in RESUMABLE and theirs.get(k) != saved[k]]:
            raise ValueError(f"{', '.join(clashes)} differ")
        networks.load_state_dict(state["training"]["networks"])
        generator = networks.generator
        if run_config.ema > 0:
            generator = copy.deepcopy(networks.generator)
            generator.load_state_dict(state["training"]["ema"])
        updates, train_images = int(state["step"]), int(config["data"]["images"])
    except (AttributeError, KeyError, RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{path}: does not belong to the run in {folder} ({reason}); name another with --checkpoint"
        ) from None
    networks.to(where)
    if where.type == "cpu":
        for module in (networks, generator):
            set_linear(module, faster_linear())
    return Run(
        folder,
        run_config,
        image_size,
        channels,
        train_images,
        updates,
        calibrated(generator.to(where), run_config.latents),
        networks,
        where,
    )
