"""The mutual information gap (MIG)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from infogan_fast.analysis.gaps import GapScore, gap_score
from infogan_fast.analysis.tables import (
    BINS,
    FIT_ROWS,
    Floats,
    Ints,
    as_tables,
    discrete_columns,
    discretised,
    mutual_information,
    random_rows,
    require_variation,
)


def mig(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    discrete_codes: Sequence[bool] | None = None,
    discrete_factors: Sequence[bool] | None = None,
    bins: int = BINS,
    samples: int = FIT_ROWS,
    bootstrap: int = 0,
    seed: int = 0,
) -> GapScore:
    """Mutual information gap (Chen et al. 2018, arXiv 1802.04942, section 4), in [0, 1].

    A factor's gap is the difference between its two largest mutual informations with a code dimension,
    divided by the factor's entropy. Continuous columns are cut into ``bins`` equal parts of their range.

    Args:
        codes: [N, D].
        factors: [N, m].
        samples: rows to use, drawn from the N.
        bootstrap: how many samples of these rows, with replacement, to score as well.

    Errors and discrete columns: see :mod:`infogan_fast.analysis.tables`.
    """
    codes, factors = as_tables(codes, factors)
    rows = random_rows(len(codes), samples, seed)
    binned_codes = discretised(codes[rows], discrete_columns(codes, discrete_codes), bins)
    binned_factors = discretised(factors[rows], discrete_columns(factors, discrete_factors), bins)
    require_variation(binned_factors)
    information, entropy = _information(binned_codes, binned_factors)
    rng = np.random.default_rng(seed)
    scores = []
    for _ in range(bootstrap):
        drawn = rng.integers(samples, size=samples)
        table, scale = _information(binned_codes[drawn], binned_factors[drawn])
        scores.append(gap_score(table, np.where(scale > 0, scale, 1.0)).score)
    return gap_score(information, entropy, replicates=scores)


def _information(codes: Ints, factors: Ints) -> tuple[Floats, Floats]:
    """Mutual information [D, m] of each pair of columns, and the entropy of each factor [m]."""
    information = np.array([[mutual_information(c, f) for f in factors.T] for c in codes.T])
    return information, np.array([mutual_information(f, f) for f in factors.T])
