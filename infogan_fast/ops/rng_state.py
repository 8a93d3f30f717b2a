"""The state of the random numbers that operators draw."""

from __future__ import annotations

import torch
from torch import Tensor

from infogan_fast.errors import UserError


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
