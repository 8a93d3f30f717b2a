"""Equivariance and invariance of continuous codes: against torch.distributions, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from objective import statements
from objective.answers import DIGITS, MIXED, SEVERAL, SPECS, measured, outputs
from torch import Tensor

from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.objective.equivariance import Equivariance
from infogan_fast.objective.invariance import Invariance
from infogan_fast.objective.term import Term, check_terms
from infogan_fast.objective.transformation import Transformation


def term_with(weight: float, slant: Tensor | None) -> Term:
    return Invariance(weight) if slant is None else Equivariance(weight)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("scale", [0.1, 2.0, 9.0])
@pytest.mark.parametrize("slanted", [False, True])
@pytest.mark.parametrize("fixed", [None, -1.5])
def test_distance_equals_the_statement(
    spec: LatentSpec, scale: float, slanted: bool, fixed: float | None
) -> None:
    q = outputs(spec, scale=scale, learned=fixed is None).requires_grad_()
    slant = outputs(LatentSpec.parse("normal=1"), learned=False)[:24, 0] if slanted else None
    distance = statements.distance(spec, q, fixed, slant)
    (gradient,) = torch.autograd.grad(0.4 * distance, q)
    metrics, got = measured(term_with(0.4, slant), spec, q, log_variance=fixed, slant=slant)
    torch.testing.assert_close(metrics, distance.detach()[None], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(got, gradient, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("slanted", [False, True])
def test_gradient_equals_differences(slanted: bool) -> None:
    slant = torch.linspace(-1, 1, 6, dtype=torch.float64) if slanted else None

    class Loss(torch.autograd.Function):
        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, q: Tensor) -> Tensor:
            metrics, gradient = measured(term_with(0.7, slant), DIGITS, q, log_variance=-1.0, slant=slant)
            ctx.save_for_backward(gradient)
            return 0.7 * metrics.sum()

        @staticmethod
        def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
            return gradients[0] * ctx.saved_tensors[0]  # type: ignore[attr-defined]

    assert torch.autograd.gradcheck(Loss.apply, (outputs(DIGITS, 6, learned=False).requires_grad_(),))


def test_distances_by_hand() -> None:
    """Of the last ordered code alone, though a binary one comes after it; variances of 1/4 and 4."""
    spec = LatentSpec.parse("cat=2,uniform=2,bernoulli=1")
    answers = torch.tensor(
        [[9.0, 1, 5, 0.5, 3, 0, math.log(0.25)], [2.0, 7, 1, -0.5, -8, 0, math.log(4)]], dtype=torch.float64
    )
    metrics, gradient = measured(Invariance(2.0), spec, answers)
    assert metrics.tolist() == pytest.approx([1.0**2 * (4 + 0.25) / 4])
    wanted = torch.zeros(2, 7, dtype=torch.float64)
    wanted[:, 3] = torch.tensor([1.0, -1.0]) * 2 * 2 * (4 + 0.25) / 4
    torch.testing.assert_close(gradient, wanted)
    assert measured(Invariance(2.0), spec, answers[[0, 0]])[0] == 0
    # The copy that is turned most should add half a unit to the first code; here 5 became 1.
    metrics, gradient = measured(Equivariance(2.0), spec, answers, slant=torch.ones(1, dtype=torch.float64))
    assert metrics.tolist() == pytest.approx([4.5**2 / 2])
    wanted = torch.zeros(2, 7, dtype=torch.float64)
    wanted[:, 2] = torch.tensor([1.0, -1.0]) * 2 * 4.5
    torch.testing.assert_close(gradient, wanted)


def test_each_has_a_code_of_its_own() -> None:
    assert Equivariance(1.0).metrics(MIXED) == ("D_c2",)
    assert Invariance(1.0).metrics(MIXED) == ("D_c4",)
    assert Equivariance(1.0).continuous_code(SEVERAL) == Invariance(1.0).continuous_code(SEVERAL)


@pytest.mark.parametrize("slanted", [False, True])
def test_float32_answers_are_measured_in_float32(slanted: bool) -> None:
    """Though slants are float64."""
    q, slant = outputs(SEVERAL).float(), torch.ones(24, dtype=torch.float64) if slanted else None
    metrics, gradient = measured(term_with(1.0, slant), SEVERAL, q, slant=slant)
    exact = measured(term_with(1.0, slant), SEVERAL, q.double(), slant=slant)
    assert metrics.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(metrics.double(), exact[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), exact[1], rtol=1e-5, atol=1e-6)


def test_large_answers_stay_finite() -> None:
    q = 1e4 * outputs(SEVERAL).float()
    assert all(values.isfinite().all() for values in measured(Invariance(1.0), SEVERAL, q))


@pytest.mark.parametrize(
    ("terms", "latents", "ranges", "message"),
    [
        (
            [Equivariance(2.0)],
            "noise=5,cat=3",
            "rotation=9",
            "--equivariance 2 needs a uniform or normal code, and --latents noise=5,cat=3 has none; leave it",
        ),
        (
            [Invariance(2.0)],
            "cat=3,bernoulli=1",
            "rotation=9",
            "--invariance 2 needs a uniform or normal code, and --latents noise=0,cat=3,bernoulli=1 has none",
        ),
        (
            [Equivariance(0.3)],
            "cat=3,uniform=1",
            "rotation=9,flip=1",
            "--equivariance 0.3 follows how far copies are turned, and --transformation rotation=9,",
        ),
        ([Equivariance(0.3)], "cat=3,uniform=1", "scale=0.1", "mirrors them, or does not turn them"),
        (
            [Equivariance(2.0), Invariance(1.0)],
            "noise=5,cat=3,normal=1",
            "rotation=9",
            "--equivariance 2 and --invariance 1 need a uniform or normal code each, and --latents "
            "noise=5,cat=3,normal=1 has only c2; leave one out, or add a code",
        ),
    ],
)
def test_what_they_need(terms: list[Term], latents: str, ranges: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        check_terms(terms, LatentSpec.parse(latents), Transformation.parse(ranges))
    assert message in str(error.value)
    switched_off = [type(term)() for term in terms]
    check_terms(switched_off, LatentSpec.parse(latents), Transformation.parse(ranges))
