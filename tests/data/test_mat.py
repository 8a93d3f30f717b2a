"""SVHN's MATLAB files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from scipy import io

from infogan_fast.data import load_images, mat
from infogan_fast.data.image_set import one_of_each_part
from infogan_fast.errors import RunWarning, UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 6), np.uint8)
DIGITS = [1, 9, 2, 10, 3, 10]


def write(path: Path, **arrays: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    io.savemat(path, arrays or {"X": PIXELS, "y": np.array(DIGITS, np.uint8)[:, None]}, do_compression=True)
    return path


def refused(path: Path, says: str, **options: Any) -> None:
    with pytest.raises(UserError, match=says):
        load_images(path, **options)


def test_svhn(tmp_path: Path) -> None:
    path = write(tmp_path / "svhn" / "train_32x32.mat")
    write(tmp_path / "svhn" / "test_32x32.mat", X=PIXELS[..., :2], y=np.array([[10.0], [1.0]]))
    renamed = tmp_path / "any.bin"  # the content tells
    renamed.write_bytes(path.read_bytes())
    for found in (load_images(path), load_images(path.parent), load_images(renamed)):
        assert np.array_equal(found.images, PIXELS.transpose(3, 2, 0, 1))
        assert found.labels is not None and found.labels.tolist() == [1, 9, 2, 0, 3, 0]
    test = load_images("svhn", data_dir=tmp_path, split="test")
    assert test.labels is not None and test.labels.tolist() == [0, 1]
    assert load_images(path, count=3).images.shape == (3, 3, 32, 32)
    row = load_images(write(tmp_path / "row.mat", X=PIXELS, y=np.array(DIGITS, np.uint8)[None]))
    assert row.labels is not None and row.labels.tolist() == [1, 9, 2, 0, 3, 0]
    refused(path, "one file has no test split; name the folder of train_32x32.mat", split="test")
    refused(path, "has no label 'digit'; choose one of label", label="digit")
    refused(path, "leave out --pixel-range", pixel_range="0..1")
    (tmp_path / "svhn" / "test_32x32.mat").unlink()
    refused(path.parent, "no test images; expected test_32x32.mat", split="test")


def write_73(path: Path, **arrays: Any) -> Path:
    """As MATLAB saves with '-v7.3': HDF5 behind a header of 512 bytes, with axes reversed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=np.asarray(values).T).attrs["MATLAB_class"] = np.bytes_("uint8")
    with open(path, "r+b") as raw:
        raw.write(
            b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(116)
            + bytes(8)
            + b"\x00\x02IM"
        )
    return path


def test_version_7_3(tmp_path: Path) -> None:
    path = write_73(tmp_path / "train_32x32.mat", X=PIXELS, y=np.array(DIGITS)[:, None])
    write_73(tmp_path / "test_32x32.mat", X=PIXELS[..., :2], y=np.array([[10, 1]]))
    for found in (load_images(path), load_images(tmp_path)):
        assert np.array_equal(found.images, PIXELS.transpose(3, 2, 0, 1))
        assert found.labels is not None and found.labels.tolist() == [1, 9, 2, 0, 3, 0]
    test = load_images(tmp_path, split="test")
    assert test.labels is not None and test.labels.tolist() == [0, 1]
    whole = load_images(path).images
    assert torch.equal(load_images(path, count=3).images, whole[one_of_each_part(len(whole), 3, "")])
    refused(path, "one file has no test split", split="test")
    grey = write_73(tmp_path / "grey.mat", images=PIXELS[:, :, 0] / 255, labels=np.array([4, 5, 6, 4, 5, 6]))
    found = load_images(grey)
    assert np.array_equal(found.images[:, 0], PIXELS[:, :, 0].transpose(2, 0, 1))
    assert found.labels is not None and found.labels.unique().tolist() == [4, 5, 6]


def test_labels_that_fit_no_images_stop_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mat", X=PIXELS, y=np.arange(4)[:, None])
    with pytest.warns(RunWarning, match="goes on without them"):
        assert load_images(path).labels is None


def test_other_contents(tmp_path: Path) -> None:
    refused(write(tmp_path / "a.mat", X=PIXELS.astype(float)), r"expected X of uint8 .*; found X \(double")
    refused(write(tmp_path / "b.mat", Z=PIXELS), "expected X of uint8")
    path = write(tmp_path / "c.mat")
    whole = path.read_bytes()
    for length in (130, 300, len(whole) // 2):
        path.write_bytes(whole[:length])
        refused(path, "c.mat: ")


def test_memory_is_asked_for_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, asked = write(tmp_path / "a.mat"), []

    def require(size: int, what: str) -> None:
        asked.append(size)
        raise UserError(f"{what}, which take too much")

    monkeypatch.setattr(mat, "require_memory", require)
    monkeypatch.setattr(io, "loadmat", None)
    refused(path, "holds 6 images, which take too much")
    assert asked[0] >= 2 * PIXELS.nbytes
