"""The processes that train one model together, and what they tell each other at every update."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Ranks:
    """This process among those of a job, which are PyTorch's default process group; by default it is alone.

    Of a batch of B images, rank r of N has those of numbers r, r + N, r + 2 N, ...: what is drawn for an
    image depends on its number alone, so that the batch is the same whatever N is.

    rank: 0 to size - 1.
    size: N; 1 for a process that is alone.
    joined: whether there is a process group. Without one the methods do nothing.
    calls: how many messages this process has begun, in the one entry.
    """

    rank: int = 0
    size: int = 1
    joined: bool = False
    calls: list[int] = field(default_factory=lambda: [0], compare=False)

    def rows(self, count: int) -> int:
        """How many of the first ``count`` images of a batch this rank has."""
        return len(range(self.rank, count, self.size))

    def add_up(self, tensor: Tensor) -> None:
        """Sum over the ranks, in place."""
        if self.joined:
            self.calls[0] += 1
            distributed.all_reduce(tensor)

    def average(self, tensor: Tensor) -> None:
        """Mean over the ranks, in place."""
        if not self.joined:
            return
        self.calls[0] += 1
        if tensor.is_cuda:
            distributed.all_reduce(tensor, distributed.ReduceOp.AVG)
        else:  # gloo has no means
            distributed.all_reduce(tensor)
            tensor /= self.size

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; waits for all of them."""
        if not self.joined:
            return flag
        self.calls[0] += 1
        found = torch.tensor(int(flag))
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return bool(found)


ALONE = Ranks()
