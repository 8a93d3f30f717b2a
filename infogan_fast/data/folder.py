"""Images from a folder of pictures."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from infogan_fast.data import pictures
from infogan_fast.data.image_set import ImageSet, Selection
from infogan_fast.errors import MissingSplitError, UserError

SPLIT_FOLDERS = {"train": ("train", "training"), "test": ("test", "testing", "val", "valid", "validation")}


@dataclass
class _Found:
    """The pictures under a folder, sorted, and what else is there."""

    files: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    links: int = 0


def load(path: Path, selection: Selection) -> ImageSet:
    """Decode the pictures under a folder, as :func:`infogan_fast.data.pictures.decode` does.

    A subfolder named test (or val) is the test split, and one named train the other; without a folder train,
    all other pictures are the train split. The first folder below gives a picture's label when every picture
    has one.

    Raises:
        MissingSplitError: there is no folder of test pictures.
        UserError: a file cannot be used; the text names the first one, and how many more there are. Or a
            picture is in no split, or in both.
    """
    root, found, other = _pictures_of(path, selection.split)
    files = found.files
    decoded = pictures.decode(
        list(map(on_disk, files)), selection, str(root), list(map(on_disk, other)), cached=True
    )
    report = [f"found {pictures.suffixes([file.name for file in files])}"]
    if found.links:
        report.append(f"through links: {found.links:,} files and folders")
    report += pictures.kept_apart(selection.split, len(other))
    if found.others:
        report.append(f"no pictures, by their suffix: {pictures.suffixes(found.others)}")
    if found.hidden:
        report.append(f"hidden, and passed over: {found.hidden:,} files and folders")
    parts = [file.relative_to(root).parts for file in files]
    return pictures.labelled_by_folders(path, selection, decoded, parts, report)


def pictures_under(path: Path) -> list[Path]:
    """The pictures under a folder, sorted, without hidden ones.

    Raises:
        UserError: there are none, or links lead to the same folder twice.
    """
    return _find(path).files


def on_disk(file: Path) -> pictures.PictureFile:
    """A picture in a file."""
    return pictures.PictureFile(str(file), partial(_open, file))


def _open(file: Path) -> BinaryIO:
    return open(file, "rb")


def _inner(path: Path) -> Path:
    """The folder itself, or the one folder in it, with splits, that an archive had on top."""
    shown = [each for each in path.iterdir() if not each.name.startswith(".") and each.name != "__MACOSX"]
    folders = [each for each in shown if each.is_dir()]
    known = {name for names in SPLIT_FOLDERS.values() for name in names}
    if len(folders) != 1 or folders[0].name.lower() in known:
        return path
    inside = {each.name.lower() for each in folders[0].iterdir() if each.is_dir()}
    if not inside & known:
        return path
    if loose := [each for each in shown if each.suffix.lower() in pictures.SUFFIXES and each.is_file()]:
        raise UserError(
            f"{path}: {loose[0].name} lies next to {folders[0]}, which has splits; move it into one of them "
            f"or away, or give {folders[0]}"
        )
    return folders[0]


def _pictures_of(path: Path, split: str) -> tuple[Path, _Found, list[Path]]:
    """The folder that a split's labels are counted from, what is in it, and the pictures of the other split.
    No picture is in two splits."""
    path = _inner(path)
    folders = {p.name.lower(): p for p in sorted(path.iterdir()) if p.is_dir()}
    parts = {s: [folders[name] for name in names if name in folders] for s, names in SPLIT_FOLDERS.items()}
    if not parts["test"] and split == "test":
        raise MissingSplitError(
            f"{path}: no test split; put held-out pictures into {path / 'test'}, or name their own folder"
        )
    for part in (*parts["train"], *parts["test"]):
        for other in (*parts["train"], *parts["test"]):
            if part is not other and part.resolve().is_relative_to(other.resolve()):
                raise UserError(f"{part} leads into {other}; give each split pictures of its own")
    test = [file for part in parts["test"][:1] for file in _find(part, optional=True).files]
    if not parts["train"]:
        train = _find(path, without=parts["test"], optional=split == "test")
        return (
            (path, train, test)
            if split == "train"
            else (parts["test"][0], _find(parts["test"][0]), train.files)
        )
    root = parts["train"][0]
    if split == "test":
        found = _find(parts["test"][0], of_others=parts["train"])
        return parts["test"][0], found, _find(root, optional=True).files
    if outside := _find(path, without=(*parts["train"], *parts["test"]), optional=True).files:
        raise UserError(
            f"{path}: {len(outside):,} pictures, such as {outside[0].relative_to(path)}, are in no split; "
            f"move them into {root} or away"
        )
    return root, _find(root, of_others=parts["test"]), test


def _find(
    root: Path, without: Sequence[Path] = (), *, of_others: Sequence[Path] = (), optional: bool = False
) -> _Found:
    """The pictures under a folder; without hidden files and folders, and those named. Links to
    folders are followed.

    Raises:
        UserError: a link leads to a folder whose pictures are there already, or into one ``of_others``; or
            there are no pictures.
    """
    found = _Found()
    left_out = {folder.resolve() for folder in without}
    seen: dict[Path, Path] = {}

    def unreadable(error: OSError) -> None:
        raise UserError(
            f"{error.filename}: cannot be read ({error.strerror}); change its permissions or move it away"
        )

    for folder, subfolders, names in os.walk(root, onerror=unreadable, followlinks=True):
        real = Path(folder).resolve()
        if real in seen:
            raise UserError(
                f"{folder}: leads to {seen[real]}, whose pictures are there already; remove one of the two"
            )
        for other in of_others:
            if real.is_relative_to(other.resolve()):
                raise UserError(f"{folder} leads into {other}; give each split pictures of its own")
        seen[real] = Path(folder)
        found.hidden += sum(name.startswith(".") for name in (*subfolders, *names))
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".") and Path(folder, name).resolve() not in left_out
        )
        names = [name for name in names if not name.startswith(".")]
        found.links += sum(os.path.islink(os.path.join(folder, name)) for name in (*subfolders, *names))
        for name in names:
            suffix = pictures.suffix_of(name)
            if suffix in pictures.SUFFIXES:
                found.files.append(Path(folder, name))
            else:
                found.others[suffix] += 1
    if not found.files and not optional:
        raise UserError(pictures.none_among(str(root), "folder", found.others))
    found.files.sort()
    return found
