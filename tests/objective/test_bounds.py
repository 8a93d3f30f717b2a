"""Names of what the loss measures, and the bounds of mutual information."""

from __future__ import annotations

import math

import pytest

from infogan_fast.latents import LatentSpec
from infogan_fast.objective.bounds import code_bounds, loss_names

SPEC = LatentSpec.parse("cat=3,uniform=1,normal=1,bernoulli=1")


def test_names() -> None:
    likelihoods = ("nll_c1", "nll_c2", "nll_c3", "nll_c4")
    names = ("d_real", "d_fake", "g", *likelihoods, "mse_c2", "mse_c3", "mse_c4")
    assert loss_names(SPEC, learned_variance=False) == names
    assert loss_names(SPEC, learned_variance=True) == (*names, "logvar_c2", "logvar_c3")
    for learned in (False, True):
        assert loss_names(LatentSpec.parse("noise=3"), learned) == ("d_real", "d_fake", "g")


def test_bounds_by_hand() -> None:
    means = dict.fromkeys(loss_names(SPEC, True), 0.25)
    found = code_bounds(SPEC, means)
    # Entropies: of three categories, of the interval [-1, 1], of a standard normal, of a coin.
    entropies = [math.log(3), math.log(2), 0.5 * math.log(2 * math.pi * math.e), math.log(2)]
    for name, entropy in zip(("c1", "c2", "c3", "c4"), entropies, strict=True):
        assert found[f"H_{name}"] == pytest.approx(entropy)
        assert found[f"L_{name}"] == pytest.approx(entropy - 0.25)
    # With the best sigma, that of the errors, the mean log-likelihood is minus the entropy of N(0, 0.25).
    for name, entropy in zip(("c2", "c3"), entropies[1:3], strict=True):
        best = entropy - 0.5 * math.log(2 * math.pi * math.e * 0.25)
        assert found[f"L_fitted_{name}"] == pytest.approx(best)
    assert len(found) == 2 * 4 + 2


def test_an_error_of_0_has_a_finite_bound() -> None:
    means = dict.fromkeys(loss_names(SPEC, True), 0.0)
    assert math.isfinite(code_bounds(SPEC, means)["L_fitted_c2"])
