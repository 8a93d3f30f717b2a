"""What sample_latents computes, in NumPy and float64; Philox words by the paper."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infogan_fast.latents import LatentSpec

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
    spec: LatentSpec, seed: int, step: int, batch_size: int, sample_offset: int = 0, sample_stride: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """(inputs [B, latent_dim] float64, categorical int32, continuous float64), before rounding to a compute
    dtype.
    """
    samples = (sample_offset + sample_stride * np.arange(batch_size, dtype=np.uint64))[:, None]
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
