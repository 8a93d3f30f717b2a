"""Distances of sets of features whose value is known, and plain statements of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from analysis.encoders import Array
from scipy import linalg

from infogan_fast.analysis.distances import NEIGHBOURS, distances, frechet, kernel_distance
from infogan_fast.errors import UserError


def normal(count: int, features: int = 6, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(count, features))


def values(real: Array, made: Array) -> dict[str, float]:
    return {name: found["value"] for name, found in distances(real, made).items()}


def test_against_plain_loops() -> None:
    real, made = normal(60), normal(50, seed=1) * 0.7 + 0.3
    pairs = np.linalg.norm(real[:, None] - made[None], axis=2)
    reach_real, reach_made = (
        np.sort(np.linalg.norm(each[:, None] - each[None], axis=2), 1)[:, NEIGHBOURS] for each in (real, made)
    )
    found = values(real, made)
    assert found["precision"] == np.mean([(pairs[:, j] <= reach_real).any() for j in range(50)])
    assert found["recall"] == np.mean([(pairs[i] <= reach_made).any() for i in range(60)])
    assert found["density"] == pytest.approx((pairs <= reach_real[:, None]).sum() / (NEIGHBOURS * 50))
    assert found["coverage"] == np.mean(pairs.min(1) <= reach_real)


def test_frechet_of_normal_distributions() -> None:
    a, b = normal(400), normal(300, seed=2) @ np.diag([1.0, 2, 3, 1, 1, 0.5]) + 2
    covariances = [np.cov(each.T) for each in (a, b)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    gap = a.mean(0) - b.mean(0)
    wanted = gap @ gap + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet(a, b) == pytest.approx(wanted, rel=1e-9)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, a + 3) == pytest.approx(9 * 6)
    # Of one feature: (difference of means)^2 + (difference of deviations)^2.
    one, two = a[:, :1], 3 * a[:, :1] + 1
    wanted = (two.mean() - one.mean()) ** 2 + 4 * one.var(ddof=1)
    assert frechet(one, two) == pytest.approx(wanted)


def test_kernel_distance_against_plain_loops() -> None:
    a, b = normal(8), normal(7, seed=3) + 0.5

    def kernel(x: Array, y: Array) -> float:
        return float((x @ y / 6 + 1) ** 3)

    wanted = sum(kernel(a[i], a[j]) for i in range(8) for j in range(8) if i != j) / 56
    wanted += sum(kernel(b[i], b[j]) for i in range(7) for j in range(7) if i != j) / 42
    wanted -= 2 * sum(kernel(x, y) for x in a for y in b) / 56
    assert kernel_distance(a, b) == pytest.approx(wanted)


def test_equal_distributions() -> None:
    found = distances(normal(1500), normal(1500, seed=4))
    for name, least in (("precision", 0.9), ("recall", 0.9), ("density", 0.9), ("coverage", 0.9)):
        assert least < found[name]["value"] < 1.1
    assert found["fid"]["value"] < 0.05
    low, high = found["kid"]["interval"]
    assert low < 0 < high


def test_a_collapsed_set_is_precise_and_covers_little() -> None:
    real = normal(1000)
    found = values(real, real[:1] + 1e-3 * normal(1000, seed=5))
    assert found["precision"] == 1 and found["recall"] < 0.01 and found["coverage"] < 0.05
    far = values(real, normal(1000, seed=6) + 50)
    assert far["precision"] == far["recall"] == far["density"] == far["coverage"] == 0
    assert far["fid"] == pytest.approx(2500 * 6, rel=0.02)


def test_intervals_hold_the_value() -> None:
    found = distances(normal(300), normal(300, seed=7) + 0.3)
    for name, each in found.items():
        low, high = each["interval"]
        assert low <= each["value"] <= high and high > low, name
    share = found["coverage"]
    error = math.sqrt(share["value"] * (1 - share["value"]) / 300)
    assert share["interval"][1] - share["value"] == pytest.approx(1.96 * error, rel=0.2)


def test_too_few_images() -> None:
    with pytest.raises(UserError, match="19 real and 30 made images; image quality needs 20 each"):
        distances(normal(19), normal(30))
