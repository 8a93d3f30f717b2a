"""Parquet files as Hugging Face stores data sets of pictures in them."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from infogan_fast.data import load_images, pictures
from infogan_fast.data import parquet as reader
from infogan_fast.errors import RunWarning, UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 16), np.uint8)
ALL = slice(None)
DIGITS = [i % 3 for i in range(12)]


def encoded(pixels: Any, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write(
    path: Path, rows: slice = ALL, plain: bool = False, names: Any = ("a", "b", "c"), **more: Any
) -> Path:
    """A shard, as the library ``datasets`` writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures: list[Any] = [encoded(p) for p in PIXELS[rows]]
    if not plain:
        pictures = [{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(pictures)]
    kind = (
        pyarrow.binary() if plain else pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    )
    columns = {"image": pyarrow.array(pictures, kind), "label": pyarrow.array(DIGITS[rows], pyarrow.int64())}
    table = pyarrow.table(columns | {name: pyarrow.array(values) for name, values in more.items()})
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, path, row_group_size=5)
    return path


def refused(path: Path, says: str, **options: Any) -> None:
    with pytest.raises(UserError, match=says):
        load_images(path, **options)


@pytest.mark.parametrize("plain", [False, True])
def test_a_file(plain: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "pictures", plain=plain, other=[f"t{i % 2}" for i in range(12)], flag=[True] * 12)
    found = load_images(path)
    assert np.array_equal(found.images[:, 0], PIXELS) and found.labels is not None
    assert found.labels.tolist() == DIGITS and found.label_names == ("a", "b", "c")
    assert "labels label (there are flag, other too)" in found.source
    some = load_images(path, count=5, label="other")
    rows = np.arange(5) * 12 // 5
    assert np.array_equal(some.images[:, 0], PIXELS[rows]) and some.labels is not None
    assert some.labels.tolist() == (rows % 2).tolist() and some.label_names == ("t0", "t1")
    refused(path, "has no label 'hair'; choose one of label, flag, other with --label", label="hair")
    refused(path, "no test split; expected files such as test-", split="test")
    refused(path, "leave out --pixel-range", pixel_range="0..1")


@pytest.mark.parametrize("folder", [".", "data"])
def test_shards_and_splits(folder: str, tmp_path: Path) -> None:
    data = tmp_path / folder
    write(data / "train-00000-of-00002.parquet", slice(0, 6))
    write(data / "train-00001-of-00002.parquet", slice(6, 9))
    write(data / "test-00000-of-00001.parquet", slice(9, 12))
    write(data / "extra-00000-of-00001.parquet", slice(9, 12))
    train, test = load_images(tmp_path), load_images(tmp_path, split="test")
    assert np.array_equal(train.images[:, 0], PIXELS[:9]) and np.array_equal(test.images[:, 0], PIXELS[9:])
    assert "without the split extra" in train.source
    (data / "train-00000-of-00002.parquet").unlink()
    refused(tmp_path, r"holds 1 of the 2 files train-\*-of-00002.parquet; get the others")
    (data / "test-00000-of-00001.parquet").unlink()
    refused(tmp_path, "no test split; found extra-00000", split="test")


def test_splits_at_the_end_of_names(tmp_path: Path) -> None:
    write(tmp_path / "faces_train.parquet", slice(0, 8))
    write(tmp_path / "faces_test.parquet", slice(8, 12))
    train, test = load_images(tmp_path), load_images(tmp_path, split="test")
    assert np.array_equal(train.images[:, 0], PIXELS[:8]) and np.array_equal(test.images[:, 0], PIXELS[8:])


@pytest.mark.parametrize("folder", [".", "data"])
def test_a_folder_a_split(folder: str, tmp_path: Path) -> None:
    data = tmp_path / folder
    write(data / "train" / "0000.parquet", slice(0, 6))
    write(data / "train" / "0001.parquet", slice(6, 9))
    write(data / "validation" / "0000.parquet", slice(9, 12))
    write(data / "other" / "0000.parquet", slice(9, 12))
    train, test = load_images(tmp_path), load_images(tmp_path, split="test")
    assert np.array_equal(train.images[:, 0], PIXELS[:9]) and np.array_equal(test.images[:, 0], PIXELS[9:])
    shutil.rmtree(data / "validation")
    refused(tmp_path, "no test split; found 0000.parquet, 0001.parquet", split="test")


@pytest.mark.parametrize(
    "values",
    [
        pyarrow.array(list("abcabcabcabc"), pyarrow.large_string()),  # pandas 3, polars
        pyarrow.array(list("abcabcabcabc"), pyarrow.string_view()),
        pyarrow.array(list("abcabcabcabc")).dictionary_encode(),  # categories of pandas
        pyarrow.array(list("abcabcabcabc"), pyarrow.large_string()).dictionary_encode(),
        pyarrow.array(DIGITS).dictionary_encode(),
    ],
    ids=lambda values: str(values.type),
)
def test_types_of_labels(values: Any, tmp_path: Path) -> None:
    table = pyarrow.table({"image": pyarrow.array([encoded(p) for p in PIXELS]), "label": values})
    parquet.write_table(table, tmp_path / "a.parquet")
    for label in (None, "label"):
        found = load_images(tmp_path / "a.parquet", label=label)
        assert found.labels is not None and found.labels.tolist() == DIGITS
        assert found.label_names == (("a", "b", "c") if "string" in str(values.type) else ())


def test_many_rows_go_through_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet")
    plain = load_images(path)
    monkeypatch.setattr(pictures, "CACHED_FROM", 12)
    monkeypatch.setenv("INFOGAN_FAST_CACHE", str(tmp_path / "cache"))
    written = load_images(path)
    assert plain.mapped is None and written.mapped is not None
    monkeypatch.setattr(pictures, "_decode_all", None)
    found = load_images(path)
    for images in (written, found):
        assert torch.equal(plain.images, images.images)
        assert plain.labels is not None and images.labels is not None
        assert torch.equal(plain.labels, images.labels)


def test_shards_without_names_of_splits(tmp_path: Path) -> None:
    write(tmp_path / "0000.parquet", slice(0, 6))
    write(tmp_path / "0001.parquet", slice(6, 12))
    assert np.array_equal(load_images(tmp_path).images[:, 0], PIXELS)
    refused(tmp_path, "no test split", split="test")
    write(tmp_path / "0002.parquet", slice(6, 12), plain=True)
    refused(tmp_path, "0002.parquet: has other columns than 0000.parquet")


def test_damaged_pictures(tmp_path: Path) -> None:
    good, kind = encoded(PIXELS[0]), pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    rows = [{"bytes": good, "path": None}, {"bytes": None, "path": "x.png"}, {"bytes": b"no", "path": None}]
    table = pyarrow.table({"img": pyarrow.array(rows, kind), "label": [0, 1, 2]})
    parquet.write_table(table, tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", r"row 1: holds no bytes but the path x.png \(and 1 more files\)")
    found = load_images(tmp_path / "a.parquet", skip_damaged=True)
    assert len(found.images) == 1 and len(found.left_out) == 2
    assert found.labels is not None and found.labels.tolist() == [0]


def test_labels_that_are_none_stop_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", lacking=pyarrow.array([None, *range(11)]))
    with pytest.warns(RunWarning, match="column lacking has rows without a value"):
        refused(path, "has no labels called 'lacking'", label="lacking")
    refused(write(tmp_path / "b.parquet", names=["a"]), "labels run from 0 to 2 and 1 have names")
    table = parquet.read_table(path).select(["image"])
    parquet.write_table(
        table.append_column("id", pyarrow.array(list("abcdefghijkl"))), tmp_path / "c.parquet"
    )
    assert load_images(tmp_path / "c.parquet").labels is None  # texts are labels only when asked for
    parquet.write_table(table.append_column("label", pyarrow.array([-1] * 12)), tmp_path / "d.parquet")
    with pytest.warns(RunWarning, match="holds -1 alone"):
        assert load_images(tmp_path / "d.parquet").labels is None


def test_columns_that_pandas_writes(tmp_path: Path) -> None:
    """Its numbers of rows are no labels; whole numbers with gaps come as floats."""
    table = parquet.read_table(write(tmp_path / "a.parquet")).select(["image"])
    rows = pyarrow.array([2, 0, 1] * 4)
    parquet.write_table(table.append_column("__index_level_0__", rows), tmp_path / "b.parquet")
    found = load_images(tmp_path / "b.parquet")
    assert found.labels is None and "labels" not in found.source
    parquet.write_table(table.append_column("label", rows.cast("float64")), tmp_path / "c.parquet")
    found = load_images(tmp_path / "c.parquet")
    assert found.labels is not None and found.labels.tolist() == [2, 0, 1] * 4
    parquet.write_table(table.append_column("size", rows.cast("float32")), tmp_path / "d.parquet")
    assert load_images(tmp_path / "d.parquet").labels is None  # a measurement, unless it is asked for
    asked = load_images(tmp_path / "d.parquet", label="size")
    assert asked.labels is not None and asked.labels.tolist() == [2, 0, 1] * 4


def test_metadata_next_to_pictures_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(encoded(PIXELS[0]))
    parquet.write_table(
        pyarrow.table({"file_name": ["0.png"], "text": ["a digit"]}), tmp_path / "metadata.parquet"
    )
    assert np.array_equal(load_images(tmp_path).images[0, 0], PIXELS[0])


def test_other_contents(tmp_path: Path) -> None:
    for columns, says in [
        (
            {"label": pyarrow.array([1, 2])},
            r"expected one column of encoded pictures.*; found label \(int64\)",
        ),
        ({name: pyarrow.array([b"x"]) for name in "ab"}, r"found a \(binary\), b \(binary\)"),
        ({"image": pyarrow.array([], pyarrow.binary())}, "holds no images"),
    ]:
        parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
        refused(tmp_path / "a.parquet", says)
    path = write(tmp_path / "b.parquet")
    path.write_bytes(path.read_bytes()[:-30])
    refused(path, "b.parquet: not a readable Parquet file")


def test_a_group_is_read_where_memory_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def require(size: int, what: str) -> None:
        raise UserError(f"{what}, which take {size}")

    monkeypatch.setattr(reader, "require_memory", require)
    refused(
        write(tmp_path / "a.parquet"), r"a.parquet: has groups of rows of [\d,]{5,} bytes, which take \d{4,}"
    )


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    refused(path, r"a.parquet: reading it needs pyarrow .*pip install 'infogan_fast\[data\]'")
