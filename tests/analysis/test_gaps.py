"""The gap between the two best dimensions of each factor."""

from __future__ import annotations

import numpy as np
import pytest

from infogan_fast.analysis.gaps import gap_score


def test_gaps_are_relative_to_the_scale_of_each_factor() -> None:
    table = np.array([[0.5, 0.1], [0.2, 0.7], [0.4, 0.3]])
    found = gap_score(table, np.array([1.0, 2.0]))
    assert found.gaps.tolist() == pytest.approx([0.1, 0.2])
    assert found.score == pytest.approx(0.15)
    assert found.table is table


def test_a_single_dimension_is_compared_with_0() -> None:
    assert gap_score(np.array([[0.5, 0.1]])).gaps.tolist() == [0.5, 0.1]
