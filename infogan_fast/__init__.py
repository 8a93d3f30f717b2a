"""InfoGAN training, fast: interpretable latent codes from unlabelled images.

    import infogan_fast

    run = infogan_fast.train(data="mnist", steps=5000, amp=True)
    images = run.generate(n=64, c1=3)

Nothing here imports PyTorch until it is used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from infogan_fast.latents import LatentSpec

if TYPE_CHECKING:
    from infogan_fast.analysis.run import Run, load_run
    from infogan_fast.config import Config
    from infogan_fast.train import train
    from infogan_fast.training.callbacks import Callback

__version__ = "0.1.0"

__all__ = ["Callback", "Config", "LatentSpec", "Run", "__version__", "load_run", "train"]

# GNU's OpenMP library has its threads spin for milliseconds between two parallel regions. With another busy
# process on the machine they spin while the thread that they wait for is kept from running, and a training
# step takes several times as long; a short spin costs an idle machine next to nothing. The library reads this
# when PyTorch loads it.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "4000"

_LAZY = {
    "Callback": "training.callbacks",
    "Config": "config",
    "Run": "analysis.run",
    "load_run": "analysis.run",
}


def __getattr__(name: str) -> Any:
    if name == "train":  # a module that can be called, so that python -m infogan_fast.train works too
        return importlib.import_module("infogan_fast.train")
    if name in _LAZY:
        return getattr(importlib.import_module(f"infogan_fast.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'infogan_fast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
