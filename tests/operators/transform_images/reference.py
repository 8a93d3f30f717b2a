"""What transform_images computes, in plain Python, SciPy and float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from operators.sample_latents.reference import sample_latents
from torch import Tensor

from infogan_fast.latents import LatentSpec
from infogan_fast.objective.transformation import Transformation

KNOTS = 5


def bent(knots: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    """What lies between knots [K, K], of which the outermost are in the middle of the outermost pixels: cubic
    convolution (Keys 1981, a = -1/2) with the knots at the ends repeated, [side, side]."""

    def kernel(d: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        d = np.abs(d)
        near, far = (1.5 * d - 2.5) * d**2 + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
        result: np.ndarray[Any, Any] = np.where(d < 1, near, np.where(d < 2, far, 0.0))
        return result

    at = np.arange(side) * (KNOTS - 1) / max(side - 1, 1)
    shares = kernel(at[:, None] - np.arange(-1, KNOTS + 1))
    result: np.ndarray[Any, Any] = shares @ np.pad(knots, 1, mode="edge") @ shares.T
    return result


def transformed(
    images: Tensor,
    transformation: Transformation,
    seed: int,
    step: int,
    samples: tuple[int, int] = (0, 1),
) -> Tensor:
    """Copies of images [B, C, S, S], float64: the map of a point, inverted as a matrix and read by SciPy.
    ``samples`` is the offset and stride of the images' numbers."""
    from scipy import ndimage  # not on every machine with a GPU, where other tests import this file

    t, side = transformation, images.shape[-1]
    spec = LatentSpec(0, (), ("uniform",) * (9 + 2 * KNOTS**2))
    draws = sample_latents(spec, seed, step, len(images), *samples)[2].numpy().astype(np.float64)
    result = np.empty(images.shape)
    for n, (turn, size, lean, right, down, flip, *gains) in enumerate(draws[:, :9]):
        angle = math.radians(t.rotation) * turn
        sine, cosine = math.sin(angle), math.cos(angle)
        # Of (row, column) about the middle; rows count downwards, angles anticlockwise.
        mirrored = np.diag([1.0, -1.0 if t.flip and flip > 0 else 1.0])
        sheared = np.array([[1.0, 0.0], [t.shear * lean, 1.0]])
        turned = np.array([[cosine, -sine], [sine, cosine]])
        back = np.linalg.inv((1.0 + t.scale * size) * turned @ sheared @ mirrored)
        middle = np.full(2, (side - 1) / 2)
        offset = middle - back @ (middle + side * t.shift * np.array([down, right]))
        ways = side * t.bend * draws[n, 9:].reshape(2, KNOTS, KNOTS)
        places = np.indices((side, side)) + np.stack([bent(ways[1], side), bent(ways[0], side)])
        places = np.einsum("ij,jrc->irc", back, places) + offset[:, None, None]
        for c in range(images.shape[1]):
            copy = ndimage.map_coordinates(images[n, c].double().numpy(), places, order=1, mode="nearest")
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
