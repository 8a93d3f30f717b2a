"""What transform_images computes, in plain Python, SciPy and float64."""

from __future__ import annotations

import math

import numpy as np
import torch
from operators.sample_latents.reference import sample_latents
from scipy import ndimage
from torch import Tensor

from infogan_fast.latents import LatentSpec
from infogan_fast.objective.transformation import Transformation


def transformed(
    images: Tensor,
    transformation: Transformation,
    seed: int,
    step: int,
    samples: tuple[int, int] = (0, 1),
) -> Tensor:
    """Copies of images [B, C, S, S], float64: the map of a point, inverted as a matrix and read by SciPy.
    ``samples`` is the offset and stride of the images' numbers."""
    t, side = transformation, images.shape[-1]
    draws = sample_latents(LatentSpec(0, (), ("uniform",) * 9), seed, step, len(images), *samples)[2].numpy()
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


def slants(
    transformation: Transformation, seed: int, step: int, count: int, samples: tuple[int, int] = (0, 1)
) -> Tensor:
    """By what share of the largest angle each copy turns an upright stroke: where its end comes to lie."""
    draws = sample_latents(LatentSpec(0, (), ("uniform",) * 9), seed, step, count, *samples)[2].double()

    def angle(turn: float, lean: float) -> float:
        # Of the stroke from (0, -1) to (0, 1), x to the right and y down: pushed aside, then turned.
        x, y = transformation.shear * lean, 1.0
        radians = math.radians(transformation.rotation) * turn
        end = complex(x, y) * complex(math.cos(radians), -math.sin(radians))
        return math.atan2(end.real, end.imag)

    return torch.tensor(
        [angle(d[0].item(), d[2].item()) / angle(1.0, 1.0) for d in draws], dtype=torch.float64
    )
