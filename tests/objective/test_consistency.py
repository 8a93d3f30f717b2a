"""Consistency of Q's categorical answers: against entropies, known values and differences."""

from __future__ import annotations

import math

import pytest
import torch
from objective import statements
from objective.answers import DIGITS, SEVERAL, SPECS, measured, outputs
from torch import Tensor

from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.objective.consistency import Consistency
from infogan_fast.objective.transformation import Transformation


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("scale", [0.1, 2.0, 9.0])
@pytest.mark.parametrize("learned", [False, True])
def test_a_batch_alone_equals_the_statement(spec: LatentSpec, scale: float, learned: bool) -> None:
    q = outputs(spec, scale=scale, learned=learned).requires_grad_()
    information = torch.stack(statements.agreement(spec, q)[0])
    (gradient,) = torch.autograd.grad(-3.0 * information.sum(), q)
    metrics, got = measured(Consistency(3.0), spec, q)
    torch.testing.assert_close(metrics, information.detach(), atol=1e-12, rtol=0)
    torch.testing.assert_close(got, gradient, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("spec", [DIGITS, SEVERAL], ids=str)
@pytest.mark.parametrize("balance", [0.0, 1.5])
@pytest.mark.parametrize("joint_ema", [0.0, 0.7])
def test_an_average_joint_and_the_weight_of_its_margin_equal_the_statement(
    spec: LatentSpec, balance: float, joint_ema: float
) -> None:
    term = Consistency(3.0, balance, joint_ema)
    state = term.state(spec, torch.float64, torch.device("cpu"))
    wanted = [joint.clone() for joint in state["joints"]]
    for code, joint in zip(spec.categorical_codes, wanted, strict=True):
        torch.testing.assert_close(joint, torch.full((code.size,) * 2, 1 / code.size**2, dtype=torch.float64))
    for rows in (24, 30, 24):
        q = outputs(spec, rows).requires_grad_()
        information, entropies, wanted = statements.agreement(spec, q, wanted, joint_ema)
        gain = torch.stack(information).sum() + balance * torch.stack(entropies).sum()
        (gradient,) = torch.autograd.grad(-3.0 * gain / (1 - joint_ema), q)
        metrics, got = measured(term, spec, q, state=state)
        torch.testing.assert_close(metrics, torch.stack(information).detach(), atol=1e-12, rtol=0)
        torch.testing.assert_close(got, gradient, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(state["joints"], wanted, atol=1e-14, rtol=0)
    if not joint_ema:
        torch.testing.assert_close(measured(term, spec, q)[1], got)
    term.restart(state)
    torch.testing.assert_close(state, term.state(spec, torch.float64, torch.device("cpu")))


@pytest.mark.parametrize("joint_ema", [0.0, 0.7])
@pytest.mark.parametrize("damage", [math.inf, math.nan])
def test_a_batch_that_overflows_leaves_no_trace_in_the_average(joint_ema: float, damage: float) -> None:
    term = Consistency(1.0, 1.0, joint_ema)
    clean, state = (term.state(SEVERAL, torch.float32, torch.device("cpu")) for _ in "ab")
    bad = outputs(SEVERAL).float()
    bad[3] = damage
    # The overflow shows in this batch's gradient, by which its update is skipped.
    assert not measured(term, SEVERAL, bad, state=state)[1].isfinite().all()
    for q in (outputs(SEVERAL, 30).float(), outputs(SEVERAL).float()):
        after, without = (measured(term, SEVERAL, q, state=kept)[1] for kept in (state, clean))
        assert torch.equal(after, without)
        assert after.isfinite().all()


def test_balance_alone_makes_values_equally_frequent() -> None:
    """Where all answers are alike, nothing else has a gradient."""
    spec, logits = LatentSpec.parse("cat=3"), torch.tensor([[2.0, 0.0, -1.0]], dtype=torch.float64)
    assert measured(Consistency(1.0), spec, logits.expand(8, 3))[1].abs().max() < 1e-15
    for _ in range(300):
        logits -= 8.0 * measured(Consistency(1.0, 1.0), spec, logits.expand(8, 3))[1][:1]
    torch.testing.assert_close(
        logits.softmax(1), torch.full((1, 3), 1 / 3, dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_gradient_equals_differences() -> None:
    class Loss(torch.autograd.Function):
        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, q: Tensor) -> Tensor:
            metrics, gradient = measured(Consistency(2.0), DIGITS, q)
            ctx.save_for_backward(gradient)
            return -2.0 * metrics.sum()

        @staticmethod
        def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
            return gradients[0] * ctx.saved_tensors[0]  # type: ignore[attr-defined]

    assert torch.autograd.gradcheck(Loss.apply, (outputs(DIGITS, 6, learned=False).requires_grad_(),))


def test_with_a_weight_of_0_it_is_measured_and_has_no_gradient() -> None:
    metrics, gradient = measured(Consistency(), SEVERAL, outputs(SEVERAL))
    assert torch.equal(metrics, measured(Consistency(1.0), SEVERAL, outputs(SEVERAL))[0])
    assert not gradient.any()
    assert Consistency().at(0) == Consistency()
    assert Consistency().metrics(SEVERAL) == ("I_c1", "I_c2", "I_c3")


def sure(categories: Tensor, size: int) -> Tensor:
    return 60.0 * torch.nn.functional.one_hot(categories, size).double()


def test_known_values() -> None:
    spec, k = LatentSpec.parse("cat=10"), 10
    every = torch.arange(k)
    same = sure(every.repeat(6), k)
    independent = torch.cat([sure(every.repeat_interleave(k), k), sure(every.repeat(k), k)])
    permuted = torch.cat([sure(every, k), sure((every + 1) % k, k)])
    halves = sure(torch.tensor([0, 1]).repeat(8), k)
    for q, wanted in (
        (torch.cat([same, same]), math.log(k)),  # the largest there is
        (torch.cat([halves, halves]), math.log(2)),
        (independent, 0.0),
        (torch.zeros(20, k), 0.0),
        (sure(torch.zeros(20, dtype=torch.int64), k), 0.0),
        # Made symmetric: half of a value's joint lies above the diagonal and half below.
        (permuted, math.log(k) - math.log(2)),
    ):
        metrics, gradient = measured(Consistency(1.0), spec, q)
        assert metrics.item() == pytest.approx(wanted, abs=1e-5)
        assert gradient.abs().max() < 1e-6


def test_float32_answers_are_measured_in_float32() -> None:
    q = outputs(SEVERAL).float()
    metrics, gradient = measured(Consistency(1.0), SEVERAL, q)
    exact = measured(Consistency(1.0), SEVERAL, q.double())
    assert metrics.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(metrics.double(), exact[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(gradient.double(), exact[1], atol=1e-6, rtol=0)


def test_certain_answers_stay_finite() -> None:
    q = 1e4 * outputs(SEVERAL).float()
    assert all(values.isfinite().all() for values in measured(Consistency(1.0), SEVERAL, q))


def test_ascent_finds_the_classes() -> None:
    """Two clouds, a third of the points in one: what agrees and is used is told apart, without a label."""
    spec, draws = LatentSpec.parse("cat=2"), torch.Generator().manual_seed(0)
    cloud = (torch.rand(90, generator=draws) < 1 / 3).double()
    points, copies = (
        torch.stack([4 * cloud - 2, torch.randn(90, generator=draws, dtype=torch.float64)], 1) for _ in "ab"
    )
    weight = 0.1 * torch.randn(2, 2, generator=draws, dtype=torch.float64)
    inputs = torch.cat([points, copies])
    for _ in range(300):
        weight -= 2.0 * inputs.T @ measured(Consistency(1.0), spec, inputs @ weight)[1]
    answers = (points @ weight).argmax(1)
    assert max((answers == cloud).double().mean(), (answers != cloud).double().mean()) == 1


@pytest.mark.parametrize(
    ("term", "latents", "message"),
    [
        (Consistency(2.0), "noise=5,uniform=2", "--consistency 2 needs a categorical code, and --latents"),
        (Consistency(0.0, 2.0), "cat=3", "--balance 2 needs --consistency WEIGHT, such as 1"),
        (
            Consistency(0.0, balance_until=9),
            "cat=3",
            "--balance-until 9 needs --consistency WEIGHT",
        ),
        (
            Consistency(1.0, balance_end=-0.5),
            "cat=3",
            "--balance-end -0.5 needs --balance-until N",
        ),
        (Consistency(0.0, 0.0, 0.5), "cat=3", "--joint-ema 0.5 needs --consistency WEIGHT, such as 1"),
    ],
)
def test_what_it_needs(term: Consistency, latents: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        term.check(LatentSpec.parse(latents), Transformation())
    assert message in str(error.value)


def test_balance_falls_in_steps() -> None:
    term = Consistency(1.0, 1.0, 0.9, balance_end=-0.5, balance_until=1500)
    assert term.changes_at() == {"balance_until": (500, 700, 900, 1100, 1300)}
    found = {update: term.at(update).balance for update in (0, 499, 500, 699, 700, 1299, 1300, 9000)}
    assert found == pytest.approx(
        {0: 1.0, 499: 1.0, 500: 0.7, 699: 0.7, 700: 0.4, 1299: -0.2, 1300: -0.5, 9000: -0.5}
    )
    assert Consistency(1.0, balance_until=120).changes_at() == {"balance_until": (40, 56, 72, 88, 104)}
    assert Consistency(1.0, 0.5).at(7) == Consistency(1.0, 0.5)
    assert Consistency(1.0, 0.5).changes_at() == {"balance_until": ()}
