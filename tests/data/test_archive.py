"""ZIP and TAR archives of pictures: as folders, and an error for each way to be damaged."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from infogan_fast.data import archive, load_images, pictures
from infogan_fast.errors import MissingSplitError, UserError

KINDS = ["zip", "tar", "tar.gz", "tgz", "tar.xz", "tar.bz2"]


def png(value: int, size: int = 16) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((size, size), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def packed(path: Path, members: Mapping[str, bytes]) -> Path:
    """An archive of these members, of the kind that its name says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            for name, content in members.items():
                made.writestr(name, content)
        return path
    compression = {"gz": "w:gz", "tgz": "w:gz", "xz": "w:xz", "bz2": "w:bz2"}.get(path.suffix[1:], "w:")
    with tarfile.open(path, compression) as made:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return path


def unpacked(folder: Path, members: Mapping[str, bytes]) -> Path:
    for name, content in members.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def refused(path: Path, says: str, **options: Any) -> None:
    with pytest.raises(UserError) as caught:
        load_images(str(path), **options)
    assert re.search(says, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


LAYOUTS = {
    "classes": {"cat/1.png": png(1), "cat/deep/er/2.png": png(2), "ant/3.png": png(3), "notes.txt": b"x"},
    "no classes": {"1.png": png(1), "2.png": png(2), "sub/3.png": png(3)},
    "splits": {"train/a/1.png": png(1), "train/b/2.png": png(2), "val/b/3.png": png(3)},
    "a test split alone": {"a/1.png": png(1), "b/2.png": png(2), "Test/b/3.png": png(3)},
    "single folders": {
        "data/train/a/1.png": png(1),
        "data/train/b/2.png": png(2),
        "data/test/a/3.png": png(3),
    },
    "two test splits": {"a/1.png": png(1), "val/a/4.png": png(4), "test/a/3.png": png(3), "c/5.png": png(5)},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_archive_is_as_its_folder(tmp_path: Path, layout: str, kind: str) -> None:
    members = LAYOUTS[layout]
    inner = {name.removeprefix("data/"): content for name, content in members.items()}
    folder, path = unpacked(tmp_path / "folder", inner), packed(tmp_path / f"a.{kind}", members)
    for split in ("train", "test"):
        try:
            expected = load_images(str(folder), split=split)
        except MissingSplitError:
            with pytest.raises(MissingSplitError, match="no test split; put held-out pictures into"):
                load_images(str(path), split=split)
            continue
        found = load_images(str(path), split=split)
        assert torch.equal(found.images, expected.images)
        assert found.label_names == expected.label_names
        assert (found.labels is None) == (expected.labels is None)
        if found.labels is not None and expected.labels is not None:
            assert found.labels.tolist() == expected.labels.tolist()
        assert found.report == expected.report
        assert found.source == f"{path.name}: {len(found.images)} {split} images from {path}"


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_a_set_as_celeba_is_published(tmp_path: Path, kind: str) -> None:
    """One folder of JPEG files, with an entry of its own."""
    members = {}
    for i in range(1, 7):
        file = io.BytesIO()
        Image.fromarray(np.full((218, 178, 3), i * 20, np.uint8)).save(file, "JPEG")
        members[f"img_align_celeba/{i:06}.jpg"] = file.getvalue()
    path = packed(tmp_path / f"img_align_celeba.{kind}", {"img_align_celeba/": b"", **members})
    found = load_images(str(path), image_size=64, count=3)
    assert found.images.shape == (3, 3, 64, 64) and found.labels is None
    assert found.images[:, 0, 32, 32].tolist() == [20, 60, 100]
    assert "found 6 .jpg" in found.report and "selected 3 of 6, evenly spaced" in found.report
    assert "resized 3 to 64 x 64, cut to the middle square where they were none" in found.report


@pytest.mark.parametrize("beside", ["__MACOSX/._data", "README.txt", "data.csv"])
@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_what_lies_next_to_the_folder_on_top_does_not_hide_its_splits(
    tmp_path: Path, kind: str, beside: str
) -> None:
    names = ["data/train/a/0.png", "data/train/b/1.png", "data/test/a/2.png"]
    members = {**{name: png(50 * i + 9) for i, name in enumerate(names)}, beside: b"text"}
    path = packed(tmp_path / "a.zip", members) if kind == "zip" else unpacked(tmp_path / "a", members)
    found, held_out = load_images(str(path)), load_images(str(path), split="test")
    assert [int(image.max()) for image in found.images] == [9, 59] and found.label_names == ("a", "b")
    assert [int(image.max()) for image in held_out.images] == [109]
    loose = {**members, "preview.png": png(9)}
    path = packed(tmp_path / "b.zip", loose) if kind == "zip" else unpacked(tmp_path / "b", loose)
    refused(path, "preview.png lies next to .*data.*, which has splits; move it into one of them or away")


@pytest.mark.parametrize("last", ["masks.zip", "embeddings.npz"])
def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path, last: str) -> None:
    file = io.BytesIO()
    if last.endswith(".npz"):
        np.savez(file, images=np.zeros((3, 16, 16), np.uint8))
    else:
        with zipfile.ZipFile(file, "w") as made:
            made.writestr("0.png", png(7))
    members = {f"{i}.png": png(i) for i in range(5)} | {last: file.getvalue()}
    assert len(load_images(str(packed(tmp_path / "a.tar", members))).images) == 5


def test_an_archive_is_known_by_its_content(tmp_path: Path) -> None:
    members = {"a/1.png": png(1), "b/2.png": png(2)}
    for kind in ("zip", "tar", "tgz"):
        path = packed(tmp_path / f"a.{kind}", members).rename(tmp_path / "pictures.data")
        assert load_images(str(path)).label_names == ("a", "b")
    arrays = packed(tmp_path / "b.zip", {"images.npy": b"", "1.png": png(1)})
    assert not archive.is_archive(arrays)


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_what_is_no_picture_is_reported(tmp_path: Path, kind: str) -> None:
    members = {
        "./top/1.png": png(1),
        "top/2.png": png(2),
        "top/.3.png": b"x",
        "__MACOSX/top/._1.png": b"x",
        "__MACOSX/top/6.png": b"x",
        "top/notes.txt": b"x",
        "top/README": b"x",
        "../../top/4.png": png(4),
        "/top/5.png": png(5),
    }
    found = load_images(str(packed(tmp_path / f"a.{kind}", members)))
    assert found.images[:, 0, 0, 0].tolist() == [1, 2, 4, 5] and found.labels is None
    assert found.report[:3] == (
        "found 4 .png",
        "no pictures, by their suffix: 1 without a suffix, 1 .txt",
        "hidden, and passed over: 3 files",
    )


@pytest.mark.parametrize("kind", ["tar", "tgz"])
def test_links_and_devices_are_left_out_and_reported(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    with tarfile.open(path, "w:gz" if kind == "tgz" else "w") as made:
        for name, number in (("1.png", 1), ("2.png", 2)):
            member = tarfile.TarInfo(name)
            member.size = len(png(number))
            made.addfile(member, io.BytesIO(png(number)))
        for name, type_ in (
            ("3.png", tarfile.SYMTYPE),
            ("4.png", tarfile.LNKTYPE),
            ("5.png", tarfile.CHRTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = type_, "/etc/passwd"
            made.addfile(member)
    found = load_images(str(path))
    assert len(found.images) == 2
    assert "left out 3 links, devices and sparse files, such as 3.png" in found.report


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_the_later_member_of_a_name_counts(tmp_path: Path, kind: str) -> None:
    path = packed(tmp_path / f"a.{kind}", {"1.png": png(1), "2.png": png(2)})
    if kind == "zip":
        with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as made:
            made.writestr("1.png", png(7))
    else:
        packed(path, {"1.png": png(1), "2.png": png(2), "./1.png": png(7)})
    found = load_images(str(path))
    assert found.images[:, 0, 0, 0].tolist() == [7, 2]
    assert "replaced by a later member of the same name: 1 files" in found.report


def test_two_spellings_of_a_split_are_refused(tmp_path: Path) -> None:
    members = {"Train/a/1.png": png(1), "train/a/1.png": png(2)}
    refused(
        packed(tmp_path / "a.zip", members), "has the folders Train and train; give one of them another name"
    )


def test_names_of_windows(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", {"cat\\1.png": png(1), "dog\\2.png": png(2)})
    assert load_images(str(path)).label_names == ("cat", "dog")


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_damaged_pictures_are_as_in_a_folder(tmp_path: Path, kind: str) -> None:
    members = {f"{i}.png": png(i) for i in range(1, 5)}
    members["2.png"], members["3.png"] = b"not a picture", b""
    path = packed(tmp_path / f"a.{kind}", members)
    refused(path, rf"a\.{kind}/2\.png: not a picture .* \(and 1 more files\); .* with --skip-damaged")
    found = load_images(str(path), skip_damaged=True)
    assert found.images[:, 0, 0, 0].tolist() == [1, 4]
    assert found.left_out[1] == f"{path}/3.png: is empty"
    assert (
        "left out 2 that cannot be read: 1 x not a picture that Pillow can read, or damaged; 1 x is empty"
        in (found.report)
    )


def test_a_member_with_a_wrong_checksum_is_a_damaged_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as made:
        for i in (1, 2, 3):
            made.writestr(f"{i}.bmp", _bmp(i))
    content = path.read_bytes()
    path.write_bytes(content.replace(bytes([2]) * 200, bytes([9]) * 200))
    refused(path, r"a\.zip/2\.bmp: Bad CRC-32 for file '2.bmp'; repair")
    assert load_images(str(path), skip_damaged=True).images[:, 0, 0, 0].tolist() == [1, 3]


def _bmp(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((16, 16), value, np.uint8)).save(file, "BMP")
    return file.getvalue()


def test_an_encrypted_archive(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", {"1.png": png(1)})
    content = bytearray(path.read_bytes())
    for at in (6, content.rindex(b"PK\x01\x02") + 8):
        content[at] |= 1
    path.write_bytes(content)
    refused(path, r"a\.zip: 1\.png is encrypted; unpack the archive with its password")


def test_a_method_of_compression_that_python_lacks(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", {"1.png": png(1)})
    content = bytearray(path.read_bytes())
    for at in (8, content.rindex(b"PK\x01\x02") + 10):
        content[at] = 9  # Deflate64
    path.write_bytes(content)
    refused(path, r"a\.zip/1\.png: That compression method is not supported; repair")


@pytest.mark.parametrize("kind", KINDS)
def test_archives_that_end_early(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    members = {}
    for i in range(4):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (64, 64), np.uint8)).save(file, "PNG")
        members[f"{i}.png"] = file.getvalue()
    path = packed(tmp_path / f"a.{kind}", members)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, f"a.{kind}: (not a readable archive|expected a folder or an archive)")


def test_an_announced_size_is_checked_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path / "a.zip", {"1.png": bytes(1 << 20), "2.png": png(2)})
    monkeypatch.setattr(pictures, "free_memory", lambda: 1 << 19)
    monkeypatch.setattr(zipfile.ZipFile, "read", None)
    refused(path, r"1\.png: takes 0\.0 GiB of memory, and 0\.0 GiB are free; free some memory")


def test_a_member_gives_no_more_than_it_announced(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", {"1.png": bytes(100_000)})
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02") + 24
    content[at : at + 4] = (10).to_bytes(4, "little")
    path.write_bytes(content)
    refused(path, r"1\.png: (Bad CRC-32|not a picture)")


def test_pictures_of_a_compressed_tar_have_to_fit_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path / "a.tgz", {"1.png": bytes(1000), "2.png": bytes(1000)})
    monkeypatch.setattr(archive, "free_memory", lambda: 1500)
    refused(
        path, r"a\.tgz: holds more than 0\.0 GiB of pictures, .* decompress it to a \.tar, which is read in"
    )


def test_other_archives_are_refused(tmp_path: Path) -> None:
    refused(
        packed(tmp_path / "a.zip", {"data.pkl": b"x"}), r"no pictures \(.*\) in this archive; found 1 \.pkl"
    )
    refused(packed(tmp_path / "a.tar", {}), "no pictures .* in this archive; found nothing")
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(png(1)))
    refused(path, "expected a folder or an archive")
    outside = {"train/1.png": png(1), "others/2.png": png(2)}
    refused(
        packed(tmp_path / "b.zip", outside), r"1 pictures, such as others/2\.png, are in no split; move them"
    )
    alone = packed(tmp_path / "c.zip", {"test/1.png": png(3)})
    refused(alone, "all of its pictures are in folders of test pictures; add others to train on")
    assert len(load_images(str(alone), split="test").images) == 1


def test_many_threads_read_one_archive(tmp_path: Path) -> None:
    values = list(range(200))
    for kind in ("zip", "tar"):
        path = packed(tmp_path / f"a.{kind}", {f"{i:03}.png": png(i) for i in values})
        assert load_images(str(path)).images[:, 0, 0, 0].tolist() == values
