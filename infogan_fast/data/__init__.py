"""Training images: drawings by this package, published data sets, the user's own files and arrays.

Nothing here imports PyTorch until it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infogan_fast.data.image_set import ImageSet, Split
    from infogan_fast.data.loading import load_images

__all__ = ["ImageSet", "Split", "load_images"]

_LAZY = {"ImageSet": "image_set", "Split": "image_set", "load_images": "loading"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"infogan_fast.data.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'infogan_fast.data' has no attribute {name!r}")
