"""What only the CUDA kernel of infogan_loss does: it cannot raise without waiting for the device."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cuda_on_cpu.checks import Schedule
from cuda_on_cpu.fixtures import Runners
from cuda_on_cpu.harness import PLAIN
from operators.infogan_loss.cases import KERNEL_TESTS, LossCase, loss_inputs, run_infogan_loss
from operators.specs import DEFAULT, WIDE

from infogan_fast import ops
from infogan_fast.latents import LatentSpec


@pytest.mark.parametrize("latents", [DEFAULT, WIDE])
@pytest.mark.parametrize("wrong", [-1, 10**9])
def test_a_category_out_of_range_gives_nan_for_its_row_alone(
    runners: Runners, latents: str, wrong: int
) -> None:
    case = LossCase(latents, q_rows=33)
    right, bad = loss_inputs(case), 5
    assert right.categorical is not None
    categorical = right.categorical.clone()
    categorical[bad, 0] = wrong
    runner = runners(PLAIN, KERNEL_TESTS)
    expected = run_infogan_loss(runner, case, right, Schedule()).loss
    actual = run_infogan_loss(runner, case, replace(right, categorical=categorical), Schedule()).loss
    size = LatentSpec.parse(latents).categorical_sizes[0]
    assert actual.grad_q[bad, :size].isnan().all()
    assert actual.terms[3].isnan() and actual.total.isnan()
    actual.grad_q[bad, :size] = expected.grad_q[bad, :size]
    assert torch.equal(actual.grad_q, expected.grad_q)


@pytest.mark.parametrize("where", ["the CPU operator", "the kernel"])
def test_codes_of_weight_0_have_no_gradient_even_where_it_overflows(runners: Runners, where: str) -> None:
    case = LossCase("noise=1,cat=3,uniform=1,bernoulli=1", q_rows=33)
    right = loss_inputs(case)
    assert right.q is not None
    q = right.q.clone()
    q[:, 0], q[:, 3], q[:, 5] = float("inf"), 3e38, -80.0  # a logit, a mean and a log-variance
    inputs = replace(right, q=q, weights=ops.LossWeights(codes=(0.0, 0.0, 1.0)))
    if where == "the kernel":
        gradient = run_infogan_loss(runners(PLAIN, KERNEL_TESTS), case, inputs, Schedule()).loss.grad_q
    else:
        gradient = ops.infogan_loss(
            case.spec,
            weights=inputs.weights,
            q_output=q,
            categorical=right.categorical,
            continuous=right.continuous,
        ).grad_q
    assert (gradient[:, [0, 1, 2, 3, 5]] == 0).all()
    assert (gradient[:, 4] != 0).all() and gradient.isfinite().all()
