"""Correlations of sweeps with a known result."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from infogan_fast.analysis import morphology
from infogan_fast.analysis.sweeps import sweep_correlations
from infogan_fast.data import strokes
from infogan_fast.errors import UserError


def test_sweeps_of_three_categories() -> None:
    steps = np.linspace(-2, 2, 9)
    values = np.tile(steps, (6, 1))
    values[1] = values[1, ::-1]  # the order of the steps has no effect
    measure = np.stack([np.exp(values[i]) * sign for i, sign in enumerate([1, 1, 1, 1, -1, -1])])
    found = sweep_correlations(values, measure, np.array([4, 4, 7, 7, 5, 5]))
    assert found.rho == pytest.approx({4: 1, 5: -1, 7: 1})
    assert found.mean == pytest.approx(1) and found.agreeing == 2
    assert sweep_correlations(values, -measure, np.array([4, 4, 7, 7, 5, 5])).agreeing == 2


def test_sweeps_that_disagree_cancel_within_a_category() -> None:
    values = np.tile(np.arange(5.0), (4, 1))
    measure = values * np.array([[1], [-1], [1], [1]])
    found = sweep_correlations(values, measure, np.array([0, 0, 1, 1]))
    assert found.rho == pytest.approx({0: 0, 1: 1}) and found.mean == pytest.approx(0.5)
    assert found.agreeing == 1


def test_rho_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 12))
    measure = np.round(values + rng.normal(size=(3, 12)))  # with ties
    expected = [stats.spearmanr(v, m).statistic for v, m in zip(values, measure, strict=True)]
    found = sweep_correlations(values, measure, np.array([0, 1, 1]))
    assert found.rho == pytest.approx({0: expected[0], 1: (expected[1] + expected[2]) / 2})
    assert found.mean == pytest.approx(np.abs(list(found.rho.values())).mean())


def test_sweeps_with_gaps() -> None:
    values = np.tile(np.arange(5.0), (4, 1))
    measure = values.copy()
    measure[0, [1, 4]] = np.nan  # three steps left
    measure[1, :3] = np.nan  # two: no rho, and its category has none
    measure[2] = 3.0  # never changes
    found = sweep_correlations(values, measure, np.array([0, 1, 2, 3]))
    assert [found.rho[k] for k in (0, 2, 3)] == pytest.approx([1, 0, 1]) and np.isnan(found.rho[1])
    assert found.mean == pytest.approx(2 / 3) and found.agreeing == 2
    assert sweep_correlations(values, measure, np.array([0, 0, 2, 2])).rho == pytest.approx({0: 1, 2: 0.5})
    nothing = sweep_correlations(values[1:2], measure[1:2], np.array([1]))
    assert np.isnan(nothing.mean) and nothing.agreeing == 0


def test_sweeps_of_drawn_digits() -> None:
    """Eight images of each digit that differ in rotation alone: slant follows in every category."""
    turn = np.tile(np.linspace(-0.4, 0.4, 8, dtype=np.float32), (10, 1))
    digit = np.repeat(np.arange(10), 8)
    images = strokes.render(0, digit, digit, turn.ravel(), np.full(80, 2.4, np.float32)) / 255
    found = sweep_correlations(turn, morphology.slant(images).reshape(10, 8), np.arange(10))
    assert found.agreeing == 10 and found.mean > 0.9
    assert max(found.rho.values()) < -0.5


def test_invalid_sweeps() -> None:
    good = np.zeros((2, 5))
    with pytest.raises(ValueError, match=r"measure \(5, 2\)"):
        sweep_correlations(good, good.T, np.zeros(2))
    with pytest.raises(ValueError, match=r"category \(3,\)"):
        sweep_correlations(good, good, np.zeros(3))
    with pytest.raises(UserError, match="no sweeps"):
        sweep_correlations(good[:0], good[:0], np.zeros(0))
    with pytest.raises(UserError, match="not finite"):
        sweep_correlations(good + np.inf, good, np.zeros(2))
