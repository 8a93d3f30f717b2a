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
    Bools,
    Floats,
    Ints,
    as_tables,
    constant_columns,
    discrete_columns,
    few_values,
    random_rows,
    require_variation,
)

_DEPTHS = (2, 4, 8, 16)


@dataclass(frozen=True, eq=False)
class DciScore:
    """See :func:`dci`."""

    disentanglement: float
    completeness: float
    informativeness: float
    importance: Floats
    """Relative importance of each dimension for each factor, [D, m]."""
    error: Floats
    """Error on the test rows relative to guessing, [m]: 0 is perfect; NaN where guessing makes none there."""
    replicates: Floats
    """Disentanglement, completeness and informativeness of each bootstrap sample of the rows, [B, 3]."""


def dci(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    discrete_codes: Sequence[bool] | None = None,
    discrete_factors: Sequence[bool] | None = None,
    train: int = FIT_ROWS,
    test: int = TEST_ROWS,
    bootstrap: int = 0,
    seed: int = 0,
) -> DciScore:
    """Disentanglement, completeness and informativeness (Eastwood and Williams 2018, section 2).

    A random forest predicts each factor from all dimensions; of the paper's two predictors, this is the one
    that also sees non-linear relations. It has ten trees, and a fifth of the training rows, held out, selects
    their depth: by the squared error, for a discrete factor that of the classes' probabilities (Brier 1950).
    Accuracy would not do, since it is the same for trees that are right and trees that follow noise where a
    dimension tells only a part of the factor. Every split may use every dimension: with the usual random
    subset, the forest would use dimensions that tell it nothing. A discrete dimension, whose values are
    names, enters as an indicator for each value, whose importances are added.

    Disentanglement, in [0, 1], is one minus the entropy of a dimension's importance over factors, in units of
    log m, averaged over dimensions with their importance as weights. Completeness, in [0, 1], is one minus
    the entropy of a factor's importance over dimensions, in units of log D, averaged over factors. With a
    single factor or dimension the one or the other is 1; if no dimension tells anything, both are 0.
    Informativeness is one minus the mean error: 0 is as good as guessing, and it may be slightly negative.
    The error of a continuous factor is the root mean squared error divided by that of predicting the training
    mean, as in the paper; that of a discrete factor is the share of wrong answers divided by that of
    predicting the most frequent class. A factor that guessing makes no error about, because the test rows
    have a single class, is left out of the mean; without any other, informativeness is NaN.

    A forest finds some dimension important even for a factor that no dimension tells about, so read the first
    two scores together with the third.

    Args:
        codes: [N, D].
        factors: [N, m].
        train, test: rows to fit and to test on, drawn from the N.
        bootstrap: how many samples of the rows, with replacement, to fit and test on as well, with the depths
            that were found.

    Errors and discrete columns: see :mod:`infogan_fast.analysis.tables`; codes are discrete by default where
    they have at most 256 whole numbers.
    """
    codes, factors = as_tables(codes, factors)
    discrete = discrete_columns(factors, discrete_factors)
    named = few_values(codes, discrete_codes)
    rows = random_rows(len(codes), train + test, seed)
    codes, factors = codes[rows], factors[rows]
    require_variation(factors[:train])
    inputs, dimension = _encoded(codes, named)
    targets = [
        _Target(np.unique(column, return_inverse=True)[1] if is_discrete else column, bool(is_discrete))
        for column, is_discrete in zip(factors.T, discrete, strict=True)
    ]
    depths = [target.best_depth(inputs[:train], seed) for target in targets]

    def measured(fitted: Ints, tested: Ints) -> tuple[Floats, Floats]:
        """Importance [D, m] and error [m] of forests fitted and tested on these rows."""
        importance, error = np.zeros((codes.shape[1], len(targets))), np.empty(len(targets))
        for j, (target, depth) in enumerate(zip(targets, depths, strict=True)):
            model = target.fit(inputs, fitted, depth, seed)
            np.add.at(importance[:, j], dimension, model.feature_importances_)
            error[j] = target.error(model, inputs, fitted, tested)
        return importance, error

    importance, error = measured(np.arange(train), np.arange(train, train + test))
    rng = np.random.default_rng(seed)
    replicates = np.empty((bootstrap, 3))
    for k in range(bootstrap):
        fitted, tested = rng.integers(train, size=train), train + rng.integers(test, size=test)
        replicates[k] = _scores(*measured(fitted, tested))
    return DciScore(*_scores(importance, error), importance, error, replicates)


def _scores(importance: Floats, error: Floats) -> tuple[float, float, float]:
    """Disentanglement, completeness and informativeness."""
    weights = importance.sum(1) / (importance.sum() or 1.0)
    known = error[~np.isnan(error)]
    return (
        float(weights @ _concentration(importance)),
        float(_concentration(importance.T).mean()),
        float(1 - known.mean()) if len(known) else math.nan,
    )


def _encoded(codes: Floats, named: Bools) -> tuple[NDArray[np.float32], Ints]:
    """The forests' inputs [N, columns], in the precision that they compute in, and the dimension of each."""
    columns, dimension = [], []
    for i, code in enumerate(np.where(constant_columns(codes), 0.0, codes).T):
        # Trees see the order of values alone. Numbered, a large offset costs nothing in float32.
        part = np.unique(code, return_inverse=True)[1][:, None]
        if named[i] and part.max() > 1:  # one indicator of two values would tell the other one, too
            part = part == np.arange(part.max() + 1)
        columns.append(part.astype(np.float32))
        dimension += [i] * part.shape[1]
    return np.hstack(columns), np.array(dimension)


@dataclass(frozen=True, eq=False)
class _Target:
    """A factor to predict: class numbers or values, [N]."""

    values: NDArray[Any]
    discrete: bool

    def fit(self, inputs: NDArray[np.float32], rows: Ints, depth: int, seed: int) -> Any:
        forest = RandomForestClassifier if self.discrete else RandomForestRegressor
        # The same seed for all targets, so that ties between dimensions break the same way.
        model = forest(n_estimators=10, max_depth=depth, max_features=None, random_state=seed)
        return model.fit(inputs[rows], self.values[rows])

    def best_depth(self, inputs: NDArray[np.float32], seed: int) -> int:
        """The depth with the least squared error on the last fifth of the inputs, fitted on the others."""
        train = len(inputs)
        fitted, validation = np.split(np.arange(train), [train - max(1, train // 5)])
        truth = self.values[validation]
        losses = {}
        for depth in _DEPTHS:
            model = self.fit(inputs, fitted, depth, seed)
            if self.discrete:
                wrong = -model.predict_proba(inputs[validation])
                known = np.isin(truth, model.classes_)
                wrong[known, np.searchsorted(model.classes_, truth[known])] += 1
                losses[depth] = float((wrong**2).sum(1).mean())
            else:
                losses[depth] = float(((model.predict(inputs[validation]) - truth) ** 2).mean())
        return min(losses, key=lambda depth: losses[depth])

    def error(self, model: Any, inputs: NDArray[np.float32], fitted: Ints, tested: Ints) -> float:
        """The error on the tested rows relative to that of guessing; NaN if guessing makes none."""
        truth = self.values[tested]
        guess = np.bincount(self.values[fitted]).argmax() if self.discrete else self.values[fitted].mean()
        guessing = _error(np.broadcast_to(guess, truth.shape), truth, self.discrete)
        return (
            _error(model.predict(inputs[tested]), truth, self.discrete) / guessing if guessing else math.nan
        )


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
