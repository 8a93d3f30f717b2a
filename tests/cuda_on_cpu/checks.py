"""What a kernel has to give for a case: the CPU operator's bits, which are held against reference.py."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import reference
import torch
from cuda_on_cpu.harness import Runner, given, poisoned, wanted
from torch import Tensor

from infogan_fast import ops
from infogan_fast.latents import LatentSpec

#: Relative error of a result of this dtype. Latents are drawn in float32, in whatever dtype they are given.
EPSILON = {torch.float64: 1e-6, torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}


@dataclass(frozen=True)
class Schedule:
    """The order in which blocks, warps and lanes run: see simt_engine.h."""

    seed: int = 0
    resident_blocks: int = 1


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def same_bits(actual: Tensor, expected: Tensor, what: str) -> None:
    """Raises AssertionError, naming the first difference, unless two tensors hold the same bytes."""
    actual, expected = actual.contiguous(), expected.contiguous()
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    if actual.numel() == 0:
        return
    different = (actual.view(torch.uint8) != expected.view(torch.uint8)).reshape(actual.numel(), -1).any(1)
    if different.any():
        at = int(different.nonzero()[0])
        where = [int(i) for i in torch.unravel_index(torch.tensor(at), actual.shape)]
        raise AssertionError(
            f"{what}{where} is {actual.flatten()[at].item()!r}, expected {expected.flatten()[at].item()!r}; "
            f"{int(different.sum())} of {actual.numel()} elements differ"
        )


def close(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Raises AssertionError unless |actual - expected| <= tolerance (1 + |expected|) everywhere."""
    actual, expected = actual.double(), expected.double()
    wrong = ~((actual == expected) | ((actual - expected).abs() <= tolerance * (1 + expected.abs())))
    if wrong.any():
        at = [int(i) for i in wrong.nonzero()[0]]
        raise AssertionError(
            f"{what}{at} is {actual[tuple(at)].item()!r}, the reference has {expected[tuple(at)].item()!r}; "
            f"{int(wrong.sum())} of {actual.numel()} elements differ"
        )


# ---- sample_latents --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SampleCase:
    """One call of sample_latents. `offsets`: bytes that inputs, categorical, continuous are misaligned by."""

    latents: str
    rows: int
    dtype: torch.dtype = torch.float32
    seed: int = 1234567890123
    step: int = 5
    sample_offset: int = 0
    advance: bool = True
    offsets: tuple[int, int, int] = (0, 0, 0)

    def __str__(self) -> str:
        return f"{self.rows}x[{self.latents}] {name_of(self.dtype)}"


def draw(case: SampleCase, device: str = "cpu") -> tuple[ops.Latents, Tensor]:
    """(latents, the state after it) from the operator."""
    state = ops.rng_state(case.seed, case.step, device)
    spec = LatentSpec.parse(case.latents)
    latents = ops.sample_latents(
        state, case.rows, spec, dtype=case.dtype, sample_offset=case.sample_offset, advance=case.advance
    )
    return latents, state


@functools.cache
def _expected_sample(case: SampleCase) -> ops.Latents:
    expected, _ = draw(case)
    inputs, categorical, continuous = reference.sample_latents(
        LatentSpec.parse(case.latents), case.seed, case.step, case.rows, case.sample_offset
    )
    close(expected.inputs, inputs, EPSILON[case.dtype], "the CPU operator's inputs")
    same_bits(expected.categorical, categorical, "the CPU operator's categorical")
    close(expected.continuous, continuous, EPSILON[case.dtype], "the CPU operator's continuous")
    return expected


def compare_latents(actual: ops.Latents, state: Tensor, case: SampleCase, what: str) -> None:
    """Raises AssertionError unless latents and state are what is expected to the bit."""
    same_bits(state.cpu(), torch.tensor([case.seed, case.step + int(case.advance)]), what + "state")
    expected = _expected_sample(case)
    # The categories first: where they are wrong, so is what follows from them.
    for name in ("categorical", "inputs", "continuous"):
        same_bits(getattr(actual, name).cpu(), getattr(expected, name), what + name)


def check_sample_latents(runner: Runner, case: SampleCase, schedules: Sequence[Schedule]) -> None:
    """Raises AssertionError when the kernel's results differ from what is expected under any schedule."""
    spec = LatentSpec.parse(case.latents)
    sizes, kinds, cdf = spec.operator_arguments
    for schedule in schedules:
        state = torch.tensor([case.seed, case.step])
        latents = ops.Latents(
            poisoned((case.rows, spec.latent_dim), case.dtype),
            poisoned((case.rows, spec.n_categorical), torch.int32),
            poisoned((case.rows, spec.n_continuous), torch.float32),
        )
        runner(
            f"sample_latents/{name_of(case.dtype)}",
            wanted(state),
            case.rows,
            spec.noise_dim,
            int(spec.noise == "uniform"),
            given(torch.tensor(sizes, dtype=torch.int64)),
            given(torch.tensor(kinds, dtype=torch.int64)),
            given(None if cdf is None else torch.tensor(cdf, dtype=torch.float32)),
            case.sample_offset,
            int(case.advance),
            *(wanted(output, offset) for output, offset in zip(latents, case.offsets, strict=True)),
            seed=schedule.seed,
            resident_blocks=schedule.resident_blocks,
        )
        compare_latents(latents, state, case, f"{case}, {schedule}: ")


# ---- gather_images ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GatherCase:
    """One call of gather_images. `offsets`: bytes that images and batch are misaligned by."""

    images: int
    pixels: int
    rows: int
    dtype: torch.dtype = torch.float32
    seed: int = 1234567890123
    step: int = 5
    advance: bool = True
    offsets: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        return f"{self.rows} of {self.images}x{self.pixels} {name_of(self.dtype)}"

    @property
    def spread(self) -> bool:
        """Whether the images are too many to be sent or moved: all are zero but those that are gathered."""
        return self.images * self.pixels >= 2**31


@functools.cache
def _image_memory(case: GatherCase) -> Tensor:
    start = case.offsets[0]
    memory = torch.from_numpy(
        np.zeros(start + case.images * case.pixels, np.uint8)
    )  # pages come when touched
    images = memory[start:].view(case.images, case.pixels)
    filled: slice | Tensor = slice(None)
    if case.spread:
        filled = ops.gather_images(ops.rng_state(case.seed, case.step), images, case.rows).indices
    generator = torch.Generator().manual_seed(23)
    drawn = torch.randint(0, 256, images[filled].shape, dtype=torch.uint8, generator=generator)
    drawn.view(-1)[:2] = torch.tensor([0, 255], dtype=torch.uint8)[: drawn.numel()]
    images[filled] = drawn
    return memory


def gather_inputs(case: GatherCase, device: str = "cpu") -> Tensor:
    """The images of a case, the same ones each time, `offsets[0]` bytes past the start of an allocation."""
    return _image_memory(case).to(device)[case.offsets[0] :].view(case.images, case.pixels)


def gather(case: GatherCase, device: str = "cpu") -> tuple[ops.Gathered, Tensor]:
    """(the batch, the state after it) from the operator."""
    state = ops.rng_state(case.seed, case.step, device)
    images = gather_inputs(case, device)
    return ops.gather_images(state, images, case.rows, dtype=case.dtype, advance=case.advance), state


@functools.cache
def _expected_gather(case: GatherCase) -> ops.Gathered:
    expected, _ = gather(case)
    batch, indices = reference.gather_images(gather_inputs(case), case.seed, case.step, case.rows)
    same_bits(expected.indices, indices, "the CPU operator's indices")
    same_bits(expected.batch, batch.float().to(case.dtype), "the CPU operator's batch")
    return expected


def compare_gather(actual: ops.Gathered, state: Tensor, case: GatherCase, what: str) -> None:
    """Raises AssertionError unless batch, indices and state are what is expected to the bit."""
    same_bits(state.cpu(), torch.tensor([case.seed, case.step + int(case.advance)]), what + "state")
    expected = _expected_gather(case)
    same_bits(actual.indices.cpu(), expected.indices, what + "indices")
    same_bits(actual.batch.cpu(), expected.batch, what + "batch")


def check_gather_images(runner: Runner, case: GatherCase, schedules: Sequence[Schedule]) -> None:
    """Raises AssertionError when the kernel's results differ from what is expected under any schedule."""
    images, places = gather_inputs(case), torch.empty(0, dtype=torch.int64)
    if case.spread:
        places = _expected_gather(case).indices
        images = images[places]
    for schedule in schedules:
        state = torch.tensor([case.seed, case.step])
        gathered = ops.Gathered(
            poisoned((case.rows, case.pixels), case.dtype), poisoned((case.rows,), torch.int64)
        )
        runner(
            f"gather_images/{name_of(case.dtype)}",
            wanted(state),
            given(images, case.offsets[0]),
            given(places),
            case.images,
            case.pixels,
            case.rows,
            int(case.advance),
            wanted(gathered.batch, case.offsets[1]),
            wanted(gathered.indices),
            seed=schedule.seed,
            resident_blocks=schedule.resident_blocks,
        )
        compare_gather(gathered, state, case, f"{case}, {schedule}: ")


# ---- infogan_loss ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LossCase:
    """One call of infogan_loss on drawn inputs.

    Args:
        real_rows, fake_rows, q_rows: 0 leaves the input out.
        fixed_log_variance: None where Q learns the variance.
        logit_stride: elements from one logit to the next.
        q_padding: columns of the tensor that q_output is a slice of, past its own.
        offset: bytes by which all inputs and gradients are misaligned.
        scale: of the logits and Q's output; large ones reach every clamp.
    """

    latents: str
    real_rows: int = 0
    fake_rows: int = 0
    q_rows: int = 0
    dtype: torch.dtype = torch.float32
    grad_dtype: torch.dtype | None = None
    fixed_log_variance: float | None = None
    grad_scale: float | None = None
    logit_stride: int = 1
    q_padding: int = 0
    offset: int = 0
    scale: float = 2.0

    def __str__(self) -> str:
        rows = f"{self.real_rows}/{self.fake_rows}/{self.q_rows}"
        return f"{rows}x[{self.latents}] {name_of(self.dtype)}"


@dataclass(frozen=True)
class LossInputs:
    """The tensors of a :class:`LossCase`."""

    real: Tensor | None
    fake: Tensor | None
    q: Tensor | None
    categorical: Tensor | None
    continuous: Tensor | None
    weights: ops.LossWeights
    grad_scale: Tensor | None


@functools.cache
def loss_inputs(case: LossCase) -> LossInputs:
    """Draws the inputs of a case, the same ones each time."""
    spec = LatentSpec.parse(case.latents)
    generator = torch.Generator().manual_seed(17)

    def draw(rows: int, columns: int, width: int) -> Tensor | None:
        if rows == 0:
            return None
        values = torch.randn(rows, width, generator=generator, dtype=torch.float64) * case.scale
        return values.clamp(-6e4, 6e4).to(case.dtype)[:, :columns]

    real, fake = (
        None if x is None else x[:, 0]
        for x in (draw(case.real_rows, 1, case.logit_stride), draw(case.fake_rows, 1, case.logit_stride))
    )
    q_dim = spec.q_dim(case.fixed_log_variance is None)
    q = draw(case.q_rows, q_dim, q_dim + case.q_padding)
    codes = ops.sample_latents(ops.rng_state(3), max(case.q_rows, 1), spec)
    return LossInputs(
        real,
        fake,
        q,
        None if q is None else codes.categorical,
        None if q is None else codes.continuous,
        ops.LossWeights(
            d_real=0.0 if real is None else 1.0,
            d_fake=0.0 if fake is None else 0.5,
            g=0.0 if fake is None else 0.25,
            codes=() if q is None else tuple(1.0 - 0.1 * i for i in range(spec.n_codes)),
        ),
        None if case.grad_scale is None else torch.tensor(case.grad_scale),
    )


def _moved(tensor: Tensor | None, device: str, offset: int = 0) -> Tensor | None:
    """The same on a device, strides kept, `offset` bytes past the start of an allocation."""
    if tensor is None:
        return None
    extent = 1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    before = offset // tensor.element_size()
    memory = torch.full((before + extent,), float("nan"), dtype=tensor.dtype, device=device)
    moved = memory.as_strided(tensor.shape, tensor.stride(), before)
    moved.copy_(tensor)
    return moved


def score(case: LossCase, device: str = "cpu") -> ops.InfoGANLoss:
    """Terms and gradients from the operator."""
    x = loss_inputs(case)
    return ops.infogan_loss(
        LatentSpec.parse(case.latents),
        weights=x.weights,
        real_logits=_moved(x.real, device, case.offset),
        fake_logits=_moved(x.fake, device, case.offset),
        q_output=_moved(x.q, device, case.offset),
        categorical=None if x.categorical is None else x.categorical.to(device),
        continuous=None if x.continuous is None else x.continuous.to(device),
        fixed_log_variance=case.fixed_log_variance,
        grad_scale=None if x.grad_scale is None else x.grad_scale.to(device),
        grad_dtype=case.grad_dtype,
    )


@functools.cache
def _expected_loss(case: LossCase) -> ops.InfoGANLoss:
    spec, x = LatentSpec.parse(case.latents), loss_inputs(case)
    expected = score(case)
    leaves = [None if t is None else t.double().requires_grad_() for t in (x.real, x.fake, x.q)]
    terms, errors = reference.infogan_terms(
        spec, leaves[0], leaves[1], leaves[2], x.categorical, x.continuous, case.fixed_log_variance
    )
    tolerance = 1e-12 if case.dtype == torch.float64 else 2e-6
    close(expected.terms, torch.stack([*terms, *errors]).detach(), tolerance, "the CPU operator's terms")
    total = reference.infogan_total(terms, x.weights)
    total.backward()
    # A float gradient is a difference of parts of size weight / rows.
    tolerance = max(tolerance, EPSILON[case.grad_dtype or case.dtype] if case.dtype != torch.float64 else 0.0)
    for leaf, gradient in zip(leaves, expected[2:], strict=True):
        if leaf is not None and leaf.grad is not None:
            # A sample's share of the gradient is a difference of parts of size 1, whatever multiplies them.
            scale = case.grad_scale or 1.0
            right = (leaf.grad * scale).to(gradient.dtype).double()
            share = leaf.shape[0] / scale
            close(
                gradient.double() * share,
                right * share,
                tolerance,
                "the CPU operator's gradient of a sample, ",
            )
    return expected


def compare_loss(actual: ops.InfoGANLoss, case: LossCase, what: str) -> None:
    """Raises AssertionError unless gradients are what is expected to the bit, and sums within rounding."""
    expected = _expected_loss(case)
    tolerance = 1e-12 if case.dtype == torch.float64 else 2e-6
    for name in ("grad_real", "grad_fake", "grad_q"):
        value, right = getattr(actual, name), getattr(expected, name)
        if value.is_cuda and case.dtype == torch.float64:  # exp and log of doubles are each platform's own
            close(value.cpu(), right, tolerance, what + name)
        else:
            same_bits(value.cpu(), right, what + name)
    close(actual.terms.cpu(), expected.terms, tolerance, what + "terms")
    close(actual.total.cpu().reshape(1), expected.total.reshape(1), tolerance * 10, what + "total")


def run_infogan_loss(runner: Runner, case: LossCase, x: LossInputs, schedule: Schedule) -> ops.InfoGANLoss:
    """Terms and gradients from the kernels."""
    spec = LatentSpec.parse(case.latents)
    sizes, kinds, _ = spec.operator_arguments
    grad_dtype = case.grad_dtype or case.dtype
    accumulated = torch.float64 if case.dtype == torch.float64 else torch.float32
    n_terms = 3 + spec.n_codes + spec.n_continuous
    blocks = max(1, *((rows + 31) // 32 for rows in (case.real_rows, case.fake_rows, case.q_rows)))
    gradients = [poisoned((0,) if t is None else tuple(t.shape), grad_dtype) for t in (x.real, x.fake, x.q)]
    terms, total = poisoned((n_terms,), accumulated), poisoned((1,), accumulated)
    weights = [x.weights.d_real, x.weights.d_fake, x.weights.g, *(x.weights.codes or (0.0,) * spec.n_codes)]
    runner(
        "/".join(dict.fromkeys(["infogan_loss", name_of(case.dtype), name_of(grad_dtype)])),
        given(x.real, case.offset),
        case.real_rows,
        0 if x.real is None else x.real.stride(0),
        given(x.fake, case.offset),
        case.fake_rows,
        0 if x.fake is None else x.fake.stride(0),
        given(x.q, case.offset),
        case.q_rows,
        0 if x.q is None else x.q.stride(0),
        spec.q_dim(case.fixed_log_variance is None),
        given(x.categorical if spec.n_categorical else None),
        given(x.continuous if spec.n_continuous else None),
        given(torch.tensor(sizes, dtype=torch.int64)),
        given(torch.tensor(kinds, dtype=torch.int64)),
        given(torch.tensor(weights, dtype=torch.float64)),
        int(case.fixed_log_variance is None),
        float(case.fixed_log_variance or 0.0),
        given(x.grad_scale),
        *(wanted(gradient, case.offset) for gradient in gradients),
        wanted(poisoned((blocks * n_terms,), accumulated)),
        wanted(terms),
        wanted(total),
        seed=schedule.seed,
        resident_blocks=schedule.resident_blocks,
    )
    return ops.InfoGANLoss(total, terms, *gradients)


def check_infogan_loss(runner: Runner, case: LossCase, schedules: Sequence[Schedule]) -> None:
    """Raises AssertionError when the kernels' results differ from what is expected under any schedule."""
    first: Tensor | None = None
    for schedule in schedules:
        actual = run_infogan_loss(runner, case, loss_inputs(case), schedule)
        what = f"{case}, {schedule}: "
        compare_loss(actual, case, what)
        sums = torch.cat([actual.terms, actual.total])
        if first is not None:
            same_bits(sums, first, what + "[terms, total], which no order of execution may change, ")
        first = sums
