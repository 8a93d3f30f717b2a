"""How fast are the operators, next to eager PyTorch and torch.compile? python benchmarks/bench_ops.py

The baselines are what a good engineer writes by hand: one_hot and cat for the latents; for the loss BCE with
logits, cross entropy, a Gaussian likelihood and autograd; for a batch of images a random index, index_select
and a division; affine_grid and grid_sample for the copies. All are timed by torch.compile(fullgraph=True)
too. The last column: the bytes that the operator has to read and write, over its time, as a share of the
measured bandwidth of a large copy.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from harness import copy_bandwidth, interleaved, machine, parser, prepare, write_json
from torch import Tensor

from infogan_fast import LatentSpec, ops

SPEC = LatentSpec.parse("noise=62,cat=10,uniform=2")


IMAGES = 60_000


def sampling(batch_size: int, device: torch.device, rounds: int) -> dict[str, float]:
    """Seconds a call: noise 62, one categorical code of 10, two uniform codes, fp32."""

    def eager() -> tuple[Tensor, Tensor, Tensor]:
        noise = torch.randn(batch_size, 62, device=device)
        category = torch.randint(10, (batch_size,), device=device)
        continuous = torch.rand(batch_size, 2, device=device) * 2 - 1
        return torch.cat([noise, F.one_hot(category, 10).float(), continuous], 1), category, continuous

    state = ops.rng_state(0, device=device)
    return interleaved(
        {
            "eager": eager,
            "compiled": torch.compile(eager, fullgraph=True, dynamic=False),
            "infogan_fast": lambda: ops.sample_latents(state, batch_size, SPEC),
            "infogan_fast bf16": lambda: ops.sample_latents(state, batch_size, SPEC, dtype=torch.bfloat16),
        },
        rounds=rounds,
        device=device,
    )


def gathering(batch_size: int, device: torch.device, rounds: int) -> dict[str, float]:
    """Seconds a call: a random batch of 28 x 28 images of 60,000, as float32 in [0, 1]."""
    images = torch.randint(0, 256, (IMAGES, 28, 28, 1), dtype=torch.uint8, device=device)

    def eager() -> Tensor:
        chosen = torch.randint(IMAGES, (batch_size,), device=device)
        return images.index_select(0, chosen).float() / 255

    state = ops.rng_state(0, device=device)
    return interleaved(
        {
            "eager": eager,
            "compiled": torch.compile(eager, fullgraph=True, dynamic=False),
            "infogan_fast": lambda: ops.gather_images(state, images, batch_size),
            "infogan_fast bf16": lambda: ops.gather_images(state, images, batch_size, dtype=torch.bfloat16),
        },
        rounds=rounds,
        device=device,
    )


def transforming(batch_size: int, device: torch.device, rounds: int) -> dict[str, float]:
    """Seconds a call: a turned, scaled, sheared and shifted copy of each 28 x 28 image, and its slant."""
    images = torch.rand(batch_size, 1, 28, 28, device=device)
    angle, scale, shear, shift = math.radians(15.0), 0.15, 0.2, 0.06

    def eager() -> tuple[Tensor, Tensor]:
        draws = torch.empty(batch_size, 5, device=device).uniform_(-1.0, 1.0)
        turn, lean = angle * draws[:, 0], shear * draws[:, 2]
        sine, cosine = turn.sin(), turn.cos()
        rows = [cosine - lean * sine, -sine - lean * cosine, sine, cosine]
        linear = torch.stack(rows, 1).view(-1, 2, 2) / (1.0 + scale * draws[:, 1, None, None])
        moved = linear @ (-2.0 * shift * draws[:, 3:, None])
        grid = F.affine_grid(torch.cat([linear, moved], 2), [batch_size, 1, 28, 28], align_corners=False)
        copies = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        return copies, (turn + lean.atan()) / (angle + math.atan(shear))

    state = ops.rng_state(0, device=device)
    ranges: dict[str, Any] = {"rotation": 15.0, "scale": scale, "shear": shear, "shift": shift}
    low = images.bfloat16()
    return interleaved(
        {
            "eager": eager,
            "compiled": torch.compile(eager, fullgraph=True, dynamic=False),
            "infogan_fast": lambda: ops.transform_images(state, images, **ranges),
            "infogan_fast bf16": lambda: ops.transform_images(state, low, **ranges),
        },
        rounds=rounds,
        device=device,
    )


def loss(batch_size: int, device: torch.device, rounds: int) -> dict[str, float]:
    """Seconds a call, forward and gradients: D on real and fake, the category, two Gaussians with learned
    variance.
    """
    real, fake = (torch.randn(batch_size, 1, device=device, requires_grad=True) for _ in range(2))
    q = torch.randn(batch_size, SPEC.q_dim(), device=device, requires_grad=True)
    latents = ops.sample_latents(ops.rng_state(0, device=device), batch_size, SPEC)
    category = latents.categorical[:, 0].long()
    weights = ops.LossWeights(d_real=1.0, d_fake=1.0, codes=(1.0, 0.1, 0.1))

    def total(real: Tensor, fake: Tensor, q: Tensor) -> Tensor:
        d = F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
        d = d + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
        mean, log_variance = q[:, 10:12], q[:, 12:]
        squared = (latents.continuous - mean) ** 2 * torch.exp(-log_variance)
        nll = 0.5 * (log_variance + squared + math.log(2 * math.pi))
        return d + F.cross_entropy(q[:, :10], category) + 0.1 * nll.sum(1).mean()

    compiled = torch.compile(total, fullgraph=True, dynamic=False)
    inputs = [real.detach(), fake.detach(), q.detach()]

    def ours() -> ops.InfoGANLoss:
        return ops.infogan_loss(
            SPEC,
            weights=weights,
            real_logits=inputs[0],
            fake_logits=inputs[1],
            q_output=inputs[2],
            categorical=latents.categorical,
            continuous=latents.continuous,
        )

    expected = torch.autograd.grad(total(real, fake, q), (real, fake, q))
    got = ours()
    torch.testing.assert_close(got.total, total(real, fake, q).detach(), rtol=1e-5, atol=1e-5)
    for gradient, want in zip((got.grad_real, got.grad_fake, got.grad_q), expected, strict=True):
        torch.testing.assert_close(gradient, want, rtol=1e-4, atol=1e-6)

    return interleaved(
        {
            "eager": lambda: torch.autograd.grad(total(real, fake, q), (real, fake, q)),
            "compiled": lambda: torch.autograd.grad(compiled(real, fake, q), (real, fake, q)),
            "infogan_fast": ours,
        },
        rounds=rounds,
        device=device,
    )


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        metavar="B",
        help="default: 128 1024 8192 65536, on CUDA 1048576 as well (images up to 65536)",
    )
    options.add_argument("--rounds", type=int, default=21, help="interleaved rounds (default: 21)")
    args = options.parse_args()
    device = prepare(args.device, args.threads)

    sizes = args.sizes or [128, 1024, 8192, 65536] + [1048576] * (device.type == "cuda")
    copied = copy_bandwidth(device)
    results: dict[str, Any] = {
        "machine": machine(device),
        "copy_bytes_a_second": copied,
        "seconds": {},
        "share_of_copy": {},
    }
    print(" ".join(f"{key}: {value}" for key, value in results["machine"].items()))
    print(
        f"{'':13}{'B':>8}  {'eager':>10} {'compiled':>10} {'infogan_fast':>13}   "
        "over eager  over compiled  of a copy"
    )
    # Bytes a row, read and written in float32: latents and codes; logits, Q's outputs and gradients, codes;
    # pixels and values; images, copies and slants.
    row_bytes = {
        "sampling": 4 * (74 + 3),
        "loss": 4 * (2 * (2 + 14) + 3),
        "gathering": 784 * 5,
        "transforming": 784 * 8 + 8,
    }
    measures = {"sampling": sampling, "loss": loss, "gathering": gathering, "transforming": transforming}
    for name, measure in measures.items():
        for batch_size in sizes:
            if name in ("gathering", "transforming") and batch_size > 65536 and args.sizes is None:
                continue
            torch._dynamo.reset()
            seconds = measure(batch_size, device, args.rounds)
            results["seconds"][f"{name} {batch_size}"] = seconds
            us = {key: value * 1e6 for key, value in seconds.items()}
            ours = us["infogan_fast"]
            share = row_bytes[name] * batch_size / seconds["infogan_fast"] / copied
            results["share_of_copy"][f"{name} {batch_size}"] = share
            print(
                f"{name:13}{batch_size:8,}  {us['eager']:8,.1f}us {us['compiled']:8,.1f}us {ours:11,.1f}us"
                f"   {us['eager'] / ours:9.1f}x {us['compiled'] / ours:13.1f}x {share:10.0%}",
                flush=True,
            )
    write_json(args.json, results)


if __name__ == "__main__":
    main()
