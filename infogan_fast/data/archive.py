"""Images from a ZIP or TAR archive of pictures, which is not unpacked to disk."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from infogan_fast.data import pictures
from infogan_fast.data.folder import SPLIT_FOLDERS
from infogan_fast.data.image_set import ImageSet, Selection
from infogan_fast.errors import MissingSplitError, UserError
from infogan_fast.runtime.memory import free_memory

Parts = tuple[str, ...]


@dataclass
class Contents:
    """The pictures of an archive by the parts of their names, and what else is in it."""

    files: dict[Parts, pictures.PictureFile] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    no_files: list[str] = field(default_factory=list)
    hidden: int = 0
    replaced: int = 0

    def wants(self, parts: Parts) -> bool:
        """Whether a file of this name is a picture; it is counted if not."""
        suffix = pictures.suffix_of(parts[-1])
        if any(part.startswith(".") or part == "__MACOSX" for part in parts):
            self.hidden += 1
        elif suffix not in pictures.SUFFIXES:
            self.others[suffix] += 1
        else:
            self.replaced += parts in self.files  # as unpacking would
            return True
        return False


def is_zip(path: Path) -> bool:
    """Whether a file begins as a ZIP archive does: zipfile takes a TAR that ends with one for it, too."""
    with open(path, "rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def is_archive(path: Path) -> bool:
    """Whether a file is a ZIP or TAR archive, compressed or not, other than one of NumPy's arrays."""
    try:
        if is_zip(path):
            with zipfile.ZipFile(path) as archive:
                return not any(name.endswith(".npy") for name in archive.namelist())
        return tarfile.is_tarfile(path)
    except Exception:  # a damaged one leads zipfile, tarfile and the decompressors to many kinds
        return True


def load(path: Path, selection: Selection) -> ImageSet:
    """Decode the pictures of an archive, with the splits and labels that they would have in a folder.

    A single folder on top is left out of their names. Each picture's announced size is checked before it is
    read. The pictures of a compressed TAR, which can only be read from its beginning, are kept in memory as
    they are.

    Raises:
        MissingSplitError: there is no folder of test pictures.
        UserError: the archive is damaged or encrypted, or as for a folder.
    """
    contents = contents_of(path)
    chosen, other = _of_split(contents.files, selection.split, path)
    order = sorted(chosen)
    decoded = pictures.decode(
        [chosen[parts] for parts in order],
        selection,
        str(path),
        [other[parts] for parts in sorted(other)],
        cached=True,
    )
    report = [f"found {pictures.suffixes([parts[-1] for parts in order])}"]
    report += pictures.kept_apart(selection.split, len(other))
    if contents.others:
        report.append(f"no pictures, by their suffix: {pictures.suffixes(contents.others)}")
    if contents.hidden:
        report.append(f"hidden, and passed over: {contents.hidden:,} files")
    if contents.replaced:
        report.append(f"replaced by a later member of the same name: {contents.replaced:,} files")
    if links := contents.no_files:
        report.append(f"left out {len(links):,} links, devices and sparse files, such as {links[0]}")
    return pictures.labelled_by_folders(path, selection, decoded, order, report)


def contents_of(path: Path) -> Contents:
    """What an archive holds; nothing is decoded.

    Raises:
        UserError: it is damaged or encrypted, or holds no pictures.
    """
    try:
        contents = _of_zip(path) if is_zip(path) else _of_tar(path)
    except UserError:
        raise
    except Exception as error:  # a damaged archive leads zipfile, tarfile and the decompressors to many kinds
        reason = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
        raise UserError(f"{path}: not a readable archive ({reason[:160]}); get it again") from None
    if not contents.files:
        raise UserError(pictures.none_among(str(path), "archive", contents.others))
    return contents


def _of_split(
    files: dict[Parts, pictures.PictureFile], split: str, path: Path
) -> tuple[dict[Parts, pictures.PictureFile], dict[Parts, pictures.PictureFile]]:
    """The pictures of a split by their names in it, and those of the other split."""
    known = {name: part for part, names in SPLIT_FOLDERS.items() for name in names}
    tops = {parts[0] if len(parts) > 1 else "" for parts in files}
    inner = {parts[1].lower() for parts in files if len(parts) > 2}
    if len(tops) == 2 and "" in tops and inner & known.keys():
        (top,) = tops - {""}
        loose = next(parts[0] for parts in files if len(parts) == 1)
        if top.lower() not in known:
            raise UserError(
                f"{path}: {loose} lies next to {top}/, which has splits; move it into one of them or away"
            )
    if len(tops) == 1 and "" not in tops and next(iter(tops)).lower() not in known:
        files = {parts[1:]: file for parts, file in files.items()}
    found: dict[str, dict[Parts, pictures.PictureFile]] = {"train": {}, "test": {}, "": {}}
    spelled = {parts[0] for parts in files if len(parts) > 1}
    folders = {name.lower() for name in spelled}
    if several := [
        name for name in sorted(spelled) if name.lower() in known and name.lower() in spelled - {name}
    ]:
        raise UserError(
            f"{path}: has the folders {several[0]} and {several[0].lower()}; give one of them another name"
        )
    # As for a folder, of several folders for a split the first one is it.
    roots = {part: next((n for n in names if n in folders), None) for part, names in SPLIT_FOLDERS.items()}
    for parts, file in files.items():
        top = parts[0].lower() if len(parts) > 1 else ""
        if top not in known:
            found[""][parts] = file
        elif top == roots[known[top]]:
            found[known[top]][parts[1:]] = file
    if split == "test" and not found["test"]:
        raise MissingSplitError(
            f"{path}: no test split; put held-out pictures into its folder test, or name their own archive"
        )
    if not found["train"]:
        found["train"], found[""] = found[""], {}
    if split == "train" and found[""]:
        first = "/".join(min(found[""]))
        raise UserError(
            f"{path}: {len(found['']):,} pictures, such as {first}, are in no split; move them into its "
            f"folder {roots['train']} or away"
        )
    if split == "train" and not found["train"]:
        raise UserError(
            f"{path}: all of its pictures are in folders of test pictures; add others to train on"
        )
    return found[split], found["test" if split == "train" else "train"]


def _of_zip(path: Path) -> Contents:
    contents = Contents()
    archive = zipfile.ZipFile(path)  # stays open as long as a picture may be read

    def read(member: zipfile.ZipInfo) -> BinaryIO:
        return io.BytesIO(archive.read(member))  # no more than was announced

    for member in archive.infolist():
        parts = _parts(member.filename.replace("\\", "/"))
        if member.is_dir() or not parts or not contents.wants(parts):
            continue
        if member.flag_bits & 1:
            raise UserError(f"{path}: {member.filename} is encrypted; unpack the archive with its password")
        contents.files[parts] = _picture(path, parts, partial(read, member), member.file_size)
    return contents


def _of_tar(path: Path) -> Contents:
    contents = Contents()
    with open(path, "rb") as plain:
        in_place = _is_plain_tar(plain)
    kept = 0
    free = free_memory()
    with tarfile.open(path, "r:" if in_place else "r:*") as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # or it keeps a record of each
            parts = _parts(member.name)
            if member.isdir() or not parts:
                continue
            if not member.isreg() or member.issparse():
                contents.no_files.append(member.name)
                continue
            if not contents.wants(parts):
                continue
            if in_place:
                opener: Callable[[], BinaryIO] = partial(_read_at, path, member.offset_data, member.size)
                contents.files[parts] = _picture(path, parts, opener, member.size)
                continue
            kept += member.size
            if free is not None and kept > free:
                raise UserError(
                    f"{path}: holds more than {kept / 2**30:,.1f} GiB of pictures, and {free / 2**30:,.1f} "
                    "GiB of memory are free; decompress it to a .tar, which is read in place"
                )
            stream = archive.extractfile(member)
            assert stream is not None
            content = stream.read()
            contents.files[parts] = _picture(path, parts, partial(io.BytesIO, content), 0)
        end = archive.offset
    if in_place and any(_read_at(path, end, tarfile.BLOCKSIZE).read() or b"cut"):
        raise ValueError("it ends before its mark of an end")
    return contents


def _is_plain_tar(file: BinaryIO) -> bool:
    try:
        with tarfile.open(fileobj=file, mode="r:"):
            return True
    except tarfile.TarError:
        return False


def _read_at(path: Path, offset: int, size: int) -> BinaryIO:
    with open(path, "rb") as file:
        file.seek(offset)
        return io.BytesIO(file.read(size))


def _picture(path: Path, parts: Parts, opener: Callable[[], BinaryIO], size: int) -> pictures.PictureFile:
    return pictures.PictureFile(os.path.join(path, *parts), opener, size)


def _parts(name: str) -> Parts:
    """The folders and the file in a member's name; nothing is ever written there."""
    return tuple(part for part in name.split("/") if part not in ("", ".", ".."))
