"""What reads text and files, each as a function of arbitrary bytes.

A function may raise UserError, which is how bad input is refused; anything else is a finding.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle as pickle_module
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet
import scipy.io
import torch
from PIL import Image

from infogan_fast.analysis.seed_study import SeedStudy
from infogan_fast.config import Config, load_config
from infogan_fast.data import load_images, trial
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


def archive(data: bytes) -> None:
    load_images(str(written("pictures.zip", data)), image_size=16)


def cifar(data: bytes) -> None:
    """CIFAR-100's pickled training images."""
    load_images(str(written("cifar/train", data).parent))


def hdf5(data: bytes) -> None:
    trial._SECONDS = 2  # less than what counts as hanging here
    load_images(str(written("images.h5", data)))


def mat(data: bytes) -> None:
    trial._SECONDS = 2
    load_images(str(written("images.mat", data)))


def parquet(data: bytes) -> None:
    load_images(str(written("table.parquet", data)), image_size=16)


def picture(data: bytes) -> None:
    load_images(str(written("pictures/one.png", data).parent), image_size=16)


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


def _zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for i, kind in enumerate(("png", "jpeg")):
            archive.writestr(f"top/class{i}/{i}.{kind}", _saved(_PIXELS[i:], kind))
    return file.getvalue()


def _tarred(compressed: bool) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("train/a/0.png")
        member.size = len(content := _saved(_PIXELS, "png"))
        archive.addfile(member, io.BytesIO(content))
    return gzip.compress(file.getvalue()) if compressed else file.getvalue()


def _in_hdf5(compression: str | None) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as written_to:
        written_to.create_dataset("images", data=_PIXELS, compression=compression)
        written_to.create_dataset("labels", data=["a", "b"])
    return file.getvalue()


def _in_mat(compressed: bool) -> bytes:
    file = io.BytesIO()
    pixels = np.arange(16 * 16 * 3 * 2, dtype=np.uint8).reshape(16, 16, 3, 2)
    scipy.io.savemat(file, {"X": pixels, "y": np.array([[1.0], [10.0]])}, do_compression=compressed)
    return file.getvalue()


def _in_parquet() -> bytes:
    file = io.BytesIO()
    pictures = [_saved(_PIXELS[i:], "png") for i in range(2)]
    pyarrow.parquet.write_table(pyarrow.table({"image": pictures, "label": [0, 1]}), file)
    return file.getvalue()


def _archive(state: object) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    checkpoint._seal(file)
    return file.getvalue()


def _pickled(state: object) -> bytes:
    with zipfile.ZipFile(io.BytesIO(_archive(state))) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


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
    "archive": (archive, [_zipped(), _tarred(False), _tarred(True)]),
    "cifar": (
        cifar,
        [
            pickle_module.dumps(
                {b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [3, 9], b"coarse_labels": [1, 2]}, 2
            )
        ],
    ),
    "hdf5": (hdf5, [_in_hdf5(None), _in_hdf5("gzip")]),
    "mat": (mat, [_in_mat(False), _in_mat(True)]),
    "parquet": (parquet, [_in_parquet()]),
    "picture": (picture, [_saved(_PIXELS, kind) for kind in ("png", "bmp", "gif", "jpeg", "tiff", "webp")]),
    "checkpoint": (checkpoint_file, [_archive(_STATE)]),
    "pickle": (pickle, [_pickled(_STATE)]),
}
