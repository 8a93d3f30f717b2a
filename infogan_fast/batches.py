"""Batches of real images: the order is a pure function of (seed, position), so that a resumed run goes on
with it."""

from __future__ import annotations

import torch
from torch import Tensor

_EPOCH_STRIDE = 0x9E3779B97F4A7C15  # odd, so that (seed, epoch) of one run do not meet those of the next seed


class Batches:
    """The images' epochs, one shuffle after another, cut into batches; a batch may span two epochs.

    Args:
        images: uint8 [N, C, S, S] where they are to stay.
        seed: of the order.
        batch_size: B, at least 1; more than N is fine.
        device, dtype: of the batches.
    """

    def __init__(
        self, images: Tensor, seed: int, batch_size: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.images, self.seed, self.batch_size = images, seed, batch_size
        self.device, self.dtype = device, dtype
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def indices(self, step: int) -> Tensor:
        """int64 [B] on the CPU: the images of the batch that update number ``step`` (from 0) sees."""
        n, parts = len(self.images), []
        position, missing = step * self.batch_size, self.batch_size
        while missing:
            epoch, start = divmod(position, n)
            part = self._shuffled(epoch)[start : start + missing]
            parts.append(part)
            position, missing = position + len(part), missing - len(part)
        return torch.cat(parts)

    def __call__(self, step: int) -> Tensor:
        """[B, C, S, S] in [0, 1], channels last: see :meth:`indices`."""
        chosen = self.indices(step).to(self.images.device, non_blocking=True)
        batch = self.images.index_select(0, chosen).to(self.device, non_blocking=True)
        return batch.to(self.dtype, memory_format=torch.channels_last).div_(255)

    def _shuffled(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            mixed = (self.seed * _EPOCH_STRIDE + epoch) % 2**63
            self._order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(mixed))
            self._epoch = epoch
        return self._order
