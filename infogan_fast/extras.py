"""Packages that some parts need and the core does not: the optional dependencies of pyproject.toml."""

from __future__ import annotations

import importlib
from typing import Any

from infogan_fast.errors import UserError


def extra(name: str, module: str, needed_by: str) -> Any:
    """Import a module of an extra.

    Args:
        name: of the extra, such as ``data``.
        module: to import, such as ``scipy.io``.
        needed_by: what needs it; the error begins with it.

    Raises:
        UserError: it is not installed.
    """
    try:
        found = importlib.import_module(module)
        if getattr(found, "__file__", None) is None:  # a folder that uninstalling left behind
            raise ImportError(f"no module named {module!r}, only remains of it")
        return found
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(
            f"{needed_by} needs {package} ({error}); install it with pip install 'infogan_fast[{name}]'"
        ) from None
