"""Hand-made encoders of known factors, on which the score of each metric is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from infogan_fast.analysis.interventions import table_sampler

Array = NDArray[Any]
N = 15_000

_rng = np.random.default_rng(0)
#: A discrete factor with 10 values and two continuous ones, of different scales.
FACTORS = np.stack([_rng.integers(10, size=N), _rng.uniform(-1, 1, N), _rng.uniform(1, 9, N)], 1)


def turned(codes: Array, *planes: tuple[int, int]) -> Array:
    """The codes, scaled to the same variance and rotated by 45 degrees in each plane."""
    codes = (codes - codes.mean(0)) / codes.std(0)
    for i, j in planes:
        a, b = codes[:, i].copy(), codes[:, j].copy()
        codes[:, i], codes[:, j] = (a + b) / math.sqrt(2), (a - b) / math.sqrt(2)
    return codes


ENCODERS = {
    "perfect": FACTORS,
    "permuted": FACTORS[:, [2, 0, 1]] * [-3.0, 2.0, 0.001] + [5.0, -1.0, 0.0],
    "with noise": np.hstack([FACTORS, _rng.normal(size=(N, 4))]),
    "turned": turned(FACTORS, (1, 2)),
    "all turned": turned(FACTORS, (0, 1), (1, 2)),
    "random": _rng.normal(size=(N, 3)),
    "constant": np.full((N, 3), 0.3),
    "doubled": np.hstack([FACTORS, FACTORS]),
    "single": FACTORS[:, 1:2],
}
SAMPLERS = {name: table_sampler(codes, FACTORS) for name, codes in ENCODERS.items()}


def known(bounds: dict[str, tuple[float, float]]) -> Any:
    """Run a test once per encoder, with the lowest and the highest score that it may have."""
    return pytest.mark.parametrize(("encoder", "low", "high"), [(name, *b) for name, b in bounds.items()])
