"""The packages that some formats need."""

from __future__ import annotations

import importlib
from typing import Any

from infogan_fast.errors import UserError


def extra(module: str, path: str) -> Any:
    """Import a module of the extra ``data``.

    Raises:
        UserError: it is not installed; the text begins with the file that needs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(
            f"{path}: reading it needs {package} ({error}); install it with pip install 'infogan_fast[data]'"
        ) from None
