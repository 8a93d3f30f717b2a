"""Tables of codes and factors: validation, sampling of rows, discretisation and mutual information.

``codes`` is a representation [N, D] with one row per image, for example what Q reads. ``factors`` [N, m] are
the values that the images were drawn from. Both are numeric and converted to float64. The values of a
discrete column are names: only whether two are equal counts. By default, columns that hold only whole numbers
are discrete; ``discrete_codes`` and ``discrete_factors`` override this with one bool per column.

Scores of finite samples are biased, and the bias depends on the sample size. The defaults are the sizes that
published figures use: those of the papers or, where a paper gives none, those of Locatello et al. 2019
(arXiv 1811.12359, appendix). Too few rows are an error.

Every metric is deterministic: its random choices follow from ``seed``. Metrics raise UserError for tables
that are empty, not finite or too short, and for constant factors (rank correlations are 0 there), and
ValueError for shapes that do not match.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogan_fast.errors import UserError

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Intervals that the range of a continuous column is cut into.
BINS = 20
#: Values up to which whole numbers count as names where an encoding has a column for each.
_FEW = 256
#: Rows that published scores are fitted and tested on.
FIT_ROWS, TEST_ROWS = 10_000, 5_000


def as_table(name: str, values: ArrayLike) -> Floats:
    """The values as a float64 table [N, D].

    Raises:
        UserError: the table is empty or not finite.
        ValueError: the values do not have two axes.
    """
    table = np.asarray(values)
    if table.ndim != 2:
        raise ValueError(f"{name} has the shape {table.shape}; expected two axes, with one row per image")
    if not table.size:
        raise UserError(f"{name} is {table.shape[0]} x {table.shape[1]}, which is empty")
    table = table.astype(np.float64)
    if not np.isfinite(table).all():
        column = int(np.flatnonzero(~np.isfinite(table).all(0))[0])
        raise UserError(f"{name} has values that are not finite in column {column}; leave those rows out")
    return table


def as_tables(codes: ArrayLike, factors: ArrayLike) -> tuple[Floats, Floats]:
    """Codes [N, D] and factors [N, m] as :func:`as_table`, with equally many rows."""
    codes, factors = as_table("codes", codes), as_table("factors", factors)
    if len(codes) != len(factors):
        raise ValueError(f"codes has {len(codes)} rows and factors {len(factors)}; expected equally many")
    return codes, factors


def random_rows(count: int, wanted: int, seed: int) -> Ints:
    """``wanted`` of ``count`` row numbers in random order, because data sets may be sorted.

    Raises:
        UserError: there are too few rows.
    """
    if count < wanted:
        raise UserError(
            f"there are {count} rows, {wanted} are needed; give more, or ask for fewer samples "
            "(scores from other sample sizes are not comparable)"
        )
    return np.random.default_rng(seed).permutation(count)[:wanted]


def discrete_columns(table: Floats, given: Sequence[bool] | None) -> Bools:
    """Which columns are discrete: as given or, by default, those that hold only whole numbers."""
    if given is None:
        return (table == np.round(table)).all(0)
    if len(given) != table.shape[1]:
        raise ValueError(f"{len(given)} columns are marked as discrete or not; there are {table.shape[1]}")
    return np.array(given, bool)


def few_values(table: Floats, given: Sequence[bool] | None) -> Bools:
    """As :func:`discrete_columns`; by default, those with at most 256 whole numbers."""
    discrete = discrete_columns(table, given)
    if given is None:
        for j in np.flatnonzero(discrete):
            discrete[j] = len(np.unique(table[:, j])) <= _FEW
    return discrete


def constant_columns(table: Floats) -> Bools:
    """Which columns vary by no more than a few rounding errors of the precision that their values have:
    float32 where all are float32 numbers, else float64."""
    with np.errstate(over="ignore"):
        narrow = (table.astype(np.float32) == table).all(0)
    rounding = np.where(narrow, np.finfo(np.float32).eps, np.finfo(np.float64).eps)
    return np.ptp(table, axis=0) <= 8 * rounding * np.abs(table).max(0)


def require_variation(factors: NDArray[Any]) -> None:
    """Raise UserError if a factor has the same value in all rows."""
    if constant := np.flatnonzero(np.ptp(factors, axis=0) == 0).tolist():
        raise UserError(f"factor {constant[0]} has the same value in all rows; leave it out of the factors")


def standardised(table: Floats, reference: Floats) -> Floats:
    """The table, shifted and scaled so that the reference has mean 0 and variance 1.

    Columns that are constant in the reference are only shifted.
    """
    scale = np.where(constant_columns(reference), 1.0, reference.std(0))
    return (table - reference.mean(0)) / scale


def discretised(table: Floats, discrete: Bools, bins: int) -> Ints:
    """Each column as numbers from 0: the values of a discrete one, the bins of a continuous one."""
    result = np.empty(table.shape, np.int64)
    for j, column in enumerate(table.T):
        if discrete[j]:
            result[:, j] = np.unique(column, return_inverse=True)[1]
        else:
            edges = np.linspace(column.min(), column.max(), bins + 1)[1:-1]
            result[:, j] = np.searchsorted(edges, column, side="right")
    return result


def mutual_information(a: Ints, b: Ints) -> float:
    """Mutual information of the empirical distribution of two columns [N] of numbers from 0, in nats."""
    # Only pairs that occur are counted: a table of all would not fit where both have many values.
    pairs, counts = np.unique(a * (b.max() + 1) + b, return_counts=True)
    first, second = np.divmod(pairs, b.max() + 1)
    independent = np.bincount(a)[first] * (np.bincount(b)[second] / len(a))
    return max(0.0, float((counts / len(a) * np.log(counts / independent)).sum()))
