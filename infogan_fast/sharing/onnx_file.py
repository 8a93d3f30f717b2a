"""Networks as ONNX files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from infogan_fast.errors import UserError
from infogan_fast.extras import extra
from infogan_fast.sharing.metadata import KEY

OPSET = 18
_LARGEST = (2 << 30) - (1 << 20)  # protobuf's limit, less room for the graph


def check_packages() -> None:
    """Check that what writes and reads ONNX is installed.

    Raises:
        UserError: a package is missing.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        extra("export", module, "--to onnx")


def onnx_bytes(network: nn.Module, example: Tensor, names: tuple[str, str], metadata: str) -> bytes:
    """An ONNX file of a network with any number of rows.

    Args:
        network: plain PyTorch, in evaluation mode, on the CPU.
        example: an input of at least two rows.
        names: of the input and the output.
        metadata: a text for the key ``infogan_fast`` of the file's metadata_props.

    Raises:
        UserError: a package is missing, or the weights are more than one file holds.
    """
    onnx = extra("export", "onnx", "--to onnx")
    size = sum(p.numel() * p.element_size() for p in network.parameters())
    if size > _LARGEST:
        raise UserError(
            f"--to onnx: the weights have {size >> 20:,} MiB, and an ONNX file holds {_LARGEST >> 20:,}; "
            "take --to safetensors or --to pt2"
        )
    with _quietly():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
        )
    assert program is not None
    model = program.model_proto
    graph = model.graph
    # The exporter notes which lines of which files the nodes come from.
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
    onnx.helper.set_model_props(model, {KEY: metadata})
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data


def load_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    """A network from an ONNX file, run by onnxruntime on the CPU.

    Raises:
        UserError: onnxruntime is missing.
    """
    onnxruntime = extra("export", "onnxruntime", "--to onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    return lambda x: torch.from_numpy(session.run([made.name], {given.name: x.numpy()})[0])


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporter logs and warns of: parts of PyTorch that it does not find, or deprecates."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
