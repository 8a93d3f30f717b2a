"""Pictures in Parquet files, as data sets on Hugging Face have them."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from infogan_fast.data import pictures
from infogan_fast.data.folder import SPLIT_FOLDERS
from infogan_fast.data.image_set import ImageSet, Selection, require_memory
from infogan_fast.data.labels import as_labels, choose_label, within, without
from infogan_fast.errors import MissingSplitError, UserError
from infogan_fast.extras import extra

_MAGIC = b"PAR1"
_SHARD = re.compile(r"(.*?)(\d+)-of-(\d+)")
_ROW_NUMBERS = re.compile(r"__index_level_\d+__")
_USUAL_LABELS = ("label", "labels", "class")
_SPLITS = [word for words in SPLIT_FOLDERS.values() for word in words]
_CACHED = 2  # row groups of a file: threads read on both sides of a boundary


def is_parquet(path: Path) -> bool:
    """Whether a file begins as Parquet files do."""
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def find(path: Path) -> tuple[Path, ...]:
    """The Parquet files of a folder, of its folders ``train``, ``test`` ..., or of its folder ``data``."""
    for folder in (path, path / "data"):
        for pattern in ("*.parquet", "*/*.parquet"):
            # What Hugging Face calls metadata.parquet describes the pictures in a folder.
            files = sorted(p for p in folder.glob(pattern) if p.is_file() and p.stem != "metadata")
            if files := [p for p in files if p.parent == folder or p.parent.name.lower() in _SPLITS]:
                return tuple(files)
    return ()


def load(path: Path, files: Sequence[Path], selection: Selection) -> ImageSet:
    """Decode the pictures of Parquet files, a group of rows at a time.

    The column of pictures holds encoded ones, as bytes or as a struct with ``bytes``. Columns of whole
    numbers or texts are labels; of several, the first one that Hugging Face's metadata gives names to, or the
    first one of numbers, is taken. Files called ``train-*`` and ``test-*`` (or ``validation-*``), or in
    folders of these names, are splits.

    Raises:
        MissingSplitError: there are no files of this split.
        UserError: a file is damaged or missing, or holds anything else.
    """
    chosen, note = _of_split(path, files, selection.split)
    try:
        return _load(path, chosen, note, selection)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a damaged file leads pyarrow to many kinds
        reason = " ".join(str(error or type(error).__name__).split())[:160]
        raise UserError(f"{path}: not a readable Parquet file ({reason}); get this file again") from None


def _of_split(path: Path, files: Sequence[Path], split: str) -> tuple[list[Path], str]:
    """The files of a split, and what the source says of those of none."""
    by_word: dict[str, list[Path]] = {}
    for file in files:
        folder = file.parent.name.lower() if file.parent not in (path, path / "data") else ""
        parts = re.split(r"[-_.]", file.stem.lower())
        named = [part for part in parts if part in _SPLITS]
        word = folder if folder in _SPLITS else named[0] if len(named) == 1 else parts[0]
        by_word.setdefault(word, []).append(file)
    if (len(files) == 1 and path == files[0]) or not any(word in _SPLITS for word in by_word):
        if split == "test":
            raise MissingSplitError(
                f"{path}: no test split; expected files such as test-00000-of-00001.parquet"
            )
        found, others = list(files), []
    else:
        word = next((word for word in SPLIT_FOLDERS[split] if word in by_word), None)
        if word is None:
            raise MissingSplitError(f"{path}: no {split} split; found {', '.join(f.name for f in files)}")
        found, others = by_word[word], [word for word in by_word if word not in _SPLITS]
    counts: dict[tuple[str, int], set[int]] = {}
    for file in found:
        if path != file and (match := _SHARD.fullmatch(file.stem)):
            counts.setdefault((match[1], int(match[3])), set()).add(int(match[2]))
    for (stem, total), numbers in counts.items():
        if len(numbers) != total:
            raise UserError(
                f"{path}: holds {len(numbers)} of the {total} files {stem}*-of-{total:05}.parquet; "
                "get the others"
            )
    return found, f", without the split {' and '.join(others)}" if others else ""


def _load(path: Path, files: Sequence[Path], note: str, selection: Selection) -> ImageSet:
    reading = f"{path}: reading it"
    arrow, parquet = extra("data", "pyarrow", reading), extra("data", "pyarrow.parquet", reading)
    tables = [parquet.ParquetFile(file) for file in files]
    schema = tables[0].schema_arrow
    for file, table in zip(files, tables, strict=True):
        if not table.schema_arrow.equals(schema):
            raise UserError(
                f"{file}: has other columns than {files[0].name}; give each data set its own folder"
            )
    features = _features(schema)
    column = _picture_column(arrow, schema, features, str(path))
    if not (found := [p for f, t in zip(files, tables, strict=True) for p in _pictures(f, t, column)]):
        raise UserError(f"{path}: holds no images")

    names = _label_columns(arrow, schema, features, column, selection.label)
    label, remark = "", ""
    usual = bool(names) and (names[0] in _USUAL_LABELS or not _is_text(arrow, schema.field(names[0]).type))
    if selection.label is not None or usual:
        label, remark = choose_label(names, selection.label, str(path))
    labels, label_names = _labels(tables, label, features, len(found), path) if label else (None, ())
    decoded = pictures.decode(found, selection, str(path), cached=True)
    source = f"{path.name}: {len(decoded.images):,} {selection.split} images from {path}"
    return ImageSet(
        decoded.images,
        None if labels is None else torch.from_numpy(labels[decoded.positions]),
        {},
        path.name,
        f"{source}{note}{decoded.remark}{remark}",
        label_names,
        decoded.left_out,
        decoded.report,
        label,
        mapped=decoded.mapped,
    )


def _features(schema: Any) -> dict[str, Any]:
    """What Hugging Face's metadata says of the columns."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: value for name, value in features.items() if isinstance(value, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):  # there is none
        return {}


def _picture_column(arrow: Any, schema: Any, features: dict[str, Any], name: str) -> str:
    """The name of the column of pictures."""

    def is_binary(kind: Any) -> bool:
        return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))

    def holds_bytes(kind: Any) -> bool:
        at = kind.get_field_index("bytes") if arrow.types.is_struct(kind) else -1
        return is_binary(kind) or (at >= 0 and is_binary(kind.field(at).type))

    fit = [field.name for field in schema if holds_bytes(field.type)]
    marked = [n for n in fit if features.get(n, {}).get("_type") == "Image"]
    called = [n for n in fit if n in ("image", "img")]
    for found in (marked, called, fit):
        if len(found) == 1:
            return found[0]
    shown = ", ".join(f"{field.name} ({field.type})" for field in schema)
    raise UserError(
        f"{name}: expected one column of encoded pictures, bytes or a struct with bytes, called image if "
        f"there are several; found {shown or 'no columns'}"
    )


def _label_columns(
    arrow: Any, schema: Any, features: dict[str, Any], column: str, wanted: str | None
) -> list[str]:
    """The columns that may be labels, the likeliest first. Those of floats may be if they are called so, or
    are asked for: pandas makes them of whole numbers with gaps. Its numbers of rows are none."""

    def fits(name: str, kind: Any) -> bool:
        if name == column or _ROW_NUMBERS.fullmatch(name):
            return False
        floats = arrow.types.is_floating(kind) and name in (*_USUAL_LABELS, wanted)
        return bool(floats) or _is_label(arrow, kind)

    fit = [field.name for field in schema if fits(field.name, field.type)]
    return sorted(
        fit,
        key=lambda n: (
            _class_names(features, n) == (),
            n not in _USUAL_LABELS,
            _is_text(arrow, schema.field(n).type),
        ),
    )


def _is_label(arrow: Any, kind: Any) -> bool:
    values = _of_values(arrow, kind)
    return bool(arrow.types.is_integer(values) or arrow.types.is_boolean(values) or _is_text(arrow, kind))


def _is_text(arrow: Any, kind: Any) -> bool:
    """Whether a column is of texts, of which Parquet and its writers know several types."""
    names = ("is_string", "is_large_string", "is_string_view")
    checks = [getattr(arrow.types, name) for name in names if hasattr(arrow.types, name)]
    return any(check(_of_values(arrow, kind)) for check in checks)


def _of_values(arrow: Any, kind: Any) -> Any:
    """The type of a column's values, also where they are categories, as pandas writes them."""
    return kind.value_type if arrow.types.is_dictionary(kind) else kind


def _class_names(features: dict[str, Any], column: str) -> tuple[str, ...]:
    known = features.get(column, {})
    inner = known.get("feature")
    names = known.get("names") or (inner.get("names") if isinstance(inner, dict) else None)
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _labels(
    tables: Sequence[Any], label: str, features: dict[str, Any], count: int, path: Path
) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """The labels of all rows, and their names."""
    require_memory(16 * count, f"{path}: holds {count:,} labels")
    columns = [table.read(columns=[label]).column(label) for table in tables]
    if any(column.null_count for column in columns):
        without(str(path), f"column {label} has rows without a value")
        return None, ()
    values = np.concatenate([column.to_numpy() for column in columns])
    labels, names = as_labels(values.astype(str) if values.dtype == object else values, count, str(path))
    known = _class_names(features, label)
    if labels is None or not known:
        return labels, names
    if (labels == -1).all():  # as Hugging Face has the labels of a test split that are kept secret
        without(str(path), f"column {label} holds -1 alone")
        return None, ()
    within(labels, known, f"{path}: column {label}")
    return labels, known


class _Groups:
    """The column of pictures of a file, of which the groups of rows read last are in memory."""

    def __init__(self, table: Any, column: str) -> None:
        self.table, self.column = table, column
        self.cached: dict[int, Any] = {}
        self.lock = threading.Lock()

    def read(self, group: int, row: int) -> BinaryIO:
        with self.lock:
            if group not in self.cached:
                while len(self.cached) >= _CACHED:
                    del self.cached[next(iter(self.cached))]
                # Without threads of its own: many are waiting here already.
                self.cached[group] = self.table.read_row_group(
                    group, columns=[self.column], use_threads=False
                ).column(self.column)
            value = self.cached[group][row].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not content:
            where = f" but the path {value['path']}" if isinstance(value, dict) and value.get("path") else ""
            raise ValueError(f"holds no bytes{where}")
        return io.BytesIO(content)


def _pictures(file: Path, table: Any, column: str) -> list[pictures.PictureFile]:
    groups = _Groups(table, column)
    found: list[pictures.PictureFile] = []
    for group in range(table.metadata.num_row_groups):
        meta = table.metadata.row_group(group)  # whose column() ends the process if a column is damaged
        rows, size = meta.num_rows, meta.total_byte_size
        if rows < 0 or len(found) + rows > file.stat().st_size:
            raise UserError(f"{file}: announces more rows than it has bytes; get this file again")
        require_memory((_CACHED + 1) * size, f"{file}: has groups of rows of {size:,} bytes")
        for row in range(rows):
            name = f"{file}: row {len(found)}"
            found.append(pictures.PictureFile(name, partial(groups.read, group, row), size // rows))
    return found
