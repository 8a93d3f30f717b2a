"""Transparency, depths beyond 8 bits, and files of several pictures."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from infogan_fast.data import load_images, pictures
from infogan_fast.errors import UserError

Bytes = NDArray[np.uint8]


def noise(*shape: int, seed: int = 0, high: int = 256) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, high, shape)


def drawing(path: Path, ink: tuple[int, ...] = (0, 0, 0)) -> None:
    """A square of ink on a transparent ground."""
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[4:12, 4:12] = (*ink, 255)
    Image.fromarray(pixels).save(path)


def wide_png(values: NDArray[np.int64], transparent: tuple[int, ...] = ()) -> bytes:
    """A PNG with 16 bits a channel, of values [H, W, C]: grey, grey with alpha, colour, or colour with
    alpha; perhaps with a colour that stands for transparency."""
    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    parts += [(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))] if transparent else []
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def wide_tiff(
    values: NDArray[np.int64],
    order: str,
    *,
    deflated: bool = False,
    planes: bool = False,
    colours: int = 2,
    extra: int | None = None,
) -> bytes:
    """A TIFF of colours [H, W, C] with 16 bits a channel, in a byte order.

    Args:
        colours: TIFF's PhotometricInterpretation: 2 for RGB, 5 for CMYK.
        extra: TIFF's ExtraSamples: 1 where colours are multiplied by their opacity.
    """
    height, width, channels = values.shape
    data = (values.transpose(2, 0, 1) if planes else values).astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if deflated else data
    tags = [(256, 3, width), (257, 3, height), (258, 3, None), (259, 3, 8 if deflated else 1)]
    tags += [(262, 3, colours)]
    tags += [(273, 4, None), (277, 3, channels), (278, 3, height), (279, 4, len(data))]
    tags += [(284, 3, 2 if planes else 1)] + ([] if extra is None else [(338, 3, extra)])
    offset = 8 + 2 + 12 * len(tags) + 4
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    content = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    for tag, kind, value in tags:
        number = {258: offset, 273: offset + len(bits)}.get(tag, value)
        short = kind == 3 and tag != 258
        content += struct.pack(f"{order}HHI", tag, kind, channels if tag == 258 else 1)
        content += struct.pack(f"{order}H2x" if short else f"{order}I", number)
    return content + struct.pack(f"{order}I", 0) + bits + data


# --- transparency -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("background", "ground"),
    [("white", (255, 255, 255)), ("black", (0, 0, 0)), ("77", (77, 77, 77)), ("#ff8000", (255, 128, 0))],
)
def test_transparency_is_laid_on_the_background(
    tmp_path: Path, background: str, ground: tuple[int, ...]
) -> None:
    drawing(tmp_path / "0.png", ink=(10, 20, 30))
    found = load_images(str(tmp_path), background=background)
    assert found.images[0, :, 0, 0].tolist() == list(ground)
    assert found.images[0, :, 8, 8].tolist() == [10, 20, 30]
    assert found.source.endswith(f", transparency laid on {background}")
    assert f"transparency of 1 laid on {background} (--background)" in found.report
    with Image.open(tmp_path / "0.png") as picture:
        in_memory = load_images([picture.copy()], background=background)
    assert torch.equal(in_memory.images, found.images)
    assert f"in memory, transparency laid on {background}, sha256 " in in_memory.source


def test_opaque_pictures_say_nothing_of_transparency(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([noise(16, 16, 3), np.full((16, 16), 255)]).astype(np.uint8)).save(
        tmp_path / "0.png"
    )
    found = load_images(str(tmp_path))
    assert "transparency" not in found.source + " ".join(found.report)
    with Image.open(tmp_path / "0.png") as picture:
        assert "transparency" not in load_images([picture.copy()]).source


@pytest.mark.parametrize("in_memory", [False, True])
def test_grey_pictures_turn_coloured_on_a_coloured_ground(tmp_path: Path, in_memory: bool) -> None:
    pixels = np.zeros((16, 16, 2), np.uint8)
    pixels[4:12, 4:12] = (9, 255)
    picture = Image.fromarray(pixels, "LA")
    picture.save(tmp_path / "0.png")
    data: Any = [picture] if in_memory else str(tmp_path)
    assert load_images(data).images.shape[1] == 1
    assert load_images(data, background="#0000ff").images[0, :, 0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize("wrong", ["", "256", "-1", "red", "#12345", "#12345g", "0x10", "1e2"])
def test_what_is_no_background(wrong: str) -> None:
    with pytest.raises(
        UserError, match=r"--background is '.*'; expected white, black, a grey from 0 to 255, or"
    ):
        load_images("strokes", background=wrong, count=1)


# --- depth --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("greatest", "scale", "bits"),
    [(200, 255, 8), (1023, 1023, 10), (1024, 4095, 12), (4095, 4095, 12), (9000, 16383, 14)],
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_that_hold_fewer(
    tmp_path: Path, suffix: str, greatest: int, scale: int, bits: int
) -> None:
    values = noise(3, 16, 16, high=greatest // 2)
    values[1, 0, 0] = greatest  # one scale for the set
    for i in range(3):
        Image.fromarray(values[i].astype(np.uint16)).save(tmp_path / f"{i}.{suffix}")
    found = load_images(str(tmp_path))
    assert np.array_equal(found.images[:, 0], (values * 255 / scale).round())
    assert found.source.endswith(f", 16-bit pictures that hold {bits} bits scaled by {scale}")
    assert f"16-bit pictures that hold {bits} bits: scaled by {scale}" in found.report
    pictures = [Image.fromarray(picture.astype(np.uint16)) for picture in values]
    in_memory = load_images(pictures)
    assert torch.equal(in_memory.images, found.images)
    assert f", pictures of {bits} bits scaled by {scale}, sha256" in in_memory.source


def test_the_scale_is_that_of_all_splits_and_of_all_files(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for i in range(4):
            values = noise(16, 16, high=60_000 if (split, i) == ("test", 3) else 1000)
            Image.fromarray(values.astype(np.uint16)).save(tmp_path / split / f"{i}.png")
    for split in ("train", "test"):
        found = load_images(str(tmp_path), split=split, count=2)  # type: ignore[arg-type]
        assert found.images.max() == 4 and "scaled" not in found.source


@pytest.mark.parametrize(("greatest", "scale"), [(4000, 4095), (65535, 65535), (70_000, (1 << 17) - 1)])
def test_thirty_two_bits(tmp_path: Path, greatest: int, scale: int) -> None:
    values = noise(16, 16, high=greatest)
    values[0, 0] = greatest
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "0.tif")
    assert np.array_equal(load_images(str(tmp_path)).images[0, 0], (values * 255 / scale).round())


def test_files_may_declare_the_greatest_value(tmp_path: Path) -> None:
    values = noise(16, 16, high=900)
    path = tmp_path / "0.tif"
    Image.fromarray(values.astype(np.uint16)).save(path, tiffinfo={281: 999})
    found = load_images(str(tmp_path))
    assert np.array_equal(found.images[0, 0], (values * 255 / 999).round())
    assert "pictures that declare values up to 999: scaled by 999" in found.report
    Image.fromarray(values.astype(np.uint16)).save(path, tiffinfo={281: 99})
    with pytest.raises(UserError, match=r"holds values up to 8\d\d, and says that there are none above 99"):
        load_images(str(tmp_path))
    path.unlink()
    # Pillow scales a PGM by its own maximum, so that its values are known to have 16 bits.
    (tmp_path / "0.pgm").write_bytes(b"P5 16 16 65535\n" + values.astype(">u2").tobytes())
    assert np.array_equal(load_images(str(tmp_path)).images[0, 0], (values / 257).round())


@pytest.mark.parametrize(
    "form", ["png", "png with alpha", "tiff <", "tiff >", "tiff < deflated", "tiff > deflated"]
)
def test_colours_of_sixteen_bits_keep_all_of_them(tmp_path: Path, form: str) -> None:
    values = noise(16, 16, 3, high=4096)
    if form.startswith("png"):
        alpha = [np.full((16, 16), 65535)] if "alpha" in form else []
        content = wide_png(np.dstack([values, *alpha]))
    else:
        content = wide_tiff(values, form[5], deflated="deflated" in form)
    (tmp_path / ("0.png" if form.startswith("png") else "0.tif")).write_bytes(content)
    found = load_images(str(tmp_path)).images[0].permute(1, 2, 0)
    assert np.array_equal(found, (values * 255 / 4095).round())


@pytest.mark.parametrize("bits", [(5, 6, 5), (5, 5, 5)])
def test_bitmaps_of_sixteen_bits_a_pixel(tmp_path: Path, bits: tuple[int, ...]) -> None:
    """They have 5 or 6 bits a channel, which are not more than 8."""
    values = noise(16, 16, high=1 << sum(bits)).astype("<u2")
    places = [sum(bits[i + 1 :]) for i in range(3)]
    masks = [((1 << count) - 1) << place for count, place in zip(bits, places, strict=True)]
    header = struct.pack("<IiiHHIIiiII", 40, 16, -16, 1, 16, 3, values.nbytes, 0, 0, 0, 0)
    header += struct.pack("<3I", *masks)
    start = 14 + len(header)
    content = b"BM" + struct.pack("<IHHI", start + values.nbytes, 0, 0, start) + header + values.tobytes()
    (tmp_path / "a.bmp").write_bytes(content)
    (found,) = load_images(tmp_path).images
    for channel, count, place in zip(found.numpy(), bits, places, strict=True):
        level = (values >> place) & ((1 << count) - 1)
        assert np.abs(channel - level * (255 / ((1 << count) - 1))).max() <= 8


def test_what_pillow_reads_wrongly_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0.tif").write_bytes(wide_tiff(noise(16, 16, 3, high=65536), "<", planes=True))
    with pytest.raises(UserError, match=r"0\.tif: keeps colours of 16 bits in planes"):
        load_images(str(tmp_path))
    (tmp_path / "0.tif").unlink()
    grey_alpha = np.dstack([noise(16, 16, high=65536), np.full((16, 16), 65535)])
    (tmp_path / "0.png").write_bytes(wide_png(grey_alpha))
    assert (load_images(str(tmp_path)).images[0, 0].numpy() == grey_alpha[..., 0] >> 8).all()
    grey_alpha[..., 0] >>= 4
    (tmp_path / "0.png").write_bytes(wide_png(grey_alpha))
    with pytest.raises(UserError, match=r"0\.png: is grey with transparency of 16 bits, of which Pillow"):
        load_images(str(tmp_path))


def white_as_zero(path: Path) -> None:
    Image.fromarray(noise(16, 16, high=65536).astype(np.uint16)).save(path, "tiff", tiffinfo={262: 0})
    with Image.open(path) as picture:
        assert isinstance(picture, TiffImagePlugin.TiffImageFile) and picture.tag_v2[262] == 0


@pytest.mark.parametrize(
    ("write", "what"),
    [
        (white_as_zero, "white as 0"),
        (lambda path: path.write_bytes(wide_tiff(noise(16, 16, 4), "<", colours=5)), "colours as CMYK"),
        (lambda path: path.write_bytes(wide_tiff(noise(16, 16, 4), ">", extra=1)), "colours that are mul"),
        (lambda path: path.write_bytes(wide_png(noise(16, 16, 1), (256,))), "a colour that stands for"),
        (lambda path: path.write_bytes(wide_png(noise(16, 16, 3), (9, 9, 9))), "a colour that stands for"),
    ],
    ids=["white as 0", "CMYK", "premultiplied", "transparent grey", "transparent colour"],
)
def test_what_pillow_knows_of_eight_bits_alone_is_refused(
    tmp_path: Path, write: Callable[[Path], object], what: str
) -> None:
    write(tmp_path / "0.png")
    with pytest.raises(UserError, match=rf"0\.png: has 16 bits a channel and {what}.*; save it with 8 bits"):
        load_images(str(tmp_path))


def test_opacity_of_sixteen_bits_is_read(tmp_path: Path) -> None:
    values = noise(16, 16, 4, high=65536)
    values[..., 3] = 65535
    (tmp_path / "0.tif").write_bytes(wide_tiff(values, "<", extra=2))
    found = load_images(str(tmp_path)).images[0].permute(1, 2, 0)
    assert np.array_equal(found, (values[..., :3] / 257).round())


def test_the_declared_scale_is_that_of_all_splits_and_of_all_files(tmp_path: Path) -> None:
    values = noise(16, 16, high=900)
    for split, i, declared in (("train", 0, 999), ("train", 1, 1999), ("test", 0, 3999), ("test", 1, 999)):
        (tmp_path / split).mkdir(exist_ok=True)
        picture = Image.fromarray(values.astype(np.uint16))
        picture.save(tmp_path / split / f"{i}.tif", tiffinfo={281: declared})
    for split in ("train", "test"):
        found = load_images(str(tmp_path), split=split, count=1)  # type: ignore[arg-type]
        assert np.array_equal(found.images[0, 0], (values * 255 / 3999).round()), split
        assert "pictures that declare values up to 3,999: scaled by 3999" in found.report


# --- several pictures in a file -----------------------------------------------------------------------


def stack(path: Path, pixels: Bytes, **options: Any) -> None:
    first, *others = [Image.fromarray(page) for page in pixels]
    first.save(path, save_all=True, append_images=others, **options)


def test_every_page_of_a_tiff_is_a_picture(tmp_path: Path) -> None:
    pixels = noise(7, 16, 16).astype(np.uint8)
    for name, part in (("a", pixels[:5]), ("b", pixels[5:])):
        (tmp_path / name).mkdir()
        stack(tmp_path / name / "0.tif", part)
    found = load_images(str(tmp_path))
    assert np.array_equal(found.images[:, 0], pixels)
    assert found.labels is not None and found.labels.tolist() == [0] * 5 + [1] * 2
    assert "pages of TIFF files: 5 after the first of their file" in found.report
    assert np.array_equal(load_images(str(tmp_path), count=3).images[:, 0], pixels[[0, 2, 4]])
    with pytest.raises(UserError, match="has 7 images, --images asks for 8"):
        load_images(str(tmp_path), count=8)


def test_pages_of_sixteen_bits_are_found_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is opened anew for each page is searched from its beginning: for n pages n^2 / 2 times."""
    pages = noise(9, 16, 16, high=4096)
    first, *others = [Image.fromarray(page.astype(np.uint16)) for page in pages]
    first.save(tmp_path / "0.tif", save_all=True, append_images=others)
    opened = []
    usual = pictures._opened

    def counting(file: pictures.PictureFile) -> Any:
        opened.append(file)
        return usual(file)

    monkeypatch.setattr(pictures, "_opened", counting)
    assert np.array_equal(load_images(str(tmp_path)).images[:, 0], (pages * 255 / 4095).round())
    assert len(opened) <= 6


def test_a_tiff_under_another_name_is_counted_too(tmp_path: Path) -> None:
    stack(tmp_path / "0.png", noise(5, 16, 16).astype(np.uint8), format="tiff")
    assert len(load_images(str(tmp_path)).images) == 5
    assert len(load_images(str(tmp_path), count=1).images) == 1


def test_a_damaged_page_is_left_out_alone(tmp_path: Path) -> None:
    stack(tmp_path / "0.tif", noise(4, 64, 64).astype(np.uint8), compression="tiff_adobe_deflate")
    content = bytearray((tmp_path / "0.tif").read_bytes())
    with Image.open(tmp_path / "0.tif") as picture:
        assert isinstance(picture, TiffImagePlugin.TiffImageFile)
        picture.seek(2)
        offset = picture.tag_v2[273][0]
    content[offset : offset + 40] = bytes(40)
    (tmp_path / "0.tif").write_bytes(content)
    with pytest.raises(UserError, match=r"0\.tif: page 3: .*, or leave it out with --skip-damaged"):
        load_images(str(tmp_path))
    found = load_images(str(tmp_path), skip_damaged=True)
    assert len(found.images) == 3 and found.left_out[0].startswith(f"{tmp_path / '0.tif'}: page 3: ")


def test_reduced_copies_and_masks_in_a_tiff_are_no_pictures(tmp_path: Path) -> None:
    page = Image.fromarray(noise(32, 32).astype(np.uint8))
    reduced = page.resize((16, 16))
    reduced.encoderinfo = {"tiffinfo": {254: 1}}
    page.save(tmp_path / "0.tif", save_all=True, append_images=[reduced])
    assert load_images(str(tmp_path)).images.shape == (1, 1, 32, 32)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_the_first_frame_of_an_animation_is_read_and_counted(tmp_path: Path, suffix: str) -> None:
    frames = np.stack([np.full((16, 16), value, np.uint8) for value in (40, 200)])
    stack(tmp_path / f"0.{suffix}", frames, **({"lossless": True} if suffix == "webp" else {}))
    found = load_images(str(tmp_path), channels=1)
    assert (found.images == 40).all()
    assert "more than one frame: 1, of which the first is read" in found.report


def test_zeros_and_ones(tmp_path: Path) -> None:
    Image.fromarray(noise(16, 16, high=2).astype(np.uint8)).save(tmp_path / "0.png")
    with pytest.raises(UserError, match="every pixel is 0 or 1, expected 0 to 255"):
        load_images(str(tmp_path))
