"""Disentanglement, completeness and informativeness (DCI)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from infogan_fast.analysis.tables import (
    FIT_ROWS,
    TEST_ROWS,
    Floats,
    as_tables,
    discrete_columns,
    random_rows,
    require_variation,
)


@dataclass(frozen=True, eq=False)
class DciScore:
    """See :func:`dci`."""

    disentanglement: float
    completeness: float
    informativeness: float
    importance: Floats
    """Relative importance of each dimension for each factor, [D, m]."""
    error: Floats
    """Error on the test rows relative to guessing, [m]: 0 is perfect."""


def dci(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    discrete_factors: Sequence[bool] | None = None,
    train: int = FIT_ROWS,
    test: int = TEST_ROWS,
    seed: int = 0,
) -> DciScore:
    """Disentanglement, completeness and informativeness (Eastwood and Williams 2018, section 2).

    A random forest predicts each factor from all dimensions; of the paper's two predictors, this is the one
    that also sees non-linear relations. It has ten trees, and a fifth of the training rows, held out, selects
    their depth. Every split may use every dimension: with the usual random subset, the forest would use
    dimensions that tell it nothing.

    Disentanglement, in [0, 1], is one minus the entropy of a dimension's importance over factors, in units of
    log m, averaged over dimensions with their importance as weights. Completeness, in [0, 1], is one minus
    the entropy of a factor's importance over dimensions, in units of log D, averaged over factors. With a
    single factor or dimension the one or the other is 1; if no dimension tells anything, both are 0.
    Informativeness is one minus the mean error: 0 is as good as guessing, and it may be slightly negative.
    The error of a continuous factor is the root mean squared error divided by that of predicting the training
    mean, as in the paper; that of a discrete factor is the share of wrong answers divided by that of
    predicting the most frequent class.

    A forest finds some dimension important even for a factor that no dimension tells about, so read the first
    two scores together with the third.

    Args:
        codes: [N, D].
        factors: [N, m].
        train, test: rows to fit and to test on, drawn from the N.

    Errors and discrete columns: see :mod:`infogan_fast.analysis.tables`.
    """
    codes, factors = as_tables(codes, factors)
    discrete = discrete_columns(factors, discrete_factors)
    rows = random_rows(len(codes), train + test, seed)
    codes, factors = codes[rows], factors[rows]
    require_variation(factors[:train])
    importance = np.zeros((codes.shape[1], factors.shape[1]))
    error = np.empty(factors.shape[1])
    for j, is_discrete in enumerate(discrete):
        target = np.unique(factors[:, j], return_inverse=True)[1] if is_discrete else factors[:, j]
        importance[:, j], error[j] = _predict(codes, target, train, bool(is_discrete), seed)
    weights = importance.sum(1) / (importance.sum() or 1.0)
    return DciScore(
        float(weights @ _concentration(importance)),
        float(_concentration(importance.T).mean()),
        float(1 - error.mean()),
        importance,
        error,
    )


def _predict(
    codes: Floats, target: NDArray[Any], train: int, discrete: bool, seed: int
) -> tuple[Floats, float]:
    """Importance [D] of the dimensions for the target [N], and the relative error on the rows from ``train``
    on.
    """
    forest = RandomForestClassifier if discrete else RandomForestRegressor

    def fit(depth: int, rows: int) -> Any:
        # The same seed for all targets, so that ties between dimensions break the same way.
        model = forest(n_estimators=10, max_depth=depth, max_features=None, random_state=seed)
        return model.fit(codes[:rows], target[:rows])

    held_out = max(1, train // 5)
    validation = slice(train - held_out, train)
    scores = {
        depth: fit(depth, train - held_out).score(codes[validation], target[validation])
        for depth in (2, 4, 8, 16)
    }
    model = fit(max(scores, key=lambda depth: scores[depth]), train)
    error = _error(model.predict(codes[train:]), target[train:], discrete)
    guess = np.bincount(target[:train]).argmax() if discrete else target[:train].mean()
    guessing = _error(np.broadcast_to(guess, target[train:].shape), target[train:], discrete)
    return model.feature_importances_, error / guessing if guessing else error


def _error(answer: NDArray[Any], target: NDArray[Any], discrete: bool) -> float:
    if discrete:
        return float(np.mean(answer != target))
    return math.sqrt(np.mean((answer - target) ** 2))


def _concentration(importance: Floats) -> Floats:
    """One minus the entropy of each row, relative to the largest possible entropy; 0 for a row of zeros."""
    total = importance.sum(1, keepdims=True)
    share = np.divide(importance, total, out=np.zeros_like(importance), where=total > 0)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(1)
    return np.where(total[:, 0] > 0, 1 - entropy / math.log(max(2, importance.shape[1])), 0.0)
