"""LatentSpec: the grammar, the layout and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infogan_fast import LatentSpec
from infogan_fast.errors import UserError


def test_the_papers_mnist_codes() -> None:
    spec = LatentSpec.parse("noise=62,cat=10,uniform=2")
    assert spec == LatentSpec()
    assert (spec.latent_dim, spec.n_codes, spec.code_names) == (74, 3, ("c1", "c2", "c3"))
    entropies = tuple(code.entropy for code in spec.codes)
    assert entropies == pytest.approx((math.log(10), math.log(2), math.log(2)))
    assert (spec.q_dim(), spec.q_dim(learned_variance=False)) == (14, 12)


def test_categorical_codes_come_first_whatever_the_order() -> None:
    spec = LatentSpec.parse("uniform=1, cat=3, bernoulli=1, noise=4:uniform, cat=0.5/0.25/0.25, normal=2")
    assert spec.categorical_sizes == (3, 3)
    assert spec.categorical_probabilities == (None, (0.5, 0.25, 0.25))
    assert spec.continuous_kinds == ("uniform", "bernoulli", "normal", "normal")
    assert (spec.noise_dim, spec.noise, spec.latent_dim) == (4, "uniform", 14)
    assert spec.q_dim() == 6 + 4 + 3  # a Bernoulli code has no variance
    assert tuple(code.entropy for code in spec.codes) == pytest.approx(
        (
            math.log(3),
            1.5 * math.log(2),
            math.log(2),
            math.log(2),
            *[0.5 * math.log(2 * math.pi * math.e)] * 2,
        )
    )


@given(
    st.integers(0, 300),
    st.sampled_from(["normal", "uniform"]),
    st.lists(st.one_of(st.integers(2, 50), st.lists(st.integers(1, 9), min_size=2, max_size=6)), max_size=5),
    st.lists(st.sampled_from(["uniform", "normal", "bernoulli"]), max_size=6),
)
def test_text_parses_back(
    noise_dim: int, noise: str, categorical: list[int | list[int]], kinds: list[str]
) -> None:
    sizes = tuple(len(c) if isinstance(c, list) else c for c in categorical)
    priors = tuple(tuple(p / sum(c) for p in c) if isinstance(c, list) else None for c in categorical)
    if noise_dim + sum(sizes) + len(kinds) == 0:
        return
    spec = LatentSpec(noise_dim, sizes, tuple(kinds), noise, priors)
    assert LatentSpec.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read ''"),
        ("noise", "cannot read 'noise'"),
        ("noise=", "cannot read 'noise='"),
        ("noise=62,noise=3", "noise is given twice"),
        ("noise=62:gaussian", "noise is 'gaussian'; expected one of normal, uniform"),
        ("noise=-1", "-1 is negative"),
        ("noise=1.5", "cannot read 'noise=1.5'"),
        ("cat=1", "at least 2 categories"),
        ("cat=0.5/0.6", "sum to 1; they sum to 1.1"),
        ("cat=-0.5/1.5", "non-negative"),
        ("cat=nan/1", "non-negative"),
        ("cat=a/b", "cannot read 'cat=a/b'"),
        ("cat=3:uniform", "cannot read 'cat=3:uniform'"),
        ("cat=0.5/0.5:learned", "a learned prior begins uniform; give cat=K:learned"),
        ("gaussian=2", "unknown kind 'gaussian'"),
        ("noise=0", "empty"),
        ("uniform=9223372036854775808", "9,223,372,036,854,775,808 uniform codes; the limit is 1,024"),
        ("uniform=1000,normal=25", "1,025 codes; the limit is 1,024"),
        ("cat=2000000000", "2,000,000,000 columns together; the limit is 65,536"),
        ("noise=65537", "65,537 columns together; the limit is 65,536"),
        ("cat=inf", "cannot read 'cat=inf'"),
        ("cat=inf/1", "probabilities inf/1.0 must be non-negative"),
        ("cat=-inf/inf", "non-negative"),
        ("cat=1e308/1e308/1e308", "non-negative"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        LatentSpec.parse(text)
    assert str(error.value).startswith(f"latents {text!r}")


def test_probabilities_must_match_the_categories() -> None:
    with pytest.raises(UserError, match="2 values for 3 categories"):
        LatentSpec(1, (3,), (), "normal", ((0.5, 0.5),))
    with pytest.raises(UserError, match="1 entries for 2"):
        LatentSpec(1, (3, 3), (), "normal", (None,))


def test_numbers_of_numpy_and_lists_are_as_python_s() -> None:
    prior = np.array([1, 1, 2]) / 4
    spec = LatentSpec(
        noise_dim=np.int64(4),
        categorical_sizes=[3, np.int32(2)],  # type: ignore[arg-type]
        continuous_kinds=["uniform"],  # type: ignore[arg-type]
        categorical_probabilities=[prior, None],  # type: ignore[arg-type]
    )
    assert str(spec) == "noise=4,cat=0.25/0.25/0.5,cat=2,uniform=1"
    assert spec == LatentSpec.parse(str(spec)) and hash(spec) == hash(LatentSpec.parse(str(spec)))
    for wrong in ({"noise_dim": 1.5}, {"categorical_sizes": (2.5,)}, {"categorical_probabilities": (0.5,)}):
        given: dict[str, Any] = {"noise_dim": 1, "categorical_sizes": (2,), "continuous_kinds": (), **wrong}
        with pytest.raises(UserError, match=r"the latent specification: .*; sizes are whole numbers"):
            LatentSpec(**given)


def test_columns_of_the_codes_tile_the_input_and_qs_output() -> None:
    spec = LatentSpec.parse("noise=4,cat=3,cat=0.5/0.5,uniform=1,bernoulli=1,normal=1")
    assert [code.name for code in spec.codes] == ["c1", "c2", "c3", "c4", "c5"]
    assert [code.kind for code in spec.codes] == ["categorical"] * 2 + ["uniform", "bernoulli", "normal"]
    assert [code.index for code in spec.codes] == [0, 1, 0, 1, 2]
    inputs = [column for code in spec.codes for column in range(spec.latent_dim)[code.input_columns]]
    assert inputs == list(range(4, spec.latent_dim))
    columns = [column for code in spec.codes for column in range(spec.q_dim())[code.q_columns]]
    columns += [code.log_variance_column for code in spec.codes if code.log_variance_column is not None]
    assert columns == list(range(spec.q_dim()))
    assert [code.log_variance_column for code in spec.codes] == [None, None, 8, None, 9]
    assert spec.codes[1].probabilities == (0.5, 0.5)
    assert [code.name for code in spec.ordered_codes] == ["c3", "c5"]
    assert spec.categorical_codes + spec.continuous_codes == spec.codes


@pytest.mark.parametrize(
    ("code", "value", "taken"),
    [(0, "2", 2), (0, 2, 2), (0, 2.0, 2), (1, "-1.5", -1.5), (1, 3, 3.0), (2, "1", 1.0), (2, 0, 0.0)],
)
def test_values_that_a_code_takes(code: int, value: str | float, taken: float) -> None:
    found = LatentSpec.parse("cat=3,uniform=1,bernoulli=1").codes[code].value(value)
    assert found == taken
    assert isinstance(found, int if code == 0 else float)


@pytest.mark.parametrize(
    ("code", "value", "message"),
    [
        (0, "3", "c1 is a categorical code and takes a whole number, 0 to 2"),
        (0, -1, "whole number, 0 to 2"),
        (0, 1.5, "whole number"),
        (0, "1.0", "whole number"),
        (0, "x", "whole number"),
        (1, "nan", "c2 is a uniform code and takes a number"),
        (1, float("inf"), "takes a number"),
        (1, 10**400, "takes a number"),
        (1, "1_0", "takes a number"),
        (0, 10**400, "whole number"),
        (2, "0_1", "takes 0 or 1"),
        (2, 0.5, "c3 is a Bernoulli code and takes 0 or 1"),
    ],
)
def test_values_that_a_code_does_not_take(code: int, value: str | float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        LatentSpec.parse("cat=3,uniform=1,bernoulli=1").codes[code].value(value)


def test_a_prior_that_is_learned_is_no_part_of_the_text() -> None:
    spec = LatentSpec.parse("noise=3,cat=2,cat=3:learned,cat=0.5/0.5,uniform=1")
    assert [code.learned for code in spec.codes] == [False, True, False, False]
    assert spec.codes[1].probabilities is None and spec.codes[1].entropy == pytest.approx(math.log(3))
    found = spec.with_priors([(0.5, 0.25, 0.25)])
    assert [code.probabilities for code in found.codes[:3]] == [None, (0.5, 0.25, 0.25), (0.5, 0.5)]
    assert found.codes[1].entropy == pytest.approx(1.5 * math.log(2))
    assert str(found) == str(spec) == "noise=3,cat=2,cat=3:learned,cat=0.5/0.5,uniform=1"
    assert LatentSpec.parse(str(found)) == spec
    for priors in ((), ((0.5, 0.5),), ((0.5, 0.25, 0.25),) * 2, ((1.0, 1.0, 1.0),)):
        with pytest.raises(UserError):
            spec.with_priors(priors)
    with pytest.raises(UserError, match="categorical_learned has 1 entries for 2 categorical codes"):
        LatentSpec(0, (2, 2), (), categorical_learned=(True,))
