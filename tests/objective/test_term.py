"""The terms of the objective together: which there are, their options, and what several add up to."""

from __future__ import annotations

import torch
from objective.answers import DIGITS, measured, outputs

from infogan_fast import ops
from infogan_fast.latents import LatentSpec
from infogan_fast.objective.consistency import Consistency
from infogan_fast.objective.equivariance import Equivariance
from infogan_fast.objective.invariance import Invariance
from infogan_fast.objective.objective import Objective
from infogan_fast.objective.smoothness import Smoothness
from infogan_fast.objective.term import make_terms, term_options, term_types


def test_every_module_with_a_term_is_found() -> None:
    here = {
        "consistency": Consistency,
        "equivariance": Equivariance,
        "invariance": Invariance,
        "smoothness": Smoothness,
    }
    assert here.items() <= term_types().items()
    assert list(term_types()) == sorted(term_types())


def test_a_weight_is_the_option_with_the_name_of_the_term() -> None:
    weights = dict.fromkeys(term_types(), 0.5)
    assert [term.weight for term in make_terms(weights)] == [0.5] * len(weights)
    assert [term.weight for term in make_terms({})] == [0.0] * len(weights)
    assert set(weights) <= set(term_options())


def test_gradients_of_several_terms_add_up() -> None:
    q, slant = outputs(DIGITS), torch.linspace(-1, 1, 24, dtype=torch.float64)
    terms = (Consistency(2.0, 0.5), Equivariance(0.3), Invariance(0.2))
    parts = ops.Agreement()
    for term in terms:
        parts = term.agreement(parts, DIGITS, term.state(DIGITS, q.dtype, q.device))
    metrics, (gradient,) = ops.agreement(DIGITS, q, parts, slants=slant)
    alone = [measured(term, DIGITS, q, slant=slant) for term in terms]
    torch.testing.assert_close(gradient, sum(g for _, g in alone), atol=1e-14, rtol=1e-12)
    assert torch.equal(metrics, torch.cat([values for values, _ in alone]))


def test_without_a_weight_nothing_is_measured_and_with_one_consistency_is() -> None:
    assert Objective(terms=make_terms({})).measured_terms(DIGITS) == ()
    found = Objective(terms=make_terms({"invariance": 0.5})).measured_terms(DIGITS)
    assert [term.name for term in found] == ["consistency", "invariance"]
    # There is no categorical code to measure.
    spec = LatentSpec.parse("uniform=2")
    assert sum(len(t.metrics(spec)) for t in Objective(terms=found).measured_terms(spec)) == 1
