"""HDF5 files, 3D Shapes among them, and what is said where h5py is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from infogan_fast.data import hdf5, load_images
from infogan_fast.data.image_set import one_of_each_part
from infogan_fast.data.registry import SOURCES
from infogan_fast.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 16, 16), np.uint8)


def write(path: Path, **arrays: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values)
    return path


def refused(path: Path, says: str, **options: Any) -> None:
    with pytest.raises(UserError, match=says):
        load_images(path, **options)


def test_shapes3d(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (64, 64, 64, 3), np.uint8)
    grid = np.indices((2, 2, 2, 2, 2, 2)).reshape(6, -1).T
    steps = (0.1, 0.1, 0.1, 0.25, 1.0, 30.0)
    labels = grid * steps + (0, 0, 0, 0.75, 0, -30)
    write(tmp_path / "3dshapes.h5", images=images, labels=labels.astype(np.float64))
    found = load_images("shapes3d", data_dir=tmp_path)
    assert np.array_equal(found.images.permute(0, 2, 3, 1), images)
    assert tuple(found.factors) == SOURCES["shapes3d"].factors
    for j, factor in enumerate(found.factors.values()):
        assert np.allclose(factor, labels[:, j]) and factor.is_floating_point() == (j != 4)
    assert found.label == "shape" and found.labels is not None
    assert np.array_equal(found.labels, grid[:, 4])
    hue = load_images(tmp_path / "3dshapes.h5", label="wall_hue", count=7)
    rows = one_of_each_part(64, 7, "")
    assert hue.labels is not None and np.array_equal(hue.labels, grid[rows, 1])
    assert np.array_equal(hue.factors["scale"], labels[rows, 3].astype(np.float32))
    with pytest.raises(UserError, match="published without a test split"):
        load_images("shapes3d", data_dir=tmp_path, split="test")


@pytest.mark.parametrize("chunks", [None, (1, 16, 16), (7, 16, 8), (40, 16, 16)])
def test_sparse_rows_are_read_a_chunk_at_a_time(tmp_path: Path, chunks: Any) -> None:
    """A chunk is unpacked whole each time that any of its rows is read."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", data=PIXELS, chunks=chunks)
        dataset, reads = file["images"], []

        class Counted:
            chunks = dataset.chunks

            def __getitem__(self, rows: slice) -> Any:
                reads.append(rows)
                return dataset[rows]

        rows = np.array([0, 6, 7, 13, 14, 39])
        assert np.array_equal(hdf5._rows(Counted(), rows), PIXELS[rows])
        rows = np.array([0, 6, 39])
        assert np.array_equal(hdf5._rows(Counted(), rows), PIXELS[rows])
        length = (chunks or (1,))[0]
        assert len(reads) == len(set((np.array([0, 6, 7, 13, 14, 39]) // length).tolist())) + len(
            set((rows // length).tolist())
        )
        assert all((part.stop - 1) // length == part.start // length for part in reads)


def test_names_splits_labels_and_any_suffix(tmp_path: Path) -> None:
    path = write(
        tmp_path / "file", x_train=PIXELS, y_train=np.arange(40) % 3, x_test=PIXELS[:5], y_test=list("babaa"),
        hair=np.arange(40) % 2,
    )  # fmt: skip
    train, test = load_images(path), load_images(path, split="test")
    assert np.array_equal(train.images[:, 0], PIXELS) and np.array_equal(test.images[:, 0], PIXELS[:5])
    assert train.labels is not None and train.labels.tolist() == [i % 3 for i in range(40)]
    assert "labels y (there are hair too)" in train.source
    assert (
        test.label_names == ("a", "b") and test.labels is not None and test.labels.tolist() == [1, 0, 1, 0, 0]
    )
    hair = load_images(path, label="hair").labels
    assert hair is not None and hair.tolist() == [i % 2 for i in range(40)]
    refused(path, "has no label 'beard'; choose one of y, hair", label="beard")


def test_floats(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", data=PIXELS / 255)
    found = load_images(path, count=9)  # the range is that of all
    assert np.array_equal(found.images[:, 0], PIXELS[one_of_each_part(40, 9, "")])
    assert found.source.endswith("pixels from 0 to 1")
    refused(path, "beyond --pixel-range 0..0.5", pixel_range="0..0.5")


def test_only_chosen_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.h5", images=PIXELS)
    read, rows, chosen = hdf5._rows, [], one_of_each_part(len(PIXELS), 3, "")

    def noted(dataset: Any, wanted: Any) -> Any:
        rows.extend(wanted.tolist())
        return read(dataset, wanted)

    monkeypatch.setattr(hdf5, "_rows", noted)
    assert np.array_equal(load_images(path, count=3).images[:, 0], PIXELS[chosen])
    assert rows == chosen.tolist()


def test_nothing_outside_of_the_file_is_read(tmp_path: Path) -> None:
    write(tmp_path / "other.h5", images=PIXELS)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "images")
    refused(tmp_path / "a.h5", "expected an array named images.*; it holds nothing")
    (tmp_path / "raw").write_bytes(PIXELS.tobytes())
    with h5py.File(tmp_path / "b.h5", "w") as file:
        place = [(str(tmp_path / "raw"), 0, PIXELS.nbytes)]
        file.create_dataset("images", PIXELS.shape, np.uint8, external=place)
    refused(tmp_path / "b.h5", "data set images lies in other files, which are not read")


def test_other_and_damaged_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", images=PIXELS.astype(complex))
    refused(path, "images are complex128, expected numbers")
    path = write(tmp_path / "b.h5", foo=PIXELS, bar=PIXELS)
    refused(path, "expected an array named images, x, .*it holds bar, foo")
    path = write(tmp_path / "c.h5", images=PIXELS)
    path.write_bytes(path.read_bytes()[:600])
    refused(path, "c.h5: not a readable HDF5 file")
    with h5py.File(tmp_path / "d.h5", "w") as file:  # announces a pebibyte, and holds nothing
        file.create_dataset("images", (1 << 40, 32, 32), np.uint8, chunks=(1, 32, 32))
    refused(tmp_path / "d.h5", "which take .* GiB of memory")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.h5", images=PIXELS)
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused(path, r"a.h5: reading it needs h5py .*pip install 'infogan_fast\[data\]'")
