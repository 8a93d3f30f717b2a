"""Correlations between the columns of two tables."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from infogan_fast.analysis.tables import Floats, as_tables, constant_columns, standardised


def rank_correlations(codes: ArrayLike, factors: ArrayLike) -> Floats:
    """Spearman's rho [D, m] of each code with each factor, in [-1, 1]; 0 where one of them is constant."""
    codes, factors = as_tables(codes, factors)
    ranks = [rankdata(table, axis=0) for table in (codes, factors)]
    return correlations(ranks[0], ranks[1])


def correlations(a: Floats, b: Floats) -> Floats:
    """Pearson's r [columns of a, columns of b]; 0 where a column is constant."""
    a, b = (np.where(constant_columns(table), 0.0, standardised(table, table)) for table in (a, b))
    return np.clip(a.T @ b / len(a), -1.0, 1.0)


def correlation_ratio(names: Floats, values: Floats) -> float:
    """The squared correlation ratio of values [N] with a discrete column [N], in [0, 1]: the share of their
    variance that lies between its names (Fisher 1925, section 45). 0 where the values are constant.
    """
    groups = np.unique(names, return_inverse=True)[1]
    centred = values - values.mean()
    between = (np.bincount(groups, centred) ** 2 / np.bincount(groups)).sum()
    total = centred @ centred
    return min(1.0, float(between / total)) if total > 0 else 0.0
