"""Validation, sampling and seeds, which all metrics on tables share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from analysis.encoders import ENCODERS, FACTORS, SAMPLERS, Array, N

from infogan_fast.analysis.beta_vae import beta_vae_score
from infogan_fast.analysis.dci import dci
from infogan_fast.analysis.factor_vae import factor_vae_score
from infogan_fast.analysis.interventions import table_sampler
from infogan_fast.analysis.mig import mig
from infogan_fast.analysis.sap import sap
from infogan_fast.errors import UserError

METRICS = (
    *("clusters", "correlations", "mig", "sap", "dci", "factor_vae", "beta_vae", "udr"),
    *("morphology", "sweeps"),
)


def test_rows_may_be_sorted() -> None:
    order = np.argsort(FACTORS[:, 0])
    codes, factors = FACTORS[order], FACTORS[order]
    assert dci(codes, factors, train=2000, test=1000).informativeness > 0.98
    assert mig(codes, factors, samples=3000).score > 0.95
    assert sap(codes, factors, train=2000, test=1000).score > 0.95


def test_default_sample_sizes_are_the_published_ones() -> None:
    for score, enough in ((mig, 10_000), (sap, 15_000), (dci, 15_000)):
        with pytest.raises(UserError, match=f"{enough - 1} rows, {enough} are needed"):
            score(FACTORS[: enough - 1], FACTORS[: enough - 1])
    drawn: list[tuple[int | None, int, int]] = []

    def sample(fixed: int | None, rng: np.random.Generator, groups: int, size: int) -> Array:
        drawn.append((fixed, groups, size))
        return rng.normal(size=(groups, size, 2))

    factor_vae_score(sample, 4)
    assert sum(g * s for f, g, s in drawn if f is None) == 10_000
    assert sum(g for f, g, s in drawn if f is not None) == 5800
    assert {s for f, g, s in drawn if f is not None} == {100}
    assert {f for f, g, s in drawn} == {None, 0, 1, 2, 3}
    assert max(g * s for f, g, s in drawn) <= 8192  # bounded memory
    drawn.clear()
    beta_vae_score(sample, 4)
    assert sum(g for f, g, s in drawn if f is not None) == 64 * 15_000
    assert {s for f, g, s in drawn if f is not None} == {2}


def test_scores_depend_on_the_seed_alone() -> None:
    small: dict[str, Any] = {"train": 800, "test": 200}
    scores: list[Callable[[int], object]] = [
        lambda seed: mig(ENCODERS["all turned"], FACTORS, samples=2000, seed=seed).score,
        lambda seed: sap(ENCODERS["all turned"], FACTORS, seed=seed, **small).score,
        lambda seed: dci(ENCODERS["all turned"], FACTORS, seed=seed, **small).disentanglement,
        lambda seed: factor_vae_score(SAMPLERS["turned"], 3, seed=seed, **small).votes.tolist(),
        lambda seed: beta_vae_score(SAMPLERS["turned"], 3, seed=seed, train=900, test=700).score,
    ]
    for score in scores:
        assert score(1) == score(1) != score(2)


@pytest.mark.parametrize("score", [mig, sap, dci, table_sampler])
def test_invalid_tables(score: Callable[..., object]) -> None:
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
    with pytest.raises(ValueError, match="2 columns are marked as discrete"):
        score(FACTORS, FACTORS, discrete_factors=[True, False])


def test_metrics_import_neither_torch_nor_the_operators() -> None:
    modules = [f"infogan_fast.analysis.{name}" for name in METRICS]
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert loaded.issuperset(modules)
    assert not {"torch", "infogan_fast.ops"} & loaded
