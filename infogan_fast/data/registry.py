"""The image sources that have a name. Imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infogan_fast.errors import UserError
from infogan_fast.objective.transformation import Transformation

if TYPE_CHECKING:
    from infogan_fast.data.image_set import ImageSet, Selection


@dataclass(frozen=True)
class ImageSource:
    """A source of images that ``--data`` takes by its name.

    name: what ``--data`` takes.
    module: in infogan_fast.data; its function ``load(name, selection)`` returns the images. It is imported
        when they are loaded.
    transformation: ranges of the copies that leave the class of an image unchanged; None where none are
        known, and then the default recipe makes no copies.
    recipe: what the default recipe changes for this source.
    factors: names of the factors that are known of every image, for evaluation.
    drawn: whether images are drawn on request, as many as are asked for.
    total: how many there are in both splits, where drawings come to an end.
    """

    name: str
    module: str
    transformation: Transformation | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    factors: tuple[str, ...] = ()
    drawn: bool = False
    total: int | None = None

    def load(self, selection: Selection) -> ImageSet:
        """The selected images.

        Raises:
            MissingSplitError: the source has no such split.
            UserError: the images cannot be had; the text names the remedy.
        """
        images: ImageSet = importlib.import_module(f"infogan_fast.data.{self.module}").load(
            self.name, selection
        )
        return images


def is_published(data: Any) -> bool:
    """Whether data is the name of a set that is read from files, which ``--data-dir`` may hold."""
    return isinstance(data, str) and data in SOURCES and not SOURCES[data].drawn


def check_data_dir(data: str, folder: Any) -> None:
    """Refuse a folder of published files where none are read.

    Args:
        data: a name, or a path.
        folder: what was given as ``--data-dir``; None for nothing.

    Raises:
        UserError: the data is drawn, or is itself at a path.
    """
    if folder is None or is_published(data):
        return
    why = "is drawn, and needs no files" if data in SOURCES else "is no published set"
    raise UserError(
        f"--data-dir {folder}: --data {data} {why}; for your own images give --data {folder} alone, and for "
        "a published set its name, such as --data mnist"
    )


#: The name that stands for images in memory, which no source has.
IN_MEMORY = "memory"

#: What to look for where images in memory are not those of before.
RANDOM = "; a dataset must give the same images each time, without random transforms"

#: The first one is the default of ``--data``.
SOURCES = {
    source.name: source
    for source in (
        ImageSource(
            "strokes",
            "strokes",
            Transformation(shear=0.0),
            {"equivariance": 0.3, "lambda_categorical": 0.3},
            factors=("digit", "rotation", "width"),
            drawn=True,
        ),
        ImageSource(
            "sprites",
            "sprites",
            factors=("shape", "scale", "orientation", "x", "y"),
            drawn=True,
            total=737_280,
        ),
        ImageSource(
            "mnist", "idx", Transformation(), {"equivariance": 0.3, "smoothness": 1.0, "bending": 1.0}
        ),
        ImageSource("fashion-mnist", "idx", Transformation(rotation=5.0, scale=0.1, shear=0.05, shift=0.06)),
        ImageSource("cifar10", "published"),
        ImageSource("cifar100", "published"),
        ImageSource("svhn", "published"),
        ImageSource("celeba", "celeba"),
        ImageSource("dsprites", "published", factors=("shape", "scale", "orientation", "posX", "posY")),
        ImageSource(
            "shapes3d",
            "published",
            factors=("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"),
        ),
    )
}
