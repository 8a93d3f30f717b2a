"""Capture of a training iteration as one CUDA graph, leaving no trace of its warm-up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def capture(
    run: Callable[[], None],
    state: Sequence[Tensor],
    scalers: Sequence[torch.amp.GradScaler],
    device: torch.device,
    *,
    alone: bool = True,
) -> torch.cuda.CUDAGraph:
    """Capture ``run``; the first replay of the graph is the first run that counts.

    A warm-up, in which libraries initialise, and the capture use one stream.
    Afterwards, what the warm-up changed is restored.

    Args:
        run: what a replay does. It may change only the tensors of ``state`` and the scalers, in place.
        state: the tensors.
        scalers: those that ``run`` uses; disabled ones are left alone.
        device: a CUDA device.
        alone: False where threads of a process group look after events during the capture.

    Raises:
        RuntimeError: ``run`` fails, or does what a graph cannot hold; nothing has changed.
    """
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for scaler in scalers:
            # Creates its tensors, which a graph must find in place.
            scaler.scale(torch.ones((), device=device))
        scales = [scaler.state_dict() for scaler in scalers]
        before = [tensor.detach().clone() for tensor in state]
        graph = torch.cuda.CUDAGraph()
        mode = "global" if alone else "thread_local"
        try:
            run()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode=mode):
                run()
        except RuntimeError as error:
            raise RuntimeError(
                f"an iteration cannot be captured as a CUDA graph ({error}); --no-cuda-graph runs without"
            ) from error
        finally:
            for tensor, value in zip(state, before, strict=True):
                tensor.detach().copy_(value)
            for scaler, scale in zip(scalers, scales, strict=True):
                scaler.load_state_dict(scale)
    torch.cuda.current_stream(device).wait_stream(stream)
    return graph
