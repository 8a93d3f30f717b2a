"""agreement: metrics, gradients and joints against float64 autograd, extremes, compilation and errors."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from cuda_on_cpu.checks import DTYPES, name_of, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from operators.agreement.cases import (
    BOTH,
    AgreementCase,
    AgreementInputs,
    AgreementResult,
    agree,
    agreement_inputs,
    check_against_reference,
    parts_of,
)
from operators.specs import CATEGORICAL, CONTINUOUS, DEFAULT, MIXED
from torch import Tensor

from infogan_fast import LatentSpec, ops
from infogan_fast.ops import Agreement, Distance
from infogan_fast.runtime import native

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=name_of)

RICH = AgreementCase(
    MIXED, 50, near_rows=20, smoothness=0.7, distances=BOTH, scales=(8.0, 0.5), joint_ema=0.8
)
LATENTS = [DEFAULT, MIXED, CATEGORICAL, CONTINUOUS, "noise=2", "cat=2,bernoulli=3", "cat=100,uniform=1"]


def check(case: AgreementCase, device: torch.device | str = "cpu") -> AgreementResult:
    result = agree(case, str(device))
    check_against_reference(result, case, f"{case}: ")
    return result


@settings(deadline=None, max_examples=80)
@given(
    latents=st.sampled_from(LATENTS),
    pairs=st.one_of(st.integers(1, 100), st.sampled_from([128, 1000])),
    near=st.sampled_from([0.0, 0.1, 1.0]),
    dtype=st.sampled_from(DTYPES),
    fixed=st.sampled_from([None, 0.0, -1.5]),
    consistency=st.sampled_from([None, 0.0, 1.0, 3.0]),
    balance=st.sampled_from([0.0, 1.5]),
    joint_ema=st.sampled_from([0.0, 0.3, 0.9]),
    weights=st.lists(st.tuples(st.sampled_from([0.0, 0.4]), st.sampled_from([0.0, 0.5])), max_size=3),
    scales=st.sampled_from([(), (64.0,), (8.0, 1024.0)]),
    padding=st.sampled_from([0, 3]),
)
def test_anything_equals_the_statement(
    latents: str,
    pairs: int,
    near: float,
    dtype: torch.dtype,
    fixed: float | None,
    consistency: float | None,
    balance: float,
    joint_ema: float,
    weights: list[tuple[float, float]],
    scales: tuple[float, ...],
    padding: int,
) -> None:
    rows = math.ceil(near * pairs)
    ordered = len(LatentSpec.parse(latents).ordered_codes)
    check(
        AgreementCase(
            latents,
            pairs,
            dtype,
            rows,
            fixed_log_variance=fixed,
            consistency=consistency,
            balance=balance,
            joint_ema=joint_ema,
            smoothness=0.7 if rows else 0.0,
            distances=tuple((i % ordered, *w) for i, w in enumerate(weights) if ordered),
            scales=scales if dtype != torch.float16 else scales[:1],
            padding=padding,
        )
    )


@dtypes
@pytest.mark.parametrize("slant_dtype", [torch.float32, torch.float64], ids=name_of)
def test_every_part_together(device: torch.device, dtype: torch.dtype, slant_dtype: torch.dtype) -> None:
    check(replace(RICH, dtype=dtype, slant_dtype=slant_dtype), device)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=name_of)
def test_gradients_of_half_answers_can_be_float32(device: torch.device, dtype: torch.dtype) -> None:
    result = check(replace(RICH, dtype=dtype, grad_dtype=torch.float32), device)
    assert all(gradient.dtype == torch.float32 for gradient in result.gradients)


def test_without_scales_there_is_one_gradient(device: torch.device) -> None:
    once = check(replace(RICH, scales=()), device)
    scaled = check(replace(RICH, scales=(2.0, 4.0)), device)
    (gradient,) = once.gradients
    assert all(torch.equal(g, gradient * s) for g, s in zip(scaled.gradients, (2.0, 4.0), strict=True))


@dtypes
def test_every_instruction_set_gives_the_same_bits(dtype: torch.dtype) -> None:
    library, results = native.load(), []
    best = library.isa()
    for isa in ("portable", "avx2", "avx512"):
        try:
            library.set_isa(isa)
        except ValueError:
            continue
        try:
            results.append(agree(replace(RICH, dtype=dtype)))
        finally:
            library.set_isa(best)
    assert results
    for other in results[1:]:
        _same(results[0], other)


@pytest.mark.parametrize("latents", [DEFAULT, "cat=40,cat=30,uniform=2"])
def test_any_number_of_threads_gives_the_same_bits(latents: str) -> None:
    case = AgreementCase(latents, 3000, near_rows=900, smoothness=1.0, distances=BOTH)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(check(case))
    for other in results[1:]:
        _same(results[0], other)


def _same(one: AgreementResult, other: AgreementResult) -> None:
    assert one.sums is not None and other.sums is not None
    for a, b in zip(
        (one.metrics, one.sums, *one.gradients, *one.joints),
        (other.metrics, other.sums, *other.gradients, *other.joints),
        strict=True,
    ):
        same_bits(a, b, "the results")


def test_calls_in_turn_move_the_joints_on(device: torch.device) -> None:
    """By what is expected of each call with the joints before it."""
    spec, answers = (
        LatentSpec.parse("cat=3,cat=5"),
        agreement_inputs(AgreementCase("cat=3,cat=5", 24)).answers,
    )
    joints = [torch.full((k, k), k**-2.0, device=device) for k in (3, 5)]
    expected = [joint.double().cpu() for joint in joints]
    for shift in range(4):
        rows = answers.roll(shift, 0).to(device)
        ops.agreement(spec, rows, Agreement(1.0, joint_ema=0.6, joints=joints), fixed_log_variance=0.0)
        for code, columns in enumerate((slice(0, 3), slice(3, 8))):
            one, other = rows[:, columns].double().cpu().softmax(1).chunk(2)
            now = (one.T @ other + other.T @ one) / 48
            expected[code] = 0.6 * expected[code] + 0.4 * now
            torch.testing.assert_close(joints[code].double().cpu(), expected[code], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("damage", [math.inf, -math.inf, math.nan])
def test_answers_that_are_not_finite_leave_no_trace(isa: str, device: torch.device, damage: float) -> None:
    case = replace(RICH, scales=(), with_sums=False, near_rows=0, smoothness=0.0)
    x = agreement_inputs(case).on(str(device))
    size = case.spec.categorical_sizes[0]
    x.answers[7, :size] = damage
    before = [joint.clone() for joint in x.joints]
    metrics, (gradient,) = ops.agreement(case.spec, x.answers, parts_of(case, x.joints), slants=x.slants)
    assert torch.equal(x.joints[0], before[0])
    assert not torch.equal(x.joints[1], before[1])
    assert metrics[0].isnan() and metrics[1:].isfinite().all()
    assert gradient[:, :size].isnan().all()  # by which a GradScaler skips the update
    assert gradient[:, size:].isfinite().all()


def test_a_damaged_mean_shows_in_its_distance_alone(device: torch.device) -> None:
    case = replace(RICH, scales=(), with_sums=False)
    x = agreement_inputs(case).on(str(device))
    code = case.spec.ordered_codes[0]
    x.answers[case.near_rows + 3, code.q_columns] = math.nan
    metrics, (gradient,) = ops.agreement(
        case.spec,
        x.answers,
        parts_of(case, x.joints),
        near_rows=case.near_rows,
        slants=x.slants,
    )
    assert metrics.isnan().tolist() == [False] * case.spec.n_categorical + [True, False]
    rows = [case.near_rows + 3, case.near_rows + case.pairs + 3]
    assert gradient.isnan().nonzero().tolist() == [[row, code.q_columns.start] for row in rows]


@dtypes
def test_large_answers_stay_finite(isa: str, device: torch.device, dtype: torch.dtype) -> None:
    """Where probabilities are 0 and log-variances past their limits."""
    result = agree(replace(RICH, dtype=dtype, spread=200.0, distances=((0, 1e-6, 0.5),)), str(device))
    for values in (result.metrics, *result.joints):
        assert values.isfinite().all()
    assert result.gradients[1].isfinite().all()


def test_certain_and_equal_answers_have_all_the_information() -> None:
    categories = torch.arange(40) % 10
    answers = 50.0 * torch.nn.functional.one_hot(categories, 10).float().repeat(2, 1)
    joints = [torch.zeros(10, 10)]
    spec = LatentSpec.parse("cat=10")
    metrics, _ = ops.agreement(spec, answers, Agreement(1.0, joints=joints), fixed_log_variance=0.0)
    torch.testing.assert_close(metrics, torch.tensor([math.log(10)]))
    torch.testing.assert_close(joints[0], torch.eye(10) / 10)


def test_a_weight_of_0_is_measured_without_a_gradient(device: torch.device) -> None:
    case = replace(RICH, smoothness=0.0, scales=())
    off = replace(case, consistency=0.0, distances=tuple((i, 0.0, change) for i, _, change in BOTH))
    measured, silent = check(case, device), check(off, device)
    assert torch.equal(measured.metrics, silent.metrics)
    assert not silent.gradients[0].any()


def test_a_transposed_tensor_of_answers(device: torch.device) -> None:
    x = agreement_inputs(RICH).on(str(device))
    results = []
    for answers in (x.answers, x.answers.T.contiguous().T):
        parts = parts_of(RICH, [joint.clone() for joint in x.joints])
        rows = RICH.near_rows
        results.append(ops.agreement(RICH.spec, answers, parts, near_rows=rows, slants=x.slants))
    assert torch.equal(results[0].metrics, results[1].metrics)
    assert torch.equal(results[0].gradients[0], results[1].gradients[0])


def test_nothing_is_differentiated_through_the_answers() -> None:
    x = agreement_inputs(RICH).on("cpu")
    rows = RICH.near_rows
    result = ops.agreement(
        RICH.spec,
        x.answers.requires_grad_(),
        parts_of(RICH, x.joints),
        near_rows=rows,
        slants=x.slants,
    )
    assert not result.metrics.requires_grad and not result.gradients[0].requires_grad


def _arguments(case: AgreementCase, device: str) -> tuple[Any, ...]:
    """Of the operator itself."""
    x, (sizes, kinds, _) = agreement_inputs(case).on(device), case.spec.operator_arguments
    distances = parts_of(case, ()).distances
    learned = case.fixed_log_variance is None
    return (
        *(x.answers, case.near_rows, sizes, kinds, learned, case.fixed_log_variance or 0.0),
        *(x.joints, x.batch_joints, case.consistency, case.balance, case.joint_ema, case.smoothness),
        *([d.code.index for d in distances], [d.weight for d in distances]),
        *([d.slant_change for d in distances], x.slants, *(*x.scales, None, None)[:2], case.grad_dtype),
        *(x.sums, case.places if x.sums is not None else []),
    )


@pytest.mark.parametrize(
    "case",
    [
        RICH,
        replace(RICH, dtype=torch.bfloat16, scales=(), with_sums=False),
        replace(RICH, consistency=None, fixed_log_variance=0.5, dtype=torch.float64),
        replace(RICH, shared=True),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:infogan_fast..agreement. an autograd kernel was not registered")
def test_opcheck(device: torch.device, case: AgreementCase) -> None:
    torch.library.opcheck(torch.ops.infogan_fast.agreement.default, _arguments(case, str(device)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
def test_compiled_equals_eager(device: torch.device, dtype: torch.dtype) -> None:
    case = replace(RICH, dtype=dtype)
    spec, parts, rows, places = case.spec, parts_of(case, ()), case.near_rows, case.places
    results = []

    def call(answers: Tensor, slants: Tensor, sums: Tensor, joints: list[Tensor]) -> ops.Agreed:
        averaged = replace(parts, joints=joints)
        return ops.agreement(
            spec, answers * 2, averaged, near_rows=rows, slants=slants, sums=sums, places=places
        )

    for run in (call, torch.compile(call, fullgraph=True, backend="aot_eager")):
        x = agreement_inputs(case).on(str(device))
        assert x.slants is not None and x.sums is not None
        metrics, gradients = run(x.answers, x.slants, x.sums, x.joints)
        results.append(AgreementResult(metrics, gradients, x.joints, x.sums))
    _same(*results)


@pytest.mark.parametrize("scales", [0, 1, 2])
def test_fake_tensors_get_the_shapes_and_dtypes_of_real_ones(scales: int) -> None:
    from torch._subclasses import FakeTensorMode

    def run() -> tuple[Tensor, ...]:
        joints = [torch.zeros(10, 10)]
        found = ops.agreement(
            LatentSpec(),
            torch.zeros(14, 14, dtype=torch.bfloat16),
            Agreement(1.0, joints=joints, distances=(Distance(LatentSpec().codes[1], 1.0),)),
            near_rows=2,
            grad_scales=[torch.ones(1)] * scales,
            grad_dtype=torch.float32,
        )
        return (found.metrics, *found.gradients)

    with FakeTensorMode():
        faked = run()
    for got, want in zip(faked, run(), strict=True):
        assert (got.shape, got.dtype, got.stride()) == (want.shape, want.dtype, want.stride())


@pytest.mark.gpu
def test_it_is_captured_in_a_graph() -> None:
    """Each replay moves the joints and the sums on."""
    eager, captured = (agreement_inputs(RICH).on("cuda") for _ in "ab")

    def call(x: AgreementInputs) -> ops.Agreed:
        rows = RICH.near_rows
        return ops.agreement(
            RICH.spec,
            x.answers,
            parts_of(RICH, x.joints),
            near_rows=rows,
            slants=x.slants,
            sums=x.sums,
            places=RICH.places,
        )

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call(captured)
    for _ in range(3):
        expected = call(eager)
        graph.replay()
        assert torch.equal(result.metrics, expected.metrics)
        assert torch.equal(result.gradients[0], expected.gradients[0])
        assert all(torch.equal(a, b) for a, b in zip(captured.joints, eager.joints, strict=True))
        assert captured.sums is not None and eager.sums is not None
        assert torch.equal(captured.sums, eager.sums)


MNIST = LatentSpec()
BERNOULLI = LatentSpec.parse("cat=10,uniform=1,bernoulli=1")
TWO = Distance(MNIST.codes[1], 1.0, 0.5)


def _good() -> dict[str, Any]:
    return {
        "spec": MNIST,
        "answers": torch.zeros(10, 14),
        "parts": Agreement(1.0, joints=[torch.zeros(10, 10)], smoothness=1.0, distances=(TWO,)),
        "near_rows": 2,
        "slants": torch.zeros(4),
        "grad_scales": [torch.ones(()), torch.ones(1)],
        "sums": torch.zeros(5, dtype=torch.float64),
        "places": [3, 1],
    }


def test_the_arguments_of_the_next_test_are_good() -> None:
    ops.agreement(**_good())


def _parts(**change: Any) -> dict[str, Any]:
    return {"parts": replace(_good()["parts"], **change)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": torch.zeros(10, 14, dtype=torch.int32)}, "answers must be float32, .* got int32"),
        (
            {"answers": torch.zeros(10, 12)},
            r"answers must have shape \[A \+ 2B, 14\] with A = 2 .* got \[10, 12\]",
        ),
        ({"answers": torch.zeros(9, 14)}, r"answers must have shape .* got \[9, 14\]"),
        ({"answers": torch.zeros(2, 14)}, r"answers must have .* B >= 1 .* got \[2, 14\]"),
        ({"answers": torch.zeros(10, 14, 1)}, r"answers must have shape .* got \[10, 14, 1\]"),
        ({"near_rows": 6}, r"near_rows must be in \[0, 2\], .* got 6"),
        ({"near_rows": -2, "answers": torch.zeros(6, 14)}, r"near_rows must be .* got -2"),
        ({"near_rows": 0, "answers": torch.zeros(8, 14)}, "smoothness is 1 but near_rows is 0"),
        ({"fixed_log_variance": 11.0, "answers": torch.zeros(10, 12)}, r"log_variance must be .* got 11"),
        (_parts(consistency=math.nan), "consistency must be finite, got nan"),
        (_parts(balance=math.inf), "balance must be finite, got inf"),
        (_parts(smoothness=math.nan), "smoothness must be finite, got nan"),
        (_parts(joint_ema=1.0), r"joint_ema must be in \[0, 1\), got 1"),
        (_parts(joints=[]), "joints must have 1 entries, one for each categorical code, got 0"),
        (_parts(joints=[torch.zeros(10, 9)]), r"joints\[0\] must be .* \[10, 10\], .* shape \[10, 9\]"),
        (_parts(joints=[torch.zeros(10, 10).double()]), r"joints\[0\] must be .* float32 .* got float64"),
        (_parts(joints=[torch.zeros(10, 20)[:, ::2]]), r"joints\[0\] must be .*, not contiguous"),
        (
            {
                "spec": BERNOULLI,
                "answers": torch.zeros(10, 13),
                **_parts(distances=(Distance(BERNOULLI.codes[2], 1.0),)),
            },
            r"distance_codes\[0\] is 1; expected the index of a uniform or normal code among 2",
        ),
        (
            _parts(distances=(Distance(BERNOULLI.codes[1], math.nan),)),
            "distance_weights and slant_changes must",
        ),
        (_parts(batch_joints=torch.zeros(99)), r"batch_joints must be .* \[100\] .* of shape \[99\]"),
        (_parts(batch_joints=torch.zeros(100).double()), "batch_joints must be .* got float64"),
        (
            _parts(batch_joints=torch.zeros(100), consistency=None),
            "batch_joints is given without consistency",
        ),
        ({"slants": None}, "slants is missing; a slant change is not 0"),
        ({"slants": torch.zeros(5)}, r"slants must be .* \[4\], got float32 of shape \[5\]"),
        ({"slants": torch.zeros(4).half()}, r"slants must be .* got float16"),
        ({"grad_scales": [torch.ones(2)]}, r"grad_scale must be one float32 value .* shape \[2\]"),
        (
            {"grad_scales": [torch.ones(1), torch.ones(1).double()]},
            "second_grad_scale must be one float32 value .* got float64",
        ),
        ({"grad_scales": [torch.ones(1)] * 3}, "grad_scales has 3 entries; give at most 2"),
        ({"grad_dtype": torch.float16}, "grad_dtype must be the answers' dtype .* got float16"),
        ({"grad_dtype": torch.float64}, "grad_dtype must be the answers' dtype .* got float64"),
        ({"sums": torch.zeros(5)}, "sums must be a contiguous float64 tensor .* got float32"),
        ({"sums": torch.zeros(10).double()[::2]}, "sums must be .*, not contiguous"),
        ({"places": [3]}, "places must have 2 entries, one for each metric, got 1"),
        ({"places": [3, 5]}, r"places must be -1 or different indices in \[0, 5\), got 5"),
        ({"places": [-2, 3]}, r"places must be -1 or different indices in \[0, 5\), got -2"),
        ({"places": [3, 3]}, r"places must be -1 or different indices in \[0, 5\), got 3 twice"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RuntimeError, match=f"^agreement: {message}"):
        ops.agreement(**{**_good(), **change})


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (2, [1], r"categorical_sizes must lie in \[2, 2\^24\), got 1"),
        (3, [0, 3], r"continuous_kinds must be 0 \(uniform\), .* got 3"),
        (
            13,
            [1.0, 1.0],
            "distance_codes, distance_weights and slant_changes must have the same length, got 1, 2",
        ),
    ],
)
def test_wrong_lists_are_named(index: int, value: list[Any], message: str) -> None:
    arguments = list(_arguments(AgreementCase(DEFAULT, 4, distances=((0, 1.0, 0.0),)), "cpu"))
    arguments[index] = value
    with pytest.raises(RuntimeError, match=f"^agreement: {message}"):
        torch.ops.infogan_fast.agreement(*arguments)


def test_a_distance_of_weight_0_has_no_gradient_even_where_it_overflows(device: torch.device) -> None:
    spec = LatentSpec.parse("noise=2,uniform=1")
    answers = torch.tensor([[3e38, 0.0], [-3e38, 0.0]], device=device)
    parts = ops.Agreement(distances=(ops.Distance(spec.ordered_codes[0], 0.0),))
    _, (gradient,) = ops.agreement(spec, answers, parts)
    assert torch.equal(gradient.cpu(), torch.zeros(2, 2))


def test_no_decay_takes_the_batch_alone_whatever_was_there(device: torch.device) -> None:
    spec = LatentSpec.parse("noise=2,cat=3")
    answers = torch.randn(8, 3, device=device)
    results = []
    for before in (0.0, float("nan")):
        joint = torch.full((3, 3), before, device=device)
        parts = ops.Agreement(consistency=1.0, joint_ema=0.0, joints=[joint])
        metrics, (gradient,) = ops.agreement(spec, answers, parts)
        results.append((metrics, gradient, joint))
    for first, second in zip(*results, strict=True):
        assert second.isfinite().all()
        same_bits(second.cpu(), first.cpu(), "")


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["slants", "sums", "grad_scales"])
def test_inputs_on_two_devices_are_refused(name: str) -> None:
    arguments = _good()
    arguments["parts"] = replace(arguments["parts"], joints=[torch.zeros(10, 10, device="cuda")])
    for key in {"answers", "slants", "sums"} - {name}:
        arguments[key] = arguments[key].cuda()
    if name != "grad_scales":
        arguments["grad_scales"] = [torch.ones(1, device="cuda")]
    with pytest.raises(RuntimeError, match=f"{name.removesuffix('s')}.*device"):
        ops.agreement(**arguments)
