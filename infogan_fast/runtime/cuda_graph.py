"""Capture of a training iteration as one CUDA graph, leaving no trace of its warm-up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_WARM_UP = 3


def capture(
    run: Callable[[], None],
    state: Callable[[], Sequence[Tensor]],
    scalers: Sequence[torch.amp.GradScaler],
    device: torch.device,
) -> torch.cuda.CUDAGraph:
    """Capture ``run``; the first replay of the graph is the first run that counts.

    Warm-up (libraries initialise, optimizers allocate, torch.compile compiles) and capture use one stream.
    Afterwards, what the warm-up changed is restored: earlier tensors to their values, and the tensors that it
    created (an optimizer's moments and step counts) to zeros.

    Args:
        run: what a replay does. It may change only the tensors of ``state`` and the scalers, in place.
        state: returns the current tensors; it is called again after the warm-up.
        scalers: those that ``run`` uses; disabled ones are left alone.
        device: a CUDA device.
    """
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for scaler in scalers:
            # Creates its tensors, which a graph must find in place.
            scaler.scale(torch.ones((), device=device))
        scales = [scaler.state_dict() for scaler in scalers]
        before = {id(tensor): tensor.detach().clone() for tensor in state()}
        for _ in range(_WARM_UP):
            run()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            run()
        for tensor in state():
            if id(tensor) in before:
                tensor.detach().copy_(before[id(tensor)])
            else:
                tensor.detach().zero_()
        for scaler, scale in zip(scalers, scales, strict=True):
            scaler.load_state_dict(scale)
    torch.cuda.current_stream(device).wait_stream(stream)
    return graph
