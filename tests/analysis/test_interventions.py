"""Sampling with one factor fixed, and properties that the metrics which use it share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from analysis.encoders import FACTORS, SAMPLERS, Array, N

from infogan_fast.analysis.beta_vae import beta_vae_score
from infogan_fast.analysis.factor_vae import factor_vae_score
from infogan_fast.analysis.interventions import table_sampler
from infogan_fast.errors import UserError


def test_table_sampler_fixes_one_factor() -> None:
    rng = np.random.default_rng(8)
    sample = table_sampler(FACTORS, FACTORS)
    for factor in range(3):
        drawn = sample(factor, rng, 400, 50)
        assert drawn.shape == (400, 50, 3)
        spread = np.ptp(drawn, axis=1) / np.ptp(FACTORS, axis=0)
        assert spread[:, factor].max() <= (0 if factor == 0 else 1 / 20)
        assert np.delete(spread, factor, 1).min() > 0.5
        levels = drawn[:, 0, factor]
        assert np.ptp(levels) > 0.9 * np.ptp(FACTORS[:, factor])
    free = sample(None, rng, 5, 4000)
    np.testing.assert_allclose(free.std(1), np.broadcast_to(FACTORS.std(0), (5, 3)), rtol=0.1)
    rare = (np.arange(N) % 10 == 0).astype(float)  # a value is fixed as often as it occurs
    drawn = table_sampler(rare[:, None], rare[:, None] + [[0, 1]])(1, rng, 5000, 2)
    assert drawn.mean() == pytest.approx(0.1, abs=0.02)


def test_a_factor_that_is_not_enough_is_called_by_its_name() -> None:
    few = np.arange(40.0)[:, None] % 2 + [[0.0, 1.0]]
    for names, called in (((), "factor 1"), (("shape", "size"), "factor size")):
        sample = table_sampler(few, few, names=names)
        with pytest.raises(UserError, match=f"{called} has 0 values with 30 of them"):
            sample(1, np.random.default_rng(0), 5, 30)


@pytest.mark.parametrize("score", ["factor", "beta"])
def test_scale_of_codes_has_no_effect(score: str) -> None:
    noisy = FACTORS + np.random.default_rng(6).normal(scale=[2.0, 0.7, 3.0], size=FACTORS.shape)

    def result(scale: list[float]) -> object:
        sample = table_sampler(noisy * np.array(scale), FACTORS)
        if score == "beta":
            return round(beta_vae_score(sample, 3, train=500, test=300, pairs=16).score, 2)
        found = factor_vae_score(sample, 3, train=300, test=300)
        assert np.argmax(found.votes, 1).tolist() == [0, 1, 2]
        return found.score

    assert result([1, 1, 1]) == result([1e-4, 1, -1e5])


@pytest.mark.parametrize("score", ["factor", "beta"])
def test_values_of_a_discrete_code_are_only_names(score: str) -> None:
    rng = np.random.default_rng(7)
    digit = FACTORS[:, 0].astype(int)
    shown = np.where(rng.uniform(size=N) < 0.8, digit, rng.integers(10, size=N))
    other = FACTORS[:, 1] + rng.normal(size=N)

    def result(names: Array) -> object:
        sample = table_sampler(np.c_[names[shown], other], FACTORS)
        if score == "beta":
            return beta_vae_score(sample, 3, train=500, test=300, pairs=8).score
        found = factor_vae_score(sample, 3, train=500, test=300, batch=8)
        return found.score, found.votes.tolist()

    assert result(np.arange(10)) == result(np.array([0, 50, 2, 3, -700, 5, 1, 7, 10_000, 9]))


@pytest.mark.parametrize("score", [factor_vae_score, beta_vae_score])
def test_a_single_factor_is_an_error(score: Callable[..., object]) -> None:
    with pytest.raises(UserError, match="give 2 or more"):
        score(SAMPLERS["perfect"], 1)


@pytest.mark.parametrize("score", [factor_vae_score, beta_vae_score])
def test_a_representation_that_is_not_finite_is_an_error(score: Callable[..., object]) -> None:
    def sample(fixed: int | None, rng: np.random.Generator, groups: int, size: int) -> Array:
        codes = rng.normal(size=(groups, size, 2))
        codes[-1, -1, 1] = np.nan if fixed == 1 else 0
        return codes

    with pytest.raises(UserError, match="not finite for some image with factor 1 fixed"):
        score(sample, 2, train=20, test=20)
    with pytest.raises(ValueError, match="batch is 1"):
        factor_vae_score(sample, 2, batch=1)
