"""What infogan_loss computes, in plain PyTorch and float64."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from infogan_fast.latents import LatentSpec
from infogan_fast.ops import LossWeights


def infogan_terms(
    spec: LatentSpec,
    real_logits: Tensor | None,
    fake_logits: Tensor | None,
    q_output: Tensor | None,
    categorical: Tensor | None,
    continuous: Tensor | None,
    fixed_log_variance: float | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """([D real, D fake, G, each code's negative log-likelihood], [each continuous code's mean squared error,
    each learned log-variance's mean]).
    """
    zero = torch.zeros((), dtype=torch.float64)
    terms = [
        zero if real_logits is None else F.softplus(-real_logits.double()).mean(),
        zero if fake_logits is None else F.softplus(fake_logits.double()).mean(),
        zero if fake_logits is None else F.softplus(-fake_logits.double()).mean(),
    ]
    errors: list[Tensor] = []
    log_variances: list[Tensor] = []
    if q_output is None:
        learned = len(spec.ordered_codes) if fixed_log_variance is None else 0
        return terms + [zero] * spec.n_codes, [zero] * (spec.n_continuous + learned)
    q = q_output.double()
    column = 0
    for i, size in enumerate(spec.categorical_sizes):
        assert categorical is not None
        terms.append(F.cross_entropy(q[:, column : column + size], categorical[:, i].long()))
        column += size
    log_variance_column = column + spec.n_continuous
    for j, kind in enumerate(spec.continuous_kinds):
        assert continuous is not None
        u, output = continuous[:, j].double(), q[:, column + j]
        if kind == "bernoulli":
            terms.append(F.binary_cross_entropy_with_logits(output, u))
            errors.append((torch.sigmoid(output) - u).square().mean())
            continue
        if fixed_log_variance is None:
            log_variance = q[:, log_variance_column].clamp(-10.0, 10.0)
            log_variance_column += 1
            log_variances.append(log_variance.mean())
        else:
            log_variance = torch.full_like(output, fixed_log_variance)
        squared = (output - u).square()
        terms.append(0.5 * (math.log(2 * math.pi) + log_variance + squared * torch.exp(-log_variance)).mean())
        errors.append(squared.mean())
    return terms, errors + log_variances


def infogan_total(terms: list[Tensor], weights: LossWeights) -> Tensor:
    """The weighted sum of the terms."""
    codes = weights.codes or (0.0,) * (len(terms) - 3)
    weighted = (
        w * t for w, t in zip((weights.d_real, weights.d_fake, weights.g, *codes), terms, strict=True)
    )
    return sum(weighted, torch.zeros((), dtype=torch.float64))
