"""What goes wrong in training without an error: named alarms, judged from the rows of metrics.jsonl alone.

A run that is resumed reads its rows again, so that it raises what an uninterrupted one does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from infogan_fast.latents import LatentSpec

GRACE = 500
"""Updates before a code or the diversity is judged: networks that have just begun ignore every code."""
HELD = 250
"""Updates over which something must be so in every row: a single bad row means nothing."""
IGNORED = 0.05
"""Share of a code's entropy, or variance for uniform and normal codes, that Q must read from the images."""
COLLAPSED_VARIANCE = -9.0
"""Mean log-variance of a code that counts as collapsed; Q's are clamped at -10, a sigma of 0.0067."""
WON_D, WON_G = 0.1, 8.0
"""Losses of the discriminator (1.39 where it cannot tell) and of the generator past which D has won."""
COLLAPSED_DIVERSITY = 0.25
"""Diversity of generated images beside that of real ones;
see :func:`infogan_fast.pictures.samples.diversity`."""


@dataclass(frozen=True)
class Alarm:
    """What an alarm means, and what to try."""

    meaning: str
    remedy: str


ALARMS = {
    "code-ignored": Alarm(
        "the images hardly depend on the code",
        "a larger --lambda-categorical or --lambda-continuous, fewer codes, or --mi-gradient trunk",
    ),
    "sigma-collapsed": Alarm(
        "Q's learned sigma is at its lower limit, so the code is hidden in details rather than shown",
        "--fixed-sigma 1, or a smaller --lambda-continuous",
    ),
    "d-won": Alarm(
        "the discriminator tells real from generated images without fail, and the generator learns nothing",
        "a smaller --lr-d or a larger --lr-g, smaller lambdas, or another --seed",
    ),
    "g-collapsed": Alarm(
        "the generated images are far more alike than the real ones",
        "a smaller --lr-g, a larger --batch-size, more noise in --latents, or another --seed",
    ),
    "diverged": Alarm(
        "a loss or a weight is no longer a number, and training has stopped",
        "lower learning rates (--lr-g, --lr-d), no --amp, --fixed-sigma 1, or another --seed",
    ),
}
"""By name; those of a code are followed by it, as in ``code-ignored c2``."""


class AlarmMonitor:
    """Judges the rows of a run in their order, and remembers since when something has been so.

    Args:
        spec: the latents of the run.
    """

    def __init__(self, spec: LatentSpec) -> None:
        self.spec = spec
        self.step = 0
        self.since: dict[str, int] = {}
        self.raised: set[str] = set()

    def __call__(self, row: dict[str, Any]) -> tuple[list[str], list[str]]:
        """The alarms that hold in this row, by name and code, and those of them that never did before."""
        # A row speaks of the updates since the row before.
        found = {name: self.since.get(name, self.step) for name in self._found(row)}
        self.since, self.step = found, row["step"]
        active = []
        for name, since in found.items():
            if name.startswith("code"):
                since = max(since, GRACE)
            # How alike images are is no mean over a few updates, and shown by one look.
            if self.step - since >= HELD or (name == "g-collapsed" and self.step >= GRACE):
                active.append(name)
        new = [name for name in active if name not in self.raised]
        self.raised.update(active)
        return active, new

    def _found(self, row: dict[str, Any]) -> Iterator[str]:
        kinds = ("categorical",) * self.spec.n_categorical + self.spec.continuous_kinds
        for code, kind in zip(self.spec.code_names, kinds, strict=True):
            if kind in ("categorical", "bernoulli"):
                ignored = row[f"L_{code}"] < IGNORED * row[f"H_{code}"]
            else:
                ignored = row[f"mse_{code}"] > (1 - IGNORED) * (1.0 if kind == "normal" else 1 / 3)
            if ignored:
                yield f"code-ignored {code}"
            if row.get(f"logvar_{code}", math.inf) < COLLAPSED_VARIANCE:
                yield f"sigma-collapsed {code}"
        if row["d_real"] + row["d_fake"] < WON_D or row["g"] > WON_G:
            yield "d-won"
        # Measured from time to time: until then, as before.
        collapsed = "g-collapsed" in self.since
        if "diversity" in row:
            collapsed = row["diversity"] < COLLAPSED_DIVERSITY
        if collapsed:
            yield "g-collapsed"


def explained(name: str) -> str:
    """What an alarm means and what to try, in a line."""
    alarm = ALARMS[name.split()[0]]
    return f"{alarm.meaning}; try {alarm.remedy}"
