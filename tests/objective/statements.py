"""What the copies and the terms of the objective compute, in plain PyTorch or SciPy and float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from operators.sample_latents.reference import sample_latents
from scipy import ndimage
from torch import Tensor

from infogan_fast.latents import LatentSpec
from infogan_fast.objective.transformation import Transformation


def transformed(images: Tensor, transformation: Transformation, seed: int, step: int) -> Tensor:
    """Copies of images [B, C, S, S], float64: the map of a point, inverted as a matrix and read by SciPy."""
    t, side = transformation, images.shape[-1]
    draws = sample_latents(LatentSpec(0, (), ("uniform",) * 9), seed, step, len(images))[2].numpy()
    result = np.empty(images.shape)
    for n, (turn, size, lean, right, down, flip, *gains) in enumerate(draws):
        angle = math.radians(t.rotation) * turn
        sine, cosine = math.sin(angle), math.cos(angle)
        # Of (row, column) about the middle; rows count downwards, angles anticlockwise.
        mirrored = np.diag([1.0, -1.0 if t.flip and flip > 0 else 1.0])
        sheared = np.array([[1.0, 0.0], [t.shear * lean, 1.0]])
        turned = np.array([[cosine, -sine], [sine, cosine]])
        back = np.linalg.inv((1.0 + t.scale * size) * turned @ sheared @ mirrored)
        middle = np.full(2, (side - 1) / 2)
        offset = middle - back @ (middle + side * t.shift * np.array([down, right]))
        for c in range(images.shape[1]):
            copy = ndimage.affine_transform(
                images[n, c].double().numpy(), back, offset, order=1, mode="nearest"
            )
            result[n, c] = np.minimum(copy * (1.0 + t.colour * gains[c]), 1.0)
    return torch.from_numpy(result)


def slants(transformation: Transformation, seed: int, step: int, count: int) -> Tensor:
    """By what share of the largest angle each copy turns an upright stroke: where its end comes to lie."""
    draws = sample_latents(LatentSpec(0, (), ("uniform",) * 9), seed, step, count)[2].double()

    def angle(turn: float, lean: float) -> float:
        # Of the stroke from (0, -1) to (0, 1), x to the right and y down: pushed aside, then turned.
        x, y = transformation.shear * lean, 1.0
        radians = math.radians(transformation.rotation) * turn
        end = complex(x, y) * complex(math.cos(radians), -math.sin(radians))
        return math.atan2(end.real, end.imag)

    return torch.tensor(
        [angle(d[0].item(), d[2].item()) / angle(1.0, 1.0) for d in draws], dtype=torch.float64
    )


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
