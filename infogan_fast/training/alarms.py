"""Named alarms for training that goes wrong without an error, judged from the rows of metrics.jsonl alone.

A resumed run reads its rows again, so it raises the same alarms as an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from infogan_fast.latents import LatentSpec

GRACE = 500
"""Updates before codes and diversity are judged: at first, networks ignore every code."""
HELD = 250
"""Updates for which a condition must hold in every row: a single bad row means nothing."""
IGNORED = 0.05
"""Share of a code's entropy (of its variance, for uniform and normal codes) that Q must recover."""
COLLAPSED_VARIANCE = -9.0
"""Mean log-variance of a code that counts as collapsed; Q's are clamped at -10, a sigma of 0.0067."""
WON_D, WON_G = 0.1, 8.0
"""Losses past which the discriminator has won: its own (1.39 if it guesses) and the generator's."""
EXPLODED = 1000.0
"""Losses in nats, and squared errors of codes, that no training comes back from."""
COLLAPSED_DIVERSITY = 0.25
"""Diversity of generated images relative to real ones;
see :func:`infogan_fast.pictures.samples.diversity`."""


@dataclass(frozen=True)
class Alarm:
    """The meaning of an alarm, and the remedies to try."""

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
        "a loss is beyond all bounds, or it or a weight is no longer a number, and training has stopped",
        "lower learning rates (--lr-g, --lr-d), no --amp, --fixed-sigma 1, or another --seed",
    ),
}
"""By name; the name of a code follows, as in ``code-ignored c2``, if the alarm is about one."""


class AlarmMonitor:
    """Judges the rows of a run in their order, and remembers since when each condition has held.

    Args:
        spec: the latents of the run.
    """

    def __init__(self, spec: LatentSpec) -> None:
        self.spec = spec
        self.step = 0
        self.since: dict[str, int] = {}
        self.raised: set[str] = set()

    def __call__(self, row: dict[str, Any]) -> tuple[list[str], list[str]]:
        """The alarms that hold in this row, and those of them that hold for the first time."""
        # A row covers the updates since the row before.
        found = {name: self.since.get(name, self.step) for name in self._found(row)}
        self.since, self.step = found, row["step"]
        active = []
        for name, since in found.items():
            if name.startswith("code"):
                since = max(since, GRACE)
            # Diversity is not a mean over updates: one measurement is enough.
            if self.step - since >= HELD or (name == "g-collapsed" and self.step >= GRACE):
                active.append(name)
        new = [name for name in active if name not in self.raised]
        self.raised.update(active)
        return active, new

    def replay(self, rows: Iterable[dict[str, Any]]) -> None:
        """Judge the rows of an earlier session, without those that are of another version or damaged."""
        for row in rows:
            with contextlib.suppress(KeyError, TypeError):
                self(row)

    def _found(self, row: dict[str, Any]) -> Iterator[str]:
        for code in self.spec.codes:
            if code.is_ordered:
                prior_variance = 1.0 if code.kind == "normal" else 1 / 3
                ignored = row[f"mse_{code.name}"] > (1 - IGNORED) * prior_variance
            else:
                ignored = row[f"L_{code.name}"] < IGNORED * row[f"H_{code.name}"]
            if ignored:
                yield f"code-ignored {code.name}"
            if row.get(f"logvar_{code.name}", math.inf) < COLLAPSED_VARIANCE:
                yield f"sigma-collapsed {code.name}"
        if row["d_real"] + row["d_fake"] < WON_D or row["g"] > WON_G:
            yield "d-won"
        # It is not measured in every row: until the next time, it stays as it was.
        collapsed = "g-collapsed" in self.since
        if "diversity" in row:
            collapsed = row["diversity"] < COLLAPSED_DIVERSITY
        if collapsed:
            yield "g-collapsed"


def exploded(means: dict[str, float]) -> dict[str, float]:
    """Of the means of a row, by name, those that say that training has diverged.

    With a small sigma the likelihood of a uniform or normal code may be large, so its error is judged.
    """
    judged = {"d_real", "d_fake", "g"} | {name for name in means if name.startswith("mse_")}
    judged |= {name for name in means if name.startswith("nll_") and f"mse_{name[4:]}" not in means}
    return {
        name: value
        for name, value in means.items()
        if not math.isfinite(value) or (name in judged and value > EXPLODED)
    }


def explained(name: str) -> str:
    """The meaning of an alarm and its remedies, in one line."""
    alarm = ALARMS[name.split()[0]]
    return f"{alarm.meaning}; try {alarm.remedy}"
