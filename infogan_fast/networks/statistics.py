"""Batch statistics for networks that are used outside training."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from infogan_fast import ops
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import Generator

_Network = TypeVar("_Network", bound=nn.Module)


def calibrated(
    generator: Generator, spec: LatentSpec, *, batches: int = 8, batch_size: int = 128
) -> Generator:
    """A copy of the generator for making images: in evaluation mode, with batch statistics measured again.

    The running statistics of training lag behind the weights, and a moving average of weights has none of its
    own; images made with them are visibly off.

    Args:
        generator: any; it is left as it is.
        spec: the latents to measure with, drawn from a fixed seed.
        batches, batch_size: how many.
    """
    rng = ops.rng_state(0, device=next(generator.parameters()).device)
    return with_statistics(
        generator, (ops.sample_latents(rng, batch_size, spec).inputs for _ in range(batches))
    )


@torch.no_grad()
def with_statistics(network: _Network, batches: Iterable[Tensor]) -> _Network:
    """A float32 copy of a network in evaluation mode, without gradients, with the mean of the statistics of
    these batches, of at least two inputs each."""
    result = copy.deepcopy(network).float()
    for module in result.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.reset_running_stats()
            module.momentum = None  # a plain average over the batches
    result.train()
    for batch in batches:
        result(batch)
    return result.eval().requires_grad_(False)
