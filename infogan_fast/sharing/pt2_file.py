"""Networks as files of torch.export."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from infogan_fast.sharing.metadata import KEY


def pt2_bytes(network: nn.Module, example: Tensor, metadata: str) -> bytes:
    """A .pt2 file of a network with any number of rows.

    Args:
        network: plain PyTorch, in evaluation mode, on the CPU.
        example: an input of at least two rows.
        metadata: a text for the extra file ``infogan_fast``.
    """
    program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names files of this machine
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={KEY: metadata})
    return buffer.getvalue()


def load_pt2(path: Path) -> Callable[[Tensor], Tensor]:
    """A network from a .pt2 file."""
    return torch.export.load(path).module()
