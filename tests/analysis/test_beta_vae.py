"""beta-VAE scores of hand-made encoders, which are known."""

from __future__ import annotations

import numpy as np
import pytest
from analysis.encoders import SAMPLERS, known

from infogan_fast.analysis.beta_vae import beta_vae_score
from infogan_fast.analysis.interventions import table_samplers


@known(
    {
        "perfect": (1, 1),
        "permuted": (1, 1),
        "with noise": (1, 1),
        "turned": (0.6, 0.75),
        "all turned": (0.4, 0.75),
        "random": (0.25, 0.42),
        "constant": (0.25, 0.42),
        "doubled": (1, 1),
        "single": (0.6, 0.75),
    }
)
def test_beta_vae_score(encoder: str, low: float, high: float) -> None:
    assert low <= beta_vae_score(SAMPLERS[encoder], 3, train=1000, test=500).score <= high


@pytest.mark.parametrize("rows", [1000, 3000])
def test_random_codes_score_as_chance_on_small_tables(rows: int) -> None:
    """No row is in the test points that the classifier was fitted to, nor in both halves of a pair."""
    scores = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        codes, factors = (
            rng.normal(size=(rows, 10)),
            np.c_[rng.integers(2, size=rows), rng.uniform(size=rows)],
        )
        first, second = table_samplers(codes, factors, seed=seed)
        scores.append(beta_vae_score(first, 2, test_sample=second, train=2000, test=1000, seed=seed).score)
    assert np.mean(scores) == pytest.approx(0.5, abs=0.04)
    assert max(scores) < 0.6


def test_interval_of_the_test_points() -> None:
    found = beta_vae_score(SAMPLERS["turned"], 3, train=1000, test=500, bootstrap=400)
    assert found.replicates.mean() == pytest.approx(found.score, abs=0.01)
    assert found.replicates.std() == pytest.approx((found.score * (1 - found.score) / 500) ** 0.5, rel=0.15)
