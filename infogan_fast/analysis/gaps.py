"""The gap between the best and the second-best code dimension of each factor, shared by MIG and SAP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infogan_fast.analysis.tables import Floats


@dataclass(frozen=True, eq=False)
class GapScore:
    """See :func:`gap_score`."""

    score: float
    """Mean of the gaps, in [0, 1]."""
    gaps: Floats
    """[m]"""
    table: Floats
    """How much each dimension tells about each factor, [D, m]: mutual information in nats for MIG, R^2 or
    balanced accuracy for SAP.
    """
    replicates: Floats
    """The score of each bootstrap sample of the rows, [B]."""


def gap_score(
    table: Floats,
    scale: Floats | float = 1.0,
    *,
    chance: Floats | float = 0.0,
    replicates: Sequence[float] = (),
) -> GapScore:
    """The difference of the two largest values in each column of the table [D, m], divided by the scale [m].

    Args:
        chance: what a dimension that tells nothing has, [m]; with a single dimension, it is the second one.
        replicates: see :class:`GapScore`.
    """
    guessing = np.broadcast_to(chance, table[:1].shape)
    second, first = np.sort(np.vstack([guessing, table]), axis=0)[-2:]
    gaps = (first - second) / scale
    return GapScore(float(gaps.mean()), gaps, table, np.array(replicates, np.float64))
