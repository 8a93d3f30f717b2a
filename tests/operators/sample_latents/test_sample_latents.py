"""sample_latents: the plain statement, purity, distributions, and errors that name the argument."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from operators.sample_latents import reference
from scipy import stats
from torch._subclasses import FakeTensorMode

from infogan_fast import LatentSpec, ops

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
RICH = "noise=70,cat=10,cat=0.5/0.3/0.2,cat=2,uniform=2,normal=2,bernoulli=2,uniform=3"

specs = st.builds(
    lambda noise_dim, noise, sizes, kinds: LatentSpec(
        noise_dim or int(not sizes and not kinds), tuple(sizes), tuple(kinds), noise
    ),
    st.integers(0, 150),
    st.sampled_from(["normal", "uniform"]),
    st.lists(st.integers(2, 30), max_size=6),
    st.lists(st.sampled_from(["uniform", "normal", "bernoulli"]), max_size=9),
)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "text", ["noise=62,cat=10,uniform=2", RICH, "noise=0,normal=1", "cat=2", "noise=1:uniform"]
)
def test_it_draws_what_the_reference_draws(device: torch.device, text: str, dtype: torch.dtype) -> None:
    spec = LatentSpec.parse(text)
    for batch_size in (1, 15, 16, 17, 130):
        state = ops.rng_state(77, 5, device)
        got = ops.sample_latents(state, batch_size, spec, dtype=dtype, sample_offset=3)
        inputs, categorical, continuous = reference.sample_latents(spec, 77, 5, batch_size, 3)
        assert got.inputs.dtype == dtype
        # normals: float32 log, sqrt, sin and cos of a value up to 5.8, then one rounding to the compute dtype
        epsilon = {torch.float16: 2**-11, torch.bfloat16: 2**-8}.get(dtype, 0.0)
        torch.testing.assert_close(got.inputs.double().cpu(), inputs, rtol=epsilon, atol=1.5e-6)
        assert torch.equal(got.categorical.cpu(), categorical)
        # exactly what was fed
        assert torch.equal(got.continuous, got.inputs[:, spec.latent_dim - spec.n_continuous :].float())
        torch.testing.assert_close(got.continuous.double().cpu(), continuous, rtol=epsilon, atol=1e-6)
        assert state.tolist() == [77, 6]


def test_thresholds_may_be_a_tensor(device: torch.device) -> None:
    given = LatentSpec.parse("noise=2,cat=0.5/0.3/0.2,cat=4,uniform=1")
    plain = LatentSpec.parse("noise=2,cat=3,cat=4,uniform=1")
    cdf = torch.tensor(given.operator_arguments[2], device=device)
    want = ops.sample_latents(ops.rng_state(3, device=device), 200, given)
    got = ops.sample_latents(ops.rng_state(3, device=device), 200, plain, cdf=cdf)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    other = ops.sample_latents(ops.rng_state(3, device=device), 200, plain)
    assert not torch.equal(other.categorical, want.categorical)
    with pytest.raises(RuntimeError, match="sample_latents: categorical_cdf must"):
        ops.sample_latents(ops.rng_state(3, device=device), 200, plain, cdf=cdf[:-1])


@settings(deadline=None, max_examples=40)
@given(spec=specs, batch_size=st.integers(1, 70), seed=st.integers(-(2**63), 2**63 - 1))
def test_any_specification(spec: LatentSpec, batch_size: int, seed: int) -> None:
    got = ops.sample_latents(ops.rng_state(seed), batch_size, spec)
    inputs, categorical, continuous = reference.sample_latents(spec, seed, 0, batch_size)
    torch.testing.assert_close(got.inputs.double(), inputs, rtol=0, atol=1.5e-6)
    assert torch.equal(got.categorical, categorical)
    torch.testing.assert_close(got.continuous.double(), continuous, rtol=0, atol=1.5e-6)


def test_half_types_round_to_nearest_even(isa: str, device: torch.device) -> None:
    spec = LatentSpec.parse("noise=64,uniform=3")
    exact = ops.sample_latents(ops.rng_state(3, 0, device), 4000, spec)
    for dtype in (torch.float16, torch.bfloat16):
        rounded = ops.sample_latents(ops.rng_state(3, 0, device), 4000, spec, dtype=dtype)
        assert torch.equal(rounded.inputs, exact.inputs.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_instruction_sets_agree_to_the_bit(isa: str, dtype: torch.dtype) -> None:
    from infogan_fast.runtime import native

    spec = LatentSpec.parse(RICH)
    got = ops.sample_latents(ops.rng_state(9), 333, spec, dtype=dtype)
    native.load().set_isa("portable")
    for a, b in zip(got, ops.sample_latents(ops.rng_state(9), 333, spec, dtype=dtype), strict=True):
        assert torch.equal(a, b)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_devices_agree_to_the_bit(dtype: torch.dtype) -> None:
    spec = LatentSpec.parse(RICH)
    cpu = ops.sample_latents(ops.rng_state(9), 333, spec, dtype=dtype)
    cuda = ops.sample_latents(ops.rng_state(9, device="cuda"), 333, spec, dtype=dtype)
    for a, b in zip(cpu, cuda, strict=True):
        assert torch.equal(a, b.cpu())


def test_a_split_batch_draws_the_rows_of_the_whole(device: torch.device) -> None:
    spec = LatentSpec.parse(RICH)
    whole = ops.sample_latents(ops.rng_state(1, 0, device), 1000, spec)
    state = ops.rng_state(1, 0, device)
    bounds = [0, 1, 18, 500, 1000]
    parts = [
        ops.sample_latents(state, end - begin, spec, sample_offset=begin, advance=end == 1000)
        for begin, end in itertools.pairwise(bounds)
    ]
    assert state.tolist() == [1, 1]
    for i, value in enumerate(whole):
        assert torch.equal(value, torch.cat([part[i] for part in parts]))


@pytest.mark.parametrize("ranks", [2, 3, 40])
def test_ranks_share_out_the_batch(isa: str, ranks: int, device: torch.device) -> None:
    spec = LatentSpec.parse(RICH)
    whole = ops.sample_latents(ops.rng_state(1, 0, device), 120, spec)
    for rank in range(ranks):
        rows, state = 120 // ranks, ops.rng_state(1, 0, device)
        part = ops.sample_latents(state, rows, spec, sample_offset=rank, sample_stride=ranks)
        assert all(torch.equal(a, b[rank::ranks]) for a, b in zip(part, whole, strict=True))


def test_threads_change_nothing() -> None:
    spec = LatentSpec.parse(RICH)
    threads = torch.get_num_threads()
    try:
        drawn = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            drawn.append(ops.sample_latents(ops.rng_state(4), 5000, spec))
    finally:
        torch.set_num_threads(threads)
    for other in drawn[1:]:
        assert all(torch.equal(a, b) for a, b in zip(drawn[0], other, strict=True))


def test_steps_and_seeds_differ_and_a_state_can_be_taken_up_again(device: torch.device) -> None:
    spec = LatentSpec.parse("noise=8,cat=10,uniform=1")
    state = ops.rng_state(11, 0, device)
    first, second = (ops.sample_latents(state, 64, spec).inputs for _ in range(2))
    assert not torch.equal(first[:, :8], second[:, :8])
    assert torch.equal(ops.sample_latents(ops.rng_state(11, 1, device), 64, spec).inputs, second)
    assert not torch.equal(ops.sample_latents(ops.rng_state(12, 0, device), 64, spec).inputs, first)


N = 200_000


@pytest.fixture(scope="module")
def large() -> tuple[LatentSpec, ops.Latents]:
    spec = LatentSpec.parse("noise=5,cat=10,cat=0.5/0.3/0.2,cat=3,uniform=2,normal=2,bernoulli=1")
    return spec, ops.sample_latents(ops.rng_state(2026), N, spec)


# p-values of fixed seeds: with 1e-4 a right generator fails one in ten thousand seeds, and a wrong constant
# has p = 0.
P = 1e-4


def test_noise_and_normal_codes_are_standard_normal(large: tuple[LatentSpec, ops.Latents]) -> None:
    spec, drawn = large
    columns = [drawn.inputs[:, j] for j in range(spec.noise_dim)] + [drawn.continuous[:, j] for j in (2, 3)]
    for column in columns:
        x = column.double().numpy()
        assert stats.kstest(x, "norm").pvalue > P
        # moments by their own standard errors: 1, sqrt 2, sqrt 15 and sqrt 96
        for power, (mean, deviation) in {1: (0, 1), 2: (1, 2**0.5), 3: (0, 15**0.5), 4: (3, 96**0.5)}.items():
            assert abs((x**power).mean() - mean) < 4.5 * deviation / math.sqrt(N)


def test_the_tails_of_the_normals_are_there(large: tuple[LatentSpec, ops.Latents]) -> None:
    x = np.abs(large[1].inputs[:, :5].double().numpy())
    for limit in (2.0, 3.0, 4.0):
        expected = 2 * stats.norm.sf(limit) * x.size
        assert stats.poisson.cdf((x > limit).sum(), expected) > P
        assert stats.poisson.sf((x > limit).sum() - 1, expected) > P


def test_uniform_codes_are_uniform_on_minus_one_to_one(large: tuple[LatentSpec, ops.Latents]) -> None:
    for j in (0, 1):
        x = large[1].continuous[:, j].double().numpy()
        assert -1 < x.min() < -0.9999 and 0.9999 < x.max() < 1
        assert stats.kstest(x, stats.uniform(-1, 2).cdf).pvalue > P


def test_categories_and_coins_have_their_priors(large: tuple[LatentSpec, ops.Latents]) -> None:
    spec, drawn = large
    for i, (size, prior) in enumerate(
        zip(spec.categorical_sizes, spec.categorical_probabilities, strict=True)
    ):
        counts = torch.bincount(drawn.categorical[:, i], minlength=size).numpy()
        expected = np.array(prior or (1 / size,) * size) * N
        assert stats.chisquare(counts, expected).pvalue > P
    coins = drawn.continuous[:, 4]
    assert set(coins.unique().tolist()) == {0.0, 1.0}
    assert stats.binomtest(int(coins.sum()), N, 0.5).pvalue > P


@pytest.mark.parametrize("prior", ["0.5/0.5/0", "0/1/0/0", "0/0.3/0/0.7/0", "0.1/0.9"])
def test_a_category_of_probability_0_is_never_drawn(prior: str) -> None:
    """Not even by the largest words, which are rounded to 1."""
    largest = reference.unit(np.array([2**32 - 1], np.uint64))[0]
    assert largest == 1
    probabilities = [float(p) for p in prior.split("/")]
    cdf = LatentSpec.parse(f"cat={prior}").operator_arguments[2]
    assert cdf is not None
    steps = np.linspace(2.0**-25, largest, 10_001)
    drawn = {int((u >= np.array(cdf[:-1], np.float32)).sum()) for u in steps}
    assert drawn == {i for i, p in enumerate(probabilities) if p > 0}


def test_the_one_hot_is_the_category(large: tuple[LatentSpec, ops.Latents]) -> None:
    spec, drawn = large
    column = spec.noise_dim
    for i, size in enumerate(spec.categorical_sizes):
        one_hot = drawn.inputs[:, column : column + size]
        assert torch.equal(one_hot, torch.nn.functional.one_hot(drawn.categorical[:, i].long(), size).float())
        column += size


def test_dimensions_samples_and_steps_are_uncorrelated() -> None:
    spec = LatentSpec.parse("noise=64,cat=2,cat=2,uniform=4,normal=2")
    state = ops.rng_state(5)
    steps = [ops.sample_latents(state, 20_000, spec) for _ in range(2)]
    values = torch.cat(
        [torch.cat([s.inputs[:, :64], s.categorical.float(), s.continuous], 1) for s in steps], dim=1
    )
    shifted = torch.cat([values[:-1], values[1:]], dim=1).double()  # with the next sample beside
    correlation = torch.corrcoef(shifted.T)
    correlation.fill_diagonal_(0)
    pairs = shifted.shape[1] * (shifted.shape[1] - 1) / 2
    limit = stats.norm.isf(P / (2 * pairs)) / math.sqrt(len(shifted))
    assert correlation.abs().max() < limit


def test_pairs_of_box_and_muller_are_independent() -> None:
    # dimensions 0 and 16 share a radius: their squares must be uncorrelated too
    spec = LatentSpec(noise_dim=64, categorical_sizes=(), continuous_kinds=())
    x = ops.sample_latents(ops.rng_state(8), 100_000, spec).inputs.double() ** 2
    for j in (0, 7, 32, 40):
        correlation = torch.corrcoef(torch.stack([x[:, j], x[:, j + 16]]))[0, 1]
        assert abs(correlation) < 4.5 / math.sqrt(len(x))


def test_opcheck(device: torch.device) -> None:
    spec = LatentSpec.parse(RICH)
    cdf = torch.tensor(spec.operator_arguments[2], device=device)
    arguments = [62, False, [10, 3, 2], [0, 1, 2]]
    for dtype in (torch.float32, torch.bfloat16):
        torch.library.opcheck(
            torch.ops.infogan_fast.sample_latents.default,
            (ops.rng_state(1, 0, device), 33, *arguments, cdf, dtype, 0, 1, True),
        )


def test_compiled_equals_eager(device: torch.device) -> None:
    spec = LatentSpec.parse(RICH)

    def draw(state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first = ops.sample_latents(state, 20, spec)
        return (*first, *ops.sample_latents(state, 20, spec))

    eager_state, compiled_state = ops.rng_state(6, 0, device), ops.rng_state(6, 0, device)
    eager = draw(eager_state)
    compiled = torch.compile(draw, fullgraph=True, backend="aot_eager")(compiled_state)
    assert all(torch.equal(a, b) for a, b in zip(eager, compiled, strict=True))
    assert eager_state.tolist() == compiled_state.tolist() == [6, 2]


@pytest.mark.gpu
def test_a_captured_graph_moves_on_by_itself() -> None:
    spec = LatentSpec.parse(RICH)
    state = ops.rng_state(6, 0, "cuda")
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        ops.sample_latents(state, 100, spec)
    torch.cuda.current_stream().wait_stream(side)
    state.copy_(ops.rng_state(6))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = ops.sample_latents(state, 100, spec)
    state.copy_(ops.rng_state(6))
    other = ops.rng_state(6, 0, "cuda")
    for _ in range(3):
        graph.replay()
        assert all(
            torch.equal(a, b) for a, b in zip(captured, ops.sample_latents(other, 100, spec), strict=True)
        )
    assert torch.equal(state, other)


SPEC = LatentSpec()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": -3}, "batch_size must be at least 1, got -3"),
        ({"dtype": torch.int32}, "dtype must be float32, .* got int32"),
        ({"rng_state": torch.zeros(3, dtype=torch.int64)}, r"rng_state must be .* shape \[3\]; make it with"),
        ({"rng_state": torch.zeros(2)}, "rng_state must be a contiguous int64 tensor .* got float32"),
        ({"rng_state": torch.zeros(4, dtype=torch.int64)[::2]}, "rng_state must be a contiguous"),
        ({"rng_state": torch.tensor([0, -1])}, r"step in rng_state must be in .* got -1"),
        ({"rng_state": torch.tensor([0, 2**48])}, "step in rng_state must be in"),
        ({"sample_offset": -1}, "sample_offset must be in .* got -1"),
        ({"sample_offset": 2**48}, "sample_offset must be in"),
        ({"sample_offset": 2**48 - 3}, "sample_offset must be in"),
        ({"sample_offset": 2**47, "sample_stride": 2**30, "batch_size": 2**18}, "sample_offset must be in"),
        ({"batch_size": 2**62, "sample_stride": 2**30}, "sample_offset must be in"),
        ({"sample_stride": 0}, r"sample_stride must be in \[1, 2\^31\), got 0"),
        ({"sample_stride": 2**31}, "sample_stride must be in .* got 2147483648"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"rng_state": ops.rng_state(0), "batch_size": 4, "spec": SPEC, **change}
    with pytest.raises(RuntimeError, match=message):
        ops.sample_latents(**arguments)


def test_a_trace_leaves_nothing_behind() -> None:
    spec = LatentSpec.parse("noise=3,cat=0.5/0.3/0.2,uniform=1")  # no other test has this prior
    expected = None
    for _ in range(2):
        with FakeTensorMode():
            assert ops.sample_latents(ops.rng_state(1), 4, spec).inputs.shape == (4, 7)
        drawn = ops.sample_latents(ops.rng_state(1), 4, spec).inputs
        expected = drawn if expected is None else expected
        assert torch.equal(drawn, expected)
        compiled = torch.compile(
            lambda state: ops.sample_latents(state, 4, spec).inputs, fullgraph=True, backend="aot_eager"
        )
        assert torch.equal(compiled(ops.rng_state(1)), expected)


def test_a_refused_call_leaves_the_state_alone() -> None:
    state = ops.rng_state(0, 7)
    with pytest.raises(RuntimeError, match="dtype"):
        ops.sample_latents(state, 4, SPEC, dtype=torch.int64)
    assert state.tolist() == [0, 7]


@pytest.mark.parametrize(("seed", "step"), [(2**63, 0), (-(2**63) - 1, 0), (0, -1), (0, 2**48 - 1)])
def test_a_state_out_of_range_is_refused(seed: int, step: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        ops.rng_state(seed, step)
