"""What the pages are made of: tables, pictures inside the page, and the templates."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, features

from infogan_fast.errors import UserError
from infogan_fast.extras import extra

#: Most bytes of one picture in a page, before base64; a larger one is shrunk.
PICTURE_BYTES = 2_000_000
_WEBP_SIDE = 16_383
#: What a damaged JSON file makes of code that expects a whole one.
DAMAGE = (LookupError, TypeError, ValueError, AttributeError, OverflowError)


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header, equally many in each; the first cell of a row names it.

    notes: sentences under it. words: the columns that hold words rather than numbers, besides the first.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    words: Sequence[int] = ()


@dataclass(frozen=True)
class Picture:
    """A picture inside the page.

    source: a data URI.
    width, height: in pixels, as it is shown.
    alt: what it shows, for those who do not see it.
    caption: under it; ``shrunk`` is what was lost, in words, or empty.
    """

    source: str
    width: int
    height: int
    alt: str
    caption: str = ""
    shrunk: str = ""


@dataclass
class Section:
    """What a part of a page shows, and what it lacks, in sentences."""

    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def data_uri(content: bytes, kind: str) -> str:
    """Bytes of a MIME type as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def encoded(picture: Image.Image) -> tuple[bytes, str]:
    """A grey or RGB picture without loss, and its MIME type: WebP where Pillow has it, else PNG."""
    buffer = io.BytesIO()
    if features.check("webp") and max(picture.size) <= _WEBP_SIDE:
        picture.convert("RGB").save(buffer, "webp", lossless=True, quality=60, method=4)
        return buffer.getvalue(), "image/webp"
    picture.save(buffer, "png", optimize=True)
    return buffer.getvalue(), "image/png"


def load_picture(path: Path, alt: str, caption: str = "", *, limit: int = PICTURE_BYTES) -> Picture:
    """A still picture from a file; one above the limit in bytes is halved until it fits.

    Raises:
        UserError: the file is missing or no picture.
    """
    try:
        with Image.open(path) as opened:
            opened.load()
            picture = opened.convert("L" if opened.mode == "L" else "RGB")
    except FileNotFoundError:
        raise UserError(f"{path.name} is missing") from None
    except Exception as error:  # Pillow raises whatever its decoders meet
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{path.name} cannot be read ({reason})") from None
    size = picture.size
    content, kind = encoded(picture)
    while len(content) > limit and min(picture.size) > 1:
        picture = picture.resize(
            (max(1, picture.width // 2), max(1, picture.height // 2)), Image.Resampling.BOX
        )
        content, kind = encoded(picture)
    shrunk = ""
    if picture.size != size:
        shrunk = f"shrunk from {size[0]} × {size[1]} to {picture.width} × {picture.height} pixels"
    return Picture(data_uri(content, kind), *size, alt, caption, shrunk)


def load_animation(path: Path, alt: str, limit: int) -> Picture:
    """An animated GIF as it is.

    Raises:
        UserError: it is missing, no GIF, or larger than the limit in bytes.
    """
    try:
        with Image.open(path, formats=["GIF"]) as opened:
            opened.load()
            size = opened.size
        content = path.read_bytes()
    except Exception as error:  # Pillow raises whatever its decoders meet
        raise UserError(f"{path.name} cannot be read ({' '.join(str(error).split())[:120]})") from None
    if len(content) > limit:
        raise UserError(
            f"{path.name} has {len(content) / 1e6:.1f} MB, more than the page takes ({limit / 1e6:g} MB)"
        )
    return Picture(data_uri(content, "image/gif"), *size, alt)


def load_json(path: Path) -> dict[str, Any]:
    """A JSON file with an object.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError(f"expected an object, found {type(found).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"[:120]
        raise UserError(f"{path}: cannot be read ({reason})") from None
    return found


def finite(value: Any) -> float | None:
    """A number of a file as a float; None if it is none, or not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most this many of the indices below ``count``, with the first and the last."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)] if most > 1 else [count - 1]


def duration(seconds: float) -> str:
    """Seconds in words, such as "3 min 20 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def rendered(template: str, **values: Any) -> str:
    """A page of a template in this package; every value is escaped."""
    jinja = extra("report", "jinja2", "report")
    environment = jinja.Environment(
        loader=jinja.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return str(environment.get_template(template).render(**values))
