"""How well the categories of a code match labels: clustering accuracy, NMI and ARI."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from infogan_fast.analysis.tables import Ints
from infogan_fast.errors import UserError


@dataclass(frozen=True, eq=False)
class Matching:
    """A matching of code values to labels, see :func:`match_clusters`."""

    assignment: dict[int, int]
    """The label of each code value that is matched, one that some of its images have; no two values share a
    label."""
    accuracy: float
    table: Ints
    """Counts [code values, labels], both in ascending order."""
    nmi: float
    """Mutual information divided by the mean of the two entropies, in [0, 1]."""
    ari: float
    """Rand index adjusted for chance: 1 for equal partitions, 0 on average for random ones; it may be
    negative.
    """


def match_clusters(predicted: ArrayLike, labels: ArrayLike) -> Matching:
    """Match the values of a categorical code one to one with labels so that as many images as possible agree.

    This is the unsupervised clustering accuracy (Xie et al. 2016, arXiv 1511.06335, section 4), found by the
    Hungarian method. If there are more values than labels, or fewer, the surplus stays unmatched and its
    images count as wrong.

    Args:
        predicted: values of the code, int [N].
        labels: int [N].

    Raises:
        UserError: there are no images.
        ValueError: the arguments are not two integer vectors of the same length.
    """
    columns = [np.asarray(predicted), np.asarray(labels)]
    if columns[0].ndim != 1 or columns[0].shape != columns[1].shape:
        raise ValueError(
            f"predicted has the shape {columns[0].shape}, labels {columns[1].shape}; expected [N] for both"
        )
    if not len(columns[0]):
        raise UserError("there are no images to match; give at least one")
    for name, column in zip(("predicted", "labels"), columns, strict=True):
        if not np.issubdtype(column.dtype, np.integer):
            raise ValueError(f"{name} is {column.dtype}; expected integers")
    (code_values, codes), (label_values, names) = (np.unique(c, return_inverse=True) for c in columns)
    table = np.zeros((len(code_values), len(label_values)), np.int64)
    np.add.at(table, (codes, names), 1)
    rows, matched = linear_sum_assignment(table, maximize=True)
    return Matching(
        {
            int(code_values[i]): int(label_values[j])
            for i, j in zip(rows, matched, strict=True)
            if table[i, j]
        },
        float(table[rows, matched].sum() / table.sum()),
        table,
        min(1.0, float(normalized_mutual_info_score(names, codes, average_method="arithmetic"))),
        float(adjusted_rand_score(names, codes)),
    )
