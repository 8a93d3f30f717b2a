"""How OpenMP's threads wait for work; to be imported before PyTorch, which loads the OpenMP library.

GNU's library has its threads spin for milliseconds between two parallel regions. On an idle machine that
saves 1 % of a training step over a short spin; with another busy process beside it, threads spin while the
one that they wait for is kept from running, and a step takes ten times as long.
"""

from __future__ import annotations

import os

SPINS = {"GOMP_SPINCOUNT": "4000"}

if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ.update(SPINS)
