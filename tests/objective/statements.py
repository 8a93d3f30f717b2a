"""What the adversarial copies and the terms of the objective compute, in plain PyTorch and float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from infogan_fast.latents import LatentSpec


def distance(
    spec: LatentSpec, q_output: Tensor, log_variance: float | None = None, slant: Tensor | None = None
) -> Tensor:
    """Of the last uniform or normal code on images and copies: what the means add to the Kullback-Leibler
    divergence of the two Gaussians, by torch.distributions, halfway between both directions. With the slant
    of the copies of the first such code, moved on in the images by what it asks of the copies."""
    count, normal = len(q_output) // 2, torch.distributions.Normal
    ordered = [i for i, kind in enumerate(spec.continuous_kinds) if kind != "bernoulli"]
    which = ordered[-1 if slant is None else 0]
    means = q_output[:, sum(spec.categorical_sizes) + which]
    if slant is not None:
        means = means + torch.cat([slant.to(means) / 2, torch.zeros(count).to(means)])
    logs = torch.full_like(means, log_variance or 0.0)
    if log_variance is None:
        first = sum(spec.categorical_sizes) + spec.n_continuous
        logs = q_output[:, first + ordered.index(which)].clamp(-10, 10)
    total = torch.zeros((), dtype=q_output.dtype)
    for i in range(count):
        sigmas = (logs[[i, i + count]] / 2).exp().detach()
        pair = [normal(means[i], sigmas[0]), normal(means[i + count], sigmas[1])]
        level = [normal(torch.zeros(()).to(means), sigma) for sigma in sigmas]
        for a, b in ((0, 1), (1, 0)):
            divergence = torch.distributions.kl_divergence
            total = total + (divergence(pair[a], pair[b]) - divergence(level[a], level[b])) / 2
    return total / count


def divergence(spec: LatentSpec, q: Tensor, near: Tensor) -> Tensor:
    """Kullback-Leibler divergence of Q's categorical answers near images from those at them, which are
    constants; the mean over images, summed over codes."""
    sizes = spec.categorical_sizes
    answers = (values[:, : sum(sizes)].split(sizes, 1) for values in (q.detach(), near))
    codes = (
        F.kl_div(b.log_softmax(1), a.log_softmax(1), reduction="none", log_target=True).sum()
        for a, b in zip(*answers, strict=True)
    )
    return sum(codes, torch.zeros((), dtype=q.dtype)) / len(q)


def adversarial(spec: LatentSpec, q_of: Callable[[Tensor], Tensor], images: Tensor, noise: Tensor) -> Tensor:
    """Virtual adversarial copies (Miyato et al. 2018) of images [B, C, S, S], in steps of one image's own
    length, from noise of their shape."""

    def unit(vectors: Tensor) -> Tensor:
        return torch.stack([v / v.norm() for v in vectors])

    radius = math.sqrt(images[0].numel()) / 14
    probes = (images + radius / 4 * unit(noise)).requires_grad_()
    (gradient,) = torch.autograd.grad(divergence(spec, q_of(images), q_of(probes)), probes)
    return images + radius * unit(gradient)


def agreement(
    spec: LatentSpec, q_output: Tensor, joints: list[Tensor] | None = None, joint_ema: float = 0.0
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Of each categorical code on images and copies the mutual information, from entropies, the entropy of
    its values, and the joint that both are of, averaged with the one before: one pair at a time."""
    information, entropies, averages = [], [], []
    column, count = 0, len(q_output) // 2
    for code, size in enumerate(spec.categorical_sizes):
        p = F.softmax(q_output[:, column : column + size].double(), 1)
        joint = torch.zeros(size, size, dtype=torch.float64)
        for image, copy in zip(p[:count], p[count:], strict=True):
            joint = joint + (torch.outer(image, copy) + torch.outer(copy, image)) / (2 * count)
        if joints is not None:
            joint = joint_ema * joints[code] + (1 - joint_ema) * joint

        def entropy(q: Tensor) -> Tensor:
            return -torch.xlogy(q, q).sum()

        information.append(entropy(joint.sum(0)) + entropy(joint.sum(1)) - entropy(joint))
        entropies.append(entropy(joint.sum(0)))
        averages.append(joint.detach())
        column += size
    return information, entropies, averages
