"""Sums of what is measured at every update, on the device, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from infogan_fast.runtime.ranks import ALONE, Ranks


class MetricSums:
    """Sums over updates of named values; reading them is the only part that waits for the device.

    Args:
        groups: names of the values that are measured together, by the name of the group.
        device: where they are measured.
        ranks: that measure them, each on as many images.
    """

    def __init__(
        self, groups: Mapping[str, Sequence[str]], device: torch.device, ranks: Ranks = ALONE
    ) -> None:
        self.names = tuple(name for names in groups.values() for name in names)
        self.sums = torch.zeros(len(self.names), dtype=torch.float64, device=device)
        self._ranks = ranks
        self._slices: dict[str, slice] = {}
        start = 0
        for group, names in groups.items():
            self._slices[group] = slice(start, start + len(names))
            start += len(names)

    def places(self, group: str) -> list[int]:
        """Where the values of a group are in ``sums``."""
        part = self._slices[group]
        return list(range(part.start, part.stop))

    def add(self, group: str, values: Tensor) -> None:
        """Count the values of a group, one dimension, any floating dtype."""
        self.sums[self._slices[group]] += values

    def means(self, updates: int) -> dict[str, float]:
        """Means by name over so many updates and all ranks. Waits for the device and the other ranks."""
        self._ranks.average(self.sums)  # in place, so that every rank saves the same
        return dict(zip(self.names, (self.sums / max(updates, 1)).tolist(), strict=True))

    def take_means(self, updates: int) -> dict[str, float]:
        """As :meth:`means`; the sums start again at 0."""
        means = self.means(updates)
        self.sums.zero_()
        return means
