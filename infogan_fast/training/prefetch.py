"""Batches ahead of the step: for images that are not in memory, or not in that of the device."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor


class Prefetcher:
    """Gathers the next batch on a thread, and brings it to the device on a stream of its own, while an update
    runs.

    Args:
        gather: gathers the batch that a state of the order names, on the CPU, and moves that state on.
        order: the state of the run. It moves on when a batch is taken, so it can be saved at any time; a
            batch that was gathered before another state was loaded is dropped.
        device: of the batches.
    """

    def __init__(self, gather: Callable[[Tensor], Tensor], order: Tensor, device: torch.device) -> None:
        self._gather, self._order, self._device = gather, order, device
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._start()

    def _start(self) -> None:
        self._begun = self._order.clone()
        self._batch: Future[tuple[Tensor, Tensor]] = self._pool.submit(self._next, self._begun.clone())

    def _next(self, state: Tensor) -> tuple[Tensor, Tensor]:
        batch = self._gather(state)
        if self._stream is not None:
            with torch.cuda.stream(self._stream):
                batch = batch.pin_memory().to(self._device, non_blocking=True)
            self._stream.synchronize()  # this thread waits, the step does not
        return batch, state

    def take(self) -> Tensor:
        """The batch that the order names, on the device; the order moves on."""
        if not torch.equal(self._begun, self._order):
            self._batch.result()
            self._start()
        batch, after = self._batch.result()
        if self._stream is not None:
            batch.record_stream(torch.cuda.current_stream(self._device))
        self._order.copy_(after)
        self._start()
        return batch
