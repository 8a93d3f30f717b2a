"""FactorVAE scores of hand-made encoders, which are known."""

from __future__ import annotations

import numpy as np
import pytest
from analysis.encoders import ENCODERS, FACTORS, SAMPLERS, Array, N, known

from infogan_fast.analysis import morphology
from infogan_fast.analysis.factor_vae import factor_vae_score
from infogan_fast.analysis.interventions import table_sampler
from infogan_fast.data import strokes
from infogan_fast.errors import UserError


@known(
    {
        "perfect": (1, 1),
        "permuted": (1, 1),
        "with noise": (0.99, 1),
        "turned": (0.6, 0.75),  # one factor is certain, two are confused
        "all turned": (0.4, 0.75),
        "random": (0.28, 0.4),
        "constant": (0, 0),
        "doubled": (1, 1),
        "single": (0.28, 0.4),
    }
)
def test_factor_vae_score(encoder: str, low: float, high: float) -> None:
    found = factor_vae_score(SAMPLERS[encoder], 3, test=1000)
    assert low <= found.score <= high
    assert found.votes.shape == (ENCODERS[encoder].shape[1], 3)
    assert found.votes.sum() == (0 if encoder == "constant" else 800)


def test_constant_dimensions_get_no_votes() -> None:
    codes = np.c_[np.zeros(N), FACTORS[:, 1:], np.full(N, 0.1, np.float32)]
    found = factor_vae_score(table_sampler(codes, FACTORS[:, 1:]), 2, train=100, test=100)
    assert found.score == 1 and found.votes[[0, 3]].sum() == 0


def test_factors_of_drawn_images() -> None:
    """Measures of drawn digits: those of rotation and width vary least while their factor is fixed."""
    limit = strokes.ROTATION_LIMIT

    def sample(fixed_factor: int | None, rng: np.random.Generator, groups: int, size: int) -> Array:
        n = groups * size
        digit, rotation = rng.integers(10, size=n), rng.uniform(-limit, limit, n)
        width = rng.uniform(*strokes.WIDTH_RANGE, n)
        if fixed_factor is not None:
            factor = (digit, rotation, width)[fixed_factor]
            factor[:] = np.repeat(factor[::size], size)
        index = rng.integers(1 << 40, size=n)
        images = strokes.render(0, index, digit, rotation.astype(np.float32), width.astype(np.float32)) / 255
        codes = np.c_[digit, morphology.slant(images), morphology.thickness(images)]
        return codes.reshape(groups, size, 3)

    found = factor_vae_score(sample, 3, batch=25, train=25, test=20, survey=200)
    assert found.score > 0.9 and found.votes.argmax(1).tolist() == [0, 1, 2]


def test_a_large_offset_costs_nothing() -> None:
    moved = FACTORS[:, 1:] + [1e7, -1e10]
    assert factor_vae_score(table_sampler(moved, FACTORS[:, 1:]), 2, train=100, test=100).score == 1


def test_too_few_rows_to_fix_a_factor() -> None:
    sample = table_sampler(FACTORS[:1500], FACTORS[:1500])
    with pytest.raises(UserError, match=r"1,500 rows, and factor 1 has \d+ values with 100 of them, where 2"):
        factor_vae_score(sample, 3)
