"""Calls of agreement: the same bits on every device and in every order of threads."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from cuda_on_cpu.checks import EPSILON, ROWS, Schedule, close, name_of, same_bits
from cuda_on_cpu.kernels import Budget, KernelTests
from cuda_on_cpu.runner import Runner, given, poisoned, wanted
from operators.agreement import reference
from operators.agreement.mutants import MUTANTS, SMALL_GRID
from operators.specs import CATEGORICAL, CONTINUOUS, DEFAULT, MIXED
from torch import Tensor

from infogan_fast import ops
from infogan_fast.latents import LatentSpec

LARGE = "noise=1,cat=120,uniform=1"  # its joint is too large for shared memory
MIDDLE = "noise=1,cat=60,cat=3,normal=1"  # rows too, of a batch that is not small


@dataclass(frozen=True)
class AgreementCase:
    """One call of agreement on drawn inputs.

    Args:
        pairs: B.
        near_rows: A.
        fixed_log_variance: None where Q learns the variance.
        consistency, balance, joint_ema, smoothness: see :class:`ops.Agreement`.
        distances: index among the uniform and normal codes, weight, slant change.
        scales: of the gradients, up to two.
        padding: columns of the tensor that answers are a slice of, past their own.
        offset: bytes by which answers and gradients are misaligned.
        spread: of the answers.
        with_sums: whether the metrics are added to sums.
        shared: whether the joints are of a batch that other processes have rows of, too.
    """

    latents: str
    pairs: int
    dtype: torch.dtype = torch.float32
    near_rows: int = 0
    grad_dtype: torch.dtype | None = None
    fixed_log_variance: float | None = None
    consistency: float | None = 1.5
    balance: float = 0.5
    joint_ema: float = 0.3
    smoothness: float = 0.0
    distances: tuple[tuple[int, float, float], ...] = ()
    slant_dtype: torch.dtype = torch.float64
    scales: tuple[float, ...] = ()
    padding: int = 0
    offset: int = 0
    spread: float = 2.0
    with_sums: bool = True
    shared: bool = False

    def __str__(self) -> str:
        rows = f"{self.near_rows}+2*{self.pairs}"
        return f"{rows}x[{self.latents}] {name_of(self.dtype)}"

    @property
    def spec(self) -> LatentSpec:
        return LatentSpec.parse(self.latents)

    @property
    def accumulated(self) -> torch.dtype:
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    @property
    def n_metrics(self) -> int:
        return (0 if self.consistency is None else self.spec.n_categorical) + len(self.distances)

    @property
    def places(self) -> list[int]:
        """Backwards, with a gap; every third metric is left out."""
        return [-1 if i % 3 == 2 else 2 * i + 1 for i in reversed(range(self.n_metrics))]


@dataclass(frozen=True)
class AgreementInputs:
    """The tensors of a case; ``joints`` and ``sums`` change in a call."""

    answers: Tensor
    slants: Tensor | None
    joints: list[Tensor]
    sums: Tensor | None
    scales: list[Tensor]
    batch_joints: Tensor | None = None

    def on(self, device: str) -> AgreementInputs:
        """A copy on a device."""
        return AgreementInputs(
            self.answers.to(device),
            None if self.slants is None else self.slants.to(device),
            [joint.to(device, copy=True) for joint in self.joints],
            None if self.sums is None else self.sums.to(device, copy=True),
            [scale.to(device) for scale in self.scales],
            None if self.batch_joints is None else self.batch_joints.to(device),
        )


@dataclass(frozen=True)
class AgreementResult:
    """What a call returns and changes."""

    metrics: Tensor
    gradients: tuple[Tensor, ...]
    joints: list[Tensor]
    sums: Tensor | None


@functools.cache
def agreement_inputs(case: AgreementCase) -> AgreementInputs:
    """Draws the inputs of a case, the same ones each time."""
    generator = torch.Generator().manual_seed(29)
    width = case.spec.q_dim(case.fixed_log_variance is None) + case.padding
    rows = case.near_rows + 2 * case.pairs
    answers = torch.randn(rows, width, generator=generator, dtype=torch.float64) * case.spread

    def draw_joints() -> list[Tensor]:
        joints = []
        for size in case.spec.categorical_sizes if case.consistency is not None else ():
            joint = torch.rand(size, size, generator=generator, dtype=torch.float64) + 0.1
            joints.append(((joint + joint.T) / (2 * joint.sum())).to(case.accumulated))
        return joints

    joints = draw_joints()
    slants = torch.rand(case.pairs, generator=generator, dtype=torch.float64) * 2 - 1
    sums = torch.rand(2 * case.n_metrics + 2, generator=generator, dtype=torch.float64)
    return AgreementInputs(
        answers.clamp(-6e4, 6e4).to(case.dtype)[:, : width - case.padding],
        slants.to(case.slant_dtype) if any(d[2] for d in case.distances) else None,
        joints,
        sums if case.with_sums else None,
        [torch.tensor([scale]) for scale in case.scales],
        torch.cat([joint.flatten() for joint in draw_joints()]) if case.shared else None,
    )


def parts_of(
    case: AgreementCase, joints: Sequence[Tensor], batch_joints: Tensor | None = None
) -> ops.Agreement:
    codes = case.spec.ordered_codes
    return ops.Agreement(
        consistency=case.consistency,
        balance=case.balance,
        joint_ema=case.joint_ema,
        joints=joints,
        batch_joints=batch_joints,
        smoothness=case.smoothness,
        distances=tuple(ops.Distance(codes[i], weight, change) for i, weight, change in case.distances),
    )


def agree(case: AgreementCase, device: str = "cpu") -> AgreementResult:
    """Metrics and gradients from the operator."""
    x = agreement_inputs(case).on(device)
    metrics, gradients = ops.agreement(
        case.spec,
        x.answers,
        parts_of(case, x.joints, x.batch_joints),
        near_rows=case.near_rows,
        fixed_log_variance=case.fixed_log_variance,
        slants=x.slants,
        grad_scales=x.scales,
        grad_dtype=case.grad_dtype,
        sums=x.sums,
        places=case.places if x.sums is not None else (),
    )
    return AgreementResult(metrics, gradients, x.joints, x.sums)


def check_against_reference(result: AgreementResult, case: AgreementCase, what: str) -> None:
    """Raises AssertionError unless the results are those of the float64 statement, within rounding."""
    x = agreement_inputs(case)
    metrics, gradient, joints = reference.agreement(
        case.spec,
        x.answers,
        parts_of(case, x.joints, x.batch_joints),
        case.near_rows,
        case.fixed_log_variance,
        x.slants,
    )
    exact = case.dtype == torch.float64
    tolerance = 1e-11 if exact else 4e-6
    close(result.metrics.cpu(), metrics, tolerance, what + "metrics")
    for code, joint in enumerate(joints):
        close(result.joints[code].cpu(), joint, tolerance, f"{what}joints[{code}]")
    if x.sums is not None:
        assert result.sums is not None
        sums = x.sums.clone()
        places = torch.tensor(case.places, dtype=torch.int64)
        sums[places[places >= 0]] += metrics[places >= 0]
        close(result.sums.cpu(), sums, tolerance, what + "sums")
    dtype = case.grad_dtype or case.dtype
    assert len(result.gradients) == max(1, len(case.scales))
    for got, scale in zip(result.gradients, case.scales or (1.0,), strict=True):
        assert got.dtype == dtype
        # A row's gradient is a difference of parts of size weight / rows.
        share = torch.full((len(gradient), 1), case.pairs / scale, dtype=torch.float64)
        share[: case.near_rows] = case.near_rows / scale
        rounded = (gradient * scale).to(dtype).double()
        # Those of consistency are logarithms of probabilities.
        size = max(1.0, (case.consistency or 0.0) * (1 + case.balance) / 2)
        within = tolerance if exact else max(2 * tolerance * size, EPSILON[dtype])
        close(got.double().cpu() * share, rounded * share, within, what + "gradient")


@functools.cache
def _expected_agreement(case: AgreementCase) -> AgreementResult:
    expected = agree(case)
    check_against_reference(expected, case, "the CPU operator's ")
    return expected


def compare_agreement(actual: AgreementResult, case: AgreementCase, what: str) -> None:
    """Raises AssertionError unless everything is what is expected to the bit."""
    expected = _expected_agreement(case)
    pairs = [("metrics", actual.metrics, expected.metrics)]
    pairs += [("gradient", *both) for both in zip(actual.gradients, expected.gradients, strict=True)]
    pairs += [("joint", *both) for both in zip(actual.joints, expected.joints, strict=True)]
    if expected.sums is not None:
        assert actual.sums is not None
        pairs.append(("sums", actual.sums, expected.sums))
    for name, value, right in pairs:
        if value.is_cuda and case.dtype == torch.float64:  # exp and log of doubles are each platform's own
            close(value.cpu(), right, 1e-12, what + name)
        else:
            same_bits(value.cpu(), right, what + name)


def run_agreement(runner: Runner, case: AgreementCase, schedule: Schedule) -> AgreementResult:
    """Metrics and gradients from the kernel."""
    x, spec = agreement_inputs(case).on("cpu"), case.spec
    grad_dtype = case.grad_dtype or case.dtype
    shape = (case.near_rows + 2 * case.pairs, spec.q_dim(case.fixed_log_variance is None))
    gradients = tuple(poisoned(shape, grad_dtype) for _ in case.scales or (1.0,))
    metrics = poisoned((case.n_metrics,), case.accumulated)
    distances = parts_of(case, ()).distances
    first, second = (*map(given, x.scales), None, None)[:2]

    def whole(numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64)

    def real(numbers: Sequence[float]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float64)

    log_variance_columns = [d.code.log_variance_column for d in distances]
    runner(
        "/".join(dict.fromkeys(["agreement", name_of(case.dtype), name_of(grad_dtype)])),
        given(x.answers, case.offset),
        x.answers.stride(0),
        shape[1],
        case.near_rows,
        case.pairs,
        given(whole(spec.categorical_sizes)),
        float(case.fixed_log_variance or 0.0),
        int(case.consistency is not None),
        float(case.consistency or 0.0),
        float(case.balance),
        float(case.joint_ema),
        float(case.smoothness),
        given(whole([d.code.q_columns.start for d in distances])),
        given(whole([-1 if case.fixed_log_variance is not None else c or 0 for c in log_variance_columns])),
        given(real([d.weight for d in distances])),
        given(real([d.slant_change for d in distances])),
        given(x.slants),
        int(case.slant_dtype == torch.float64),
        first,
        second,
        None if x.sums is None else wanted(x.sums),
        given(whole(case.places)),
        given(x.batch_joints),
        *(wanted(joint) for joint in x.joints),
        wanted(metrics),
        wanted(gradients[0], case.offset),
        wanted(gradients[1], case.offset) if len(gradients) > 1 else None,
        seed=schedule.seed,
        resident_blocks=schedule.resident_blocks,
    )
    return AgreementResult(metrics, gradients, x.joints, x.sums)


def check_agreement(runner: Runner, case: AgreementCase, schedules: Sequence[Schedule]) -> None:
    """Raises AssertionError when the kernel's results differ from what is expected under any schedule."""
    for schedule in schedules:
        compare_agreement(run_agreement(runner, case, schedule), case, f"{case}, {schedule}: ")


BOTH = ((0, 2.0, 0.5), (-1, 0.7, 0.0))  # of the first code to a slanted copy, and of the last


def agreement_cases(dtype: torch.dtype, rows: tuple[int, ...] = ROWS) -> list[AgreementCase]:
    """agreement: each part alone and all of them; sliced and misaligned answers; joints and rows in shared
    and in global memory."""
    size = torch.empty(0, dtype=dtype).element_size()
    few, last = rows[1], rows[-1]
    default = AgreementCase(DEFAULT, last, dtype, smoothness=0.8, distances=BOTH, scales=(64.0, 0.5))
    cases = [
        *(replace(default, pairs=n, near_rows=(n + 3) // 4) for n in rows),
        replace(default, near_rows=last, padding=3, offset=size, scales=(4.0,)),
        AgreementCase(DEFAULT, few, dtype, few, smoothness=0.4, consistency=None, with_sums=False),
        AgreementCase(DEFAULT, few, dtype, consistency=0.0, distances=((0, 0.0, 0.0),)),
        AgreementCase(CATEGORICAL, few, dtype, balance=0.0, joint_ema=0.0),
        AgreementCase(MIXED, few, dtype, fixed_log_variance=-1.5, distances=BOTH, slant_dtype=torch.float32),
        AgreementCase(CONTINUOUS, few, dtype, consistency=None, distances=(*BOTH, (0, 0.3, 0.0))),
        AgreementCase(LARGE, rows[0], dtype),
        AgreementCase(MIDDLE, few, dtype, 1, smoothness=1.0),
        AgreementCase(MIXED, few, dtype, distances=BOTH, spread=8.0),
        replace(default, pairs=few, near_rows=2, shared=True),
        AgreementCase(MIDDLE, few, dtype, shared=True),
    ]
    if size == 2:
        cases.append(replace(default, grad_dtype=torch.float32, pairs=few, near_rows=2))
    return cases


KERNEL_TESTS = KernelTests(
    operator="agreement",
    run=agree,
    compare=compare_agreement,
    check=check_agreement,
    cases=agreement_cases,
    largest_on_gpu=(
        AgreementCase(DEFAULT, 20_000, near_rows=5_000, smoothness=1.0, distances=BOTH),
        AgreementCase("noise=1,cat=900,cat=400,uniform=2", 129, smoothness=1.0, near_rows=32),
    ),
    several_tiles=(
        AgreementCase(DEFAULT, 40, near_rows=10, smoothness=0.8, distances=BOTH, scales=(2.0, 3.0)),
        AgreementCase(MIXED, 35, torch.bfloat16, distances=BOTH),
    ),
    mutant_cases=(
        AgreementCase(DEFAULT, 40, near_rows=9, smoothness=0.8, distances=BOTH, scales=(2.0, 3.0)),
        AgreementCase("cat=3,cat=40,normal=2", 9, torch.float64, 5, distances=BOTH, padding=2, scales=(2.0,)),
        AgreementCase(MIXED, 9, distances=BOTH, shared=True),
        AgreementCase(MIDDLE, 70, torch.float16, fixed_log_variance=0.5, distances=((0, 1.0, 0.5),)),
    ),
    mutants=MUTANTS,
    small_grid=SMALL_GRID,
    budgets={"agreement_kernel": Budget(512, 512)},
)
