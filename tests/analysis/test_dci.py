"""DCI of hand-made encoders, whose scores are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from analysis.encoders import ENCODERS, FACTORS, Array

from infogan_fast.analysis.dci import DciScore, dci


def _dci(codes: Array, factors: Array = FACTORS, **options: Any) -> DciScore:
    return dci(codes, factors, **{"train": 2000, "test": 1000, **options})


@pytest.mark.parametrize(
    ("encoder", "disentanglement", "completeness", "informativeness"),
    [
        ("perfect", (0.98, 1), (0.98, 1), (0.98, 1)),
        ("permuted", (0.98, 1), (0.98, 1), (0.98, 1)),
        ("with noise", (0.98, 1), (0.98, 1), (0.98, 1)),
        ("turned", (0.5, 0.65), (0.5, 0.65), (0.9, 1)),
        ("all turned", (0, 0.2), (0, 0.2), (0.8, 1)),
        ("random", (0, 0.15), (0, 0.2), (-0.1, 0.05)),
        ("constant", (0, 0), (0, 0), (-0.01, 0.01)),
        ("doubled", (0.98, 1), (0.5, 0.7), (0.98, 1)),  # two dimensions of six per factor: 1 - log_6(2)
        ("single", (0, 0.01), (1, 1), (0.25, 0.36)),
    ],
)
def test_dci(
    encoder: str,
    disentanglement: tuple[float, float],
    completeness: tuple[float, float],
    informativeness: tuple[float, float],
) -> None:
    found = _dci(ENCODERS[encoder])
    assert disentanglement[0] <= found.disentanglement <= disentanglement[1]
    assert completeness[0] <= found.completeness <= completeness[1]
    assert informativeness[0] <= found.informativeness <= informativeness[1]
    assert found.importance.shape == (ENCODERS[encoder].shape[1], 3)


def test_disentanglement_is_a_mean_by_importance() -> None:
    """A dimension that mixes two factors and two that hold one each."""
    a, b, c, d = np.random.default_rng(4).uniform(-1, 1, (4, 3000))
    found = _dci(np.c_[a + b, c, d], np.c_[a, b, c, d])
    # Half of all importance is spread over 2 of 4 factors.
    assert found.disentanglement == pytest.approx(0.5 * (1 - math.log(2) / math.log(4)) + 0.5, abs=0.08)
    assert found.completeness > 0.8
    assert found.error[0] == pytest.approx(math.sqrt(0.5), abs=0.06)  # b hides a part of a
    assert found.error[2] < 0.03
    assert found.informativeness == pytest.approx(1 - found.error.mean())


def test_error_of_a_discrete_factor_is_relative_to_guessing() -> None:
    rng = np.random.default_rng(5)
    factor = rng.permutation(np.repeat([0, 1, 2, 3], [1500, 500, 500, 500]))
    shown = np.where(rng.uniform(size=3000) < 0.2, (factor + rng.integers(1, 4, size=3000)) % 4, factor)
    found = _dci(shown[:, None], factor[:, None])
    assert found.informativeness == pytest.approx(1 - 0.2 / 0.5, abs=0.07)
    assert found.disentanglement == found.completeness == 1


def partial(seed: int, names: Array) -> tuple[Array, Array]:
    """A code that tells half of a discrete factor, and two continuous ones with noise."""
    rng = np.random.default_rng(seed)
    d = rng.integers(10, size=15_000)
    x, y, n, k = rng.normal(size=(4, 15_000))
    return np.c_[names[d // 2], x + 0.2 * n, y + 0.2 * k], np.c_[d, x, y]


def test_a_code_that_tells_part_of_a_factor() -> None:
    """No tree is right more than half of the time, so deeper ones are no more accurate, and follow noise."""
    found = [dci(*partial(seed, np.arange(5)), seed=seed) for seed in range(3)]
    scores = [each.disentanglement for each in found]
    assert max(scores) - min(scores) < 0.02 and min(scores) > 0.93
    for each in found:
        assert each.importance[0, 0] > 0.97
        assert each.error[0] == pytest.approx(0.5 / 0.9, abs=0.03)
    renamed = dci(*partial(0, np.array([3, 0, 4, 1, 2])), seed=0)
    assert renamed.disentanglement == pytest.approx(found[0].disentanglement, abs=2e-3)


def test_offsets_and_scales_of_codes_have_no_effect() -> None:
    codes, factors = partial(1, np.arange(5))
    moved = codes * [1, -1e-6, 1e6] + [0, 1e9, -1e12]
    options: dict[str, Any] = {"discrete_codes": [True, False, False], "train": 2000, "test": 1000}
    before, after = dci(codes, factors, **options), dci(moved, factors, **options)
    # 1e6 x - 1e12 has fewer different values than x, by rounding.
    assert after.disentanglement == pytest.approx(before.disentanglement, abs=0.01)


def test_a_class_that_the_test_rows_lack() -> None:
    rng = np.random.default_rng(6)
    factor = np.zeros(3000)
    value = rng.uniform(size=3000)
    tested = np.random.default_rng(0).permutation(3000)[2000:]
    factor[np.setdiff1d(np.arange(3000), tested)[:40]] = 1
    found = _dci(np.c_[factor, value], np.c_[factor, value])
    assert math.isnan(found.error[0]) and found.error[1] < 0.02
    assert found.informativeness == pytest.approx(1 - found.error[1])
    alone = _dci(np.c_[factor, value], factor[:, None])
    assert math.isnan(alone.informativeness)


def test_replicates_are_near_the_score() -> None:
    found = _dci(ENCODERS["turned"], bootstrap=8)
    scores = (found.disentanglement, found.completeness, found.informativeness)
    assert found.replicates.shape == (8, 3)
    np.testing.assert_allclose(found.replicates.mean(0), scores, atol=0.05)
    assert (found.replicates.std(0) < 0.05).all() and (found.replicates.std(0) > 0).all()


def test_a_code_that_varies_by_rounding_is_dead() -> None:
    factor = np.random.default_rng(7).normal(size=3000)
    rounded = np.float32(1) + np.float32(5e-8) * factor.astype(np.float32)
    found = _dci(np.c_[rounded, np.zeros(3000)], factor[:, None])
    assert not found.importance.any() and found.disentanglement == 0
