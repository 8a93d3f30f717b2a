"""Scores of encoders that were made by hand: what each metric must give is known beforehand."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from infogan_fast.analysis import metrics, morphology
from infogan_fast.data import strokes
from infogan_fast.errors import UserError

Array = NDArray[Any]
N = 15_000

_rng = np.random.default_rng(0)
#: A discrete factor of 10 values and two continuous ones, of unlike scales.
FACTORS = np.stack([_rng.integers(10, size=N), _rng.uniform(-1, 1, N), _rng.uniform(1, 9, N)], 1)


def _turned(codes: Array, *planes: tuple[int, int]) -> Array:
    """By 45 degrees in each plane, after giving all columns the same variance."""
    codes = (codes - codes.mean(0)) / codes.std(0)
    for i, j in planes:
        a, b = codes[:, i].copy(), codes[:, j].copy()
        codes[:, i], codes[:, j] = (a + b) / math.sqrt(2), (a - b) / math.sqrt(2)
    return codes


ENCODERS = {
    "perfect": FACTORS,
    "permuted": FACTORS[:, [2, 0, 1]] * [-3.0, 2.0, 0.001] + [5.0, -1.0, 0.0],
    "with noise": np.hstack([FACTORS, _rng.normal(size=(N, 4))]),
    "turned": _turned(FACTORS, (1, 2)),
    "all turned": _turned(FACTORS, (0, 1), (1, 2)),
    "random": _rng.normal(size=(N, 3)),
    "constant": np.full((N, 3), 0.3),
    "doubled": np.hstack([FACTORS, FACTORS]),
    "single": FACTORS[:, 1:2],
}


def _known(low_high: dict[str, tuple[float, float]]) -> Any:
    return pytest.mark.parametrize(("encoder", "low", "high"), [(n, *b) for n, b in low_high.items()])


# Matching


def test_a_renamed_partition_matches_perfectly() -> None:
    labels = FACTORS[:, 0].astype(np.int64)
    names = np.array([70, 3, -5, 11, 40, 2, 9, 8, 100, 1])
    found = metrics.match_clusters(names[labels], labels)
    assert found.accuracy == found.ari == 1 and found.nmi == pytest.approx(1)
    assert found.assignment == {int(name): label for label, name in enumerate(names)}


def test_merged_and_split_clusters() -> None:
    labels = np.repeat(np.arange(10), 50)
    merged = metrics.match_clusters(labels // 2, labels)
    assert merged.accuracy == 0.5 and merged.table.shape == (5, 10)
    assert merged.nmi == pytest.approx(2 * math.log(5) / (math.log(5) + math.log(10)))
    pairs, together = math.comb(500, 2), 10 * math.comb(50, 2)
    expected = together * 5 * math.comb(100, 2) / pairs
    assert merged.ari == pytest.approx(
        (together - expected) / ((together + 5 * math.comb(100, 2)) / 2 - expected)
    )
    split = metrics.match_clusters(2 * labels + (np.arange(500) % 5 < 2), labels)
    assert split.accuracy == 0.6 and split.table.shape == (20, 10)
    assert split.assignment == {2 * label: label for label in range(10)}


@pytest.mark.parametrize("sizes", [(3, 3), (2, 4), (4, 2)])
def test_matching_is_the_best_of_all(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        predicted, labels = (np.r_[np.arange(k), rng.integers(k, size=30 - k)] for k in sizes)
        table = [
            [int(((predicted == i) & (labels == j)).sum()) for j in range(sizes[1])] for i in range(sizes[0])
        ]
        found = metrics.match_clusters(predicted, labels)
        assert found.table.tolist() == table
        wide = table if sizes[0] <= sizes[1] else [list(row) for row in zip(*table, strict=True)]
        best = max(
            sum(row[j] for row, j in zip(wide, chosen, strict=True))
            for chosen in itertools.permutations(range(max(sizes)), min(sizes))
        )
        assert found.accuracy == best / 30
        agree = [found.assignment.get(int(p)) == label for p, label in zip(predicted, labels, strict=True)]
        assert np.mean(agree) == pytest.approx(found.accuracy)


def test_matching_of_nothing_to_see() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(10, size=N)
    random = metrics.match_clusters(rng.integers(10, size=N), labels)
    assert 0.1 < random.accuracy < 0.13 and random.nmi < 0.01 and abs(random.ari) < 0.01
    constant = metrics.match_clusters(np.zeros(N, int), labels)
    assert constant.accuracy == np.bincount(labels).max() / N and constant.nmi == 0
    with pytest.raises(UserError, match="no images"):
        metrics.match_clusters(np.zeros(0, int), np.zeros(0, int))
    with pytest.raises(ValueError, match=r"\[N\] both"):
        metrics.match_clusters(labels, labels[1:])
    with pytest.raises(ValueError, match="float64; expected integers"):
        metrics.match_clusters(labels * 0.5, labels)


# Rank correlations


def test_rank_correlations() -> None:
    codes = np.c_[ENCODERS["all turned"][:, :2], np.exp(-FACTORS[:, 2]), np.full(N, 2.0)]
    found = metrics.rank_correlations(codes, FACTORS)
    assert found.shape == (4, 3)
    for i, j in itertools.product(range(3), range(3)):
        assert found[i, j] == pytest.approx(stats.spearmanr(codes[:, i], FACTORS[:, j]).statistic)
    assert found[2, 2] == pytest.approx(-1) and (found[3] == 0).all()


# Mutual information gap


@_known(
    {
        "perfect": (0.99, 1),
        "permuted": (0.99, 1),
        "with noise": (0.98, 1),
        "turned": (0.32, 0.35),  # the discrete factor is as it was
        "all turned": (0, 0.15),
        "random": (0, 0.02),
        "constant": (0, 1e-9),
        "doubled": (0, 0),
        "single": (0.33, 0.36),
    }
)
def test_mig(encoder: str, low: float, high: float) -> None:
    found = metrics.mig(ENCODERS[encoder], FACTORS)
    assert low <= found.score <= high
    assert found.table.shape == (ENCODERS[encoder].shape[1], 3) and found.score == found.gaps.mean()


def test_mig_by_hand() -> None:
    """Four equally likely values; one dimension tells which, another which half, in nine of ten cases."""
    factor = np.repeat(np.arange(4), 2500)
    half = factor // 2
    half = np.where(np.arange(10_000) % 10 == 0, 1 - half, half)
    fine = np.arange(10_000) % 7 / 3
    entropy = -(0.1 * math.log(0.1) + 0.9 * math.log(0.9))
    found = metrics.mig(np.c_[half, factor], factor[:, None])
    np.testing.assert_allclose(found.table[:, 0], [math.log(2) - entropy, math.log(4)], rtol=1e-9)
    assert found.score == pytest.approx((math.log(4) - math.log(2) + entropy) / math.log(4))
    # names, not sizes: a discrete column is not cut into bins, unless it is said to be continuous
    far = np.c_[factor + 1000 * (factor == 3)]
    assert metrics.mig(far, factor[:, None]).score == pytest.approx(1)
    assert metrics.mig(far, factor[:, None], discrete_codes=[False]).score < 0.5
    # a continuous one is cut into 20 parts of its range
    assert metrics.mig(fine[:, None], fine[:, None]).table[0, 0] == pytest.approx(math.log(7), rel=1e-3)
    assert metrics.mig(FACTORS[:, 1:2], FACTORS[:, 1:2]).table[0, 0] == pytest.approx(math.log(20), rel=1e-2)
    assert metrics.mig(FACTORS[:, 1:2], FACTORS[:, 1:2], bins=5).table[0, 0] == pytest.approx(
        math.log(5), rel=1e-2
    )


# Separated attribute predictability


@_known(
    {
        "perfect": (0.95, 1),  # the next best guesses the digit right one time in ten
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
    found = metrics.sap(ENCODERS[encoder], FACTORS)
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
    found = metrics.sap(codes, factor[:, None], train=1000, test=500)
    np.testing.assert_allclose(found.table[:, 0], [0.36, 1], rtol=1e-9)
    assert found.score == pytest.approx(0.64)
    # what varies by rounding alone is constant
    found = metrics.sap(np.c_[factor, 1 + 1e-8 * factor], factor[:, None], train=1000, test=500)
    assert found.table[:, 0].tolist() == pytest.approx([1, 0], abs=1e-12)
    # one row in ten is of the rare class; its code is 1, and so is that of one in five others
    row = rng.permutation(1500)
    rare = row % 10 == 0
    shown = rare | (row % 50 > 40)
    found = metrics.sap(np.c_[shown, other], rare[:, None], train=1000, test=500)
    tested = np.random.default_rng(0).permutation(1500)[1000:]
    balanced = (1 + (~shown[tested][~rare[tested]]).mean()) / 2
    assert found.table[0, 0] == pytest.approx(balanced)
    assert found.table[1, 0] == pytest.approx(0.5, abs=0.1)
    # classes in the middle of a line, whatever their order
    names = rng.integers(10, size=1500)
    found = metrics.sap(1e4 * rng.permutation(10)[names][:, None], names[:, None], train=1000, test=500)
    assert found.table[0, 0] > 0.99


# Disentanglement, completeness, informativeness


def _dci(codes: Array, factors: Array = FACTORS, **options: Any) -> metrics.DciScore:
    return metrics.dci(codes, factors, **{"train": 2000, "test": 1000, **options})


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
        ("doubled", (0.98, 1), (0.5, 0.7), (0.98, 1)),  # two dimensions of six for a factor: 1 - log_6(2)
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
    # half of all importance is spread over 2 of 4 factors
    assert found.disentanglement == pytest.approx(0.5 * (1 - math.log(2) / math.log(4)) + 0.5, abs=0.08)
    assert found.completeness > 0.8
    assert found.error[0] == pytest.approx(math.sqrt(0.5), abs=0.06)  # what b leaves open of a
    assert found.error[2] < 0.03
    assert found.informativeness == pytest.approx(1 - found.error.mean())


def test_error_of_a_discrete_factor_is_relative_to_guessing() -> None:
    rng = np.random.default_rng(5)
    factor = rng.permutation(np.repeat([0, 1, 2, 3], [1500, 500, 500, 500]))
    shown = np.where(rng.uniform(size=3000) < 0.2, (factor + rng.integers(1, 4, size=3000)) % 4, factor)
    found = _dci(shown[:, None], factor[:, None])
    assert found.informativeness == pytest.approx(1 - 0.2 / 0.5, abs=0.07)
    assert found.disentanglement == found.completeness == 1


# The scores that intervene

TABLES = {name: metrics.table_sampler(codes, FACTORS) for name, codes in ENCODERS.items()}


@_known(
    {
        "perfect": (1, 1),
        "permuted": (1, 1),
        "with noise": (0.99, 1),
        "turned": (0.6, 0.75),  # one factor for certain, two confused
        "all turned": (0.4, 0.75),
        "random": (0.28, 0.4),
        "constant": (0, 0),
        "doubled": (1, 1),
        "single": (0.28, 0.4),
    }
)
def test_factor_vae_score(encoder: str, low: float, high: float) -> None:
    found = metrics.factor_vae_score(TABLES[encoder], 3, test=1000)
    assert low <= found.score <= high
    assert found.votes.shape == (ENCODERS[encoder].shape[1], 3)
    assert found.votes.sum() == (0 if encoder == "constant" else 800)


@_known(
    {
        "perfect": (1, 1),
        "permuted": (1, 1),
        "with noise": (1, 1),
        "turned": (0.6, 0.75),
        "all turned": (0.4, 0.75),
        "random": (0.25, 0.42),
        "constant": (0.25, 0.42),
        "doubled": (1, 1),
        "single": (0.6, 0.75),
    }
)
def test_beta_vae_score(encoder: str, low: float, high: float) -> None:
    assert low <= metrics.beta_vae_score(TABLES[encoder], 3, train=1000, test=500) <= high


@pytest.mark.parametrize("score", ["factor", "beta"])
def test_scale_plays_no_part_in_interventions(score: str) -> None:
    noisy = FACTORS + np.random.default_rng(6).normal(scale=[2.0, 0.7, 3.0], size=FACTORS.shape)

    def result(scale: list[float]) -> object:
        sample = metrics.table_sampler(noisy * np.array(scale), FACTORS)
        if score == "beta":
            return round(metrics.beta_vae_score(sample, 3, train=500, test=300, pairs=16), 2)
        found = metrics.factor_vae_score(sample, 3, train=300, test=300)
        assert np.argmax(found.votes, 1).tolist() == [0, 1, 2]
        return found.score

    assert result([1, 1, 1]) == result([1e-4, 1, -1e5])


@pytest.mark.parametrize("score", ["factor", "beta"])
def test_a_categorical_code_is_names_alone(score: str) -> None:
    rng = np.random.default_rng(7)
    digit = FACTORS[:, 0].astype(int)
    shown = np.where(rng.uniform(size=N) < 0.8, digit, rng.integers(10, size=N))
    other = FACTORS[:, 1] + rng.normal(size=N)

    def result(names: Array) -> object:
        sample = metrics.table_sampler(np.c_[names[shown], other], FACTORS)
        if score == "beta":
            return metrics.beta_vae_score(sample, 3, train=500, test=300, pairs=8)
        found = metrics.factor_vae_score(sample, 3, train=500, test=300, batch=8)
        return found.score, found.votes.tolist()

    assert result(np.arange(10)) == result(np.array([0, 50, 2, 3, -700, 5, 1, 7, 10_000, 9]))


def test_a_varying_dimension_beside_constant_ones() -> None:
    codes = np.c_[np.zeros(N), FACTORS[:, 1:], np.full(N, 0.1, np.float32)]
    found = metrics.factor_vae_score(metrics.table_sampler(codes, FACTORS[:, 1:]), 2, train=100, test=100)
    assert found.score == 1 and found.votes[[0, 3]].sum() == 0


def test_table_sampler_fixes_one_factor() -> None:
    rng = np.random.default_rng(8)
    sample = metrics.table_sampler(FACTORS, FACTORS)
    for factor in range(3):
        drawn = sample(factor, rng, 400, 50)
        assert drawn.shape == (400, 50, 3)
        spread = np.ptp(drawn, axis=1) / np.ptp(FACTORS, axis=0)
        assert spread[:, factor].max() <= (0 if factor == 0 else 1 / 20)
        assert np.delete(spread, factor, 1).min() > 0.5
        levels = drawn[:, 0, factor]
        assert np.ptp(levels) > 0.9 * np.ptp(FACTORS[:, factor])
    free = sample(None, rng, 5, 4000)
    np.testing.assert_allclose(free.std(1), np.broadcast_to(FACTORS.std(0), (5, 3)), rtol=0.1)
    rare = (np.arange(N) % 10 == 0).astype(float)  # a value is fixed as often as it is found
    drawn = metrics.table_sampler(rare[:, None], rare[:, None] + [[0, 1]])(1, rng, 5000, 2)
    assert drawn.mean() == pytest.approx(0.1, abs=0.02)


def test_factors_of_drawn_images() -> None:
    """Drawn digits, measured: the measures of rotation and width vary least when their factor is fixed."""

    def draw(rng: np.random.Generator, n: int) -> Array:
        limit = strokes.ROTATION_LIMIT
        return np.stack(
            [rng.integers(10, size=n), rng.uniform(-limit, limit, n), rng.uniform(*strokes.WIDTH_RANGE, n)], 1
        )

    seen: list[Array] = []

    def represent(factors: Array, rng: np.random.Generator) -> Array:
        seen.append(factors)
        index = rng.integers(1 << 40, size=len(factors))
        digit, rotation, width = factors.T
        images = strokes.render(
            0, index, digit.astype(np.int64), rotation.astype(np.float32), width.astype(np.float32)
        )
        return np.c_[digit, morphology.rotation(images / 255), morphology.thickness(images / 255)]

    sample = metrics.drawing_sampler(draw, represent)
    codes = sample(1, np.random.default_rng(9), 4, 5)
    assert codes.shape == (4, 5, 3)
    grouped = seen[0].reshape(4, 5, 3)
    assert (grouped[:, :, 1] == grouped[:, :1, 1]).all() and len(np.unique(grouped[:, 0, 1])) == 4
    assert all(len(np.unique(g)) == 5 for g in grouped[:, :, 2])
    assert (codes[..., 0] == grouped[..., 0]).all()
    assert np.abs(codes[..., 2] - grouped[..., 2]).max() < 0.5
    found = metrics.factor_vae_score(sample, 3, batch=25, train=25, test=20, survey=200)
    assert found.score > 0.9 and found.votes.argmax(1).tolist() == [0, 1, 2]


# What all share


def test_rows_may_be_sorted() -> None:
    order = np.argsort(FACTORS[:, 0])
    codes, factors = FACTORS[order], FACTORS[order]
    assert _dci(codes, factors).informativeness > 0.98
    assert metrics.mig(codes, factors, samples=3000).score > 0.95
    assert metrics.sap(codes, factors, train=2000, test=1000).score > 0.95


def test_defaults_ask_for_the_published_sample_sizes() -> None:
    for score, enough in ((metrics.mig, 10_000), (metrics.sap, 15_000), (metrics.dci, 15_000)):
        with pytest.raises(UserError, match=f"{enough - 1} rows and {enough} are wanted"):
            score(FACTORS[: enough - 1], FACTORS[: enough - 1])
    drawn: list[tuple[int | None, int, int]] = []

    def sample(fixed: int | None, rng: np.random.Generator, groups: int, size: int) -> Array:
        drawn.append((fixed, groups, size))
        return rng.normal(size=(groups, size, 2))

    metrics.factor_vae_score(sample, 4)
    assert sum(g * s for f, g, s in drawn if f is None) == 10_000
    assert sum(g for f, g, s in drawn if f is not None) == 5800
    assert {s for f, g, s in drawn if f is not None} == {100} and {f for f, g, s in drawn} == {
        None,
        0,
        1,
        2,
        3,
    }
    assert max(g * s for f, g, s in drawn) <= 8192  # bounded memory
    drawn.clear()
    metrics.beta_vae_score(sample, 4)
    assert sum(g for f, g, s in drawn if f is not None) == 64 * 15_000
    assert {s for f, g, s in drawn if f is not None} == {2}


def test_same_seed_same_score() -> None:
    small: dict[str, Any] = {"train": 800, "test": 200}
    scores: list[Callable[[int], object]] = [
        lambda seed: metrics.mig(ENCODERS["all turned"], FACTORS, samples=2000, seed=seed).score,
        lambda seed: metrics.sap(ENCODERS["all turned"], FACTORS, seed=seed, **small).score,
        lambda seed: _dci(ENCODERS["all turned"], seed=seed, **small).disentanglement,
        lambda seed: metrics.factor_vae_score(TABLES["turned"], 3, seed=seed, **small).votes.tolist(),
        lambda seed: metrics.beta_vae_score(TABLES["turned"], 3, seed=seed, train=900, test=700),
    ]
    for score in scores:
        assert score(1) == score(1) != score(2)


@pytest.mark.parametrize("score", [metrics.mig, metrics.sap, metrics.dci, metrics.table_sampler])
def test_wrong_tables(score: Callable[..., object]) -> None:
    bad = FACTORS.copy()
    bad[7, 1] = np.nan
    with pytest.raises(UserError, match="codes has values that are not finite in column 1"):
        score(bad, FACTORS)
    with pytest.raises(UserError, match="factor 2 has the same value in all rows"):
        score(FACTORS, np.c_[FACTORS[:, :2], np.ones(N)])
    with pytest.raises(UserError, match="codes is 15000 x 0, which is empty"):
        score(FACTORS[:, :0], FACTORS)
    with pytest.raises(ValueError, match=r"factors has the shape \(15000,\)"):
        score(FACTORS, FACTORS[:, 0])
    with pytest.raises(ValueError, match="codes has 15000 rows and factors 14999"):
        score(FACTORS, FACTORS[1:])
    with pytest.raises(ValueError, match="2 columns are said to be discrete"):
        score(FACTORS, FACTORS, discrete_factors=[True, False])


@pytest.mark.parametrize("score", [metrics.factor_vae_score, metrics.beta_vae_score])
def test_one_factor_cannot_be_told_from_others(score: Callable[..., object]) -> None:
    with pytest.raises(UserError, match="give 2 or more"):
        score(TABLES["perfect"], 1)


@pytest.mark.parametrize("score", [metrics.factor_vae_score, metrics.beta_vae_score])
def test_representations_that_are_not_finite(score: Callable[..., object]) -> None:
    def sample(fixed: int | None, rng: np.random.Generator, groups: int, size: int) -> Array:
        codes = rng.normal(size=(groups, size, 2))
        codes[-1, -1, 1] = np.nan if fixed == 1 else 0
        return codes

    with pytest.raises(UserError, match="not finite for some image with factor 1 fixed"):
        score(sample, 2, train=20, test=20)
    with pytest.raises(ValueError, match="batch is 1"):
        metrics.factor_vae_score(sample, 2, batch=1)


# Agreement between models


def test_equal_codes_agree_whatever_their_order_names_and_scales() -> None:
    renamed = np.array([3, 1, 4, 9, 5, 2, 6, 8, 7, 0])[FACTORS[:, 0].astype(np.int64)]
    same = np.stack([renamed, FACTORS[:, 2] ** 3, -5 * FACTORS[:, 1]], 1)
    found = metrics.udr([FACTORS, same, FACTORS], discrete_codes=[True, False, False])
    assert found.scores.min() > 0.9  # independent codes are alike by chance, in a finite sample
    assert np.isnan(np.diag(found.pairs)).all()
    np.testing.assert_array_equal(found.pairs, found.pairs.T)
    # With no code to be confused with, exactly.
    for j, named in enumerate((True, False, False)):
        alone = metrics.udr([FACTORS[:, [j]], same[:, [[0, 2, 1][j]]]], discrete_codes=[named])
        assert alone.scores.tolist() == pytest.approx([1, 1])


def test_udr_by_hand() -> None:
    """Two ordered codes each, by SciPy's rho; and a discrete one, by its correlation ratio."""
    a = np.array([[1, 3], [2, 1], [3, 4], [4, 2]], float)
    b = np.array([[2, 1], [1, 4], [4, 2], [3, 3]], float)
    r = np.abs(stats.spearmanr(np.c_[a, b]).statistic[:2, 2:])
    each = [max(row) ** 2 / sum(row) for row in [*r, *r.T]]
    ordered = [False, False]
    assert metrics.udr([a, b], discrete_codes=ordered).scores[0] == pytest.approx(sum(each) / 4)

    names = np.array([0, 0, 1, 1], float)
    # Ranks 1 and 2, 3 and 4: 1 of their variance of 1.25 is between the two names.
    mixed = [np.c_[names, [1, 2, 3, 4]], np.c_[names, [10, 20, 30, 40]]]
    ratio = math.sqrt(1 / 1.25)
    assert metrics.udr(mixed, discrete_codes=[True, False]).scores[0] == pytest.approx(1 / (1 + ratio))


def test_the_odd_model_out_agrees_least() -> None:
    noise = np.random.default_rng(1)
    models = [FACTORS + noise.normal(scale=[0.0, s, s], size=FACTORS.shape) for s in (0.02, 0.05, 0.1, 0.15)]
    turned = FACTORS.copy()
    turned[:, 1:] = _turned(FACTORS[:, 1:], (0, 1))
    merged = FACTORS.copy()
    merged[:, 0] //= 2
    kinds = [True, False, False]
    for odd in (turned, merged, np.round(noise.normal(size=FACTORS.shape))):
        scores = metrics.udr([*models, odd], discrete_codes=kinds).scores
        assert scores.argmin() == 4
        assert scores.argmax() in (0, 1)
    # A median: one that agrees with nobody takes nothing from the others.
    with_odd = metrics.udr([*models[:1] * 3, odd], discrete_codes=kinds).scores
    without = metrics.udr(models[:1] * 3, discrete_codes=kinds).scores
    np.testing.assert_allclose(with_odd[:3], without)


def test_codes_that_hold_nothing_are_left_out() -> None:
    noise = np.random.default_rng(2)
    useless = [np.c_[FACTORS[:, 1], noise.normal(size=(N, 3))] for _ in range(3)]
    kinds = [False] * 4
    assert metrics.udr(useless, discrete_codes=kinds).scores.max() < 0.3
    first = [[True, False, False, False]] * 3
    assert metrics.udr(useless, discrete_codes=kinds, informative=first).scores.tolist() == pytest.approx(
        [1] * 3
    )
    assert metrics.udr(useless, discrete_codes=kinds, informative=False).scores.tolist() == [0] * 3
    constant = [np.c_[FACTORS[:, 1], np.ones((N, 1))]] * 2
    for named in (False, True):
        assert metrics.udr(constant, discrete_codes=[False, named]).scores[0] == pytest.approx(0.5)


def test_a_model_alone_has_no_score() -> None:
    assert np.isnan(metrics.udr([FACTORS]).scores).tolist() == [True]


def test_wrong_models() -> None:
    with pytest.raises(ValueError, match="expected at least one"):
        metrics.udr([])
    with pytest.raises(ValueError, match=r"the shapes \[\(15000, 3\), \(14999, 3\)\]"):
        metrics.udr([FACTORS, FACTORS[1:]])
    with pytest.raises(UserError, match="codes of model 1 has values that are not finite in column 2"):
        metrics.udr([FACTORS, FACTORS * [1, 1, np.inf]])


def test_scores_need_no_compiled_half() -> None:
    code = "import sys, infogan_fast.analysis.metrics, infogan_fast.analysis.morphology; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "infogan_fast.analysis.metrics" in loaded and not {"torch", "infogan_fast.ops"} & set(loaded)
