"""A training iteration beside plain eager PyTorch: python benchmarks/bench_step.py [--rounds N] [--json FILE]

The baseline is what a good engineer writes by hand: the same networks of standard layers, float32, images and
random numbers by tensor operations, BCE with logits and cross entropy, a fresh generator pass for each
player, Adam with its default implementation; a second one does the same under bfloat16 autocast. All variants
start from weights of the same distribution. Each runs in a process of its own, as its users would run it (the
trainer sets up the allocator of its process), one at a time: in each round every process has a turn of one
iteration to warm up and --iterations timed ones, in random order. Figures are medians over all of them. At
the end each precision's share of the bound that its arithmetic sets: the iteration's matrix products and
convolutions at the measured rate of a large matrix product.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.nn.functional as F
from timing import machine, write_json
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from infogan_fast.device import amp_dtype, choose_device, tune_allocator
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.linear import faster_linear, set_linear
from infogan_fast.networks import InfoGAN
from infogan_fast.step import Objective, TrainingStep

SPEC = LatentSpec.parse("noise=62,cat=10,uniform=2")
IMAGES = 20_000


class _Shaped(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, *self.shape)


class Plain:
    """The paper's MNIST networks and the usual alternating loop."""

    def __init__(
        self, images: Tensor, batch_size: int, device: torch.device, amp: torch.dtype | None
    ) -> None:
        self.images, self.batch_size, self.device, self.amp = images.to(device), batch_size, device, amp
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
        for part in (self.generator, self.trunk, self.d_head, self.q_head):
            part.to(device)
            for module in part.modules():
                if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                    nn.init.normal_(module.weight, 0.0, 0.02)
        betas = (0.5, 0.999)
        self.optimizer_d = torch.optim.Adam(
            [*self.trunk.parameters(), *self.d_head.parameters()], lr=2e-4, betas=betas
        )
        self.optimizer_g = torch.optim.Adam(
            [
                {"params": self.generator.parameters(), "lr": 1e-3},
                {"params": self.q_head.parameters(), "lr": 2e-4},
            ],
            betas=betas,
        )

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.amp is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.amp)

    def sample(self) -> tuple[Tensor, Tensor, Tensor]:
        rows, device = self.batch_size, self.device
        category = torch.randint(10, (rows,), device=device)
        continuous = torch.rand(rows, 2, device=device) * 2 - 1
        noise = torch.randn(rows, 62, device=device)
        return torch.cat([noise, F.one_hot(category, 10), continuous], 1), category, continuous

    def __call__(self) -> None:
        chosen = torch.randint(len(self.images), (self.batch_size,), device=self.device)
        real = self.images[chosen].float() / 255

        self.optimizer_d.zero_grad()
        latents, _, _ = self.sample()
        with self.autocast():
            with torch.no_grad():
                fake = self.generator(latents)
            on_real, on_fake = (self.d_head(self.trunk(x)).float() for x in (real, fake))
        d = F.binary_cross_entropy_with_logits(on_real, torch.ones_like(on_real))
        d = d + F.binary_cross_entropy_with_logits(on_fake, torch.zeros_like(on_fake))
        d.backward()
        self.optimizer_d.step()

        self.optimizer_g.zero_grad()
        latents, category, continuous = self.sample()
        with self.autocast():
            features = self.trunk(self.generator(latents))
            on_fake, q = self.d_head(features).float(), self.q_head(features).float()
        mean, log_variance = q[:, 10:12], q[:, 12:]
        squared = (continuous - mean) ** 2 * torch.exp(-log_variance)
        nll = 0.5 * (log_variance + squared + math.log(2 * math.pi))
        g = F.binary_cross_entropy_with_logits(on_fake, torch.ones_like(on_fake))
        g = g + F.cross_entropy(q[:, :10], category) + 0.1 * nll.sum(1).mean()
        g.backward()
        self.optimizer_g.step()


def ours(
    images: Tensor, batch_size: int, device: torch.device, amp: torch.dtype | None
) -> Callable[[], object]:
    """The iteration as the trainer runs it, with the choice of its batch."""
    networks = InfoGAN(SPEC, 28, 1).to(device)
    set_linear(networks, faster_linear())
    return TrainingStep(SPEC, networks, Objective(), images.to(device), batch_size, amp=amp)


def iteration_flops(batch_size: int, device: torch.device) -> float:
    """Multiplications and additions of one iteration's matrix products and convolutions."""
    images = torch.zeros(1, 1, 28, 28, dtype=torch.uint8, device=device)
    step = TrainingStep(SPEC, InfoGAN(SPEC, 28, 1).to(device), Objective(), images, batch_size)
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def matmul_flops(dtype: torch.dtype, device: torch.device, size: int = 2048) -> float:
    """Multiplications and additions a second in a product of square matrices: the median of nine."""
    a = torch.randn(size, size, device=device, dtype=dtype)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        product = a @ a
        product[0, 0].item()  # waits for a GPU
        times.append(time.perf_counter() - start)
    return 2.0 * size**3 / statistics.median(times[1:])


def _worker(
    pipe: Connection,
    ours_: bool,
    batch_size: int,
    device_name: str,
    amp: torch.dtype | None,
    threads: int | None,
) -> None:
    """Answers each count of iterations with the seconds of every one."""
    if ours_:
        tune_allocator()
    if threads:
        torch.set_num_threads(threads)
    device = choose_device(device_name)
    images = torch.randint(0, 256, (IMAGES, 1, 28, 28), dtype=torch.uint8)
    make = ours if ours_ else Plain
    iteration: Callable[[], object] = make(images, batch_size, device, amp)
    while (count := pipe.recv()) > 0:
        iteration()
        times = []
        for _ in range(count):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            iteration()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
        pipe.send(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=int, default=128, metavar="B")
    parser.add_argument(
        "--rounds", type=int, default=15, metavar="N", help="turns of each variant (default: 15)"
    )
    parser.add_argument("--iterations", type=int, default=3, metavar="N", help="timed a turn (default: 3)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--device", default="cpu", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    variants: dict[str, tuple[bool, torch.dtype | None]] = {
        "plain eager float32": (False, None),
        "infogan_fast float32": (True, None),
    }
    try:
        amp = amp_dtype(device)
        variants |= {"plain eager autocast": (False, amp), "infogan_fast --amp": (True, amp)}
    except UserError as error:
        print(error)

    where = machine(device)
    print(", ".join(f"{key}: {value}" for key, value in where.items()))
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    samples: dict[str, list[float]] = {name: [] for name in variants}
    for name, (is_ours, dtype) in variants.items():
        pipes[name], end = context.Pipe()
        arguments = (end, is_ours, args.batch_size, args.device, dtype, args.threads)
        context.Process(target=_worker, args=arguments, daemon=True).start()
        pipes[name].send(5)
        pipes[name].recv()
    order = random.Random(0)
    for _ in range(args.rounds):
        for name in order.sample(list(variants), len(variants)):
            pipes[name].send(args.iterations)
            samples[name] += pipes[name].recv()
    for pipe in pipes.values():
        pipe.send(0)

    seconds = {name: statistics.median(times) for name, times in samples.items()}
    baseline = seconds["plain eager float32"]
    print(f"batch {args.batch_size}, {args.rounds} rounds of {args.iterations} iterations")
    for name, value in seconds.items():
        rate = args.batch_size / value
        low, _, high = statistics.quantiles(samples[name], n=4)
        spread = f"(half within {low * 1e3:.1f} to {high * 1e3:.1f})"
        print(f"{name:22s} {value * 1e3:8.1f} ms {spread:32s} {rate:6.0f} images/s {baseline / value:6.2f}x")

    flops = iteration_flops(args.batch_size, device)
    rates = {}
    for name, (is_ours, dtype) in variants.items():
        if is_ours:
            rate = rates[name] = matmul_flops(dtype or torch.float32, device)
            bound = flops / rate
            print(
                f"{name:22s} {flops / 1e9:.1f} GFLOP at {rate / 1e9:,.0f} GFLOP/s of a matrix product are "
                f"{bound * 1e3:.0f} ms: {bound / seconds[name]:.0%} of the time"
            )
    results = {"machine": where, "batch_size": args.batch_size, "seconds": seconds}
    write_json(args.json, {**results, "iteration_flops": flops, "matmul_flops_a_second": rates})


if __name__ == "__main__":
    main()
