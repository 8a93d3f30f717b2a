"""What reads text and files, each as a function of arbitrary bytes.

A function may raise UserError, which is how bad input is refused; anything else is a finding.
"""

from __future__ import annotations

import io
import json
import os
import pickle as pickles
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import torch
from PIL import Image
from pyarrow import parquet as parquets
from scipy import io as scipy_io

from infogan_fast.analysis.seed_study import SeedStudy
from infogan_fast.config import Config, load_config
from infogan_fast.data import load_images
from infogan_fast.data.idx import read_idx
from infogan_fast.generate import choose_codes
from infogan_fast.latents import LatentSpec
from infogan_fast.objective.transformation import Transformation
from infogan_fast.request import parse
from infogan_fast.training import checkpoint
from infogan_fast.training.alarms import AlarmMonitor
from infogan_fast.training.run_folder import cut_metrics, read_config, read_metrics

SPEC = LatentSpec.parse("noise=4,cat=3,uniform=1,bernoulli=1")


_SHARED = Path("/dev/shm")
#: Where a folder of inputs is in memory, if there is such a place.
IN_MEMORY = str(_SHARED) if os.access(_SHARED, os.W_OK) else None
#: The folder of this process's inputs, which whoever started it removes.
FOLDER = "INFOGAN_FAST_FUZZ_FOLDER"


def written(name: str, data: bytes) -> Path:
    path = Path(os.environ[FOLDER], name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")  # as Python decodes arguments


def latents(data: bytes) -> None:
    spec = LatentSpec.parse(text(data))
    assert LatentSpec.parse(str(spec)) == spec


def transformation(data: bytes) -> None:
    change = Transformation.parse(text(data))
    assert Transformation.parse(str(change)) == change


def flags(data: bytes) -> None:
    """Flags of training, separated by zero bytes as in /proc/PID/cmdline."""
    argv = [each for each in text(data).split("\0") if each not in ("-h", "--help")]
    request = parse(argv)
    config = Config.from_options(request.given).checked()
    assert load_config(json.loads(json.dumps(config.options()))) == config


def codes(data: bytes) -> None:
    """What generate's --set takes."""
    choose_codes(SPEC, text(data).split("\0"))


def config_json(data: bytes) -> None:
    path = written("run/config.json", data)
    load_config(read_config(path.parent)["settings"]).resumed({})


def metrics_jsonl(data: bytes) -> None:
    path = written("rows/metrics.jsonl", data)
    AlarmMonitor(SPEC).replay(read_metrics(path.parent))
    cut_metrics(path.parent, 3)


def seeds_json(data: bytes) -> None:
    path = written("study/seeds.json", data)
    SeedStudy(path.parent, [], {}, 10, "cpu").prepare()


def idx(data: bytes) -> None:
    read_idx(written("images-idx3-ubyte", data))


def npy(data: bytes) -> None:
    load_images(str(written("images.npy", data)))


def npz(data: bytes) -> None:
    load_images(str(written("images.npz", data)))


def picture(data: bytes) -> None:
    load_images(str(written("pictures/one.png", data).parent), image_size=16)


def cifar_python(data: bytes) -> None:
    """A batch that is the file of the labels' names too."""
    written("cifar-python/test_batch", data)
    load_images(written("cifar-python/batches.meta", data).parent, split="test")


def cifar_binary(data: bytes) -> None:
    written("cifar-binary/test_batch.bin", data[:3073])
    load_images(written("cifar-binary/batches.meta.txt", data[3073:]).parent, split="test")


def cifar_archive(data: bytes) -> None:
    load_images(written("cifar-10-binary.tar", data), split="test")


def mat(data: bytes) -> None:
    load_images(written("images.mat", data))


def hdf5(data: bytes) -> None:
    load_images(written("images.h5", data))


def parquet(data: bytes) -> None:
    load_images(written("images.parquet", data), image_size=16)


def archive(data: bytes) -> None:
    load_images(written("pictures.zip", data), image_size=16)


def checkpoint_file(data: bytes) -> None:
    checkpoint.load(written("step-00000001.pt", data))


def pickle(data: bytes) -> None:
    """The pickled part of an archive whose checksums are right: what somebody could write on purpose."""
    path = written("step-00000002.pt", b"")
    with open(path, "w+b") as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", data)
            archive.writestr("archive/byteorder", b"little")
            archive.writestr("archive/data/0", bytes(24))  # of _STATE
            archive.writestr("archive/version", b"3\n")
        checkpoint._seal(file)
    checkpoint.load(path)


def _saved(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "npy":
        np.save(file, array)
    elif kind == "npz":
        np.savez(file, images=array, labels=np.arange(len(array)))
    else:
        Image.fromarray(array[0]).save(file, kind)
    return file.getvalue()


def _archive(state: object) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    checkpoint._seal(file)
    return file.getvalue()


def _pickled(state: object) -> bytes:
    with zipfile.ZipFile(io.BytesIO(_archive(state))) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def _batch(protocol: int) -> bytes:
    rows = np.arange(3072, dtype=np.uint8)[None] % 100
    batch = {b"labels": [1], b"label_names": [b"cat", b"dog"], b"data": rows}
    return pickles.dumps(batch, protocol)


def _mat(compressed: bool) -> bytes:
    file = io.BytesIO()
    arrays = {"X": _PIXELS.reshape(16, 16, 1, 2), "y": np.array([[1], [10]], np.uint8)}
    scipy_io.savemat(file, arrays, do_compression=compressed)
    return file.getvalue()


def _hdf5(libver: str, compression: str | None) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w", libver=libver) as group:
        group.create_dataset("images", data=_PIXELS, compression=compression)
        group["labels"] = ["cat", "dog"] if compression else [0, 1]
    return file.getvalue()


def _parquet(compression: str) -> bytes:
    picture = _saved(_PIXELS, "png")
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    pictures = pyarrow.array([{"bytes": picture, "path": "a.png"}] * 2, kind)
    table = pyarrow.table({"image": pictures, "label": [0, 1], "name": ["a", "b"]})
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"]}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file = io.BytesIO()
    parquets.write_table(table, file, compression=compression, row_group_size=1, write_statistics=False)
    return file.getvalue()


def _zip(compression: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name in ("a/0.png", "b/1.png"):
            archive.writestr(name, _saved(_PIXELS, "png"))
    return file.getvalue()


def _tar(members: dict[str, bytes], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    content = file.getvalue()
    return content[:4096] if mode == "w" else content  # what follows are zeros


_PIXELS = np.arange(2 * 16 * 16, dtype=np.uint8).reshape(2, 16, 16)
_STATE = {"format": checkpoint.FORMAT, "step": 1, "training": {"w": torch.ones(2, 3)}, "seconds": 1.5}

#: Each reader with inputs to begin from.
READERS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "latents": (latents, [b"noise=62,cat=10,uniform=2", b"noise=3:uniform,cat=0.5/0.5/0,normal=1"]),
    "transformation": (transformation, [b"rotation=15,scale=0.1,shear=0.2,shift=0.06,colour=0.1,flip=1"]),
    "flags": (
        flags,
        [
            b"--steps\x0010\0--latents\0cat=3,uniform=2\0--lr-d\x001e-4\0--amp",
            b"--fixed-sigma\x000.5\0--profile\x001:3\0--transformation\0rotation=5\0--seed\0-7\0--no-crop",
            b"--equivariance\x001\0--smoothness-until\x0050\0--recipe\0paper\0--resume\0runs/a",
        ],
    ),
    "codes": (codes, [b"c1=2\0c2=-0.5", b"c3=1"]),
    "config_json": (
        config_json,
        [
            json.dumps(
                {
                    "format": 3,
                    "settings": Config().checked().options(),
                    "data": {"source": "s", "images": 40, "image_size": 16, "channels": 1},
                }
            ).encode()
        ],
    ),
    "metrics_jsonl": (
        metrics_jsonl,
        [
            b'{"step": 2, "seconds": 0.1, "d_real": 0.7, "d_fake": 0.7, "g": 0.7, "nll_c1": 1.1, "L_c1": 0,'
            b' "H_c1": 1.1, "mse_c2": 0.3, "L_c3": 0.1, "H_c3": 0.7, "diversity": 0.1}\n{"step": 4, "g": 9}\n'
        ],
    ),
    "seeds_json": (seeds_json, [b'{"format": 1, "settings": {"steps": 10}, "seeds": [], "selected": null}']),
    "idx": (idx, [b"\0\0\x08\x03\0\0\0\1\0\0\0\2\0\0\0\2abcd", b"\0\0\x08\1\0\0\0\2ab", b"\x1f\x8b\x08\0"]),
    "npy": (npy, [_saved(_PIXELS, "npy")]),
    "npz": (npz, [_saved(_PIXELS, "npz")]),
    "picture": (picture, [_saved(_PIXELS, kind) for kind in ("png", "bmp", "gif", "jpeg", "tiff", "webp")]),
    "cifar_python": (cifar_python, [_batch(2), _batch(3)]),
    "cifar_binary": (cifar_binary, [b"\1" + bytes(3072) + b"cat\ndog\n"]),
    "cifar_archive": (
        cifar_archive,
        [_tar({"cifar-10-batches-bin/test_batch.bin": b"\1" + b"\7" * 3072}, mode) for mode in ("w", "w:gz")],
    ),
    "mat": (mat, [_mat(compressed) for compressed in (False, True)]),
    "hdf5": (hdf5, [_hdf5("earliest", None), _hdf5("latest", "gzip")]),
    "parquet": (parquet, [_parquet(compression) for compression in ("none", "snappy", "zstd")]),
    "archive": (
        archive,
        [
            *(
                _zip(kind)
                for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
            ),
            *(_tar({"a/0.png": _saved(_PIXELS, "png")}, mode) for mode in ("w", "w:gz", "w:bz2", "w:xz")),
        ],
    ),
    "checkpoint": (checkpoint_file, [_archive(_STATE)]),
    "pickle": (pickle, [_pickled(_STATE)]),
}
