"""Matching partitions whose agreement is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from analysis.encoders import FACTORS, N

from infogan_fast.analysis.clusters import match_clusters
from infogan_fast.errors import UserError


def test_a_renamed_partition_matches_perfectly() -> None:
    labels = FACTORS[:, 0].astype(np.int64)
    names = np.array([70, 3, -5, 11, 40, 2, 9, 8, 100, 1])
    found = match_clusters(names[labels], labels)
    assert found.accuracy == found.ari == 1 and found.nmi == pytest.approx(1)
    assert found.assignment == {int(name): label for label, name in enumerate(names)}


def test_merged_and_split_clusters() -> None:
    labels = np.repeat(np.arange(10), 50)
    merged = match_clusters(labels // 2, labels)
    assert merged.accuracy == 0.5 and merged.table.shape == (5, 10)
    assert merged.nmi == pytest.approx(2 * math.log(5) / (math.log(5) + math.log(10)))
    pairs, together = math.comb(500, 2), 10 * math.comb(50, 2)
    expected = together * 5 * math.comb(100, 2) / pairs
    assert merged.ari == pytest.approx(
        (together - expected) / ((together + 5 * math.comb(100, 2)) / 2 - expected)
    )
    split = match_clusters(2 * labels + (np.arange(500) % 5 < 2), labels)
    assert split.accuracy == 0.6 and split.table.shape == (20, 10)
    assert split.assignment == {2 * label: label for label in range(10)}


def test_no_category_is_named_by_a_label_that_none_of_its_images_has() -> None:
    # Categories 0 and 1 hold label 0 alone, but for one image of label 1 in category 0.
    predicted = np.repeat([0, 0, 1], [10, 1, 5])
    labels = np.repeat([0, 1, 0], [10, 1, 5])
    found = match_clusters(predicted, labels)
    assert found.table.tolist() == [[10, 1], [5, 0]]
    assert found.assignment == {0: 0} and found.accuracy == 10 / 16


@pytest.mark.parametrize("sizes", [(3, 3), (2, 4), (4, 2)])
def test_matching_is_the_best_of_all(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        predicted, labels = (np.r_[np.arange(k), rng.integers(k, size=30 - k)] for k in sizes)
        table = [
            [int(((predicted == i) & (labels == j)).sum()) for j in range(sizes[1])] for i in range(sizes[0])
        ]
        found = match_clusters(predicted, labels)
        assert found.table.tolist() == table
        wide = table if sizes[0] <= sizes[1] else [list(row) for row in zip(*table, strict=True)]
        best = max(
            sum(row[j] for row, j in zip(wide, chosen, strict=True))
            for chosen in itertools.permutations(range(max(sizes)), min(sizes))
        )
        assert found.accuracy == best / 30
        agree = [found.assignment.get(int(p)) == label for p, label in zip(predicted, labels, strict=True)]
        assert np.mean(agree) == pytest.approx(found.accuracy)


def test_matching_of_unrelated_partitions() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(10, size=N)
    random = match_clusters(rng.integers(10, size=N), labels)
    assert 0.1 < random.accuracy < 0.13 and random.nmi < 0.01 and abs(random.ari) < 0.01
    constant = match_clusters(np.zeros(N, int), labels)
    assert constant.accuracy == np.bincount(labels).max() / N and constant.nmi == 0
    with pytest.raises(UserError, match="no images"):
        match_clusters(np.zeros(0, int), np.zeros(0, int))
    with pytest.raises(ValueError, match=r"\[N\] for both"):
        match_clusters(labels, labels[1:])
    with pytest.raises(ValueError, match="float64; expected integers"):
        match_clusters(labels * 0.5, labels)
