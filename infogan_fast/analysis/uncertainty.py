"""How sure a score is, and what it would be by chance.

An interval is the score plus and minus 1.96 standard deviations of its bootstrap replicates, within the range
that the score can have (Efron and Tibshirani 1993, chapter 13). Percentiles of the replicates would not do:
scores that grow with repeated rows, such as mutual information, are larger in every one of them.

The chance level is the same score of the same codes in shuffled order, which tell nothing about the images
that they stand for. It is above 0 for scores that make a choice, such as the best matching of categories and
labels, the more so the fewer images there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from infogan_fast.analysis.tables import Ints

#: Bootstrap samples of scores that are counted, and of those that fit a model to each.
BOOTSTRAP, FITTED_BOOTSTRAP = 200, 20

_Value = TypeVar("_Value")


def interval(
    value: float | None, replicates: ArrayLike, low: float = 0.0, high: float = 1.0
) -> list[float] | None:
    """``[lower end, upper end]``, or None where there is no score or fewer than two replicates of it."""
    known = np.asarray(replicates, np.float64)
    known = known[np.isfinite(known)]
    if value is None or not math.isfinite(value) or len(known) < 2:
        return None
    margin = 1.96 * float(known.std(ddof=1))
    return [max(low, value - margin), min(high, value + margin)]


def resampled(
    score: Callable[[Ints], _Value], count: int, *, samples: int = BOOTSTRAP, seed: int = 0
) -> list[_Value]:
    """The score of so many samples of the row numbers 0 to count - 1, with replacement."""
    rng = np.random.default_rng(seed)
    return [score(rng.integers(count, size=count)) for _ in range(samples)]


def shuffled(count: int, seed: int = 0) -> Ints:
    """Row numbers 0 to count - 1 in random order."""
    return np.random.default_rng([seed, 1]).permutation(count)


def rho_by_chance(count: int, averaged: int = 1) -> float:
    """The mean of |rho| between ``count`` independent values, of means over so many rho.

    The standard deviation of one is 1 / sqrt(count - 1) (Kendall and Gibbons 1990, chapter 4).
    """
    return math.sqrt(2 / (math.pi * max(1, count - 1) * averaged))


def defined(value: float) -> float | None:
    """The value, or None in place of NaN, which JSON does not have."""
    return None if math.isnan(value) else value
