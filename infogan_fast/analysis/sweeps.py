"""How a measure of the images follows a code as the code is swept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from infogan_fast.analysis.tables import Floats
from infogan_fast.errors import UserError


@dataclass(frozen=True, eq=False)
class SweepCorrelations:
    """See :func:`sweep_correlations`."""

    mean: float
    """Mean of |rho| over categories, in [0, 1]; NaN if no category has a rho."""
    rho: dict[int, float]
    """By category: the mean rho of its sweeps, in [-1, 1]; NaN if none of them has one."""
    agreeing: int
    """Number of categories whose rho has the more frequent sign."""
    replicates: Floats
    """``mean`` of each bootstrap sample of the sweeps of each category, [B]."""


def sweep_correlations(
    values: ArrayLike, measure: ArrayLike, category: ArrayLike, *, bootstrap: int = 0, seed: int = 0
) -> SweepCorrelations:
    """Spearman's rho between a continuous code and a measure of the images, along sweeps of that code alone.

    A code with the same meaning everywhere has a high |rho| in every category, and the same sign. Within a
    category, the rho of sweeps are averaged with their signs, so that sweeps which disagree cancel. A sweep
    in which the code or the measure is constant has rho 0. Steps whose measure is NaN are left out, and so
    are sweeps with fewer than 3 other steps.

    Args:
        values: values of the code, [sweeps, steps].
        measure: measure of the image at each step, [sweeps, steps], for example
            :func:`infogan_fast.analysis.morphology.slant`.
        category: the category that a sweep holds fixed, int [sweeps].
        bootstrap, seed: how many samples of each category's sweeps to average as well.

    Raises:
        UserError: there are no sweeps, or a value of the code is not finite.
        ValueError: shapes do not match.
    """
    values, measure = np.asarray(values, np.float64), np.asarray(measure, np.float64)
    category = np.asarray(category)
    if values.ndim != 2 or values.shape != measure.shape or category.shape != values.shape[:1]:
        raise ValueError(
            f"values has the shape {values.shape}, measure {measure.shape}, category {category.shape}; "
            "expected [sweeps, steps] twice and [sweeps]"
        )
    if not len(values):
        raise UserError("there are no sweeps; give at least one")
    if not np.isfinite(values).all():
        raise UserError("values of the code are not finite")
    rhos = np.array([_spearman(v, m) for v, m in zip(values, measure, strict=True)])
    by_category: dict[int, float] = {}
    rng = np.random.default_rng(seed)
    drawn = []
    for name in np.unique(category):
        known = rhos[(category == name) & ~np.isnan(rhos)]
        by_category[int(name)] = float(known.mean()) if len(known) else np.nan
        if len(known):
            drawn.append(known[rng.integers(len(known), size=(bootstrap, len(known)))].mean(1))
    found = np.array([rho for rho in by_category.values() if not np.isnan(rho)])
    return SweepCorrelations(
        float(np.abs(found).mean()) if len(found) else np.nan,
        by_category,
        int(max((found > 0).sum(), (found < 0).sum())),
        np.abs(drawn).mean(0) if drawn else np.full(bootstrap, np.nan),
    )


def _spearman(values: Floats, measure: Floats) -> float:
    """Of one sweep [steps]; NaN with fewer than 3 steps that have a measure."""
    known = np.isfinite(measure)
    if known.sum() < 3:
        return np.nan
    a, b = (rankdata(v[known]) for v in (values, measure))
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale else 0.0
