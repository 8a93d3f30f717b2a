"""The fused operators: batches of images, latent sampling and the combined discriminator/Q loss.

Importing this module loads the compiled halves and registers, beside their kernels, the fake (meta) kernels
and autograd of ``torch.ops.infogan_fast.*``. The functions here are the public way to call them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.runtime import native

native.load()

_sample_latents = torch.ops.infogan_fast.sample_latents.default
_gather_images = torch.ops.infogan_fast.gather_images.default
_infogan_loss = torch.ops.infogan_fast.infogan_loss.default


class Latents(NamedTuple):
    """What :func:`sample_latents` returns."""

    inputs: Tensor
    """[B, latent_dim], the compute dtype: the generator's input."""
    categorical: Tensor
    """[B, n_categorical] int32: the index of each categorical code."""
    continuous: Tensor
    """[B, n_continuous] float32: each continuous code exactly as it was fed, after rounding to the compute
    dtype.
    """


class Gathered(NamedTuple):
    """What :func:`gather_images` returns."""

    batch: Tensor
    """[B, ...] as the images, the compute dtype, in [0, 1]."""
    indices: Tensor
    """[B] int64: which images they are."""


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
    """[3 + n_codes + n_continuous]: D real, D fake, G, the negative log-likelihood of each code, and the mean
    squared error of each continuous code; unweighted, 0 where the input is absent. Not differentiable: use
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


@functools.lru_cache(maxsize=64)
def _cdf_tensor(cdf: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(cdf, dtype=torch.float32, device=device)


def rng_state(seed: int, step: int = 0, device: torch.device | str = "cpu") -> Tensor:
    """The state of the latents' random numbers: an int64 tensor [seed, step], all that a checkpoint needs of
    it.

    Args:
        seed: any 64-bit integer.
        step: 0 to 2**48 - 2; :func:`sample_latents` moves it on by one a call.
        device: where the operators will run.

    Raises:
        UserError: seed or step is out of range.
    """
    if not -(2**63) <= seed < 2**63:
        raise UserError(f"seed is {seed}; expected a 64-bit integer")
    if not 0 <= step < 2**48 - 1:
        raise UserError(f"step is {step}; expected 0 to 2**48 - 2")
    return torch.tensor([seed, step], dtype=torch.int64, device=device)


def sample_latents(
    rng_state: Tensor,
    batch_size: int,
    spec: LatentSpec,
    *,
    dtype: torch.dtype = torch.float32,
    sample_offset: int = 0,
    advance: bool = True,
) -> Latents:
    """Draw noise and codes (Chen et al. 2016, section 5) into the generator's input, in one kernel.

    The value of sample n, dimension j at a step is a pure function of (seed, step, sample_offset + n, j) by
    Philox4x32-10 (Salmon et al. 2011), the same on every device and for every number of threads; normals are
    made by Box and Muller.

    Args:
        rng_state: int64 [2] from :func:`rng_state`, on the device to draw on; its step is moved on by one in
            place.
        batch_size: rows B, at least 1.
        spec: what to draw; see :class:`LatentSpec` for the columns.
        dtype: float32, float16, bfloat16 or float64 of the generator's input; values are drawn in float32.
        sample_offset: index of the first sample, so that parts of a batch (or the ranks of a job) draw its
            rows.
        advance: False leaves the state as it is, for all but the last of such parts.

    Raises:
        RuntimeError: an argument has the wrong shape, dtype, device or range; the text names it.
    """
    sizes, kinds, cdf = spec.operator_arguments
    return Latents._make(
        _sample_latents(
            rng_state,
            batch_size,
            spec.noise_dim,
            spec.noise == "uniform",
            sizes,
            kinds,
            None if cdf is None else _cdf_tensor(cdf, rng_state.device),
            dtype,
            sample_offset,
            advance,
        )
    )


def gather_images(
    order_state: Tensor,
    images: Tensor,
    batch_size: int,
    *,
    dtype: torch.dtype = torch.float32,
    advance: bool = True,
) -> Gathered:
    """The next batch of a shuffled data set, as values in [0, 1], in one kernel.

    Epochs follow one another without a gap, each image exactly once in each: batch t of seed s is positions t
    * B to t * B + B - 1. The shuffle is a keyed bijection of the positions, a Feistel network with cycle
    walking (Black and Rogaway 2002, "Ciphers with arbitrary finite domains"), so nothing is stored and any
    batch can be had at once.

    Args:
        order_state: int64 [2] from :func:`rng_state`, on the images' device; its step is moved on by one in
            place.
        images: uint8 [N, ...], contiguous: the order in memory is the batch's.
        batch_size: B, at least 1; more than N is fine.
        dtype: float32, float16, bfloat16 or float64 of the batch; value / 255 rounded to float32, then to it.
        advance: False leaves the state as it is.

    Raises:
        RuntimeError: an argument has the wrong shape, dtype, device or range; the text names it.
    """
    return Gathered._make(_gather_images(order_state, images, batch_size, dtype, advance))


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

    Raises:
        RuntimeError: an argument is missing or has the wrong shape, dtype, device or range; the text names
            it.
    """
    if real_logits is None and fake_logits is None and q_output is None:
        raise RuntimeError("infogan_loss: give at least one of real_logits, fake_logits and q_output")
    sizes, kinds, _ = spec.operator_arguments
    codes = weights.codes or (0.0,) * spec.n_codes
    differentiable = torch.is_grad_enabled() and any(
        value is not None and value.requires_grad for value in (real_logits, fake_logits, q_output)
    )
    if differentiable and grad_dtype is None:
        like = next(value for value in (real_logits, fake_logits, q_output) if value is not None)
        grad_dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    call = _infogan_loss if differentiable or torch.compiler.is_compiling() else _below_autograd
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
        )
    )


def _below_autograd(*arguments: Any) -> tuple[Tensor, ...]:
    # Autograd registered in Python costs 8 us a call even where nothing is to be differentiated.
    with torch._C._AutoDispatchBelowAutograd():
        outputs: tuple[Tensor, ...] = _infogan_loss(*arguments)
    return outputs


@torch.library.register_fake("infogan_fast::sample_latents")
def _(
    rng_state: Tensor,
    batch_size: int,
    noise_dim: int,
    uniform_noise: bool,
    categorical_sizes: Sequence[int],
    continuous_kinds: Sequence[int],
    categorical_cdf: Tensor | None,
    dtype: torch.dtype,
    sample_offset: int,
    advance: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    latent_dim = noise_dim + sum(categorical_sizes) + len(continuous_kinds)
    return (
        rng_state.new_empty((batch_size, latent_dim), dtype=dtype),
        rng_state.new_empty((batch_size, len(categorical_sizes)), dtype=torch.int32),
        rng_state.new_empty((batch_size, len(continuous_kinds)), dtype=torch.float32),
    )


@torch.library.register_fake("infogan_fast::gather_images")
def _(
    order_state: Tensor, images: Tensor, batch_size: int, dtype: torch.dtype, advance: bool
) -> tuple[Tensor, Tensor]:
    return (
        images.new_empty((batch_size, *images.shape[1:]), dtype=dtype),
        images.new_empty((batch_size,), dtype=torch.int64),
    )


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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    inputs = (real_logits, fake_logits, q_output)
    like = next((value for value in inputs if value is not None), None)
    assert like is not None
    accumulated = torch.float64 if like.dtype == torch.float64 else torch.float32
    n_terms = 3 + len(categorical_sizes) + 2 * len(continuous_kinds)
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


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, terms, *gradients = output
    ctx.mark_non_differentiable(terms, *gradients)
    ctx.dtypes = [None if value is None else value.dtype for value in inputs[:3]]
    ctx.scaled = inputs[10] is not None
    ctx.save_for_backward(*gradients)


def _backward(ctx: Any, grad_total: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    if ctx.scaled:
        raise RuntimeError(
            "infogan_loss: the total is not differentiable when grad_scale is given, since the gradients are "
            "scaled already; scale the total instead"
        )
    return (
        *(
            None if dtype is None else (gradient * grad_total).to(dtype)
            for dtype, gradient in zip(ctx.dtypes, ctx.saved_tensors, strict=True)
        ),
        *(None,) * 9,
    )


torch.library.register_autograd("infogan_fast::infogan_loss", _backward, setup_context=_setup_context)
