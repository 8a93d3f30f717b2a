"""Agreement between models whose codes are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from analysis.encoders import FACTORS, N, turned
from scipy import stats

from infogan_fast.analysis.udr import udr
from infogan_fast.errors import UserError


def test_equal_codes_agree_in_any_order_with_any_names_and_scales() -> None:
    renamed = np.array([3, 1, 4, 9, 5, 2, 6, 8, 7, 0])[FACTORS[:, 0].astype(np.int64)]
    same = np.stack([renamed, FACTORS[:, 2] ** 3, -5 * FACTORS[:, 1]], 1)
    found = udr([FACTORS, same, FACTORS], discrete_codes=[True, False, False])
    assert found.scores.min() > 0.9  # in a finite sample, independent codes are similar by chance
    assert np.isnan(np.diag(found.pairs)).all()
    np.testing.assert_array_equal(found.pairs, found.pairs.T)
    # Exactly 1 if there is only one code.
    for j, named in enumerate((True, False, False)):
        alone = udr([FACTORS[:, [j]], same[:, [[0, 2, 1][j]]]], discrete_codes=[named])
        assert alone.scores.tolist() == pytest.approx([1, 1])


def test_udr_by_hand() -> None:
    """Two ordered codes by SciPy's rho; a discrete and an ordered one by the correlation ratio."""
    a = np.array([[1, 3], [2, 1], [3, 4], [4, 2]], float)
    b = np.array([[2, 1], [1, 4], [4, 2], [3, 3]], float)
    r = np.abs(stats.spearmanr(np.c_[a, b]).statistic[:2, 2:])
    each = [max(row) ** 2 / sum(row) for row in [*r, *r.T]]
    ordered = [False, False]
    assert udr([a, b], discrete_codes=ordered).scores[0] == pytest.approx(sum(each) / 4)

    names = np.array([0, 0, 1, 1], float)
    # Ranks 1 and 2, 3 and 4: 1 of their variance of 1.25 is between the two names.
    mixed = [np.c_[names, [1, 2, 3, 4]], np.c_[names, [10, 20, 30, 40]]]
    ratio = math.sqrt(1 / 1.25)
    assert udr(mixed, discrete_codes=[True, False]).scores[0] == pytest.approx(1 / (1 + ratio))


def test_the_odd_model_out_agrees_least() -> None:
    noise = np.random.default_rng(1)
    models = [FACTORS + noise.normal(scale=[0.0, s, s], size=FACTORS.shape) for s in (0.02, 0.05, 0.1, 0.15)]
    mixed = FACTORS.copy()
    mixed[:, 1:] = turned(FACTORS[:, 1:], (0, 1))
    merged = FACTORS.copy()
    merged[:, 0] //= 2
    kinds = [True, False, False]
    for odd in (mixed, merged, np.round(noise.normal(size=FACTORS.shape))):
        scores = udr([*models, odd], discrete_codes=kinds).scores
        assert scores.argmin() == 4
        assert scores.argmax() in (0, 1)
    # With the median, a model that agrees with none does not lower the others' scores.
    with_odd = udr([*models[:1] * 3, odd], discrete_codes=kinds).scores
    without = udr(models[:1] * 3, discrete_codes=kinds).scores
    np.testing.assert_allclose(with_odd[:3], without)


def test_uninformative_codes_are_left_out() -> None:
    noise = np.random.default_rng(2)
    useless = [np.c_[FACTORS[:, 1], noise.normal(size=(N, 3))] for _ in range(3)]
    kinds = [False] * 4
    assert udr(useless, discrete_codes=kinds).scores.max() < 0.3
    first = [[True, False, False, False]] * 3
    assert udr(useless, discrete_codes=kinds, informative=first).scores.tolist() == pytest.approx([1] * 3)
    assert udr(useless, discrete_codes=kinds, informative=False).scores.tolist() == [0] * 3
    constant = [np.c_[FACTORS[:, 1], np.ones((N, 1))]] * 2
    for named in (False, True):
        assert udr(constant, discrete_codes=[False, named]).scores[0] == pytest.approx(0.5)


def test_a_single_model_has_no_score() -> None:
    assert np.isnan(udr([FACTORS]).scores).tolist() == [True]


def test_invalid_models() -> None:
    with pytest.raises(ValueError, match="expected at least one"):
        udr([])
    with pytest.raises(ValueError, match=r"the shapes \[\(15000, 3\), \(14999, 3\)\]"):
        udr([FACTORS, FACTORS[1:]])
    with pytest.raises(UserError, match="codes of model 1 has values that are not finite in column 2"):
        udr([FACTORS, FACTORS * [1, 1, np.inf]])
