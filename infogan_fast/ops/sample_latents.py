"""Latents: noise and codes, drawn into the generator's input by one kernel."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from infogan_fast.latents import LatentSpec
from infogan_fast.ops.fakes import one_device
from infogan_fast.runtime import native

native.load()
_operator = torch.ops.infogan_fast.sample_latents.default


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


def _cdf_tensor(cdf: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(cdf, dtype=torch.float32, device=device)


# Kept for good: a captured graph reads it at its address.
_kept_cdf_tensor = functools.cache(_cdf_tensor)


def sample_latents(
    rng_state: Tensor,
    batch_size: int,
    spec: LatentSpec,
    *,
    cdf: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    sample_offset: int = 0,
    sample_stride: int = 1,
    advance: bool = True,
) -> Latents:
    """Draw noise and codes (Chen et al. 2016, section 5) into the generator's input, in one kernel.

    The value of sample n, dimension j at a step is a pure function of (seed, step, n, j) by Philox4x32-10
    (Salmon et al. 2011), the same on every device and for every number of threads; normals are made by Box
    and Muller.

    Args:
        rng_state: int64 [2] from :func:`rng_state`, on the device to draw on; its step is moved on by one in
            place.
        batch_size: rows B, at least 1.
        spec: what to draw; see :class:`LatentSpec` for the columns.
        cdf: float32, one entry a category of all categorical codes, on the device of the state: a category is
            drawn where a uniform number of [0, 1] is below its entry and not below that before, so the last
            one of each code is above 1. By default that of the spec's priors.
        dtype: float32, float16, bfloat16 or float64 of the generator's input; values are drawn in float32.
        sample_offset, sample_stride: row i is sample offset + i * stride, so that parts of a batch, or the
            ranks of a job, draw its rows; the stride is at least 1.
        advance: False leaves the state as it is, for all but the last of such parts.

    Raises:
        RuntimeError: an argument has the wrong shape, dtype, device or range; the text names it.
    """
    sizes, kinds, given = spec.operator_arguments
    if cdf is None and given is not None:
        # What a trace makes is of no use outside it, nor the other way round.
        traced = torch.compiler.is_compiling() or type(rng_state) is not Tensor
        cdf = (_cdf_tensor if traced else _kept_cdf_tensor)(given, rng_state.device)
    return Latents._make(
        _operator(
            rng_state,
            batch_size,
            spec.noise_dim,
            spec.noise == "uniform",
            sizes,
            kinds,
            cdf,
            dtype,
            sample_offset,
            sample_stride,
            advance,
        )
    )


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
    sample_stride: int,
    advance: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    one_device("sample_latents", rng_state, categorical_cdf)
    latent_dim = noise_dim + sum(categorical_sizes) + len(continuous_kinds)
    return (
        rng_state.new_empty((batch_size, latent_dim), dtype=dtype),
        rng_state.new_empty((batch_size, len(categorical_sizes)), dtype=torch.int32),
        rng_state.new_empty((batch_size, len(continuous_kinds)), dtype=torch.float32),
    )
