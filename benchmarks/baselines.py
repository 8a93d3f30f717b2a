"""InfoGAN training on MNIST as it is written without infogan_fast: what the benchmarks compare with.

All train the paper's networks (Chen et al. 2016, appendix C.1) of PyTorch's own layers on the paper's
objective, with latents of 62 normals, one of ten categories and two uniform codes:

    Plain             what a good engineer writes by hand: images on the device as uint8, alternating players,
                      a fresh generator pass for each, BCE with logits and cross entropy, Adam as it comes;
                      optionally in mixed precision, with torch.compile, or with CUDA graphs of PyTorch's
    ThreeOptimizers   the script that most people start from: a generator, a discriminator and an information
                      step an iteration, each with its own optimizer and forward passes, and a DataLoader that
                      turns PIL images into tensors one by one
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

BETAS = (0.5, 0.999)
LR_D, LR_G = 2e-4, 1e-3


class _Shaped(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, *self.shape)


class Networks(nn.Module):
    """The paper's MNIST networks."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.Linear(74, 1024, bias=False),
            nn.BatchNorm1d(1024),
            nn.ReLU(True),
            nn.Linear(1024, 128 * 7 * 7, bias=False),
            nn.BatchNorm1d(128 * 7 * 7),
            nn.ReLU(True),
            _Shaped(128, 7, 7),
            nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(True),
            nn.ConvTranspose2d(64, 1, 4, 2, 1),
            nn.Sigmoid(),
        )
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 64, 4, 2, 1),
            nn.LeakyReLU(0.1, True),
            nn.Conv2d(64, 128, 4, 2, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.LeakyReLU(0.1, True),
            nn.Flatten(),
            nn.Linear(128 * 7 * 7, 1024, bias=False),
            nn.BatchNorm1d(1024),
            nn.LeakyReLU(0.1, True),
        )
        self.d_head = nn.Linear(1024, 1)
        self.q_head = nn.Sequential(
            nn.Linear(1024, 128, bias=False),
            nn.BatchNorm1d(128),
            nn.LeakyReLU(0.1, True),
            nn.Linear(128, 14),
        )
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.normal_(module.weight, 0.0, 0.02)


def sample(rows: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """(the generator's input, categories, continuous codes)."""
    category = torch.randint(10, (rows,), device=device)
    continuous = torch.rand(rows, 2, device=device) * 2 - 1
    noise = torch.randn(rows, 62, device=device)
    return torch.cat([noise, F.one_hot(category, 10), continuous], 1), category, continuous


def information_loss(q: Tensor, category: Tensor, continuous: Tensor) -> Tensor:
    """The negative log-likelihoods of the codes, the continuous ones weighted by 0.1."""
    mean, log_variance = q[:, 10:12], q[:, 12:]
    squared = (continuous - mean) ** 2 * torch.exp(-log_variance)
    nll = 0.5 * (log_variance + squared + math.log(2 * math.pi))
    return F.cross_entropy(q[:, :10], category) + 0.1 * nll.sum(1).mean()


def _autocast(device: torch.device, amp: torch.dtype | None, cache: bool = True) -> Any:
    if amp is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=amp, cache_enabled=cache)


class _DiscriminatorLoss(nn.Module):
    def __init__(self, nets: Networks, device: torch.device, amp: torch.dtype | None, cache: bool) -> None:
        super().__init__()
        self.nets, self.where = nets, (device, amp, cache)

    def forward(self, real: Tensor, latents: Tensor) -> Tensor:
        with _autocast(*self.where):
            with torch.no_grad():
                fake = self.nets.generator(latents)
            on_real, on_fake = (self.nets.d_head(self.nets.trunk(x)).float() for x in (real, fake))
        loss = F.binary_cross_entropy_with_logits(on_real, torch.ones_like(on_real))
        return loss + F.binary_cross_entropy_with_logits(on_fake, torch.zeros_like(on_fake))


class _GeneratorLoss(nn.Module):
    def __init__(self, nets: Networks, device: torch.device, amp: torch.dtype | None, cache: bool) -> None:
        super().__init__()
        self.nets, self.where = nets, (device, amp, cache)

    def forward(self, latents: Tensor, category: Tensor, continuous: Tensor) -> Tensor:
        with _autocast(*self.where):
            features = self.nets.trunk(self.nets.generator(latents))
            on_fake, q = self.nets.d_head(features).float(), self.nets.q_head(features).float()
        loss = F.binary_cross_entropy_with_logits(on_fake, torch.ones_like(on_fake))
        return loss + information_loss(q, category, continuous)


class Plain:
    """The clean alternating loop. Calling it is one update of each player.

    Args:
        images: uint8 [N, 1, 28, 28].
        batch_size: B.
        device: of everything.
        amp: dtype of autocast, or None for float32. float16 would want a GradScaler and is not offered.
        compile_mode: of torch.compile for the two players' losses, or None.
        graphed: the two losses, forward and backward, through torch.cuda.make_graphed_callables.
    """

    def __init__(
        self,
        images: Tensor,
        batch_size: int,
        device: torch.device,
        amp: torch.dtype | None = None,
        *,
        compile_mode: str | None = None,
        graphed: bool = False,
    ) -> None:
        self.images, self.batch_size, self.device = images.to(device), batch_size, device
        self.networks = Networks().to(device)
        self.d_loss: Any = _DiscriminatorLoss(self.networks, device, amp, not graphed)
        self.g_loss: Any = _GeneratorLoss(self.networks, device, amp, not graphed)
        nets = self.networks
        self.optimizer_d = torch.optim.Adam(
            [*nets.trunk.parameters(), *nets.d_head.parameters()], lr=LR_D, betas=BETAS
        )
        self.optimizer_g = torch.optim.Adam(
            [
                {"params": nets.generator.parameters(), "lr": LR_G},
                {"params": nets.q_head.parameters(), "lr": LR_D},
            ],
            betas=BETAS,
        )
        self.mark = compile_mode is not None and device.type == "cuda"
        if compile_mode is not None:
            self.d_loss, self.g_loss = (
                torch.compile(loss, mode=compile_mode, dynamic=False) for loss in (self.d_loss, self.g_loss)
            )
        if graphed:
            self.d_loss, self.g_loss = torch.cuda.make_graphed_callables(
                (self.d_loss, self.g_loss),
                ((self._real(), self._latents()[0]), self._latents()),
                allow_unused_input=True,
            )

    def _real(self) -> Tensor:
        chosen = torch.randint(len(self.images), (self.batch_size,), device=self.device)
        return self.images[chosen].float() / 255

    def _latents(self) -> tuple[Tensor, Tensor, Tensor]:
        return sample(self.batch_size, self.device)

    def __call__(self) -> None:
        if self.mark:
            torch.compiler.cudagraph_mark_step_begin()
        self.optimizer_d.zero_grad()
        self.d_loss(self._real(), self._latents()[0]).backward()
        self.optimizer_d.step()

        self.optimizer_g.zero_grad()
        self.g_loss(*self._latents()).backward()
        self.optimizer_g.step()


class _Pictures(Dataset[Tensor]):
    """MNIST as image files are read: a PIL image, made a tensor and normalised to [-1, 1]."""

    def __init__(self, images: Tensor) -> None:
        self.pixels = images[:, 0].numpy()

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        picture = Image.fromarray(self.pixels[index]).resize((28, 28))
        tensor = torch.from_numpy(np.array(picture, copy=True)).view(1, 28, 28).float().div(255)
        return tensor.sub_(0.5).div_(0.5)


class ThreeOptimizers:
    """A generator step, a discriminator step and an information step. Arguments: see :class:`Plain`."""

    def __init__(self, images: Tensor, batch_size: int, device: torch.device) -> None:
        self.batch_size, self.device = batch_size, device
        self.networks = nets = Networks().to(device)
        nets.generator[-1] = nn.Tanh()
        self.loader = DataLoader(_Pictures(images), batch_size, shuffle=True, drop_last=True)
        self.batches = self._endless()
        discriminator = [*nets.trunk.parameters(), *nets.d_head.parameters()]
        self.optimizer_g = torch.optim.Adam(nets.generator.parameters(), lr=LR_G, betas=BETAS)
        self.optimizer_d = torch.optim.Adam(discriminator, lr=LR_D, betas=BETAS)
        self.optimizer_info = torch.optim.Adam(
            itertools.chain(nets.generator.parameters(), nets.trunk.parameters(), nets.q_head.parameters()),
            lr=LR_D,
            betas=BETAS,
        )

    def _endless(self) -> Iterator[Tensor]:
        while True:
            yield from self.loader

    def __call__(self) -> None:
        nets, bce = self.networks, F.binary_cross_entropy_with_logits
        real = next(self.batches).to(self.device)
        valid, invalid = (f(self.batch_size, 1, device=self.device) for f in (torch.ones, torch.zeros))

        self.optimizer_g.zero_grad()
        latents, _, _ = sample(self.batch_size, self.device)
        fake = nets.generator(latents)
        bce(nets.d_head(nets.trunk(fake)), valid).backward()
        self.optimizer_g.step()

        self.optimizer_d.zero_grad()
        real_loss = bce(nets.d_head(nets.trunk(real)), valid)
        fake_loss = bce(nets.d_head(nets.trunk(fake.detach())), invalid)
        ((real_loss + fake_loss) / 2).backward()
        self.optimizer_d.step()

        self.optimizer_info.zero_grad()
        latents, category, continuous = sample(self.batch_size, self.device)
        q = nets.q_head(nets.trunk(nets.generator(latents)))
        information_loss(q, category, continuous).backward()
        self.optimizer_info.step()


@torch.no_grad()
def assigned(trunk: nn.Module, q_head: nn.Module, images: Tensor, scale: float, offset: float) -> Tensor:
    """The category that Q reads from each image: int64 [N].

    In batches of 1,000 with their own statistics: running statistics of training mix real and fake images.

    Args:
        trunk, q_head: left as they are.
        images: uint8 [N, 1, 28, 28]; what N leaves over after thousands is a batch too, of hundreds if any.
        scale, offset: pixels / 255 * scale + offset is what the networks were trained on.
    """
    device = next(trunk.parameters()).device
    reader = nn.Sequential(copy.deepcopy(trunk), copy.deepcopy(q_head)).train()
    parts = images.to(device).split(1000)
    return torch.cat([reader(x.float() / 255 * scale + offset)[:, :10].argmax(1) for x in parts]).cpu()
