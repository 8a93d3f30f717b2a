"""Smoothness of Q's categorical answers: against a divergence by autograd, and when it applies."""

from __future__ import annotations

import pytest
import torch
from objective import statements
from objective.answers import DIGITS, SEVERAL, outputs

from infogan_fast import ops
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.objective.smoothness import Smoothness
from infogan_fast.objective.transformation import Transformation


@pytest.mark.parametrize("spec", [DIGITS, SEVERAL], ids=str)
@pytest.mark.parametrize("count", [1, 5, 8])
def test_gradient_equals_the_statement(spec: LatentSpec, count: int) -> None:
    """Of the first images alone, where not all have a near copy; the images' answers are targets."""
    pairs = outputs(spec, 8)
    near = outputs(spec, 9)[:count].requires_grad_()
    (wanted,) = torch.autograd.grad(0.7 * statements.divergence(spec, pairs[:count], near), near)
    q = torch.cat([near.detach(), pairs])
    parts = Smoothness(0.7).agreement(ops.Agreement(), spec, {})
    metrics, (gradient,) = ops.agreement(spec, q, parts, near_rows=count)
    assert not len(metrics)
    torch.testing.assert_close(gradient[:count], wanted, atol=1e-12, rtol=1e-12)
    assert not gradient[count:].any()


def test_bending_follows_it() -> None:
    both, early, late = Smoothness(1.0, 2, 0.5), Smoothness(1.0, 2), Smoothness(0.0, 2, 0.5)
    assert [both.at(update) for update in range(4)] == [early] * 2 + [late] * 2
    assert (early.near_copies, late.near_copies, Smoothness().near_copies) == ("adversarial", "bent", None)
    assert [late.at(update) for update in range(4)] == [None] * 2 + [late] * 2
    assert Smoothness(0.0, 0, 0.5).at(0) == Smoothness(0.0, 0, 0.5)
    assert [Smoothness(1.0, 0, 0.5).at(update) for update in (0, 10**6)] == [Smoothness(1.0, 0)] * 2
    assert (both.weight, late.weight) == (1.0, 0.5)
    parts = [term.agreement(ops.Agreement(), DIGITS, {}).smoothness for term in (early, late)]
    assert parts == [1.0, 0.5]


def test_it_ends() -> None:
    assert [Smoothness(1.0, 3).at(update) for update in range(5)] == [Smoothness(1.0, 3)] * 3 + [None] * 2
    assert [Smoothness(1.0, 0).at(update) for update in range(2)] == [Smoothness(1.0, 0)] * 2
    assert [Smoothness(0.0, 3).at(update) for update in range(2)] == [None] * 2
    assert Smoothness(1.0, 3).changes_at() == {"smoothness_until": (3,)}


def test_what_it_needs() -> None:
    with pytest.raises(
        UserError, match=r"--smoothness 1 needs a categorical code, and --latents noise=5,uni"
    ):
        Smoothness(1.0).check(LatentSpec.parse("noise=5,uniform=2"), Transformation())
    Smoothness(0.0).check(LatentSpec.parse("noise=5,uniform=2"), Transformation())
    with pytest.raises(UserError, match="--bending 2 needs a categorical code"):
        Smoothness(0.0, 0, 2.0).check(LatentSpec.parse("noise=5,uniform=2"), Transformation())
    unbent = Transformation(bend=0.0)
    with pytest.raises(UserError, match=r"--bending 1 needs copies that are bent; add bend=0.1 to"):
        Smoothness(1.0, 3, 1.0).check(DIGITS, unbent)
    Smoothness(1.0).check(DIGITS, unbent)
    Smoothness(1.0, 3, 1.0).check(DIGITS, Transformation())
