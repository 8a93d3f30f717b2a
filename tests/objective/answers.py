"""Q's answers to images and their copies for the tests of the terms, and what a term makes of them."""

from __future__ import annotations

import torch
from torch import Tensor

from infogan_fast import ops
from infogan_fast.latents import LatentSpec
from infogan_fast.objective.term import Term

DIGITS = LatentSpec.parse("noise=62,cat=10,uniform=2")
SEVERAL = LatentSpec.parse("cat=3,cat=0.5/0.3/0.2,cat=7,uniform=1,bernoulli=1")
MIXED = LatentSpec.parse("cat=4,uniform=1,normal=2,bernoulli=2")
SPECS = (DIGITS, SEVERAL, MIXED)


def outputs(spec: LatentSpec, rows: int = 24, scale: float = 2.0, learned: bool = True) -> Tensor:
    draws, width = torch.Generator().manual_seed(rows), spec.q_dim(learned_variance=learned)
    return scale * torch.randn(2 * rows, width, generator=draws, dtype=torch.float64)


def measured(
    term: Term,
    spec: LatentSpec,
    q: Tensor,
    *,
    log_variance: float | None = None,
    slant: Tensor | None = None,
    state: dict[str, list[Tensor]] | None = None,
) -> tuple[Tensor, Tensor]:
    """The metrics of a term and the gradient of the weighted term with respect to Q's answers.

    Args:
        q: [2B, q_dim], to B images and their copies.
        log_variance: by default learned, if Q has columns for it.
        state: by default as it is at first.
    """
    q = q.detach()
    if log_variance is None and q.shape[1] != spec.q_dim(learned_variance=True):
        log_variance = 0.0
    if state is None:
        state = term.state(spec, q.dtype, q.device)
    parts = term.agreement(ops.Agreement(), spec, state)
    assert parts is not None
    agreed = ops.agreement(spec, q, parts, fixed_log_variance=log_variance, slants=slant)
    assert len(agreed.metrics) == len(term.metrics(spec))
    return agreed.metrics, agreed.gradients[0]
