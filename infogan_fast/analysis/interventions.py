"""Groups of representations that share the value of one factor, for the metrics that intervene on factors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infogan_fast.analysis.tables import (
    BINS,
    Bools,
    Floats,
    Ints,
    as_table,
    as_tables,
    constant_columns,
    discrete_columns,
    discretised,
    require_variation,
)
from infogan_fast.errors import UserError

Sampler = Callable[[int | None, np.random.Generator, int, int], Floats]
"""``sample(fixed_factor, rng, groups, size)`` returns representations [groups, size, D].

The images of a group share one random value of the fixed factor, drawn separately for each group, and are
random otherwise. With None, no factor is fixed. See :func:`table_sampler`.
"""

_CHUNK = 8192  # representations per call of a Sampler, which bounds the memory of its images


def table_sampler(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    discrete_factors: Sequence[bool] | None = None,
    bins: int = BINS,
    names: Sequence[str] = (),
) -> Sampler:
    """A Sampler that draws rows of codes [N, D] with known factors [N, m], each row once in a group.

    The rows of a group have the same value of a discrete factor, or fall into the same of ``bins`` equal
    parts of a continuous factor's range. A value is as likely as it is frequent, among those that have enough
    rows for a group. The sampler raises UserError for a factor without two such values, and calls it by its
    name if ``names`` are given.
    """
    codes, factors = as_tables(codes, factors)
    values = discretised(factors, discrete_columns(factors, discrete_factors), bins)
    require_variation(values)
    order = np.argsort(values, axis=0, kind="stable")
    counts = [np.bincount(column) for column in values.T]

    def sample(fixed_factor: int | None, rng: np.random.Generator, groups: int, size: int) -> Floats:
        if fixed_factor is None:
            enough = min(size, len(codes))
            return codes[_distinct(rng, np.full(groups, len(codes)), enough)]
        count = counts[fixed_factor]
        able = np.flatnonzero(count >= size)
        if len(able) < 2:
            called = names[fixed_factor] if names else fixed_factor
            raise UserError(
                f"there are {len(codes):,} rows, and factor {called} has {len(able)} values with "
                f"{size} of them, where 2 are needed; give more rows"
            )
        value = rng.choice(able, size=groups, p=count[able] / count[able].sum())
        first = np.cumsum(count) - count
        picked = _distinct(rng, count[value], size) + first[value][:, None]
        return codes[order[picked, fixed_factor]]

    return sample


def table_samplers(
    codes: ArrayLike, factors: ArrayLike, *, train: float = 2 / 3, seed: int = 0, **options: Any
) -> tuple[Sampler, Sampler]:
    """Two samplers as :func:`table_sampler`, of which none draws a row of the other's.

    Args:
        train: share of the rows, chosen at random, that the first one draws from.
        seed: of that choice.
        options: of :func:`table_sampler`.
    """
    codes, factors = as_tables(codes, factors)
    rows = np.random.default_rng(seed).permutation(len(codes))
    parts = np.split(rows, [max(1, min(len(rows) - 1, round(train * len(rows))))])
    first, second = (table_sampler(codes[part], factors[part], **options) for part in parts)
    return first, second


def _distinct(rng: np.random.Generator, counts: Ints, size: int) -> Ints:
    """For each count [groups], ``size`` different numbers from 0 to count - 1, [groups, size]."""
    if size == 2:
        first = rng.integers(counts)
        second = rng.integers(counts - 1)
        return np.stack([first, second + (second >= first)], 1)
    result = np.empty((len(counts), size), np.int64)
    for i, count in enumerate(counts):
        result[i] = rng.permutation(count)[:size]
    return result


def require_factors(count: int) -> None:
    """Raise UserError if there are fewer than two factors to distinguish."""
    if count < 2:
        raise UserError(f"there are {count} factors to distinguish; give 2 or more")


def unconditional(
    sample: Sampler, rng: np.random.Generator, count: int, discrete: Sequence[bool] | None
) -> tuple[Floats, Bools, Bools]:
    """Representations [count, D] with no factor fixed; which dimensions are discrete; which vary."""
    parts = [sample(None, rng, 1, min(_CHUNK, count - start))[0] for start in range(0, count, _CHUNK)]
    codes = as_table("the representation", np.concatenate(parts))
    return codes, discrete_columns(codes, discrete), ~constant_columns(codes)


def interventions(
    sample: Sampler, rng: np.random.Generator, n_factors: int, count: int, groups: int, size: int
) -> Iterator[tuple[int, Floats]]:
    """``count`` points, each of which fixes a random factor, in chunks of points that fix the same factor.

    Yields:
        The factor, and codes [points, groups, size, D] with one value of the factor per group.

    Raises:
        UserError: a representation is not finite.
    """
    for factor, wanted in enumerate(np.bincount(rng.integers(n_factors, size=count), minlength=n_factors)):
        step = max(1, _CHUNK // (groups * size))
        for start in range(0, int(wanted), step):
            points = min(step, int(wanted) - start)
            codes = sample(factor, rng, points * groups, size)
            if not np.isfinite(codes).all():
                raise UserError(f"the representation is not finite for some image with factor {factor} fixed")
            yield factor, codes.reshape(points, groups, size, -1)
