"""What each operator computes, in plain PyTorch and float64: the statement that every kernel is held
against.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from infogan_fast.latents import LatentSpec
from infogan_fast.objective.consistency import Transformation
from infogan_fast.ops import LossWeights

U64 = NDArray[np.uint64]
MASK = np.uint64(0xFFFFFFFF)
PURPOSE = {"noise": 0, "categorical": 1, "continuous": 2, "normal_code": 3, "shuffle": 4}


def philox4x32(counter: U64, key: tuple[int, int]) -> U64:
    """Philox4x32-10 by Salmon et al. 2011, figure 2: counter [..., 4] of 32-bit words, the same shape out."""
    c = [counter[..., i].astype(np.uint64) for i in range(4)]
    k0, k1 = key
    for _ in range(10):
        product0, product1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [
            (product1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0),
            product1 & MASK,
            (product0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1),
            product0 & MASK,
        ]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=-1)


def latent_words(seed: int, step: int, samples: U64, purpose: str, blocks: U64) -> U64:
    """Words [..., 4] of the blocks of some samples (broadcast together)."""
    samples, blocks = np.broadcast_arrays(samples, blocks)
    counter = np.stack(
        [
            samples & MASK,
            np.uint64(PURPOSE[purpose] << 28) | blocks,
            np.full_like(samples, step & 0xFFFFFFFF),
            np.uint64(step >> 32 & 0xFFFF) | (samples >> np.uint64(32) << np.uint64(16)),
        ],
        axis=-1,
    )
    return philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF))


def unit(words: U64) -> NDArray[np.float64]:
    """(k + 1/2) / 2^24 of the upper 24 bits, rounded to float32 as the kernels keep it."""
    return ((words >> np.uint64(8)).astype(np.float32) + np.float32(0.5)).astype(np.float64) * 2.0**-24


def signed(words: U64) -> NDArray[np.float64]:
    """2 (k + 1/2) / 2^24 - 1, which float32 holds exactly."""
    return (2.0 * (words >> np.uint64(8)).astype(np.float64) + 1.0) * 2.0**-24 - 1.0


def normals(radius: U64, angle: U64) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Box and Muller 1958."""
    r = np.sqrt(-2.0 * np.log(unit(radius)))
    theta = 2.0 * np.pi * ((angle >> np.uint64(8)).astype(np.float64) + 0.5) * 2.0**-24
    return r * np.cos(theta), r * np.sin(theta)


def sample_latents(
    spec: LatentSpec, seed: int, step: int, batch_size: int, sample_offset: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """(inputs [B, latent_dim] float64, categorical int32, continuous float64), before rounding to a compute
    dtype.
    """
    samples = np.arange(sample_offset, sample_offset + batch_size, dtype=np.uint64)[:, None]
    inputs = np.zeros((batch_size, spec.latent_dim))
    for j in range(spec.noise_dim):
        group, w, lane = j // 64, j % 64 // 16, j % 16
        words = latent_words(seed, step, samples, "noise", np.array([[group * 16 + lane]], np.uint64))[:, 0]
        if spec.noise == "uniform":
            inputs[:, j] = signed(words[:, w])
        else:
            first = w // 2 * 2
            inputs[:, j] = normals(words[:, first], words[:, first + 1])[w % 2]
    column = spec.noise_dim
    categorical = np.zeros((batch_size, spec.n_categorical), np.int64)
    for i, (size, prior) in enumerate(
        zip(spec.categorical_sizes, spec.categorical_probabilities, strict=True)
    ):
        word = latent_words(seed, step, samples, "categorical", np.array([[i // 4]], np.uint64))[:, 0, i % 4]
        if all(p is None for p in spec.categorical_probabilities):
            index = (word * np.uint64(size)) >> np.uint64(32)
        else:
            cdf = np.cumsum(prior or (1.0 / size,) * size).astype(np.float32)
            index = (unit(word)[:, None] >= cdf[None, :-1]).sum(1)
        categorical[:, i] = index
        inputs[np.arange(batch_size), column + categorical[:, i]] = 1.0
        column += size
    continuous = np.zeros((batch_size, spec.n_continuous))
    for j, kind in enumerate(spec.continuous_kinds):
        if kind == "normal":
            words = latent_words(seed, step, samples, "normal_code", np.array([[j]], np.uint64))[:, 0]
            continuous[:, j] = normals(words[:, 0], words[:, 1])[0]
        else:
            word = latent_words(seed, step, samples, "continuous", np.array([[j // 4]], np.uint64))[
                :, 0, j % 4
            ]
            continuous[:, j] = signed(word) if kind == "uniform" else word >> np.uint64(31)
    inputs[:, column:] = continuous
    return (
        torch.from_numpy(inputs),
        torch.from_numpy(categorical.astype(np.int32)),
        torch.from_numpy(continuous),
    )


def shuffled(seed: int, epoch: int, size: int, position: int) -> int:
    """Where the keyed bijection of [0, size) sends a position: eight Feistel rounds, walked until it is
    inside.
    """
    words = latent_words(seed, epoch, np.array([0], np.uint64), "shuffle", np.array([0, 1], np.uint64))
    keys = [int(word) for word in words.reshape(-1)]
    half_bits = 1
    while 4**half_bits < size:
        half_bits += 1
    value = position
    while True:
        left, right = value >> half_bits, value % 2**half_bits
        for key in keys:
            x = (right ^ key) * 0x9E3779B1 % 2**32
            x = (x ^ x >> 15) * 0x85EBCA77 % 2**32
            left, right = right, left ^ (x ^ x >> 13) % 2**half_bits
        value = left << half_bits | right
        if value < size:
            return value


def gather_images(images: Tensor, seed: int, step: int, batch_size: int) -> tuple[Tensor, Tensor]:
    """(batch float64, indices): batch number ``step`` of the endless sequence of shuffled epochs."""
    positions = range(step * batch_size, (step + 1) * batch_size)
    indices = [shuffled(seed, p // len(images), len(images), p % len(images)) for p in positions]
    return images[indices].double() / 255.0, torch.tensor(indices)


def infogan_terms(
    spec: LatentSpec,
    real_logits: Tensor | None,
    fake_logits: Tensor | None,
    q_output: Tensor | None,
    categorical: Tensor | None,
    continuous: Tensor | None,
    fixed_log_variance: float | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """([D real, D fake, G, each code's negative log-likelihood], [each continuous code's mean squared
    error]).
    """
    zero = torch.zeros((), dtype=torch.float64)
    terms = [
        zero if real_logits is None else F.softplus(-real_logits.double()).mean(),
        zero if fake_logits is None else F.softplus(fake_logits.double()).mean(),
        zero if fake_logits is None else F.softplus(-fake_logits.double()).mean(),
    ]
    errors: list[Tensor] = []
    if q_output is None:
        return terms + [zero] * spec.n_codes, [zero] * spec.n_continuous
    q = q_output.double()
    column = 0
    for i, size in enumerate(spec.categorical_sizes):
        assert categorical is not None
        terms.append(F.cross_entropy(q[:, column : column + size], categorical[:, i].long()))
        column += size
    log_variance_column = column + spec.n_continuous
    for j, kind in enumerate(spec.continuous_kinds):
        assert continuous is not None
        u, output = continuous[:, j].double(), q[:, column + j]
        if kind == "bernoulli":
            terms.append(F.binary_cross_entropy_with_logits(output, u))
            errors.append((torch.sigmoid(output) - u).square().mean())
            continue
        if fixed_log_variance is None:
            log_variance = q[:, log_variance_column].clamp(-10.0, 10.0)
            log_variance_column += 1
        else:
            log_variance = torch.full_like(output, fixed_log_variance)
        squared = (output - u).square()
        terms.append(0.5 * (math.log(2 * math.pi) + log_variance + squared * torch.exp(-log_variance)).mean())
        errors.append(squared.mean())
    return terms, errors


def infogan_total(terms: list[Tensor], weights: LossWeights) -> Tensor:
    """The weighted sum of the terms."""
    codes = weights.codes or (0.0,) * (len(terms) - 3)
    weighted = (
        w * t for w, t in zip((weights.d_real, weights.d_fake, weights.g, *codes), terms, strict=True)
    )
    return sum(weighted, torch.zeros((), dtype=torch.float64))


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


def adversarial(
    spec: LatentSpec, q_of: Callable[[Tensor], Tensor], images: Tensor, noise: Tensor
) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """Virtual adversarial copies (Miyato et al. 2018) of images [B, C, S, S], in steps of one image's own
    length, from noise of their shape, and the divergence that they are to raise: of Q's outputs near the
    images from those at them."""
    sizes = spec.categorical_sizes

    def divergence(q: Tensor, near: Tensor) -> Tensor:
        codes = (
            F.kl_div(b.log_softmax(1), a.detach().log_softmax(1), reduction="none", log_target=True).sum()
            for a, b in zip(q.split(sizes, 1), near.split(sizes, 1), strict=True)
        )
        return sum(codes, torch.zeros((), dtype=q.dtype)) / len(q)

    def unit(vectors: Tensor) -> Tensor:
        return torch.stack([v / v.norm() for v in vectors])

    count, radius = sum(sizes), math.sqrt(images[0].numel()) / 14
    probes = (images + radius / 4 * unit(noise)).requires_grad_()
    moved = divergence(q_of(images)[:, :count], q_of(probes)[:, :count])
    (gradient,) = torch.autograd.grad(moved, probes)
    return images + radius * unit(gradient), lambda q, near: divergence(q[:, :count], near[:, :count])


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
