"""Names of the terms that the loss operator measures, and the bounds of mutual information made of them."""

from __future__ import annotations

import math

from infogan_fast.latents import LatentSpec


def loss_names(spec: LatentSpec, learned_variance: bool) -> tuple[str, ...]:
    """Names of the terms of :func:`ops.infogan_loss`: ``d_real, d_fake, g, nll_c1, ..., mse_c2, ...`` and,
    where Q learns the variance, ``logvar_c2, ...``."""
    likelihoods = (f"nll_{code.name}" for code in spec.codes)
    errors = (f"mse_{code.name}" for code in spec.continuous_codes)
    log_variances = (f"logvar_{code.name}" for code in spec.ordered_codes if learned_variance)
    return ("d_real", "d_fake", "g", *likelihoods, *errors, *log_variances)


def code_bounds(spec: LatentSpec, means: dict[str, float]) -> dict[str, float]:
    """By code, in nats: ``L_CODE``, the lower bound of its mutual information (Chen et al. 2016, equation 5);
    ``H_CODE``, its entropy; for uniform and normal codes ``L_fitted_CODE``, the bound that the best single
    sigma would give.

    Args:
        means: of the terms of the loss, by the names of :func:`loss_names`, and ``H_CODE`` where the prior
            was learned while they were measured.
    """
    result = {}
    for code in spec.codes:
        entropy = means.get(f"H_{code.name}", code.entropy)
        result[f"L_{code.name}"] = entropy - means[f"nll_{code.name}"]
        result[f"H_{code.name}"] = entropy
        if code.is_ordered:
            error = max(means[f"mse_{code.name}"], 1e-12)
            result[f"L_fitted_{code.name}"] = code.entropy - 0.5 * math.log(2 * math.pi * math.e * error)
    return result
