"""Folders of pictures and NumPy files: reading, fitting, and an error for each wrong input."""

from __future__ import annotations

import io
import os
import re
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from infogan_fast.data import arrays, load_images, pictures
from infogan_fast.data.image_set import Split
from infogan_fast.data.registry import SOURCES
from infogan_fast.errors import RunWarning, UserError

Bytes = NDArray[np.uint8]


def noise(*shape: int, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(path: Path, pixels: NDArray[Any] | Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(path, **options)
    return path


def refused(path: Path | str, says: str, **options: Any) -> None:
    with pytest.raises(UserError) as caught:
        load_images(str(path), **options)
    assert re.search(says, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


# --- folders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff", "PNG", "webp"])
def test_lossless_formats_keep_every_pixel(tmp_path: Path, suffix: str) -> None:
    pixels = noise(3, 20, 20, 3)
    for i in range(3):
        save(tmp_path / f"{i}.{suffix}", pixels[i], **({"lossless": True} if suffix == "webp" else {}))
    found = load_images(str(tmp_path))
    assert found.images.shape == (3, 3, 20, 20) and found.images.dtype == torch.uint8
    assert (
        found.images.is_contiguous(memory_format=torch.channels_last)
        and found.labels is None
        and found.factors == {}
    )
    assert np.array_equal(found.images.permute(0, 2, 3, 1), pixels)
    assert found.source == f"{tmp_path.name}: 3 train images from {tmp_path}"


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "gif"])
def test_lossy_formats(tmp_path: Path, suffix: str) -> None:
    ramp = np.broadcast_to(np.arange(0, 240, 10, dtype=np.uint8), (24, 24))
    save(tmp_path / f"0.{suffix}", ramp)
    found = load_images(str(tmp_path))
    assert found.images.shape == (1, 1, 24, 24)
    assert np.abs(found.images[0, 0].numpy().astype(int) - ramp).max() <= 4


def test_depths_palettes_and_transparency(tmp_path: Path) -> None:
    grey = noise(16, 16)
    wide = grey.astype(np.uint16) * 257
    palette = Image.fromarray(noise(16, 16)).convert("P")
    palette.putpalette([v for i in range(256) for v in (255 - i, i, 0)])
    see_through = np.dstack([noise(16, 16, 3), np.full((16, 16), 51, np.uint8)])
    save(tmp_path / "a16.png", wide)
    save(tmp_path / "b16.tif", wide)
    save(tmp_path / "c_bits.png", Image.fromarray(grey > 127))
    save(tmp_path / "d_palette.png", palette)
    save(tmp_path / "e_alpha.png", see_through)
    save(tmp_path / "f_grey_alpha.png", Image.fromarray(np.dstack([grey, np.full_like(grey, 255)]), "LA"))
    found = load_images(str(tmp_path)).images.numpy()
    assert found.shape == (6, 3, 16, 16)
    for i in (0, 1, 5):
        assert np.array_equal(found[i], np.stack([grey] * 3))
    assert np.array_equal(found[2, 0], (grey > 127) * 255)
    index = np.asarray(palette)
    assert np.array_equal(found[3], np.stack([255 - index, index, 0 * index]))
    blended = see_through[..., :3].transpose(2, 0, 1) * 0.2  # 51 / 255 of it
    assert np.abs(found[4] - blended - 204).max() <= 1  # over white


def test_sixteen_bits_are_rounded(tmp_path: Path) -> None:
    wide = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257 + np.arange(16, dtype=np.uint16) * 16
    wide[-1, -1] = 65535
    save(tmp_path / "0.png", wide)
    assert np.array_equal(load_images(str(tmp_path)).images[0, 0], (wide / 257).round())


def test_grey_folders_stay_grey_and_channels_can_be_asked(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(16, 16))
    grey_palette = Image.fromarray(noise(16, 16, seed=1)).convert("P")
    grey_palette.putpalette([v for i in range(256) for v in (i, i, i)])
    save(tmp_path / "b.png", grey_palette)
    assert load_images(str(tmp_path)).images.shape[1] == 1
    three = load_images(str(tmp_path), channels=3).images
    assert three.shape[1] == 3 and torch.equal(three[:, 0], three[:, 2])
    save(tmp_path / "c.png", noise(16, 16, 3))
    assert load_images(str(tmp_path)).images.shape[1] == 3
    one = load_images(str(tmp_path), channels=1).images
    assert torch.equal(one[:2], three[:2, :1])


def test_crop_and_stretch(tmp_path: Path) -> None:
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, 16:48] = (200, 100, 50)  # the middle square
    save(tmp_path / "wide.png", pixels)
    save(tmp_path / "tall.png", pixels.transpose(1, 0, 2))
    cropped = load_images(str(tmp_path), image_size=16).images
    assert cropped.shape == (2, 3, 16, 16)
    assert (cropped == torch.tensor([200, 100, 50], dtype=torch.uint8).view(1, 3, 1, 1)).all()
    stretched = load_images(str(tmp_path), image_size=16, crop=False).images
    assert (stretched[0, :, :3] == 0).all() and (stretched[1, :, :, :3] == 0).all()
    assert (stretched[:, 0, 8, 8] == 200).all()


def test_exif_rotation_and_first_frame(tmp_path: Path) -> None:
    pixels = np.zeros((16, 32), np.uint8)
    pixels[:, 16:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise
    save(tmp_path / "turned.png", pixels, exif=exif)
    found = load_images(str(tmp_path), image_size=16, crop=False).images[0, 0]
    assert (found[:6] == 0).all() and (found[10:] == 255).all()
    refused(tmp_path, "is 16 x 32, not square; choose a size with --image-size")

    frames = [Image.fromarray(np.full((16, 16), v, np.uint8)) for v in (40, 200)]
    frames[0].save(tmp_path / "anim.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "turned.png").unlink()
    assert (load_images(str(tmp_path)).images == 40).all()


def test_large_jpegs_are_decoded_small_but_right(tmp_path: Path) -> None:
    y, x = np.mgrid[:512, :512]
    smooth = (127 + 100 * np.sin(x / 60) * np.cos(y / 45)).astype(np.uint8)
    save(tmp_path / "a.jpg", smooth, quality=95)
    save(tmp_path / "b.png", smooth)
    found = load_images(str(tmp_path), image_size=32).images.int()
    assert (found[0] - found[1]).abs().max() <= 4


def test_subfolders_are_labels_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    for i, name in enumerate(["cat/1.png", "cat/deep/er/2.png", "ant/3.png", "bee/4.png"]):
        save(tmp_path / name, np.full((16, 16), i, np.uint8))
    (tmp_path / "cat" / "._1.png").write_bytes(b"not a picture")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "5.png").write_bytes(b"not a picture")
    (tmp_path / "notes.txt").write_text("not a picture")
    found = load_images(str(tmp_path))
    assert found.label_names == ("ant", "bee", "cat")
    assert found.labels is not None and found.labels.dtype == torch.int64
    assert found.labels.tolist() == [0, 1, 2, 2]
    assert found.images[:, 0, 0, 0].tolist() == [2, 3, 0, 1]
    assert load_images(str(tmp_path), count=2).images[:, 0, 0, 0].tolist() == [2, 0]
    save(tmp_path / "loose.png", noise(16, 16))
    mixed = load_images(str(tmp_path))
    assert mixed.labels is None and mixed.label_names == ()


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    """Classes that lie elsewhere, as in sets that are put together of links."""
    for i, name in enumerate(["ant", "bee", "cat"]):
        save(tmp_path / "elsewhere" / name / "0.png", np.full((16, 16), i, np.uint8))
    mine = tmp_path / "mine"
    save(mine / "ant" / "0.png", np.full((16, 16), 7, np.uint8))
    for name in ("bee", "cat"):
        (mine / name).symlink_to(tmp_path / "elsewhere" / name)
    found = load_images(str(mine))
    assert found.label_names == ("ant", "bee", "cat") and found.images[:, 0, 0, 0].tolist() == [7, 1, 2]


@pytest.mark.parametrize("target", [".", "../ant", ".."])
def test_a_link_to_what_is_there_already_is_refused(target: str, tmp_path: Path) -> None:
    save(tmp_path / "ant" / "0.png", noise(16, 16))
    save(tmp_path / "bee" / "0.png", noise(16, 16, seed=1))
    (tmp_path / "bee" / "link").symlink_to(target)
    refused(tmp_path, r"bee.link: leads to \S+, whose pictures are there already; remove one of the two")


def test_a_linked_class_of_the_other_split_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "train" / "a" / "0.png", noise(16, 16))
    save(tmp_path / "test" / "a" / "1.png", noise(16, 16, seed=1))
    (tmp_path / "train" / "b").symlink_to(tmp_path / "test" / "a")
    refused(tmp_path, r"train.b leads into \S+test; give each split pictures of its own")


@pytest.mark.parametrize("suffix", ["jfif", "jp2", "ppm", "pgm", "pnm", "avif"])
def test_less_usual_formats_are_read(suffix: str, tmp_path: Path) -> None:
    kind = {"jfif": "JPEG", "jp2": "JPEG2000", "avif": "AVIF"}.get(suffix, "PPM")
    if kind not in {**Image.SAVE} and not (Image.init() or kind in Image.SAVE):
        pytest.skip(f"this Pillow writes no {kind}")
    smooth = np.tile(np.linspace(40, 200, 32).astype(np.uint8), (32, 1))
    save(tmp_path / f"a.{suffix}", Image.fromarray(smooth), format=kind)
    found = load_images(str(tmp_path)).images[0].float().mean(0).numpy()
    assert np.abs(found - smooth).max() < 12


def test_train_and_test_folders(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / "train" / "a" / f"{i}.png", noise(16, 16, seed=i))
    save(tmp_path / "val" / "a" / "9.png", noise(16, 16, seed=9))
    train, test = load_images(str(tmp_path)), load_images(str(tmp_path), split="test")
    assert len(train.images) == 3 and train.label_names == ("a",)
    assert np.array_equal(test.images[0, 0], noise(16, 16, seed=9))
    refused(tmp_path / "train", "no test split; put held-out pictures into", split="test")


def contents(path: Path, split: Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in load_images(str(path), split=split).images}


def test_one_folder_on_top_of_the_splits_does_not_count(tmp_path: Path) -> None:
    """As in an archive that was unpacked; an archive itself is read so, too."""
    for i, part in enumerate(("train/a", "train/b", "test/b")):
        save(tmp_path / "set" / part / "1.png", noise(16, 16, seed=i))
    (tmp_path / ".hidden").touch()
    for folder in (tmp_path, tmp_path / "set"):
        train, test = load_images(folder), load_images(folder, split="test")
        assert (len(train.images), len(test.images), train.label_names) == (2, 1, ("a", "b"))
        assert "kept apart as test pictures: 1" in train.report
        assert "kept apart as training pictures: 2" in test.report
    save(tmp_path / "set" / "deep" / "c" / "1.png", noise(16, 16, seed=5))
    refused(tmp_path / "set", "1 pictures, such as deep/c/1.png, are in no split")
    classes = tmp_path / "classes"  # without splits, the folder is a label
    save(classes / "only" / "1.png", noise(16, 16)), save(classes / "only" / "2.png", noise(16, 16, seed=1))
    assert load_images(classes).label_names in ((), ("only",))


@pytest.mark.parametrize("test", ["test", "val"])
@pytest.mark.parametrize("train", [["cats", "dogs"], ["train/cats", "train/dogs"]])
def test_no_picture_is_in_two_splits(tmp_path: Path, test: str, train: list[str]) -> None:
    seeds = iter(range(100))
    for part in (*train, f"{test}/cats", f"{test}/dogs"):
        for i in range(3):
            save(tmp_path / part / f"{i}.png", noise(16, 16, seed=next(seeds)))
    trained, held_out = contents(tmp_path, "train"), contents(tmp_path, "test")
    assert len(trained) == len(held_out) == 6 and not trained & held_out
    assert load_images(str(tmp_path)).label_names == ("cats", "dogs")


def test_pictures_that_are_in_no_split_are_named(tmp_path: Path) -> None:
    for part in ("train", "test", "others"):
        save(tmp_path / part / "0.png", noise(16, 16))
    for split in ("train", "test"):
        if split == "train":
            refused(tmp_path, r"1 pictures, such as others/0\.png, are in no split", split=split)
        else:
            assert len(load_images(str(tmp_path), split=split).images) == 1


def test_a_split_that_links_into_the_other_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "train" / "a" / "0.png", noise(16, 16))
    (tmp_path / "test").symlink_to(tmp_path / "train" / "a")
    for split in ("train", "test"):
        refused(tmp_path, "test leads into .*train; give each split pictures of its own", split=split)


def test_many_files_show_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(30):
        save(tmp_path / f"{i:02}.png", np.full((16, 16), i, np.uint8))
    assert load_images(str(tmp_path)).images[:, 0, 0, 0].tolist() == list(range(30))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(pictures, "_PROGRESS_FROM", 10)
    load_images(str(tmp_path))
    shown = capsys.readouterr().err  # no terminal: lines, without a carriage return
    assert shown == f"inspecting {tmp_path.name}: 30 files\ndecoding {tmp_path.name}: 30 files\n"


def test_damaged_pictures_can_be_left_out(tmp_path: Path) -> None:
    for i in range(12):
        save(tmp_path / "ab"[i % 2] / f"{i:02}.png", np.full((16, 16), i, np.uint8))
    names = [tmp_path / "a" / "04.png", tmp_path / "b" / "07.png", tmp_path / "a" / "00.png"]
    names[0].write_bytes(truncated(names[0].read_bytes()))  # found when it is decoded
    names[1].write_bytes(b"not a picture")
    names[2].write_bytes(b"")
    refused(tmp_path, r"a.00.png: is empty \(and 1 more files\); .*, or leave it out with --skip-damaged")
    found = load_images(str(tmp_path), skip_damaged=True)
    assert found.images[:, 0, 0, 0].tolist() == [2, 6, 8, 10, 1, 3, 5, 9, 11]
    assert found.labels is not None and found.labels.tolist() == [0] * 4 + [1] * 5
    assert found.source.endswith(", without 3 that cannot be read")
    assert [line.split(": ")[0] for line in found.left_out] == [str(names[i]) for i in (2, 0, 1)]
    for picture in tmp_path.rglob("*.png"):
        picture.write_bytes(b"x")
    refused(
        tmp_path, r"and 11 more files\); repair, convert or remove what cannot be read$", skip_damaged=True
    )


def truncated(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "gif", "tif"])
def test_truncated_pictures_are_named(tmp_path: Path, suffix: str) -> None:
    for i in range(4):
        save(tmp_path / f"{i}.{suffix}", noise(64, 64, 3, seed=i))
    bad = tmp_path / f"2.{suffix}"
    bad.write_bytes(truncated(bad.read_bytes()))
    refused(tmp_path, f"{re.escape(str(bad))}: .*; repair, convert or remove")
    (tmp_path / f"3.{suffix}").write_bytes(b"")
    refused(tmp_path, f"{re.escape(str(tmp_path))}/[23].{suffix}: .*(more file|repair)")


def test_wrong_pictures(tmp_path: Path) -> None:
    good = save(tmp_path / "0.png", noise(16, 16))
    bad = tmp_path / "1.png"
    bad.write_bytes(b"")
    refused(tmp_path, r"1\.png: is empty; repair")
    bad.write_text("<html>404</html>")
    refused(tmp_path, r"1\.png: not a picture that Pillow can read, or damaged; repair")
    bad.unlink()
    bad.symlink_to("nowhere")
    refused(tmp_path, r"1\.png: No such file")
    bad.unlink()
    save(tmp_path / "2.tif", np.full((16, 16), 0.5, np.float32))
    refused(tmp_path, r"2\.tif: holds floating-point values")
    save(tmp_path / "2.tif", np.full((16, 16), -1, np.int32))
    refused(tmp_path, r"2\.tif: holds values down to -1; expected none below 0")
    (tmp_path / "2.tif").write_text("x")
    (tmp_path / "3.tif").write_text("x")
    refused(tmp_path, r"2\.tif: not a picture .* \(and 1 more files?\)")
    assert good.exists()


def test_sizes_are_checked(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / f"{i}.png", noise(20, 20))
    save(tmp_path / "odd.png", noise(20, 24))
    refused(tmp_path, r"odd\.png: is 24 x 20 where most are 20 x 20; choose one size with --image-size")
    assert load_images(str(tmp_path), image_size=20).images.shape == (4, 1, 20, 20)
    small = tmp_path / "small"
    save(small / "0.png", noise(8, 8))
    refused(small, "is 8 x 8, expected at least 16 x 16")
    assert load_images(str(small), image_size=16).images.shape == (1, 1, 16, 16)


def png_that_announces(width: int, height: int) -> bytes:
    """A PNG whose header announces more than its pixels."""
    file = io.BytesIO()
    Image.new("L", (16, 16)).save(file, "PNG")
    content = file.getvalue()
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


def test_decompression_bombs_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = tmp_path / "0.png"
    bomb.write_bytes(png_that_announces(20_000, 10_000))
    refused(tmp_path, r"0\.png: announces 20000 x 10000 pixels in 7\d bytes: a decompression bomb; repair")
    save(bomb, np.zeros((200, 200), np.uint8))
    refused(tmp_path, r"1 images of 10000000 x 10000000, which take .* GiB are free", image_size=10**7)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # Pillow raises from twice as many
    assert load_images(str(tmp_path)).images.shape == (1, 1, 200, 200)
    assert Image.MAX_IMAGE_PIXELS == 10_000
    monkeypatch.setattr(pictures, "free_memory", lambda: 200 * 200 * 10)
    refused(tmp_path, r"0\.png: has 200 x 200 pixels, which take 0\.0 GiB of memory to decode, and 0\.0 GiB")


def test_a_large_jpeg_takes_the_memory_of_what_is_wanted_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 4000).astype(np.uint8), (4000, 4000))
    save(tmp_path / "0.jpg", ramp)
    monkeypatch.setattr(pictures, "free_memory", lambda: 4000 * 4000)
    assert load_images(str(tmp_path), image_size=32).images.shape == (1, 1, 32, 32)
    save(tmp_path / "0.jpg", ramp, progressive=True)  # which libjpeg keeps whole
    refused(tmp_path, "0.jpg: has 4000 x 4000 pixels", image_size=32)


def test_a_device_is_no_data() -> None:
    refused(Path("/dev/null"), "/dev/null: is neither a file nor a folder; give one of images")


def test_a_lack_of_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be skipped, and the rest kept in the cache for days in which there is enough."""
    save(tmp_path / "0.png", noise(20, 20))
    save(tmp_path / "1.png", noise(200, 200))
    monkeypatch.setattr(pictures, "free_memory", lambda: 200 * 200 * 10)
    says = r"1\.png: has 200 x 200 pixels, which take .* are free; free some memory, or make these pictures"
    refused(tmp_path, says, image_size=20, skip_damaged=True)
    monkeypatch.undo()
    assert len(load_images(str(tmp_path), image_size=20, skip_damaged=True).images) == 2


def test_threads_are_as_many_as_there_is_memory_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def noted(threads: int) -> Any:
        started.append(threads)
        return ThreadPoolExecutor(threads)

    monkeypatch.setattr(pictures, "ThreadPoolExecutor", noted)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    save(tmp_path / "0.png", noise(200, 200))
    load_images(str(tmp_path))
    monkeypatch.setattr(pictures, "free_memory", lambda: 3 * 200 * 200 * 16)
    load_images(str(tmp_path))
    assert started == [8, 8, 8, 3]


def test_folders_without_pictures(tmp_path: Path) -> None:
    refused(tmp_path, r"no pictures \(png jpg .*\) in this folder; found nothing$")
    (tmp_path / "a.zip").touch()
    (tmp_path / "b.zip").touch()
    (tmp_path / "README").touch()
    refused(tmp_path, "found 2 .zip, 1 without a suffix")


def test_unreadable_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "sub" / "0.png", noise(16, 16))
    denied = PermissionError(13, "Permission denied", str(tmp_path / "sub"))

    def deny(*_: object, **__: object) -> Any:
        raise denied

    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", deny)
        refused(tmp_path, r"0\.png: Permission denied")
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", deny)
        refused(tmp_path, "sub: cannot be read .Permission denied")


# --- NumPy files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((5, 20, 20), 1), ((5, 20, 20, 1), 1), ((5, 20, 20, 3), 3), ((5, 1, 20, 20), 1), ((5, 3, 20, 20), 3)],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".NPZ"])
def test_array_layouts(tmp_path: Path, shape: tuple[int, ...], channels: int, suffix: str) -> None:
    pixels = noise(*shape)
    with open(tmp_path / f"a{suffix}", "wb") as file:
        np.save(file, pixels) if suffix == ".npy" else np.savez_compressed(file, images=pixels)
    found = load_images(str(tmp_path / f"a{suffix}"))
    assert found.images.shape == (5, channels, 20, 20) and found.images.dtype == torch.uint8
    assert found.images.is_contiguous(memory_format=torch.channels_last) and found.labels is None
    expected = pixels.reshape(5, 1, 20, 20) if channels == 1 else pixels
    if shape[-1] == 3:
        expected = pixels.transpose(0, 3, 1, 2)
    assert np.array_equal(found.images, expected)
    found.images[0] = 0  # its own memory, not the file's


def test_fortran_order(tmp_path: Path) -> None:
    pixels = noise(4, 16, 16, 3)
    np.save(tmp_path / "f.npy", np.asfortranarray(pixels))
    assert np.array_equal(load_images(str(tmp_path / "f.npy")).images.permute(0, 2, 3, 1), pixels)


@pytest.mark.parametrize("names", [("train_{}", "test_{}"), ("{}_train", "{}_test")])
@pytest.mark.parametrize("stems", [("images", "labels"), ("x", "y"), ("X", "Y")])
def test_npz_splits_and_labels(tmp_path: Path, names: tuple[str, str], stems: tuple[str, str]) -> None:
    arrays: dict[str, NDArray[Any]] = {}
    for name, n in zip(names, (6, 3), strict=True):
        arrays[name.format(stems[0])] = noise(n, 16, 16, seed=n)
        arrays[name.format(stems[1])] = np.arange(n, dtype=np.int32)
    np.savez(tmp_path / "a.npz", allow_pickle=False, **arrays)
    for split, n in (("train", 6), ("test", 3)):
        found = load_images(str(tmp_path / "a.npz"), split=split)  # type: ignore[arg-type]
        assert np.array_equal(found.images[:, 0], noise(n, 16, 16, seed=n))
        assert found.labels is not None and found.labels.dtype == torch.int64
        assert found.labels.tolist() == list(range(n))


def test_arrays_are_fitted(tmp_path: Path) -> None:
    pixels = noise(3, 32, 48, 3)
    pixels[:, :, 8:40] = (200, 100, 50)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.arange(3))
    cropped = load_images(str(tmp_path / "a.npz"), image_size=16).images
    assert (cropped == torch.tensor([200, 100, 50], dtype=torch.uint8).view(1, 3, 1, 1)).all()
    grey = load_images(str(tmp_path / "a.npz"), image_size=16, channels=1).images
    assert (grey == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all()
    assert load_images(str(tmp_path / "a.npz"), image_size=16, crop=False).images.shape == (3, 3, 16, 16)
    one = load_images(str(tmp_path / "a.npz"), image_size=64, count=1)
    assert one.images.shape == (1, 3, 64, 64) and one.labels is not None and one.labels.tolist() == [1]
    refused(tmp_path / "a.npz", "images are 48 x 32, not square; choose a size with --image-size")


def test_resizing_agrees_with_pillow(tmp_path: Path) -> None:
    pixels = noise(1, 60, 60)
    np.save(tmp_path / "a.npy", pixels)
    found = load_images(str(tmp_path / "a.npy"), image_size=23).images[0, 0].int().numpy()
    expected = np.asarray(Image.fromarray(pixels[0]).resize((23, 23), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (np.zeros((4, 16, 16), np.float32), r"images are float32 and run from 0 to 0, .* --pixel-range"),
        (np.zeros((4, 16, 16), np.int64), "images are int64 and run from 0 to 0, .* --pixel-range"),
        (np.zeros((4, 16, 16), bool), "images are bool and run from 0 to 0, .* --pixel-range"),
        (np.zeros((16, 16), np.uint8), r"has shape \(16, 16\), expected \(N, H, W\)"),
        (np.zeros((4, 16, 16, 4), np.uint8), r"has shape \(4, 16, 16, 4\).*C = 1 or 3"),
        (np.zeros((0, 16, 16), np.uint8), "holds no images"),
        (np.ones((4, 16, 16), np.uint8), r"every pixel is 0 or 1, .*; give --pixel-range 0\.\.1"),
        (noise(4, 8, 8), "images are 8 x 8, expected at least 16 x 16"),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_wrong_arrays(tmp_path: Path, pixels: NDArray[Any], says: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    np.save(path, pixels) if suffix == ".npy" else np.savez(path, pixels)
    refused(path, f"a{suffix}.*{says}")


LABELS: dict[str, tuple[Any, list[int], tuple[str, ...]]] = {
    "int8": (np.array([3, 0, 3, 1], np.int8), [3, 0, 3, 1], ()),
    "a column": (np.array([[3], [0], [3], [1]]), [3, 0, 3, 1], ()),
    "whole floats": (np.array([3.0, 0.0, 3.0, -1.0], np.float32), [3, 0, 3, -1], ()),
    "truth values": (np.array([True, False, True, True]), [1, 0, 1, 1], ()),
    "one-hot": (np.eye(4, dtype=np.float32)[[3, 0, 3, 1]], [3, 0, 3, 1], ()),
    "texts": (np.array(["cat", "ant", "cat", "bee"]), [2, 0, 2, 1], ("ant", "bee", "cat")),
    "bytes": (np.array([b"cat", b"ant", b"cat", b"bee"]), [2, 0, 2, 1], ("ant", "bee", "cat")),
}


@pytest.mark.parametrize("form", LABELS)
def test_labels_in_the_forms_that_sets_have(form: str, tmp_path: Path) -> None:
    values, expected, names = LABELS[form]
    path = tmp_path / "a.npz"
    np.savez(path, images=noise(4, 16, 16), labels=values)
    found = load_images(str(path))
    assert found.labels is not None and found.labels.tolist() == expected and found.label_names == names


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.arange(5), r"labels are int64 of shape \(5,\); expected one label for each of 4 images"),
        (np.linspace(0, 1, 4), "labels are float64"),
        (np.array([1.0, np.nan, 1.0, 1.0]), "labels are float64"),
        (np.array([1, 2, 3, 2**64 - 1], np.uint64), "labels are uint64"),
        (np.ones((4, 3)), r"of shape \(4, 3\)"),
        (np.array([1, None, 2, "x"], object), "array labels cannot be read"),
    ],
)
def test_labels_that_are_none_stop_nothing(values: Any, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=noise(4, 16, 16), labels=values)
    with pytest.warns(RunWarning, match=f"{reason}.*; training reads no labels and goes on without them"):
        found = load_images(str(path))
    assert found.labels is None and found.label_names == () and len(found.images) == 4


def test_wrong_npz_contents(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, foo=noise(4, 16, 16), bar=np.arange(4))
    refused(path, "expected an array named images, x, train_images or x_train; it holds foo, bar")
    np.savez(path, images=noise(4, 16, 16))
    refused(path, "no test split; expected an array named test_images or x_test", split="test")
    np.savez(path, images=np.array([{"a": 1}], dtype=object))
    refused(path, "holds Python objects, which are not loaded")
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object))
    refused(tmp_path / "o.npy", "holds Python objects, which are not loaded")
    np.save(tmp_path / "p.npy", noise(4, 16, 16))
    refused(tmp_path / "p.npy", "one array has no test split", split="test")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_damaged_numpy_files(tmp_path: Path, suffix: str) -> None:
    buffer = io.BytesIO()
    np.save(buffer, noise(4, 16, 16)) if suffix == ".npy" else np.savez_compressed(
        buffer, images=noise(4, 16, 16)
    )
    whole = buffer.getvalue()
    path = tmp_path / f"a{suffix}"
    for length in [0, 1, 5, 20, 60, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        refused(path, f"a{suffix}: .*(not a readable NumPy file|holds Python objects)")
    path.write_bytes(b"\x80\x04K\x01.")  # a pickle
    refused(path, f"a{suffix}: ")
    if suffix == ".npz":
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 0xFF
        path.write_bytes(flipped)
        refused(path, "not a readable NumPy file")


def npz_with(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("images.npy", content)


def npy_header(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    header = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + bytes(version) + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (5, 16, 16",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (5, 16, 99999999999999999999)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-5, 16, 16)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (5, 16, 16.5)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (6, 16, 16)}",
        "{'descr': 'u1,u1', 'fortran_order': 3, 'shape': 5}",
        "[" * 110,
        "'''",
        "{'descr': (" + "(" * 80,
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_damaged_numpy_headers(tmp_path: Path, header: str, suffix: str) -> None:
    path, content = tmp_path / f"a{suffix}", npy_header(header) + bytes(range(256)) * 5
    if suffix == ".npz":
        npz_with(path, content)
    else:
        path.write_bytes(content)
    refused(path, f"a{suffix}: ")


def test_archives_that_are_not_as_they_say(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    npz_with(path, npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (5, 16, 16)}", (3, 0)))
    refused(path, r"version \(3, 0\) of the format")
    good = (
        npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (5, 16, 16)}") + bytes(range(256)) * 5
    )
    npz_with(path, good)
    content = bytearray(path.read_bytes())
    for at in (6, content.rindex(b"PK\x01\x02") + 8):
        content[at] |= 1  # encrypted
    path.write_bytes(content)
    refused(path, "not a readable NumPy file .*encrypted")
    npz_with(path, good)
    content = bytearray(path.read_bytes())
    for at in (8, content.rindex(b"PK\x01\x02") + 10):
        content[at] = 97  # a method of compression that Python does not have
    path.write_bytes(content)
    refused(path, "not a readable NumPy file")


def test_an_npz_too_large_for_memory_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((64, 256, 256), np.uint8))
    sizes = []

    def require(size: int, what: str) -> None:
        sizes.append(size)
        raise UserError(f"{what}, which take too much")

    monkeypatch.setattr(arrays, "require_memory", require)
    refused(tmp_path / "a.npz", r"array images: holds 64 images of shape \(256, 256\), which take too much")
    assert sizes[0] >= 64 * 256 * 256


# --- paths --------------------------------------------------------------------------------------------


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    refused("", "data is empty; expected one of strokes")
    (tmp_path / "photos").mkdir()
    refused(
        "mnsit",
        f"mnsit: no such file or folder, and not one of {', '.join(SOURCES)}; did you mean mnist?",
    )
    refused("Fashion_MNIST", "did you mean fashion-mnist?")
    refused(tmp_path / "photso", f"no such file or folder.*did you mean {tmp_path / 'photos'}")
    refused(
        tmp_path / "no" / "such" / "0123456789",
        f"no such file or folder, and not one of {', '.join(SOURCES)}$",
    )
    with zipfile.ZipFile(tmp_path / "photos.zip", "w"):
        pass
    refused(tmp_path / "photos.zip", "no pictures .* in this archive; found nothing")
    (tmp_path / "photos.rar").write_bytes(b"Rar!")
    refused(
        tmp_path / "photos.rar", "expected a folder or an archive .ZIP or TAR. of pictures, a folder of IDX"
    )


def test_a_folder_with_the_name_of_images_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "memory" / "0.png", noise(16, 16))
    refused("memory", r"stands for images in memory.*; write \./memory, or the absolute path")
    assert len(load_images("./memory").images) == len(load_images(tmp_path / "memory").images) == 1
