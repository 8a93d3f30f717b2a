"""What gather_images computes, in PyTorch and float64."""

from __future__ import annotations

import numpy as np
import torch
from operators.sample_latents.reference import latent_words
from torch import Tensor


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


def gather_images(
    images: Tensor, seed: int, step: int, batch_size: int, samples: slice = slice(None)
) -> tuple[Tensor, Tensor]:
    """(batch float64, indices): of batch number ``step`` of the endless sequence of shuffled epochs, the
    images that the slice chooses."""
    positions = range(step * batch_size, (step + 1) * batch_size)[samples]
    indices = [shuffled(seed, p // len(images), len(images), p % len(images)) for p in positions]
    return images[indices].double() / 255.0, torch.tensor(indices)
