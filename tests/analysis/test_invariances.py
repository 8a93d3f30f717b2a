"""What changes no score: names of categories, the order of codes and factors, affine maps, dead codes; and
what few rows and unequal numbers of values do to the matching of unrelated ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from analysis.encoders import Array

from infogan_fast.analysis.beta_vae import beta_vae_score
from infogan_fast.analysis.clusters import match_clusters
from infogan_fast.analysis.correlations import rank_correlations
from infogan_fast.analysis.dci import dci
from infogan_fast.analysis.factor_vae import factor_vae_score
from infogan_fast.analysis.interventions import table_samplers
from infogan_fast.analysis.mig import mig
from infogan_fast.analysis.sap import sap

N = 6000
#: The first code and the first factor are names.
DISCRETE = (True, False, False)


def tables(seed: int = 0) -> tuple[Array, Array]:
    """A noisy encoder [N, 3] of a factor with 7 values and two continuous ones [N, 3]."""
    rng = np.random.default_rng(seed)
    kind, u, v = rng.integers(7, size=N), *rng.uniform(-1, 1, (2, N))
    shown = np.where(rng.uniform(size=N) < 0.8, kind, rng.integers(7, size=N))
    codes = np.c_[shown, u + 0.3 * rng.normal(size=N), 0.7 * v + 0.3 * u + 0.1 * rng.normal(size=N)]
    return codes, np.c_[kind, u, v]


def _interventions(score: Callable[..., Any], codes: Array, factors: Array, kinds: Any, of: Any) -> float:
    first, second = table_samplers(codes, factors, discrete_factors=list(of))
    options = {"batch": 20} if score is factor_vae_score else {"pairs": 16}
    found = score(
        first,
        factors.shape[1],
        test_sample=second,
        discrete_codes=list(kinds),
        train=1500,
        test=1500,
        **options,
    )
    return float(found.score)


Score = Callable[[Array, Array, Any, Any], float]
SPLIT: dict[str, Any] = {"train": 4000, "test": 2000}
SCORES: dict[str, Score] = {
    "mig": lambda c, f, kinds, of: mig(c, f, samples=N, discrete_codes=kinds, discrete_factors=of).score,
    "sap": lambda c, f, kinds, of: sap(c, f, discrete_codes=kinds, discrete_factors=of, **SPLIT).score,
    "disentanglement": lambda c, f, kinds, of: (
        dci(c, f, discrete_codes=kinds, discrete_factors=of, **SPLIT).disentanglement
    ),
    "informativeness": lambda c, f, kinds, of: (
        dci(c, f, discrete_codes=kinds, discrete_factors=of, **SPLIT).informativeness
    ),
    "factor_vae": lambda c, f, kinds, of: _interventions(factor_vae_score, c, f, kinds, of),
    "beta_vae": lambda c, f, kinds, of: _interventions(beta_vae_score, c, f, kinds, of),
}
#: Scores that draw and fit anew may differ by as much.
TOLERANCE = {
    "disentanglement": 0.01,
    "informativeness": 0.01,
    "factor_vae": 0.03,
    "beta_vae": 0.03,
    "sap": 1e-3,
}


@pytest.fixture(scope="module")
def before() -> dict[str, float]:
    codes, factors = tables()
    return {name: score(codes, factors, DISCRETE, DISCRETE) for name, score in SCORES.items()}


def renamed() -> tuple[Array, Array, Any, Any]:
    codes, factors = tables()
    names = np.array([40.0, -3, 12, 0.5, 7, 1e6, 2])
    codes[:, 0], factors[:, 0] = names[codes[:, 0].astype(int)], names[::-1][factors[:, 0].astype(int)]
    return codes, factors, DISCRETE, DISCRETE


def permuted() -> tuple[Array, Array, Any, Any]:
    codes, factors = tables()
    return codes[:, [2, 0, 1]], factors[:, [1, 2, 0]], (False, True, False), (False, False, True)


def mapped() -> tuple[Array, Array, Any, Any]:
    codes, factors = tables()
    moved = codes * [1, -1e-3, 1e4] + [0, 5, -1e7]
    return moved, factors * [1, 3, -0.1] + [0, 100, 1], DISCRETE, DISCRETE


def with_dead_codes() -> tuple[Array, Array, Any, Any]:
    codes, factors = tables()
    dead = np.c_[np.zeros(N), np.full(N, 0.1), np.full(N, 3.0)]
    return np.c_[codes, dead], factors, (*DISCRETE, False, False, True), DISCRETE


@pytest.mark.parametrize("change", [renamed, permuted, mapped, with_dead_codes])
@pytest.mark.parametrize("name", SCORES)
def test_what_changes_no_score(
    name: str, change: Callable[[], tuple[Array, Array, Any, Any]], before: dict[str, float]
) -> None:
    assert SCORES[name](*change()) == pytest.approx(before[name], abs=TOLERANCE.get(name, 1e-9))


def test_what_changes_no_correlation() -> None:
    codes, factors = tables()
    plain = rank_correlations(codes[:, 1:], factors[:, 1:])
    moved = rank_correlations(codes[:, 1:] * [-2, 1e4] + [1e6, -1], factors[:, 1:])
    np.testing.assert_allclose(moved, plain * [[-1], [1]], atol=1e-9)


@pytest.mark.parametrize(("categories", "labels"), [(10, 10), (3, 10), (10, 3)])
@pytest.mark.parametrize("rows", [100, 5000])
def test_clusters_by_chance(categories: int, labels: int, rows: int) -> None:
    """Matching takes the best of all: unrelated values agree in more than one of ``labels``, with few rows in
    many more. ARI is about 0 for all of them."""
    rng = np.random.default_rng(rows)
    found = [
        match_clusters(rng.integers(categories, size=rows), rng.integers(labels, size=rows))
        for _ in range(20)
    ]
    accuracy = np.mean([each.accuracy for each in found])
    matched = min(categories, labels)
    assert (
        matched / (categories * labels) < accuracy < (1.25 if rows == 5000 else 3) / max(categories, labels)
    )
    assert abs(np.mean([each.ari for each in found])) < 0.01
    assert np.mean([each.nmi for each in found]) < (0.005 if rows == 5000 else 0.25)
    for each in found:
        renamed = match_clusters([9 - row for row in np.repeat([0, 1], 3)], [5, 5, 5, 2, 2, 2])
        assert (renamed.accuracy, renamed.nmi, renamed.ari) == (1, 1, 1)
        assert each.nmi <= 1
