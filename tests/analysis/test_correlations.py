"""Rank correlations equal SciPy's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from analysis.encoders import ENCODERS, FACTORS, N
from scipy import stats

from infogan_fast.analysis.correlations import rank_correlations


def test_rank_correlations() -> None:
    codes = np.c_[ENCODERS["all turned"][:, :2], np.exp(-FACTORS[:, 2]), np.full(N, 2.0)]
    found = rank_correlations(codes, FACTORS)
    assert found.shape == (4, 3)
    for i, j in itertools.product(range(3), range(3)):
        assert found[i, j] == pytest.approx(stats.spearmanr(codes[:, i], FACTORS[:, j]).statistic)
    assert found[2, 2] == pytest.approx(-1) and (found[3] == 0).all()
