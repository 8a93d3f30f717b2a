"""Stand-in until the data branch is merged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from infogan_fast.objective.transformation import Transformation


@dataclass(frozen=True)
class ImageSource:
    name: str
    transformation: Transformation | None = None
    recipe: dict[str, Any] = field(default_factory=dict)


SOURCES = {
    "strokes": ImageSource(
        "strokes", Transformation(shear=0.0), {"equivariance": 0.3, "lambda_categorical": 0.3}
    ),
    "mnist": ImageSource("mnist", Transformation(), {"equivariance": 0.3, "smoothness": 1.0}),
    "fashion-mnist": ImageSource(
        "fashion-mnist", Transformation(rotation=5.0, scale=0.1, shear=0.05, shift=0.06)
    ),
}
BUILT_IN = tuple(SOURCES)
