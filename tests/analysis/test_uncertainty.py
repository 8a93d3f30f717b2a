"""Intervals, chance levels and bootstrap samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from infogan_fast.analysis.uncertainty import defined, interval, resampled, rho_by_chance, shuffled


def test_an_interval_is_the_normal_one_within_the_range() -> None:
    replicates = [0.4, 0.5, 0.6]
    assert interval(0.5, replicates) == pytest.approx([0.5 - 0.196, 0.5 + 0.196])
    assert interval(0.95, replicates) == pytest.approx([0.754, 1])
    assert interval(-0.1, replicates, low=-1) == pytest.approx([-0.296, 0.096])
    assert interval(0.5, [*replicates, math.nan]) == interval(0.5, replicates)
    for value, drawn in ((None, replicates), (math.nan, replicates), (0.5, [0.5]), (0.5, [])):
        assert interval(value, drawn) is None


def test_the_interval_of_a_mean_has_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=500)
    found = interval(float(values.mean()), resampled(lambda rows: values[rows].mean(), 500), -9, 9)
    assert found is not None
    assert found[1] - found[0] == pytest.approx(2 * 1.96 * values.std() / math.sqrt(500), rel=0.15)


def test_rho_by_chance() -> None:
    rng = np.random.default_rng(1)
    drawn = np.array([[spearmanr(*rng.normal(size=(2, 11)))[0] for _ in range(10)] for _ in range(300)])
    assert np.abs(drawn).mean() == pytest.approx(rho_by_chance(11), rel=0.05)
    assert np.abs(drawn.mean(1)).mean() == pytest.approx(rho_by_chance(11, averaged=10), rel=0.15)


def test_rows_in_random_order() -> None:
    assert sorted(shuffled(50)) == list(range(50))
    assert shuffled(50).tolist() == shuffled(50).tolist() != shuffled(50, seed=1).tolist()
    assert (defined(math.nan), defined(0.5)) == (None, 0.5)
