"""Networks of few weights, for tests in which only their shape matters."""

from __future__ import annotations

import re

from infogan_fast.networks.architecture import AUTO, architecture

_FEWER = {"64": "16", "128": "24", "256": "40", "1024": "96"}


def narrow(size: int = 16, channels: int = 1) -> str:
    """The layers of ``--network auto`` with fewer channels and features."""
    table = str(architecture(AUTO, size, channels))
    return re.sub(r"(?<!\d)(64|128|256|1024)(?!\d)", lambda found: _FEWER[found[0]], table)
