"""Train an InfoGAN with a loop and networks of your own, on the fused operators.

    python examples/custom_loop.py

Only the operators come from infogan_fast: the next batch of images, the latents, and the loss with its
gradients.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

from infogan_fast import LatentSpec, ops
from infogan_fast.data import load_images

SPEC = LatentSpec.parse("noise=32,cat=10,uniform=2")
LAMBDAS = (1.0, 0.1, 0.1)  # weight of each code's mutual information
WIDTH = 256


class Discriminator(nn.Module):
    """A trunk shared by the discriminator's logit and by Q's answers: images [B, P] -> [B, 1], [B, q_dim]."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(pixels, WIDTH), nn.LeakyReLU(0.1))
        self.logit = nn.Linear(WIDTH, 1)
        self.q = nn.Linear(WIDTH, SPEC.q_dim())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(images)
        return self.logit(features), self.q(features)


def train(images: Tensor, updates: int, batch_size: int, seed: int = 0) -> dict[str, float]:
    """Train on images uint8 [N, P]. Returns the lower bound of each code's mutual information, in nats."""
    torch.manual_seed(seed)
    pixels = images.shape[1]
    generator = nn.Sequential(
        nn.Linear(SPEC.latent_dim, WIDTH), nn.ReLU(), nn.Linear(WIDTH, pixels), nn.Sigmoid()
    )
    discriminator = Discriminator(pixels)
    d_parameters = [*discriminator.trunk.parameters(), *discriminator.logit.parameters()]
    g_parameters = [*generator.parameters(), *discriminator.q.parameters()]
    d_optimizer = torch.optim.Adam(d_parameters, lr=2e-4, betas=(0.5, 0.999))
    g_optimizer = torch.optim.Adam(g_parameters, lr=1e-3, betas=(0.5, 0.999))
    order, rng = ops.rng_state(seed), ops.rng_state(seed)

    bounds: dict[str, float] = {}
    for update in range(1, updates + 1):
        real = ops.gather_images(order, images, batch_size).batch
        latents = ops.sample_latents(rng, batch_size, SPEC)
        fake = generator(latents.inputs)

        real_logits, _ = discriminator(real)
        fake_logits, _ = discriminator(fake.detach())
        d_loss = ops.infogan_loss(
            SPEC,
            weights=ops.LossWeights(d_real=1.0, d_fake=1.0),
            real_logits=real_logits,
            fake_logits=fake_logits,
        )
        d_optimizer.zero_grad()
        d_loss.total.backward()
        d_optimizer.step()

        fake_logits, q_output = discriminator(fake)
        g_loss = ops.infogan_loss(
            SPEC,
            weights=ops.LossWeights(g=1.0, codes=LAMBDAS),
            fake_logits=fake_logits,
            q_output=q_output,
            categorical=latents.categorical,
            continuous=latents.continuous,
        )
        g_optimizer.zero_grad()
        g_loss.total.backward()
        g_optimizer.step()

        if update % 100 == 0 or update == updates:
            # The terms are D real, D fake, G, then the negative log-likelihood of each code.
            likelihoods = g_loss.terms[3 : 3 + SPEC.n_codes].tolist()
            bounds = {
                code.name: code.entropy - nll for code, nll in zip(SPEC.codes, likelihoods, strict=True)
            }
            shown = ", ".join(f"{name} {bound:.2f}" for name, bound in bounds.items())
            print(f"update {update}: D {d_loss.total.item():.2f}, L_I in nats: {shown}", flush=True)
    return bounds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--images", type=int, default=10_000, help="drawings of digits to train on")
    args = parser.parse_args()
    images = load_images("strokes", count=args.images).images.flatten(1)
    train(images, args.updates, args.batch_size)


if __name__ == "__main__":
    main()
