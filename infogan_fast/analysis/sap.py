"""The separated attribute predictability score (SAP)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.multiclass import OneVsOneClassifier
from sklearn.svm import LinearSVC

from infogan_fast.analysis.correlations import correlation_ratio, correlations
from infogan_fast.analysis.gaps import GapScore, gap_score
from infogan_fast.analysis.tables import (
    FIT_ROWS,
    TEST_ROWS,
    Bools,
    Floats,
    Ints,
    as_tables,
    constant_columns,
    discrete_columns,
    few_values,
    random_rows,
    require_variation,
    standardised,
)


def sap(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    discrete_codes: Sequence[bool] | None = None,
    discrete_factors: Sequence[bool] | None = None,
    train: int = FIT_ROWS,
    test: int = TEST_ROWS,
    bootstrap: int = 0,
    seed: int = 0,
) -> GapScore:
    """Separated attribute predictability (Kumar et al. 2018, arXiv 1711.00848, section 3), in [0, 1].

    A factor's gap is the difference between the two code dimensions that, each alone, predict it best. For a
    continuous factor, a dimension's score is the squared correlation. For a discrete one it is the balanced
    accuracy of linear SVMs on the test rows, one SVM per pair of classes: on a line these are thresholds, as
    in the paper, and they also separate classes in the middle.

    The paper has no discrete dimensions, whose values are names: thresholds would depend on their order. Such
    a dimension answers, for each of its values, with the class that is most frequent among the training rows,
    relative to the class's size; for a continuous factor its score is the squared correlation ratio, the
    share of the variance that lies between its values.

    A constant dimension scores as guessing does, 0 or 1 / classes, and so does the second dimension if there
    is only one.

    Args:
        codes: [N, D].
        factors: [N, m].
        train, test: rows that predictors are fitted and tested on, drawn from the N; correlations use both.
        bootstrap: how many samples of the tested rows, with replacement, to score as well.

    Errors and discrete columns: see :mod:`infogan_fast.analysis.tables`; codes are discrete by default where
    they have at most 256 whole numbers.
    """
    codes, factors = as_tables(codes, factors)
    discrete = discrete_columns(factors, discrete_factors)
    named = few_values(codes, discrete_codes)
    rows = random_rows(len(codes), train + test, seed)
    codes, factors = codes[rows], factors[rows]
    require_variation(factors[:train])
    active = ~constant_columns(codes)
    values = standardised(codes, codes[:train])
    chance = np.zeros(factors.shape[1])
    answers: dict[tuple[int, int], tuple[Bools, Ints]] = {}
    for j in np.flatnonzero(discrete):
        classes = np.unique(factors[:, j], return_inverse=True)[1]
        chance[j] = 1 / len(np.unique(classes[train:]))
        for i in np.flatnonzero(active):
            predict = _by_value if named[i] else _by_thresholds
            right = predict(values[:, i : i + 1], classes[:train]) == classes
            answers[int(i), int(j)] = right[train:], classes[train:]

    def table(chosen: Ints, tested: Ints) -> Floats:
        """The scores [D, m] on these rows and these tested ones."""
        result = correlations(values[chosen], factors[chosen]) ** 2
        for i in np.flatnonzero(named & active):
            for j in np.flatnonzero(~discrete):
                result[i, j] = correlation_ratio(values[chosen, i], factors[chosen, j])
        result[~active] = 0
        result[:, discrete] = chance[discrete]
        for place, (right, classes) in answers.items():
            result[place] = _balanced(right[tested], classes[tested])
        return result

    everything = table(np.arange(train + test), np.arange(test))
    rng = np.random.default_rng(seed)
    scores = []
    for _ in range(bootstrap):
        drawn = table(rng.integers(train + test, size=train + test), rng.integers(test, size=test))
        scores.append(gap_score(drawn, chance=chance).score)
    return gap_score(everything, chance=chance, replicates=scores)


def _by_thresholds(code: Floats, classes: Ints) -> Ints:
    """The class of each row [N] by a dimension [N, 1], learned from the first rows, those with classes."""
    # With one feature, Newton's method on the primal problem takes a few steps.
    model = OneVsOneClassifier(LinearSVC(dual=False, class_weight="balanced"))
    answer: Ints = model.fit(code[: len(classes)], classes).predict(code)
    return answer


def _by_value(code: Floats, classes: Ints) -> Ints:
    """As :func:`_by_thresholds`, by the values of a discrete dimension."""
    names = np.unique(code[:, 0], return_inverse=True)[1]
    counts = np.zeros((names.max() + 1, classes.max() + 1))
    np.add.at(counts, (names[: len(classes)], classes), 1)
    # Values that the training rows lack get the first class, which is as good as any.
    answer: Ints = (counts / np.maximum(counts.sum(0), 1)).argmax(1)[names]
    return answer


def _balanced(right: Bools, classes: Ints) -> float:
    """Mean over classes of the share of right answers."""
    total = np.bincount(classes)
    return float((np.bincount(classes, right)[total > 0] / total[total > 0]).mean())
