"""Decoded images are found again, and damaged, stale and half-written files are not."""

from __future__ import annotations

import os
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infogan_fast.data import ImageSet, cache, load_images, pictures
from infogan_fast.errors import RunWarning, UserError
from infogan_fast.train import train


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INFOGAN_FAST_CACHE", str(tmp_path))
    return tmp_path / "images"


def keep(key: str, seed: int = 0, *, count: int = 3) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    filling = cache.Filling((4, 16, 16, 3))
    try:
        filling.images[:] = pixels
        filling.keep(key, count, {"labels": [1, 2], "name": "ü"})
    finally:
        filling.close()
    return pixels[:count]


def test_what_was_kept_is_found(folder: Path) -> None:
    assert cache.find("a") is None
    pixels = keep("a")
    found = cache.find("a")
    assert found is not None
    assert torch.equal(found[0], torch.from_numpy(pixels))
    assert found[1] == {"labels": [1, 2], "name": "ü"}
    assert [path.name for path in folder.iterdir()] == ["a.images"]
    assert cache.find("b") is None


def test_every_damaged_byte_is_found_and_the_file_removed(folder: Path) -> None:
    keep("a", count=1)
    path = folder / "a.images"
    whole = path.read_bytes()
    places = [*range(0, 768, 97), *range(768, len(whole))]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        found = cache.find("a")
        assert found is None, place
        assert not path.exists()
    for length in (0, 7, 16, 700, 768, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert cache.find("a") is None, length
    path.write_bytes(whole + b"more")
    assert cache.find("a") is None
    path.write_bytes(whole)
    assert cache.find("a") is not None


@pytest.mark.parametrize("refusal", [PermissionError(1, "not the owner"), OSError(30, "read-only")])
def test_files_of_another_user_are_used_and_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, refusal: OSError
) -> None:
    pixels = keep("a")

    def refuse(*_: object) -> None:
        raise refusal

    monkeypatch.setattr(os, "utime", refuse)
    found = cache.find("a")
    assert found is not None and torch.equal(found[0], torch.from_numpy(pixels))
    monkeypatch.setattr(os, "pread", refuse)  # an error of the disk, or of a network, may pass
    assert cache.find("a") is None
    assert (folder / "a.images").exists()


def test_what_is_not_kept_is_removed(folder: Path) -> None:
    filling = cache.Filling((4, 16, 16, 1))
    assert len(list(folder.iterdir())) == 1
    filling.close()
    assert list(folder.iterdir()) == []


def test_files_that_nobody_uses_go_when_another_is_kept(folder: Path) -> None:
    keep("old")
    keep("used")
    (folder / "killed.part").write_bytes(b"x")
    (folder / "notes.txt").write_bytes(b"x")
    long_ago = time.time() - 40 * 86400
    for path in folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    assert cache.find("used") is not None
    keep("new")
    assert sorted(path.name for path in folder.iterdir()) == ["new.images", "notes.txt", "used.images"]


def test_a_full_disk_shows_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        cache.Filling((4, 16, 16, 3))
    assert list(folder.iterdir()) == []


def _keep_often(path: str) -> None:
    os.environ["INFOGAN_FAST_CACHE"] = path
    for _ in range(20):
        keep("same")
        assert cache.find("same") is not None


def test_two_processes_keep_the_same_at_once(tmp_path: Path, folder: Path) -> None:
    context = get_context("spawn")
    workers = [context.Process(target=_keep_often, args=(str(tmp_path),)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    assert [path.name for path in folder.iterdir()] == ["same.images"]


@pytest.fixture
def drawings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve small drawings of two classes, as if they were many."""
    monkeypatch.setattr(pictures, "CACHED_FROM", 5)
    draws = np.random.default_rng(3)
    for i in range(12):
        path = tmp_path / "drawings" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    return tmp_path / "drawings"


def in_memory(path: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> ImageSet:
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "CACHED_FROM", 10**9)
        return load_images(str(path), **options)  # type: ignore[arg-type]


def assert_same(a: ImageSet, b: ImageSet) -> None:
    assert torch.equal(a.images, b.images)
    assert a.labels is not None and b.labels is not None and torch.equal(a.labels, b.labels)
    assert (a.label_names, a.left_out, a.source) == (b.label_names, b.left_out, b.source)


def decoded_again(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts decoded pictures."""
    counted: list[int] = []
    decode = pictures._decode

    def counting(*arguments: object) -> object:
        counted.append(1)
        return decode(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pictures, "_decode", counting)
    return counted


def test_pictures_are_decoded_once(drawings: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = in_memory(drawings, monkeypatch, image_size=16)
    assert plain.mapped is None and not folder.exists()
    counted = decoded_again(monkeypatch)
    first = load_images(str(drawings), image_size=16)
    assert first.mapped is not None and len(counted) == 12
    assert_same(first, plain)
    again = load_images(str(drawings), image_size=16)
    assert_same(again, plain)
    assert again.images.is_contiguous(memory_format=torch.channels_last)
    assert len(counted) == 12
    assert any(str(folder) in line for line in again.report)
    drawings.rename(drawings.with_name("moved"))
    load_images(str(drawings.with_name("moved")), image_size=16)
    assert len(counted) == 12


@pytest.mark.parametrize(
    "options",
    [{"image_size": 17}, {"channels": 1}, {"count": 7}, {"skip_damaged": True}, {"background": "black"}],
    ids=str,
)
def test_other_settings_are_other_images(
    drawings: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    load_images(str(drawings))
    counted = decoded_again(monkeypatch)
    found = load_images(str(drawings), **options)  # type: ignore[arg-type]
    assert counted
    assert_same(found, in_memory(drawings, monkeypatch, **options))


def test_a_picture_that_changes_in_place_is_seen(drawings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_images(str(drawings))
    path = drawings / "a" / "04.png"
    stat, content = path.stat(), (drawings / "a" / "06.png").read_bytes()
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = load_images(str(drawings))
    assert not torch.equal(before.images, after.images)
    assert_same(after, in_memory(drawings, monkeypatch))
    path.rename(drawings / "b" / "04.png")
    assert_same(load_images(str(drawings)), in_memory(drawings, monkeypatch))


def test_a_damaged_cache_is_rebuilt(drawings: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_images(str(drawings)).images.clone()
    (path,) = folder.iterdir()
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    counted = decoded_again(monkeypatch)
    assert torch.equal(load_images(str(drawings)).images, plain)
    assert len(counted) == 12


def test_damaged_pictures_are_left_out_of_the_cache_too(
    drawings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/04.png", "b/07.png"):
        path = drawings / name
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"04\.png: .* \(and 1 more files\)"):
        load_images(str(drawings))
    plain = in_memory(drawings, monkeypatch, skip_damaged=True)
    for _ in range(2):
        found = load_images(str(drawings), skip_damaged=True)
        assert_same(found, plain)
        assert [line.split(": ")[0] for line in found.left_out] == [
            str(drawings / "a" / "04.png"),
            str(drawings / "b" / "07.png"),
        ]


def test_a_cache_that_cannot_be_written_is_said_and_memory_used(
    drawings: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("a file where the folder should be")
    with pytest.warns(
        RunWarning, match=r"images: cannot be written .*INFOGAN_FAST_CACHE names another folder"
    ):
        found = load_images(str(drawings))
    assert found.mapped is None
    assert_same(found, in_memory(drawings, monkeypatch))


def test_training_on_mapped_images_is_the_same(
    drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"batch_size": 8, "steps": 3, "log_every": 1, "latents": "noise=4,cat=2", "progress": False}
    mapped = train(str(drawings), out=tmp_path / "mapped", **options)  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "CACHED_FROM", 10**9)
        plain = train(str(drawings), out=tmp_path / "plain", **options)  # type: ignore[arg-type]
    for (name, a), b in zip(
        mapped.networks.state_dict().items(), plain.networks.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
