"""The separated attribute predictability score (SAP)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.multiclass import OneVsOneClassifier
from sklearn.svm import LinearSVC

from infogan_fast.analysis.correlations import correlations
from infogan_fast.analysis.gaps import GapScore, gap_score
from infogan_fast.analysis.tables import (
    FIT_ROWS,
    TEST_ROWS,
    Floats,
    Ints,
    as_tables,
    constant_columns,
    discrete_columns,
    random_rows,
    require_variation,
    standardised,
)


def sap(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    discrete_factors: Sequence[bool] | None = None,
    train: int = FIT_ROWS,
    test: int = TEST_ROWS,
    seed: int = 0,
) -> GapScore:
    """Separated attribute predictability (Kumar et al. 2018, arXiv 1711.00848, section 3), in [0, 1].

    A factor's gap is the difference between the two code dimensions that, each alone, predict it best. For a
    continuous factor, a dimension's score is the squared correlation. For a discrete one it is the balanced
    accuracy of linear SVMs on the test rows, one SVM per pair of classes: on a line these are thresholds, as
    in the paper, and they also separate classes in the middle. A constant dimension scores 0, and so does the
    second dimension if there is only one: compared with those, even an uninformative dimension is ahead by
    the accuracy of guessing.

    Args:
        codes: [N, D].
        factors: [N, m].
        train, test: rows that the SVMs are fitted and tested on, drawn from the N; correlations use both.

    Errors and discrete columns: see :mod:`infogan_fast.analysis.tables`.
    """
    codes, factors = as_tables(codes, factors)
    discrete = discrete_columns(factors, discrete_factors)
    rows = random_rows(len(codes), train + test, seed)
    codes, factors = codes[rows], factors[rows]
    require_variation(factors[:train])
    active = ~constant_columns(codes)
    codes = standardised(codes, codes[:train])
    table = correlations(codes, factors) ** 2
    table[~active] = 0
    for j in np.flatnonzero(discrete):
        classes = np.unique(factors[:, j], return_inverse=True)[1]
        for i in np.flatnonzero(active):
            table[i, j] = _balanced_accuracy(codes[:, i : i + 1], classes, train)
    return gap_score(table)


def _balanced_accuracy(code: Floats, classes: Ints, train: int) -> float:
    """Mean accuracy over classes [N] that a dimension [N, 1] predicts, on the rows from ``train`` on."""
    # With one feature, Newton's method on the primal problem takes a few steps.
    model = OneVsOneClassifier(LinearSVC(dual=False, class_weight="balanced"))
    model.fit(code[:train], classes[:train])
    tested = classes[train:]
    correct = model.predict(code[train:]) == tested
    return float(np.mean([correct[tested == name].mean() for name in np.unique(tested)]))
