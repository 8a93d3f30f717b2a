"""SAP of hand-made encoders, whose score is known."""

from __future__ import annotations

import numpy as np
import pytest
from analysis.encoders import ENCODERS, FACTORS, Array, known

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
        "single": (0.33, 0.34),
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
    rounded = np.float32(1) + np.float32(5e-8) * factor.astype(np.float32)
    found = sap(np.c_[factor, rounded], factor[:, None], train=1000, test=500)
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


def test_values_of_a_discrete_code_are_only_names() -> None:
    """The parity of c1 is told by no threshold on c1, and by each of its values."""
    rng = np.random.default_rng(0)
    c1, other = rng.integers(10, size=3000), rng.uniform(size=3000)
    shown = c1 % 2 == 1
    scores = [
        sap(np.c_[names[c1], other], np.c_[shown, 3.0 * c1 + other], train=2000, test=1000).table
        for names in (np.arange(10), np.array([0, 5, 1, 6, 2, 7, 3, 8, 4, 9]))
    ]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-9)
    assert scores[0][0, 0] == 1
    # Of 3 c1 + other, all but the part of other lies between the values of c1.
    assert scores[0][0, 1] == pytest.approx(1 - (1 / 12) / (9 * 8.25 + 1 / 12), abs=1e-3)
    as_numbers = sap(np.c_[c1, other], shown[:, None], discrete_codes=[False, False], train=2000, test=1000)
    assert as_numbers.table[0, 0] < 0.7


@pytest.mark.parametrize("dead", [0.0, 1.0, 0.1])
def test_a_dead_code_beside_a_random_one_is_worth_nothing(dead: float) -> None:
    rng = np.random.default_rng(1)
    codes = np.c_[rng.uniform(size=3000), np.full(3000, dead)]
    for classes in (2, 5):
        factor = rng.integers(classes, size=3000)[:, None]
        assert sap(codes, factor, train=2000, test=1000).score < 0.03
        assert sap(codes[:, :1], factor, train=2000, test=1000).score < 0.03
        assert sap(codes[:, 1:], factor, train=2000, test=1000).score == 0


@pytest.mark.parametrize("offset", [0, 1e3, 1e6, -1e9])
def test_an_offset_costs_nothing(offset: float) -> None:
    rng = np.random.default_rng(2)
    value, other = rng.uniform(size=(2, 3000))
    found = sap(np.c_[value + offset, other], value[:, None], train=2000, test=1000)
    assert found.table[0, 0] == pytest.approx(1, abs=1e-6)


def test_intervals_cover_the_score_of_other_samples() -> None:
    """The replicates of one sample deviate as the scores of other samples do."""
    rng = np.random.default_rng(3)

    def sample() -> tuple[Array, Array]:
        value, noise = rng.normal(size=(2, 600))
        return np.c_[value + noise, noise], np.c_[value, rng.integers(2, size=600)]

    first = sap(*sample(), train=400, test=200, bootstrap=100)
    deviation = first.replicates.std(ddof=1)
    others = np.array([sap(*sample(), train=400, test=200).score for _ in range(40)])
    assert others.std(ddof=1) == pytest.approx(deviation, rel=0.5)
