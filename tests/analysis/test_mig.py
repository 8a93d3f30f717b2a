"""MIG of hand-made encoders, whose score is known."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from analysis.encoders import ENCODERS, FACTORS, Array, known

from infogan_fast.analysis.mig import mig


@known(
    {
        "perfect": (0.99, 1),
        "permuted": (0.99, 1),
        "with noise": (0.98, 1),
        "turned": (0.32, 0.35),  # the discrete factor is unchanged
        "all turned": (0, 0.15),
        "random": (0, 0.02),
        "constant": (0, 1e-9),
        "doubled": (0, 0),
        "single": (0.33, 0.36),
    }
)
def test_mig(encoder: str, low: float, high: float) -> None:
    found = mig(ENCODERS[encoder], FACTORS)
    assert low <= found.score <= high
    assert found.table.shape == (ENCODERS[encoder].shape[1], 3) and found.score == found.gaps.mean()


def test_mig_by_hand() -> None:
    """Four equally likely values; one dimension tells the value, another its half in nine of ten cases."""
    factor = np.repeat(np.arange(4), 2500)
    half = factor // 2
    half = np.where(np.arange(10_000) % 10 == 0, 1 - half, half)
    fine = np.arange(10_000) % 7 / 3
    entropy = -(0.1 * math.log(0.1) + 0.9 * math.log(0.9))
    found = mig(np.c_[half, factor], factor[:, None])
    np.testing.assert_allclose(found.table[:, 0], [math.log(2) - entropy, math.log(4)], rtol=1e-9)
    assert found.score == pytest.approx((math.log(4) - math.log(2) + entropy) / math.log(4))
    # A discrete column is not cut into bins, unless it is marked as continuous.
    far = np.c_[factor + 1000 * (factor == 3)]
    assert mig(far, factor[:, None]).score == pytest.approx(1)
    assert mig(far, factor[:, None], discrete_codes=[False]).score < 0.5
    # A continuous column is cut into 20 parts of its range.
    assert mig(fine[:, None], fine[:, None]).table[0, 0] == pytest.approx(math.log(7), rel=1e-3)
    assert mig(FACTORS[:, 1:2], FACTORS[:, 1:2]).table[0, 0] == pytest.approx(math.log(20), rel=1e-2)
    assert mig(FACTORS[:, 1:2], FACTORS[:, 1:2], bins=5).table[0, 0] == pytest.approx(math.log(5), rel=1e-2)


def test_many_values_take_no_table_of_all_pairs() -> None:
    """10,000 values of each would take 0.8 GB for one pair of columns."""
    values = np.random.default_rng(0).permutation(10_000)
    tracemalloc.start()
    found = mig(values[:, None], values[::-1, None])
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()
    assert found.score == pytest.approx(1)


def test_replicates_spread_as_samples_do() -> None:
    rng = np.random.default_rng(4)

    def sample() -> tuple[Array, Array]:
        value = rng.normal(size=4000)
        return np.c_[value + rng.normal(size=4000), rng.normal(size=4000)], value[:, None]

    first = mig(*sample(), samples=4000, bootstrap=100)
    others = [mig(*sample(), samples=4000).score for _ in range(60)]
    assert np.std(others, ddof=1) == pytest.approx(first.replicates.std(ddof=1), rel=0.35)
