"""The terms' gradients and metrics, by the operator and by terms that compute their own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from infogan_fast import ops
from infogan_fast.latents import LatentSpec
from infogan_fast.objective.consistency import Consistency
from infogan_fast.objective.equivariance import Equivariance
from infogan_fast.objective.invariance import Invariance
from infogan_fast.objective.objective import Objective
from infogan_fast.objective.smoothness import Smoothness
from infogan_fast.objective.term import Answers, Term
from infogan_fast.training.losses import Losses

SPEC = LatentSpec.parse("cat=4,cat=3,uniform=1,normal=2")


@dataclass(frozen=True)
class OwnInvariance(Invariance):
    """The same term, with a gradient of its own."""

    def agreement(  # type: ignore[override]
        self, parts: ops.Agreement, spec: LatentSpec, state: dict[str, list[Tensor]]
    ) -> ops.Agreement | None:
        return None

    def add_gradient(
        self, answers: Answers, gradient: Answers, spec: LatentSpec, state: dict[str, list[Tensor]]
    ) -> Tensor | None:
        alone = Invariance.agreement(self, ops.Agreement(), spec, state)
        metrics, (own,) = ops.agreement(spec, answers.values, alone, near_rows=answers.near_rows)
        gradient.values.add_(own)
        return metrics


def results(
    terms: tuple[Term, ...], scales: tuple[Tensor | None, Tensor | None], dtype: torch.dtype
) -> tuple[dict[str, float], Tensor, Tensor, list[Tensor]]:
    """Metrics, the discriminator's gradient, the generator's, and the joints, after two updates."""
    losses = Losses(SPEC, Objective(), terms, torch.float32, torch.device("cpu"))
    draws = torch.Generator().manual_seed(5)
    slant = torch.rand(16, generator=draws, dtype=torch.float64)
    for _ in range(2):
        answers = torch.randn(4 + 32, SPEC.q_dim(), generator=draws).to(dtype)
        for_d, for_g = losses.terms(terms, answers, 4, slant, scales)
    assert for_d.dtype == for_g.dtype == dtype
    return losses.metrics.take_means(2), for_d, for_g, losses.term_state["consistency"]["joints"]


CONSISTENCY, EQUIVARIANCE, SMOOTHNESS = Consistency(1.0, 0.5, 0.9), Equivariance(0.3), Smoothness(0.4)
SCALES = [(None, None), (torch.tensor(8.0), torch.tensor(0.5))]


@pytest.mark.parametrize("scales", SCALES, ids=["unscaled", "scaled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_term_can_compute_its_own_gradient(
    scales: tuple[Tensor | None, Tensor | None], dtype: torch.dtype
) -> None:
    fused = results((CONSISTENCY, EQUIVARIANCE, Invariance(0.2), SMOOTHNESS), scales, dtype)
    mixed = results((OwnInvariance(0.2), CONSISTENCY, EQUIVARIANCE, SMOOTHNESS), scales, dtype)
    assert mixed[0] == fused[0]
    for one, other in zip(mixed[1:3], fused[1:3], strict=True):
        torch.testing.assert_close(one, other)
    assert all(torch.equal(one, other) for one, other in zip(mixed[3], fused[3], strict=True))


@pytest.mark.parametrize(
    ("sigma", "log_variance"),
    [(math.exp(5), 10.0), (math.exp(-5), -10.0), (1.0, 0.0), (math.exp(5) * (1 + 1e-12), 10.0)],
)
def test_the_ends_of_the_range_of_sigma_are_taken(sigma: float, log_variance: float) -> None:
    objective = Objective(fixed_sigma=sigma)
    losses = Losses(SPEC, objective, (), torch.float32, torch.device("cpu"))
    assert losses.fixed_log_variance == objective.fixed_log_variance == pytest.approx(log_variance)
    assert abs(log_variance) <= 10 and abs(objective.fixed_log_variance or 0.0) <= 10
    latents = ops.sample_latents(ops.rng_state(0), 4, SPEC)
    loss = losses.generator(torch.zeros(4, 1), torch.zeros(4, SPEC.q_dim(False)), latents, None)
    assert loss.total.isfinite()


def test_metrics_keep_their_names_in_any_order_of_terms() -> None:
    terms = (CONSISTENCY, EQUIVARIANCE, Invariance(0.2), SMOOTHNESS)
    names = {"I_c1", "I_c2", "D_c3", "D_c5"}
    means = [results(order, (None, None), torch.float32)[0] for order in (terms, terms[::-1])]
    assert {name: means[0][name] for name in names} == {name: means[1][name] for name in names}
    assert len({means[0][name] for name in names}) == 4


def test_each_player_has_its_scale() -> None:
    terms = (CONSISTENCY, EQUIVARIANCE, SMOOTHNESS)
    _, plain, same, _ = results(terms, (None, None), torch.float32)
    _, for_d, for_g, _ = results(terms, SCALES[1], torch.float32)
    assert torch.equal(plain, same)
    assert torch.equal(for_d, 8.0 * plain) and torch.equal(for_g, 0.5 * plain)
