"""CelebA's aligned faces (Liu et al. 2015, "Deep Learning Face Attributes in the Wild"), as they are
published: img_align_celeba.zip or the folder in it, list_attr_celeba.txt and list_eval_partition.txt.

Its publisher wants its terms to be accepted, so nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from infogan_fast.data import archive, folder, pictures
from infogan_fast.data.idx import cache_folder
from infogan_fast.data.image_set import ImageSet, Selection
from infogan_fast.data.labels import choose_label, without
from infogan_fast.errors import MissingSplitError, UserError
from infogan_fast.runtime.files import expanded

_PICTURES, _ATTRIBUTES, _PARTITION = "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"
_SPLITS = {"train": 0, "test": 2}  # 1 is the validation split
_PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"


def load(name: str, selection: Selection) -> ImageSet:
    """The pictures of a split, from data_dir or the cache folder or their folder NAME. Labels are those of
    the attribute that ``label`` names, or else of the first one: 0 without it, 1 with it.

    Raises:
        MissingSplitError: the test split is asked for, and the file that tells the splits is not there.
        UserError: the pictures are not there, or a file is damaged.
    """
    home = expanded(selection.data_dir or cache_folder())
    places = [home / name] + ([home] if selection.data_dir else [])
    path = next((path for place in places if (path := _pictures_in(place)) is not None), None)
    if path is None:
        raise UserError(
            f"CelebA is not at hand; get {_PICTURES}.zip, {_ATTRIBUTES} and {_PARTITION} from {_PAGE}, and "
            f"put them into {places[0]}, or name their folder with --data-dir"
        )
    files = _listed(path)
    chosen, split_in_words = _of_split(path, list(files), selection)
    decoded = pictures.decode([files[file] for file in chosen], selection, str(path), cached=True)
    labels, label, names = _labels(path, [chosen[i] for i in decoded.positions], selection)
    note = f", labels {label}" if label else ""
    return ImageSet(
        decoded.images,
        labels,
        {},
        name,
        f"{name}: {len(decoded.images):,} {selection.split} images from {path}{note}{decoded.remark}",
        names,
        decoded.left_out,
        report=(split_in_words, *decoded.report),
        label=label,
        mapped=decoded.mapped,
    )


def _pictures_in(place: Path) -> Path | None:
    """The folder or the archive of the pictures."""
    found = (place / _PICTURES, place / f"{_PICTURES}.zip")
    return found[0] if found[0].is_dir() else found[1] if found[1].is_file() else None


def _listed(path: Path) -> dict[str, pictures.PictureFile]:
    """The pictures by the names of their files, sorted."""
    if path.is_dir():
        on_disk = {file.name: file for file in folder.pictures_under(path)}
        return {name: folder.on_disk(on_disk[name]) for name in sorted(on_disk)}
    contents = archive.contents_of(path)
    by_name = {parts[-1]: file for parts, file in contents.files.items()}
    return {name: by_name[name] for name in sorted(by_name)}


def _of_split(path: Path, files: list[str], selection: Selection) -> tuple[list[str], str]:
    """The files of a split, and what to report of it."""
    table = path.parent / _PARTITION
    if not table.is_file():
        if selection.split == "test":
            raise MissingSplitError(f"{table}: is not there, which tells the splits; get it from {_PAGE}")
        return files, f"no {_PARTITION}: all {len(files):,} pictures are of the train split"
    parts: dict[str, int] = {}
    for number, words in _rows(table):
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise UserError(f"{table}: cannot read line {number}; get this file again")
        parts[words[0]] = int(words[1])
    if missing := next((file for file in files if file not in parts), None):
        raise UserError(f"{table}: does not name {missing}; get this file again")
    chosen = [file for file in files if parts[file] == _SPLITS[selection.split]]
    if not chosen:
        raise UserError(f"{path}: holds no picture of the {selection.split} split; get it again")
    validation = sum(parts[file] == 1 for file in files)
    return chosen, f"left out {validation:,} of the validation split, which is neither train nor test"


def _labels(path: Path, files: list[str], selection: Selection) -> tuple[Tensor | None, str, tuple[str, ...]]:
    """The labels of these files, their attribute, and their names."""
    table = path.parent / _ATTRIBUTES
    if not table.is_file():
        if selection.label is not None:
            raise UserError(f"{table}: is not there, which holds {selection.label}; get it from {_PAGE}")
        without(str(path), f"there is no {table}")
        return None, "", ()
    rows = _rows(table)
    attributes = next((words for number, words in rows if number == 2), [])
    label, _ = choose_label(attributes, selection.label, str(table))
    if not label:
        raise UserError(f"{table}: names no attributes in its second line; get this file again")
    column = attributes.index(label) + 1
    values: dict[str, int] = {}
    for number, words in rows:
        if len(words) != len(attributes) + 1 or words[column] not in ("-1", "1"):
            raise UserError(f"{table}: cannot read line {number}; get this file again")
        values[words[0]] = int(words[column] == "1")
    if missing := next((file for file in files if file not in values), None):
        raise UserError(f"{table}: does not name {missing}; get this file again")
    return torch.tensor([values[file] for file in files]), label, (f"not {label}", label)


def _rows(table: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not empty, by their number from 1, in words."""
    try:
        with open(table, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if words := line.split():
                    yield number, words
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"{table}: cannot be read ({reason}); get this file again") from None
