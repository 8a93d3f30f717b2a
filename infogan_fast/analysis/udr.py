"""Unsupervised disentanglement ranking (UDR): how well the codes of several models agree."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata
from sklearn.metrics import normalized_mutual_info_score

from infogan_fast.analysis.correlations import correlation_ratio, correlations
from infogan_fast.analysis.tables import Floats, as_table, discrete_columns


@dataclass(frozen=True, eq=False)
class Ranking:
    """See :func:`udr`."""

    scores: Floats
    """[models], in [0, 1]; NaN if there is no other model to compare with."""
    pairs: Floats
    """[models, models], symmetric: how well two models agree code by code; NaN on the diagonal."""


def udr(
    codes: Sequence[ArrayLike], *, discrete_codes: Sequence[bool] | None = None, informative: ArrayLike = True
) -> Ranking:
    """Unsupervised disentanglement ranking (Duan et al. 2020, arXiv 1905.12614, section 4).

    The score of a model says how well the others have its codes too, one for one. It needs no labels or
    factors.

    Let R be the similarity of each code of one model with each code of another. A code's strength is its
    largest squared similarity divided by the sum of its similarities; the score of a pair is the mean
    strength of the codes of both. It is 1 if every code has exactly one partner, which it equals. A model's
    score is the median over its pairs.

    For two ordered codes, R is |Spearman's rho|, as in the paper, which has no discrete codes. For two
    discrete ones it is their normalised mutual information, as in
    :func:`infogan_fast.analysis.clusters.match_clusters`. For a discrete and an ordered one it is the
    correlation ratio of the ordered one's ranks: the square root of the share of their variance that lies
    between values of the discrete one.

    Args:
        codes: for each model what it reads from the same N images, [N, D].
        discrete_codes: which codes are discrete, the same for all models.
        informative: bool [models, D], or one for all. Codes that are not are left out, as in the paper, which
            does so below 0.01 nats.

    Raises:
        UserError: codes are empty or not finite.
        ValueError: there is no model, or shapes do not match.
    """
    tables = [as_table(f"codes of model {i}", table) for i, table in enumerate(codes)]
    if len({table.shape for table in tables}) != 1:
        shapes = [table.shape for table in tables]
        raise ValueError(f"codes has the shapes {shapes}; expected at least one, and all the same [N, D]")
    discrete = discrete_columns(np.concatenate(tables), discrete_codes)
    used = np.broadcast_to(np.asarray(informative, bool), (len(tables), len(discrete)))
    models = [
        [_Column(t if d else rankdata(t), bool(d)) for t, d in zip(table.T[use], discrete[use], strict=True)]
        for table, use in zip(tables, used, strict=True)
    ]
    pairs = np.full((len(models), len(models)), np.nan)
    for i, j in itertools.combinations(range(len(models)), 2):
        pairs[i, j] = pairs[j, i] = _agreement(models[i], models[j])
    others = [np.delete(row, i) for i, row in enumerate(pairs)]
    return Ranking(np.array([np.median(row) if len(row) else np.nan for row in others]), pairs)


@dataclass(frozen=True, eq=False)
class _Column:
    """A code's values [N]: ranks, unless it is discrete."""

    values: Floats
    discrete: bool


def _agreement(a: list[_Column], b: list[_Column]) -> float:
    """Mean strength of the codes of two models; 0 if neither has a code."""
    similarity = np.array([[_similarity(x, y) for y in b] for x in a]).reshape(len(a), len(b))
    strengths = []
    for table in (similarity, similarity.T):
        total = table.sum(1)
        best = table.max(1, initial=0.0)
        strengths.append(np.divide(best**2, total, out=np.zeros_like(total), where=total > 0))
    each = np.concatenate(strengths)
    return float(each.mean()) if len(each) else 0.0


def _similarity(a: _Column, b: _Column) -> float:
    """In [0, 1]; 0 if one of the codes is constant."""
    if a.discrete and b.discrete:
        varied = np.ptp(a.values) and np.ptp(b.values)
        return float(normalized_mutual_info_score(a.values, b.values)) if varied else 0.0
    if not (a.discrete or b.discrete):
        return abs(float(correlations(a.values[:, None], b.values[:, None])[0, 0]))
    names, ranks = (a.values, b.values) if a.discrete else (b.values, a.values)
    return math.sqrt(correlation_ratio(names, ranks))
