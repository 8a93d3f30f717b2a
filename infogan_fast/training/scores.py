"""Which checkpoint of a run is the best, judged without labels from the rows of metrics.jsonl.

The score of a row is the sum over the codes of L - H in nats: how close ``L_CODE``, the lower bound of
mutual information that InfoGAN maximises next to the game (Chen et al. 2016, equation 6), comes to the
entropy of the code, which changes where its prior is learned. A row with an alarm comes after every row
without one. The score says how well Q reads the codes, not how good the images are.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from infogan_fast.training import checkpoint

_Score = tuple[bool, float]


def _score(row: dict[str, Any]) -> _Score | None:
    """The score of a row, or None if it is damaged."""
    bounds = {name: value for name, value in row.items() if name.startswith("L_c")}
    entropies = [row.get(f"H{name[1:]}", 0.0) for name in bounds]
    values = [*bounds.values(), *entropies]
    if not bounds or not all(isinstance(each, (int, float)) and math.isfinite(each) for each in values):
        return None
    return not row.get("alarms"), sum(bounds.values()) - sum(entropies)


class Scores:
    """The scores of a run's rows, in their order.

    Args:
        rows: of metrics.jsonl, those that there are.
    """

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self._steps: list[int] = []
        self._scores: list[_Score] = []
        for row in rows:
            self.add(row)

    def add(self, row: dict[str, Any]) -> None:
        """Note the next row."""
        score = _score(row)
        if score is not None and (not self._steps or row["step"] > self._steps[-1]):
            self._steps.append(row["step"])
            self._scores.append(score)

    def best(self, checkpoints: Iterable[Path]) -> Path | None:
        """The checkpoint with the best score in the last row up to it, of equal ones the last; None if there
        is no such row."""

        def rows_until(path: Path) -> int:
            return bisect.bisect_right(self._steps, checkpoint.step_of(path))

        scored = [path for path in checkpoints if rows_until(path)]
        return max(reversed(scored), key=lambda path: self._scores[rows_until(path) - 1], default=None)
