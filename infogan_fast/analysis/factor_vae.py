"""The FactorVAE metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infogan_fast.analysis.interventions import Sampler, interventions, require_factors, unconditional
from infogan_fast.analysis.tables import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class FactorVaeScore:
    """See :func:`factor_vae_score`."""

    score: float
    votes: Ints
    """Training votes [D, m]: how often a dimension varied least while a factor was fixed."""
    replicates: Floats
    """The score of each bootstrap sample of the test votes, [B]."""


def factor_vae_score(
    sample: Sampler,
    n_factors: int,
    *,
    test_sample: Sampler | None = None,
    discrete_codes: Sequence[bool] | None = None,
    batch: int = 100,
    train: int = 800,
    test: int = 5_000,
    survey: int = 10_000,
    bootstrap: int = 0,
    seed: int = 0,
) -> FactorVaeScore:
    """The FactorVAE metric (Kim and Mnih 2018, arXiv 1802.05983, section 4), in [0, 1].

    A vote fixes one random factor in a batch of images and names the dimension with the lowest variance,
    relative to its variance with no factor fixed. A majority-vote classifier maps each dimension to the
    factor that most of its training votes fixed; the score is its accuracy on the test votes, and chance is
    about 1 / m. The variance of a discrete dimension is Gini's, as in the paper: half the share of pairs that
    differ. Constant dimensions are ignored; if all are constant the score is 0.

    Args:
        sample: returns the representations, with D dimensions.
        test_sample: those of the test votes; by default the same. Of a table, other rows: see
            :func:`infogan_fast.analysis.interventions.table_samplers`.
        n_factors: m, at least 2.
        batch: images per vote.
        train: votes that define the classifier.
        test: further votes that score it.
        survey: images for the variances with no factor fixed.
        bootstrap: how many samples of the test votes, with replacement, to score as well.

    Raises:
        UserError: there are fewer than 2 factors, or a representation is not finite.
        ValueError: batch is less than 2.
    """
    require_factors(n_factors)
    if batch < 2:
        raise ValueError(f"batch is {batch}; a variance needs 2 or more")
    rng = np.random.default_rng(seed)
    codes, discrete, active = unconditional(sample, rng, survey, discrete_codes)
    if not active.any():
        return FactorVaeScore(0.0, np.zeros((len(active), n_factors), np.int64), np.zeros(bootstrap))
    total = _variances(codes[None], discrete)[0]
    votes = []
    for count, source in ((train, sample), (test, test_sample or sample)):
        table = np.zeros((len(active), n_factors), np.int64)
        for factor, groups in interventions(source, rng, n_factors, count, 1, batch):
            variances = _variances(groups[:, 0], discrete)
            relative = np.full(variances.shape, np.inf)
            np.divide(variances, total, out=relative, where=active)
            np.add.at(table[:, factor], relative.argmin(1), 1)
        votes.append(table)
    answer = votes[0].argmax(1)
    score = float(votes[1][np.arange(len(answer)), answer].sum() / test)
    return FactorVaeScore(score, votes[0], rng.binomial(test, score, size=bootstrap) / test)


def _variances(groups: Floats, discrete: Bools) -> Floats:
    """Sample variances [groups, D] within groups [groups, size, D]; Gini's for discrete dimensions."""
    result = groups.var(1, ddof=1)
    size = groups.shape[1]
    for j in np.flatnonzero(discrete):
        values, names = np.unique(groups[..., j], return_inverse=True)
        counts = np.zeros((len(groups), len(values)))
        np.add.at(counts, (np.arange(len(groups))[:, None], names.reshape(groups.shape[:2])), 1)
        result[:, j] = (size * size - (counts**2).sum(1)) / (2 * size * (size - 1))
    return result
