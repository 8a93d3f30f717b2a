"""The InfoGAN objective: every term and the gradients of the weighted total in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from infogan_fast.latents import CONTINUOUS_KINDS, LatentSpec
from infogan_fast.ops.fakes import one_device
from infogan_fast.ops.first_order import first_order, refuse_tangents
from infogan_fast.runtime import native

native.load()
_operator = torch.ops.infogan_fast.infogan_loss.default


class LossWeights(NamedTuple):
    """Weights of the terms in the step's total; a term with weight 0 is still measured.

    The discriminator step is ``LossWeights(d_real=1, d_fake=1)``, the generator step ``LossWeights(g=1,
    codes=...)`` with lambda of each code; ``codes`` may be empty where Q's output is not given.
    """

    d_real: float = 0.0
    d_fake: float = 0.0
    g: float = 0.0
    codes: tuple[float, ...] = ()


class InfoGANLoss(NamedTuple):
    """What :func:`infogan_loss` returns. Means are over the batch, in nats; fp32, or fp64 for fp64 inputs."""

    total: Tensor
    """[]: the weighted sum of the terms, without ``grad_scale``. Differentiable."""
    terms: Tensor
    """[3 + n_codes + n_continuous + n_ordered]: D real, D fake, G, the negative log-likelihood of each code,
    the mean squared error of each continuous code and, where Q learns the variance, the mean log-variance of
    each ordered code, clamped to [-10, 10]; unweighted, 0 where the input is absent. Not differentiable: use
    the total.
    """
    grad_real: Tensor
    """Gradient of ``grad_scale * total`` with respect to ``real_logits``, its shape; [0] where that is
    absent.
    """
    grad_fake: Tensor
    """The same for ``fake_logits``."""
    grad_q: Tensor
    """The same for ``q_output``."""


def infogan_loss(
    spec: LatentSpec,
    *,
    weights: LossWeights,
    real_logits: Tensor | None = None,
    fake_logits: Tensor | None = None,
    q_output: Tensor | None = None,
    categorical: Tensor | None = None,
    continuous: Tensor | None = None,
    fixed_log_variance: float | None = None,
    grad_scale: Tensor | None = None,
    grad_dtype: torch.dtype | None = None,
    sums: Tensor | None = None,
    places: Sequence[int] = (),
) -> InfoGANLoss:
    """All terms of the InfoGAN objective (Chen et al. 2016, equation 6) and the gradients of their weighted
    total.

    With d the discriminator's logits: D real = mean softplus(-d(x)), D fake = mean softplus(d(G(z))) and, for
    the non-saturating generator (Goodfellow et al. 2014, section 3), G = mean softplus(-d(G(z))). A code's
    term is -E[log Q(c|x)]: the cross-entropy of a categorical or Bernoulli code, the Gaussian negative
    log-likelihood of a uniform or normal one. The lower bound of its mutual information is the code's entropy
    less this term.

    One pass over the inputs gives terms and gradients; a training step hands the gradients to
    ``torch.autograd.backward``. The total is differentiable too, once, with gradients kept in float32 until
    they are returned in the inputs' dtype.

    Args:
        spec: the latent specification that q_output and the codes follow.
        weights: of D real, D fake, G and each code.
        real_logits: [B'] or [B', 1], float32, float16, bfloat16 or float64, any stride.
        fake_logits: [B] or [B, 1] of the same dtype.
        q_output: [B, spec.q_dim(fixed_log_variance is None)] of the same dtype; a learned log-variance is
            clamped to [-10, 10] and gets no gradient past that.
        categorical: [B, n_categorical] int32, as :func:`sample_latents` gave them. A CPU run raises on an
            index outside its range; a CUDA run, which cannot without a synchronisation, gives NaN for the
            term and that row's gradient.
        continuous: [B, n_continuous] float32.
        fixed_log_variance: in [-10, 10]; None where Q learns the variance.
        grad_scale: one float32 value on the device (a GradScaler's scale) that multiplies the gradients.
        grad_dtype: dtype of the gradients: the inputs' or float32. By default the inputs', and float32 where
            an input requires a gradient. Past float16's range they become infinite, which is what a
            GradScaler looks for.
        sums: [N], float64, contiguous; the terms are added to it in place.
        places: for each of the terms, its index in ``sums``, or -1 to leave it out.

    Raises:
        RuntimeError: an argument is missing or has the wrong shape, dtype, device or range; the text names
            it.
    """
    if real_logits is None and fake_logits is None and q_output is None:
        raise RuntimeError("infogan_loss: give at least one of real_logits, fake_logits and q_output")
    refuse_tangents("infogan_loss", real_logits, fake_logits, q_output)
    sizes, kinds, _ = spec.operator_arguments
    codes = weights.codes or (0.0,) * spec.n_codes
    differentiable = torch.is_grad_enabled() and any(
        value is not None and value.requires_grad for value in (real_logits, fake_logits, q_output)
    )
    if differentiable and grad_dtype is None:
        like = next(value for value in (real_logits, fake_logits, q_output) if value is not None)
        grad_dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    call = _operator if differentiable or torch.compiler.is_compiling() else _below_autograd
    return InfoGANLoss._make(
        call(
            real_logits,
            fake_logits,
            q_output,
            categorical,
            continuous,
            sizes,
            kinds,
            [weights.d_real, weights.d_fake, weights.g, *codes],
            fixed_log_variance is None,
            fixed_log_variance or 0.0,
            grad_scale,
            grad_dtype,
            sums,
            places,
        )
    )


def _below_autograd(*arguments: Any) -> tuple[Tensor, ...]:
    # Autograd registered in Python costs 8 us a call even where nothing is to be differentiated.
    with torch._C._AutoDispatchBelowAutograd():
        outputs: tuple[Tensor, ...] = _operator(*arguments)
    return outputs


@torch.library.register_fake("infogan_fast::infogan_loss")
def _(
    real_logits: Tensor | None,
    fake_logits: Tensor | None,
    q_output: Tensor | None,
    categorical: Tensor | None,
    continuous: Tensor | None,
    categorical_sizes: Sequence[int],
    continuous_kinds: Sequence[int],
    weights: Sequence[float],
    learned_variance: bool,
    log_variance: float,
    grad_scale: Tensor | None,
    grad_dtype: torch.dtype | None,
    sums: Tensor | None,
    places: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    one_device("infogan_loss", real_logits, fake_logits, q_output, categorical, continuous, grad_scale, sums)
    inputs = (real_logits, fake_logits, q_output)
    like = next((value for value in inputs if value is not None), None)
    assert like is not None
    accumulated = torch.float64 if like.dtype == torch.float64 else torch.float32
    n_terms = 3 + len(categorical_sizes) + 2 * len(continuous_kinds)
    if learned_variance:
        n_terms += sum(CONTINUOUS_KINDS[kind] != "bernoulli" for kind in continuous_kinds)
    gradients = [
        like.new_empty((0,) if value is None else value.shape, dtype=grad_dtype or like.dtype)
        for value in inputs
    ]
    return (
        like.new_empty((), dtype=accumulated),
        like.new_empty((n_terms,), dtype=accumulated),
        gradients[0],
        gradients[1],
        gradients[2],
    )


class _InfoGANLoss(torch.autograd.Function):
    # PyTorch registers autograd by name only for operators that change none of their arguments.
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        outputs = _below_autograd(*arguments)
        _, terms, *gradients = outputs
        ctx.mark_non_differentiable(terms, *gradients)
        ctx.set_materialize_grads(False)
        ctx.dtypes = [None if value is None else value.dtype for value in arguments[:3]]
        ctx.scaled = arguments[10] is not None
        ctx.save_for_backward(*gradients)
        return outputs

    @staticmethod
    @first_order("infogan_loss")
    def backward(ctx: Any, grad_total: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if ctx.scaled:
            raise RuntimeError(
                "infogan_loss: the total is not differentiable when grad_scale is given, since the gradients "
                "are scaled already; scale the total instead"
            )
        if grad_total is None:
            return (None,) * 14
        return (
            *(
                None if dtype is None else (gradient * grad_total).to(dtype)
                for dtype, gradient in zip(ctx.dtypes, ctx.saved_tensors, strict=True)
            ),
            *(None,) * 11,
        )


torch.library.impl("infogan_fast::infogan_loss", "Autograd")(_InfoGANLoss.apply)
