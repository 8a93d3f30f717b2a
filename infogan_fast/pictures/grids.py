"""Grids of images and the figure of what each continuous code does, drawn with Pillow alone."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from infogan_fast.runtime.files import write_whole

_INK, _PAPER = (20, 20, 20), (255, 255, 255)
_MARGIN = 8


@dataclass(frozen=True)
class Panel:
    """A labelled grid: images uint8 [rows * columns, C, H, W], row by row."""

    title: str
    images: Tensor
    row_labels: Sequence[str]
    column_labels: Sequence[str]


def scale_for(size: int) -> int:
    """The whole number by which to enlarge images of this side, so that cells are about 56 pixels."""
    return max(1, round(56 / size))


def image_grid(images: Tensor, columns: int, *, scale: int = 1, gap: int = 1) -> Image.Image:
    """Images in rows, each pixel enlarged ``scale`` times, ``gap`` pixels apart.

    Args:
        images: uint8 [N, C, H, W], C = 1 or 3; the last row may be short.
        columns: how many a row.
    """
    n, _, height, width = images.shape
    rows = -(-n // columns)
    cell_h, cell_w = height * scale + gap, width * scale + gap
    sheet = torch.full((3, rows * cell_h + gap, columns * cell_w + gap), 128, dtype=torch.uint8)
    large = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3).expand(n, 3, -1, -1)
    for i in range(n):
        top, left = gap + i // columns * cell_h, gap + i % columns * cell_w
        sheet[:, top : top + height * scale, left : left + width * scale] = large[i]
    return Image.fromarray(sheet.permute(1, 2, 0).contiguous().numpy())


def as_png(picture: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    file = io.BytesIO()
    picture.save(file, format="png")
    return file.getvalue()


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(path, lambda file: picture.save(file, format="png"))


def panels_figure(panels: Sequence[Panel], *, scale: int = 1) -> Image.Image:
    """Panels side by side, each with its title, a label a row and a label a column."""
    font = ImageFont.load_default(12)
    drawn = [_panel(panel, font, scale) for panel in panels]
    width = sum(p.width for p in drawn) + _MARGIN * (len(drawn) + 1)
    figure = Image.new("RGB", (width, max(p.height for p in drawn) + 2 * _MARGIN), _PAPER)
    left = _MARGIN
    for part in drawn:
        figure.paste(part, (left, _MARGIN))
        left += part.width + _MARGIN
    return figure


def _panel(panel: Panel, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, scale: int) -> Image.Image:
    columns = len(panel.column_labels)
    grid = image_grid(panel.images, columns, scale=scale)
    cell_h, cell_w = panel.images.shape[2] * scale + 1, panel.images.shape[3] * scale + 1
    labels = max((font.getbbox(text)[2] for text in panel.row_labels), default=0)
    left, line = int(labels) + 6, 16
    image = Image.new(
        "RGB",
        (left + max(grid.width, int(font.getbbox(panel.title)[2])), 2 * line + 4 + grid.height),
        _PAPER,
    )
    image.paste(grid, (left, 2 * line + 4))
    draw = ImageDraw.Draw(image)
    draw.text((left, 0), panel.title, _INK, font)
    for i, text in enumerate(panel.column_labels):
        draw.text((left + (i + 0.5) * cell_w, line + 2), text, _INK, font, anchor="ma")
    for i, text in enumerate(panel.row_labels):
        draw.text((left - 4, 2 * line + 4 + (i + 0.5) * cell_h), text, _INK, font, anchor="rm")
    return image
