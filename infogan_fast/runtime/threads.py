"""How OpenMP's threads wait for work; to be imported before PyTorch, which loads the OpenMP library.

GNU's library has its threads spin for milliseconds between two parallel regions. With another busy process on
the machine, they spin while the one that they wait for is kept from running, and a training step takes
several times as long; a short spin costs an idle machine next to nothing (benchmarks/bench_step.py --beside).
"""

from __future__ import annotations

import os

SPINS = {"GOMP_SPINCOUNT": "4000"}

if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ.update(SPINS)
