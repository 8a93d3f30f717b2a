"""The beta-VAE metric."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression

from infogan_fast.analysis.interventions import Sampler, interventions, require_factors, unconditional
from infogan_fast.analysis.tables import FIT_ROWS, TEST_ROWS, Floats, Ints, standardised


def beta_vae_score(
    sample: Sampler,
    n_factors: int,
    *,
    discrete_codes: Sequence[bool] | None = None,
    pairs: int = 64,
    train: int = FIT_ROWS,
    test: int = TEST_ROWS,
    seed: int = 0,
) -> float:
    """The beta-VAE metric (Higgins et al. 2017, section 3), in [0, 1].

    The score is the accuracy, on the test points, of a linear classifier that tells which factor was fixed;
    chance is about 1 / m. A point is the absolute difference of the codes of two images, averaged over pairs
    that share a value of the factor, a different one for each pair. For a discrete code it is the share of
    pairs that differ. The classifier is a logistic regression, fitted to convergence on points with mean 0
    and variance 1, so that the scale of the codes has no effect; the paper's has the same form, trained by
    gradient descent.

    Args:
        sample: returns the representations.
        n_factors: m, at least 2.
        pairs: pairs of images per point.
        train, test: points to fit the classifier on and to score it on.

    Raises:
        UserError: there are fewer than 2 factors, or a representation is not finite.
    """
    require_factors(n_factors)
    rng = np.random.default_rng(seed)
    _, discrete, _ = unconditional(sample, rng, 1000, discrete_codes)
    points: list[Floats] = []
    fixed: list[Ints] = []
    for count in (train, test):
        parts, factors = [], []
        for factor, groups in interventions(sample, rng, n_factors, count, pairs, 2):
            difference = np.abs(groups[..., 0, :] - groups[..., 1, :])
            parts.append(np.where(discrete, difference != 0, difference).mean(1))
            factors.append(np.full(len(groups), factor))
        points.append(np.concatenate(parts))
        fixed.append(np.concatenate(factors))
    model = LogisticRegression(max_iter=1000)
    model.fit(standardised(points[0], points[0]), fixed[0])
    return float(model.score(standardised(points[1], points[0]), fixed[1]))
