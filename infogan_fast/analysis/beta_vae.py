"""The beta-VAE metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from infogan_fast.analysis.interventions import Sampler, interventions, require_factors, unconditional
from infogan_fast.analysis.tables import FIT_ROWS, TEST_ROWS, Floats, Ints, standardised


@dataclass(frozen=True, eq=False)
class BetaVaeScore:
    """See :func:`beta_vae_score`."""

    score: float
    replicates: Floats
    """The score of each bootstrap sample of the test points, [B]."""


def beta_vae_score(
    sample: Sampler,
    n_factors: int,
    *,
    test_sample: Sampler | None = None,
    discrete_codes: Sequence[bool] | None = None,
    pairs: int = 64,
    train: int = FIT_ROWS,
    test: int = TEST_ROWS,
    bootstrap: int = 0,
    seed: int = 0,
) -> BetaVaeScore:
    """The beta-VAE metric (Higgins et al. 2017, section 3), in [0, 1].

    The score is the accuracy, on the test points, of a linear classifier that tells which factor was fixed;
    chance is about 1 / m. A point is the absolute difference of the codes of two images, averaged over pairs
    that share a value of the factor, a different one for each pair. For a discrete code it is the share of
    pairs that differ. The classifier is a logistic regression, fitted to convergence on points with mean 0
    and variance 1, so that the scale of the codes has no effect; the paper's has the same form, trained by
    gradient descent.

    Args:
        sample: returns the representations.
        test_sample: those of the test points; by default the same. Of a table, other rows: see
            :func:`infogan_fast.analysis.interventions.table_samplers`.
        n_factors: m, at least 2.
        pairs: pairs of images per point.
        train, test: points to fit the classifier on and to score it on.
        bootstrap: how many samples of the test points, with replacement, to score as well.

    Raises:
        UserError: there are fewer than 2 factors, or a representation is not finite.
    """
    require_factors(n_factors)
    rng = np.random.default_rng(seed)
    _, discrete, _ = unconditional(sample, rng, 1000, discrete_codes)
    points: list[Floats] = []
    fixed: list[Ints] = []
    for count, source in ((train, sample), (test, test_sample or sample)):
        parts, factors = [], []
        for factor, groups in interventions(source, rng, n_factors, count, pairs, 2):
            difference = np.abs(groups[..., 0, :] - groups[..., 1, :])
            parts.append(np.where(discrete, difference != 0, difference).mean(1))
            factors.append(np.full(len(groups), factor))
        points.append(np.concatenate(parts))
        fixed.append(np.concatenate(factors))
    model = LogisticRegression(max_iter=1000)
    model.fit(standardised(points[0], points[0]), fixed[0])
    right = model.predict(standardised(points[1], points[0])) == fixed[1]
    replicates = rng.binomial(len(right), right.mean(), size=bootstrap) / len(right)
    return BetaVaeScore(float(right.mean()), replicates)
