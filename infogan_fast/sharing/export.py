"""A run's networks in formats of other programs, each checked against the run before it is kept.

from infogan_fast.sharing.export import export

run = infogan_fast.load_run("runs/mnist-seed0")
files = export(run, "onnx")
"""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from infogan_fast.analysis.run import Run
from infogan_fast.errors import UserError
from infogan_fast.pictures.samples import draw_inputs
from infogan_fast.runtime.device import usual_modes
from infogan_fast.runtime.files import expanded
from infogan_fast.sharing import hub_folder, onnx_file, pt2_file, safetensors_file
from infogan_fast.sharing.folded import folded_encoder, folded_generator
from infogan_fast.sharing.metadata import describe

#: By the name of a format: what checks that its packages are installed.
FORMATS: dict[str, Callable[[], None]] = {
    "safetensors": safetensors_file.check_packages,
    "onnx": onnx_file.check_packages,
    "pt2": lambda: None,
    "hub": safetensors_file.check_packages,
}

#: Largest difference of an image from the run's, and of Q's answers in terms of the largest one (or of 1).
IMAGE_TOLERANCE, ANSWER_TOLERANCE = 1e-5, 1e-4
_BATCHES = (1, 16)
#: What the networks' inputs and outputs are called.
INTERFACES = {"generator": ("latents", "images"), "encoder": ("images", "codes")}
_SUFFIXES = (".onnx", ".pt2", ".safetensors")

_Network: TypeAlias = Callable[[Tensor], Tensor]
Files: TypeAlias = dict[Path, dict[str, float]]
"""By file, then by what its networks make, ``images`` or ``codes``: largest difference from the run's."""


@usual_modes()
def export(
    run: Run,
    to: str,
    out: str | PathLike[str] | None = None,
    *,
    only: str | None = None,
    data: Any = None,
    data_dir: str | PathLike[str] | None = None,
    evaluation: str | PathLike[str] | None = None,
) -> Files:
    """Write the generator and the encoder, with batch statistics folded into the weights.

    Every file is read back and compared with the run, in batches of 1 and 16, before any takes its name.
    Images may differ by 1e-5, Q's answers by 1e-4 of the largest of them, or by 1e-4 where that is below 1.

    Args:
        run: see :func:`infogan_fast.load_run`.
        to: ``safetensors``, ``onnx``, ``pt2`` or ``hub``; docs/export.md describes their files.
        out: a folder, for safetensors also a file that ends in .safetensors; by default RUN/export, for hub
            RUN/export/hub. Files of the same names are replaced.
        only: ``"generator"`` leaves the encoder out; that of an earlier export in the format is removed.
        data, data_dir: the encoder's batch statistics are of the training part of this data; see
            :meth:`Run.load_images`.
        evaluation: for hub, what ``evaluate --json`` wrote; by default RUN/evaluation.json, if it is there.

    Returns:
        The files, each with the largest differences of what its networks make.

    Raises:
        UserError: a package is missing, the training images cannot be loaded, a file cannot be written, or
            the exported networks are not the run's.
    """
    if to not in FORMATS:
        raise UserError(f"--to is {to!r}; expected {', '.join(FORMATS)}")
    if only not in (None, "generator"):
        raise UserError(f"--only is {only!r}; expected generator")
    if only is not None and (data is not None or data_dir is not None):
        raise UserError("--data and --data-dir are for the encoder, which --only generator leaves out")
    if evaluation is not None and to != "hub":
        raise UserError(f"--evaluation {evaluation} is for --to hub; leave it out with --to {to}")
    FORMATS[to]()
    folder, weights = _destination(run, to, None if out is None else expanded(Path(out)))
    if to == "hub":
        hub_folder.check_free(folder)
    elif to == "safetensors":
        safetensors_file.check_free(folder, weights)
    report = (
        hub_folder.read_evaluation(run, None if evaluation is None else expanded(Path(evaluation)))
        if to == "hub"
        else None
    )
    references = _references(run, only, data, None if data_dir is None else Path(data_dir))
    networks = {"generator": folded_generator(references["generator"])}  # type: ignore[arg-type]
    if "encoder" in references:
        networks["encoder"] = folded_encoder(references["encoder"])  # type: ignore[arg-type]
    inputs = _inputs(run, references["generator"])
    described = describe(run)
    metadata = json.dumps(described)

    files: dict[str, bytes] = {}
    if to in ("safetensors", "hub"):
        files[weights] = safetensors_file.safetensors_bytes(networks, metadata)
        files[safetensors_file.SCRIPT] = safetensors_file.script(
            networks, run.spec, run.image_size, run.channels, weights
        )
    for name, network in networks.items():
        example = inputs[name][:2]
        if to == "onnx":
            files[f"{name}.onnx"] = onnx_file.onnx_bytes(network, example, INTERFACES[name], metadata)
        elif to == "pt2":
            files[f"{name}.pt2"] = pt2_file.pt2_bytes(network, example, metadata)
    if to == "hub":
        files["config.json"] = (json.dumps(described, indent=2) + "\n").encode()
        files["traversal.png"] = hub_folder.picture(run)
        files["README.md"] = hub_folder.card(run, described, report, with_encoder="encoder" in networks)

    created = not folder.exists()
    kept = False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as stage:
            differences = _write_and_compare(Path(stage), files, weights, references, inputs)
            for name in files:
                os.replace(Path(stage, name), folder / name)
        if "encoder" not in networks:  # one of an earlier export would not go with this generator
            for suffix in {".onnx", ".pt2"} & {Path(name).suffix for name in files}:
                (folder / f"encoder{suffix}").unlink(missing_ok=True)
        kept = True
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written ({error.strerror or error})") from None
    finally:
        if created and not kept:
            with suppress(OSError):
                folder.rmdir()
    return {folder / name: differences.get(name, {}) for name in files}


def _destination(run: Run, to: str, out: Path | None) -> tuple[Path, str]:
    """The folder of the files, and the name of a file of weights in it."""
    folder = out or run.folder / "export" / ("hub" if to == "hub" else "")
    weights = "model.safetensors"
    if to == "safetensors" and folder.suffix == ".safetensors" and not folder.is_dir():
        folder, weights = folder.parent, folder.name
    elif out is not None and folder.suffix in _SUFFIXES and not folder.is_dir():
        raise UserError(f"--out {folder}: --to {to} writes several files; give a folder")
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"--out {folder}: {existing} is a file; give a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"--out {folder}: {existing} cannot be written; give another folder")
    return folder, weights


def _references(run: Run, only: str | None, data: Any, data_dir: Path | None) -> dict[str, nn.Module]:
    """Copies of the run's networks on the CPU."""
    result: dict[str, nn.Module] = {"generator": copy.deepcopy(run.generator).cpu()}
    if only is None:
        try:
            named = data is not None or data_dir is not None
            encoder = run.encoder_for(data=data, data_dir=data_dir) if named else run.encoder
        except UserError as error:
            raise UserError(
                f"the encoder needs batch statistics of the training images: {error}; name them with --data "
                "or --data-dir, or leave the encoder out with --only generator"
            ) from None
        result["encoder"] = copy.deepcopy(encoder).cpu()
    return result


@torch.no_grad()
def _inputs(run: Run, generator: nn.Module) -> dict[str, Tensor]:
    """What the networks are compared on: latents from the prior, and their images, every other one replaced
    by noise, so that each pixel counts."""
    latents = draw_inputs(run.generator, run.spec, max(_BATCHES), seed=0).cpu()
    images = generator(latents).contiguous()
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    images[1::2] = noise[1::2]
    return {"generator": latents, "encoder": images}


def _write_and_compare(
    stage: Path,
    files: Mapping[str, bytes],
    weights: str,
    references: Mapping[str, nn.Module],
    inputs: Mapping[str, Tensor],
) -> dict[str, dict[str, float]]:
    """Write files into a folder, read their networks and compare these with the run's: the largest
    differences by file, then by what the network makes."""
    for name, content in files.items():
        with open(stage / name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    result: dict[str, dict[str, float]] = {}
    for name in files:
        networks: dict[str, _Network | None] = {}
        if name == weights:
            networks = safetensors_file.load_script(stage / safetensors_file.SCRIPT, stage / weights)
        elif name.endswith(".onnx"):
            networks = {Path(name).stem: onnx_file.load_onnx(stage / name)}
        elif name.endswith(".pt2"):
            networks = {Path(name).stem: pt2_file.load_pt2(stage / name)}
        for part, reference in references.items():
            if (network := networks.get(part)) is not None:
                made = INTERFACES[part][1]
                result.setdefault(name, {})[made] = _difference(name, made, network, reference, inputs[part])
    return result


@torch.no_grad()
def _difference(file: str, made: str, network: _Network, reference: nn.Module, inputs: Tensor) -> float:
    """The largest difference of what a network makes from what the run's makes.

    Raises:
        UserError: it is not the same network.
    """
    largest = 0.0
    for batch in _BATCHES:
        wanted, found = reference(inputs[:batch]), network(inputs[:batch])
        limit = IMAGE_TOLERANCE
        if made == "codes":
            limit = ANSWER_TOLERANCE * max(1.0, float(wanted.abs().max()))
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            raise UserError(
                f"{file}: makes {made} {found.dtype} {tuple(found.shape)} and the run {wanted.dtype} "
                f"{tuple(wanted.shape)}; nothing was written"
            )
        difference = float((found - wanted).abs().max())
        if not difference <= limit:  # also of NaN
            raise UserError(
                f"{file}: the {made} it makes differ by up to {difference:.2g} from the run's, and "
                f"{limit:.2g} is allowed; nothing was written"
            )
        largest = max(largest, difference)
    return largest
