"""SAP of hand-made encoders, whose score is known."""

from __future__ import annotations

import numpy as np
import pytest
from analysis.encoders import ENCODERS, FACTORS, known

from infogan_fast.analysis.sap import sap


@known(
    {
        "perfect": (0.95, 1),  # the second best guesses the digit right one time in ten
        "permuted": (0.95, 1),
        "with noise": (0.95, 1),
        "turned": (0.29, 0.33),
        "all turned": (0, 0.15),
        "random": (0, 0.02),
        "constant": (0, 0),
        "doubled": (0, 1e-9),
        "single": (0.34, 0.38),
    }
)
def test_sap(encoder: str, low: float, high: float) -> None:
    found = sap(ENCODERS[encoder], FACTORS)
    assert low <= found.score <= high
    assert found.table.shape == (ENCODERS[encoder].shape[1], 3)


def test_sap_by_hand() -> None:
    rng = np.random.default_rng(3)
    factor, other = rng.normal(size=(2, 1500))
    factor -= factor.mean()
    other -= other.mean()
    other -= factor * (other @ factor) / (factor @ factor)
    other *= np.linalg.norm(factor) / np.linalg.norm(other)
    codes = np.c_[0.6 * factor + 0.8 * other, -7 * factor + 3]
    found = sap(codes, factor[:, None], train=1000, test=500)
    np.testing.assert_allclose(found.table[:, 0], [0.36, 1], rtol=1e-9)
    assert found.score == pytest.approx(0.64)
    # A column that varies only by rounding is constant.
    found = sap(np.c_[factor, 1 + 1e-8 * factor], factor[:, None], train=1000, test=500)
    assert found.table[:, 0].tolist() == pytest.approx([1, 0], abs=1e-12)
    # One row in ten is of the rare class; its code is 1, and so is that of one in five others.
    row = rng.permutation(1500)
    rare = row % 10 == 0
    shown = rare | (row % 50 > 40)
    found = sap(np.c_[shown, other], rare[:, None], train=1000, test=500)
    tested = np.random.default_rng(0).permutation(1500)[1000:]
    balanced = (1 + (~shown[tested][~rare[tested]]).mean()) / 2
    assert found.table[0, 0] == pytest.approx(balanced)
    assert found.table[1, 0] == pytest.approx(0.5, abs=0.1)
    # Classes in the middle of a line are separated, in any order.
    names = rng.integers(10, size=1500)
    found = sap(1e4 * rng.permutation(10)[names][:, None], names[:, None], train=1000, test=500)
    assert found.table[0, 0] > 0.99
