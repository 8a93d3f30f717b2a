"""The networks by name. Imports no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infogan_fast.networks.infogan import InfoGAN

#: For each name of ``--network`` the module in this package and its class. A class takes the arguments of
#: :class:`infogan_fast.networks.infogan.InfoGAN`, has its four networks as attributes of the same names, with
#: the same inputs and outputs. The first one is the default.
NETWORKS = {"infogan": ("infogan", "InfoGAN")}


def network_type(name: str) -> type[InfoGAN]:
    """The class of the networks of that name."""
    module, class_name = NETWORKS[name]
    found: type[InfoGAN] = getattr(importlib.import_module(f"infogan_fast.networks.{module}"), class_name)
    return found
