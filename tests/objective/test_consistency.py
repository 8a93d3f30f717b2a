"""Consistency on real images: the copies against a statement in SciPy and against their ranges, the agreement
against entropies, known values and differences."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest
import reference
import torch
from torch import Tensor

from infogan_fast.data import BUILT_IN
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.objective.consistency import (
    TRANSFORMATIONS,
    Transformation,
    adversarial,
    agreement,
    answer_gradient,
    average_joints,
    copy_state,
    ordered_codes,
    slants,
    transformed,
)

NOTHING = Transformation(0, 0, 0, 0)
DIGITS = LatentSpec.parse("noise=62,cat=10,uniform=2")
SEVERAL = LatentSpec.parse("cat=3,cat=0.5/0.3/0.2,cat=7,uniform=1,bernoulli=1")
MIXED = LatentSpec.parse("cat=4,uniform=1,normal=2,bernoulli=2")


def pictures(count: int = 12, channels: int = 1, size: int = 19) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(size))


@pytest.mark.parametrize(
    "transformation",
    [
        Transformation(),
        replace(NOTHING, rotation=70),
        replace(NOTHING, scale=0.7),
        replace(NOTHING, shear=0.7),
        replace(NOTHING, shift=0.7),
        replace(NOTHING, colour=0.7),
        replace(NOTHING, flip=True),
        Transformation(180, 0.5, 1, 0.3, 0.8, True),
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 3])
def test_copies_equal_the_statement(transformation: Transformation, channels: int) -> None:
    for size in (16, 19):
        images, state = pictures(channels=channels, size=size), copy_state(5)
        for step in range(2):
            wanted = reference.transformed(images, transformation, int(copy_state(5)[0]), step)
            before = state.clone()
            torch.testing.assert_close(
                transformed(state.clone(), images.double(), transformation), wanted, atol=1e-10, rtol=0
            )
            torch.testing.assert_close(
                transformed(state, images, transformation).double(), wanted, atol=2e-5, rtol=0
            )
            assert state.tolist() == [before[0], step + 1]


def test_without_ranges_a_copy_is_the_image() -> None:
    images = pictures(channels=3)
    torch.testing.assert_close(transformed(copy_state(0), images, NOTHING), images, atol=1e-5, rtol=0)


def maps(transformation: Transformation, count: int = 400) -> Tensor:
    """Where each copy reads its pixels, [count, 2, 3]: x and y of the image (in sides, from the middle) as
    weights of x, y and 1 of the copy. Ramps tell it, since reading them bilinearly is exact."""
    size = 33
    ramp = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    images = torch.stack([ramp.expand(size, size), ramp[:, None].expand(size, size)])
    copies = transformed(copy_state(1), images.expand(count, 2, size, size), transformation)
    places = copies[:, :, 12:21, 12:21].flatten(2) - 0.5  # far enough inside
    y, x = torch.meshgrid(ramp[12:21] - 0.5, ramp[12:21] - 0.5, indexing="ij")
    basis = torch.stack([x.flatten(), y.flatten(), torch.ones(81, dtype=torch.float64)], 1)
    fitted = (torch.linalg.pinv(basis) @ places.mT).mT
    torch.testing.assert_close(fitted @ basis.T, places, atol=1e-9, rtol=0)
    return fitted


def assert_spread(values: Tensor, most: float) -> None:
    """Within +-most, uniformly, and no two alike."""
    assert values.abs().max() <= most * (1 + 1e-6)
    assert values.max() > 0.97 * most
    assert values.min() < -0.97 * most
    assert values.std() == pytest.approx(most / math.sqrt(3), rel=0.1)
    assert len(values.unique()) == len(values)


def test_ranges_are_kept_and_filled() -> None:
    m = maps(replace(NOTHING, rotation=15))
    assert_spread(torch.rad2deg(torch.atan2(m[:, 1, 0], m[:, 0, 0])), 15)
    torch.testing.assert_close(torch.linalg.det(m[:, :, :2]), torch.ones(400, dtype=torch.float64))

    m = maps(replace(NOTHING, scale=0.15))
    assert_spread(1 / m[:, 0, 0] - 1, 0.15)
    torch.testing.assert_close(m[:, 0, 0], m[:, 1, 1])

    assert_spread(maps(replace(NOTHING, shear=0.2))[:, 0, 1], 0.2)

    m = maps(replace(NOTHING, shift=0.06))
    for axis in range(2):
        assert_spread(m[:, axis, 2], 0.06)
    assert abs(torch.corrcoef(m[:, :, 2].T)[0, 1]) < 0.15

    m = maps(replace(NOTHING, flip=True))
    assert (m[:, 0, 0] < 0).double().mean() == pytest.approx(0.5, abs=0.1)
    torch.testing.assert_close(m[:, 0, 0].abs(), torch.ones(400, dtype=torch.float64))
    torch.testing.assert_close(m[:, 1, 1], torch.ones(400, dtype=torch.float64))


def test_colours_are_changed_one_by_one_and_kept_in_range() -> None:
    images = torch.full((400, 3, 16, 16), 0.5)
    gains = transformed(copy_state(1), images, replace(NOTHING, colour=0.3))[:, :, 8, 8] * 2 - 1
    for channel in range(3):
        assert_spread(gains[:, channel], 0.3)
    assert torch.corrcoef(gains.T).triu(1).abs().max() < 0.15
    copies = transformed(copy_state(1), images * 1.8, replace(NOTHING, colour=1.0))
    assert copies.min() >= 0
    assert copies.max() == 1


def test_a_copy_is_a_function_of_seed_step_and_sample() -> None:
    images = pictures(1).expand(8, -1, -1, -1)
    state = copy_state(3)
    first, second = (transformed(state, images, Transformation()) for _ in range(2))
    assert torch.equal(transformed(copy_state(3), images[:5], Transformation()), first[:5])
    assert torch.equal(transformed(torch.tensor([int(state[0]), 1]), images, Transformation()), second)
    others = [*first, *second, *transformed(copy_state(4), images, Transformation())]
    for i, a in enumerate(others):
        assert not any(torch.equal(a, b) for b in others[:i])


@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, -(2**63)])
def test_every_seed_of_a_run_has_a_state(seed: int) -> None:
    assert int(copy_state(seed)[0]) != seed


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_dtype_and_memory_format_are_kept(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    images = pictures(channels=3).to(dtype).contiguous(memory_format=memory_format)
    with torch.autocast("cpu"):
        copies = transformed(copy_state(0), images, Transformation())
    assert copies.dtype == dtype
    assert copies.stride() == images.stride()
    # Computed in float32 at least, and rounded once.
    wanted = transformed(copy_state(0), images.double(), Transformation())
    torch.testing.assert_close(copies.double(), wanted, atol=2e-5, rtol=torch.finfo(dtype).eps)


def test_parse_and_print() -> None:
    assert Transformation.parse(str(Transformation())) == Transformation()
    assert str(Transformation()) == "rotation=15,scale=0.15,shear=0.2,shift=0.06,colour=0,flip=0"
    odd = Transformation(1 / 3, 0.1, 0, 1e-9, 1, True)
    assert Transformation.parse(str(odd)) == odd
    assert Transformation.parse(" flip = 1, rotation=5") == Transformation(5, 0, 0, 0, 0, True)
    assert set(TRANSFORMATIONS) == set(BUILT_IN)
    assert len(fields(Transformation)) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read ''"),
        ("rotation", "cannot read 'rotation'"),
        ("rotation=", "cannot read 'rotation='"),
        ("rotation=far", "cannot read 'rotation=far'"),
        ("warp=1", "cannot read 'warp=1'"),
        ("scale=0.1,scale=0.2", "scale is given twice"),
        ("rotation=181", "rotation is 181.0; expected 0 to 180 degrees"),
        ("rotation=-1", "rotation is -1.0"),
        ("scale=1", "scale is 1.0; expected at least 0 and below 1"),
        ("shear=inf", "shear is inf; expected 0 or more"),
        ("shift=nan", "shift is nan; expected 0 to 1"),
        ("colour=1.5", "colour is 1.5; expected 0 to 1"),
        ("flip=0.5", "flip is 0.5; expected 0 or 1"),
    ],
)
def test_wrong_transformations(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        Transformation.parse(text)
    assert str(error.value).startswith(f"transformation {text!r}: {message}")


def outputs(spec: LatentSpec, rows: int = 24, scale: float = 2.0, learned: bool = True) -> Tensor:
    draws, width = torch.Generator().manual_seed(rows), spec.q_dim(learned_variance=learned)
    return scale * torch.randn(2 * rows, width, generator=draws, dtype=torch.float64)


@pytest.mark.parametrize("spec", [DIGITS, SEVERAL, MIXED], ids=str)
@pytest.mark.parametrize("scale", [0.1, 2.0, 9.0])
@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.5, 0.0), (3.0, 0.4, 0.2)])
@pytest.mark.parametrize("fixed", [None, -1.5])
def test_agreement_equals_the_statement(
    spec: LatentSpec, scale: float, weights: tuple[float, float, float], fixed: float | None
) -> None:
    consistency, equivariance, invariance = weights
    if len(ordered_codes(spec)) < 2:  # the two would be of the same code
        invariance = 0.0 if equivariance else invariance
    q = outputs(spec, scale=scale, learned=fixed is None).requires_grad_()
    slant = outputs(LatentSpec.parse("normal=1"), learned=False)[:24, 0]
    information = torch.stack(reference.agreement(spec, q)[0])
    distances = torch.stack([reference.distance(spec, q, fixed, slant), reference.distance(spec, q, fixed)])
    asked = torch.tensor([equivariance, invariance], dtype=torch.float64)
    loss = asked @ distances - consistency * information.sum()
    (gradient,) = torch.autograd.grad(loss, q)
    got = agreement(
        spec,
        q,
        consistency=consistency,
        equivariance=equivariance,
        slant=slant,
        invariance=invariance,
        fixed_log_variance=fixed,
    )
    torch.testing.assert_close(got.information, information.detach(), atol=1e-12, rtol=0)
    torch.testing.assert_close(got.distances, distances.detach() * (asked > 0), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(got.gradient, gradient, atol=1e-12, rtol=1e-12)
    assert not got.gradient.requires_grad


@pytest.mark.parametrize("spec", [DIGITS, SEVERAL], ids=str)
@pytest.mark.parametrize("balance", [0.0, 1.5])
@pytest.mark.parametrize("joint_ema", [0.0, 0.7])
def test_an_average_joint_and_the_weight_of_its_margin_equal_the_statement(
    spec: LatentSpec, balance: float, joint_ema: float
) -> None:
    joints, wanted = average_joints(spec, torch.float64), average_joints(spec, torch.float64)
    for k, joint in zip(spec.categorical_sizes, joints, strict=True):
        torch.testing.assert_close(joint, torch.full((k, k), 1 / k**2, dtype=torch.float64))
    for rows in (24, 30, 24):
        q = outputs(spec, rows).requires_grad_()
        information, entropies, wanted = reference.agreement(spec, q, wanted, joint_ema)
        gain = torch.stack(information).sum() + balance * torch.stack(entropies).sum()
        (gradient,) = torch.autograd.grad(-3.0 * gain / (1 - joint_ema), q)
        got = agreement(spec, q, consistency=3.0, balance=balance, joints=joints, joint_ema=joint_ema)
        torch.testing.assert_close(got.information, torch.stack(information).detach(), atol=1e-12, rtol=0)
        torch.testing.assert_close(got.gradient, gradient, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(joints, wanted, atol=1e-14, rtol=0)
    if not joint_ema:
        alone = agreement(spec, q, consistency=3.0, balance=balance)
        torch.testing.assert_close(alone.gradient, got.gradient)


@pytest.mark.parametrize("joint_ema", [0.0, 0.7])
@pytest.mark.parametrize("damage", [math.inf, math.nan])
def test_a_batch_that_overflows_leaves_no_trace_in_the_average(joint_ema: float, damage: float) -> None:
    kept, joints = (average_joints(SEVERAL, torch.float32) for _ in "ab")
    bad = outputs(SEVERAL).float()
    bad[3] = damage
    # The overflow shows in this batch's gradient, by which its update is skipped.
    found = agreement(SEVERAL, bad, consistency=1.0, balance=1.0, joints=joints, joint_ema=joint_ema)
    assert not found.gradient.isfinite().all()
    for q in (outputs(SEVERAL, 30).float(), outputs(SEVERAL).float()):
        after, without = (
            agreement(SEVERAL, q, consistency=1.0, balance=1.0, joints=each, joint_ema=joint_ema)
            for each in (joints, kept)
        )
        assert torch.equal(after.gradient, without.gradient)
        assert after.gradient.isfinite().all()


def test_balance_alone_makes_values_equally_frequent() -> None:
    """Where all answers are alike, nothing else has a gradient."""
    spec, logits = LatentSpec.parse("cat=3"), torch.tensor([[2.0, 0.0, -1.0]], dtype=torch.float64)
    assert agreement(spec, logits.expand(8, 3), consistency=1.0).gradient.abs().max() < 1e-15
    for _ in range(300):
        logits -= 8.0 * agreement(spec, logits.expand(8, 3), consistency=1.0, balance=1.0).gradient[:1]
    torch.testing.assert_close(
        logits.softmax(1), torch.full((1, 3), 1 / 3, dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_gradient_equals_differences() -> None:
    class Loss(torch.autograd.Function):
        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, q: Tensor) -> Tensor:
            weights: dict[str, Any] = {
                "consistency": 2.0,
                "equivariance": 0.7,
                "invariance": 0.5,
                "fixed_log_variance": -1.0,
            }
            found = agreement(DIGITS, q, slant=slant, **weights)
            ctx.save_for_backward(found.gradient)
            distances = 0.7 * found.distances[0] + 0.5 * found.distances[1]
            return distances - 2.0 * found.information.sum()

        @staticmethod
        def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
            return gradients[0] * ctx.saved_tensors[0]  # type: ignore[attr-defined]

    slant = torch.linspace(-1, 1, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(Loss.apply, (outputs(DIGITS, 6, learned=False).requires_grad_(),))


def test_distance_by_hand() -> None:
    """Of the last ordered code alone, though a binary one comes after it; variances of 1/4 and 4."""
    spec = LatentSpec.parse("cat=2,uniform=2,bernoulli=1")
    answers = torch.tensor(
        [[9.0, 1, 5, 0.5, 3, 0, math.log(0.25)], [2.0, 7, 1, -0.5, -8, 0, math.log(4)]], dtype=torch.float64
    )
    got = agreement(spec, answers, consistency=0.0, invariance=2.0)
    assert got.distances.tolist() == pytest.approx([0, 1.0**2 * (4 + 0.25) / 4])
    wanted = torch.zeros(2, 7, dtype=torch.float64)
    wanted[:, 3] = torch.tensor([1.0, -1.0]) * 2 * 2 * (4 + 0.25) / 4
    torch.testing.assert_close(got.gradient, wanted)
    assert agreement(spec, answers[[0, 0]], consistency=0.0, invariance=2.0).distances[1] == 0
    # A copy that is turned by all there is shall add half a unit to the first code; here 5 became 1.
    slant = torch.ones(1, dtype=torch.float64)
    got = agreement(spec, answers, consistency=0.0, equivariance=2.0, slant=slant)
    assert got.distances.tolist() == pytest.approx([4.5**2 / 2, 0])
    wanted = torch.zeros(2, 7, dtype=torch.float64)
    wanted[:, 2] = torch.tensor([1.0, -1.0]) * 2 * 4.5
    torch.testing.assert_close(got.gradient, wanted)


@pytest.mark.parametrize(
    ("latents", "positions"),
    [
        ("cat=2", []),
        ("bernoulli=3", []),
        ("uniform=2,normal=1", [0, 1, 2]),
        ("uniform=2,bernoulli=2", [0, 1]),
    ],
)
def test_ordered_codes(latents: str, positions: list[int]) -> None:
    assert ordered_codes(LatentSpec.parse(latents)) == positions


def leaning(images: Tensor) -> Tensor:
    """Of images [N, 1, S, S]: angle of the ink's long axis from upright, anticlockwise, by second moments."""
    side = images.shape[-1]
    place = torch.arange(side).to(images) - (side - 1) / 2
    weight = images[:, 0] / images[:, 0].sum((1, 2), keepdim=True)
    x, y = (weight.sum(1) * place).sum(1), (weight.sum(2) * place).sum(1)
    xx, yy = (weight.sum(1) * place**2).sum(1) - x**2, (weight.sum(2) * place**2).sum(1) - y**2
    xy = (weight * place[:, None] * place).sum((1, 2)) - x * y
    return 0.5 * torch.atan2(2 * xy, yy - xx)


@pytest.mark.parametrize(
    "ranges", ["rotation=20", "shear=0.4", "rotation=15,scale=0.15,shear=0.2,shift=0.06"]
)
def test_slants_are_those_of_the_copies(ranges: str) -> None:
    transformation, state = Transformation.parse(ranges), copy_state(2)
    side = 65
    image = torch.zeros(1, 1, side, side, dtype=torch.float64)
    image[:, :, 12:53, 32] = 1.0
    for step in range(2):
        told = slants(state, 200, transformation)
        assert state.tolist()[1] == step  # the copies that follow are those meant
        copies = transformed(state, image.expand(200, -1, -1, -1), transformation)
        largest = math.radians(transformation.rotation) + math.atan(transformation.shear)
        torch.testing.assert_close(told * largest, leaning(copies), atol=0.01, rtol=0)
        wanted = reference.slants(transformation, int(state[0]), step, 200)
        torch.testing.assert_close(told, wanted, atol=1e-12, rtol=0)
    assert 0.8 < told.abs().max() <= 1


@pytest.mark.parametrize(
    ("ranges", "has"), [("rotation=1", 1), ("shear=0.1", 1), ("scale=0.1", 0), ("shear=0.1,flip=1", 0)]
)
def test_has_slants(ranges: str, has: int) -> None:
    assert Transformation.parse(ranges).has_slants == bool(has)


def sure(categories: Tensor, size: int) -> Tensor:
    return 60.0 * torch.nn.functional.one_hot(categories, size).double()


def test_known_values() -> None:
    spec, k = LatentSpec.parse("cat=10"), 10
    every = torch.arange(k)
    same = sure(every.repeat(6), k)
    independent = torch.cat([sure(every.repeat_interleave(k), k), sure(every.repeat(k), k)])
    permuted = torch.cat([sure(every, k), sure((every + 1) % k, k)])
    halves = sure(torch.tensor([0, 1]).repeat(8), k)
    for q, wanted in (
        (torch.cat([same, same]), math.log(k)),  # the largest there is
        (torch.cat([halves, halves]), math.log(2)),
        (independent, 0.0),
        (torch.zeros(20, k), 0.0),
        (sure(torch.zeros(20, dtype=torch.int64), k), 0.0),
        # Made symmetric: half of a value's joint lies above the diagonal and half below.
        (permuted, math.log(k) - math.log(2)),
    ):
        found = agreement(spec, q, consistency=1.0)
        assert found.information.item() == pytest.approx(wanted, abs=1e-5)
        assert found.gradient.abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_low_precision_is_read_in_float32(dtype: torch.dtype) -> None:
    q = outputs(SEVERAL).to(dtype)
    with torch.autocast("cpu"):
        got = agreement(SEVERAL, q, consistency=1.0, invariance=1.0)
    wanted = agreement(SEVERAL, q.double(), consistency=1.0, invariance=1.0)
    slanted = agreement(SEVERAL, q, consistency=1.0, equivariance=1.0, slant=torch.ones(24).double())
    assert slanted.distances.dtype == slanted.gradient.dtype == torch.float32
    assert got.information.dtype == got.distances.dtype == got.gradient.dtype == torch.float32
    torch.testing.assert_close(got.information.double(), wanted.information, atol=1e-5, rtol=0)
    torch.testing.assert_close(got.gradient.double(), wanted.gradient, atol=1e-6, rtol=0)


def test_certain_answers_stay_finite() -> None:
    q = 1e4 * outputs(SEVERAL).float()
    assert all(part.isfinite().all() for part in agreement(SEVERAL, q, consistency=1.0, invariance=1.0))


def test_ascent_finds_the_classes() -> None:
    """Two clouds, a third of the points in one: what agrees and is used is told apart, without a label."""
    spec, draws = LatentSpec.parse("cat=2"), torch.Generator().manual_seed(0)
    cloud = (torch.rand(90, generator=draws) < 1 / 3).double()
    points, copies = (
        torch.stack([4 * cloud - 2, torch.randn(90, generator=draws, dtype=torch.float64)], 1) for _ in "ab"
    )
    weight = 0.1 * torch.randn(2, 2, generator=draws, dtype=torch.float64)
    inputs = torch.cat([points, copies])
    for _ in range(300):
        weight -= 2.0 * inputs.T @ agreement(spec, inputs @ weight, consistency=1.0).gradient
    answers = (points @ weight).argmax(1)
    assert max((answers == cloud).double().mean(), (answers != cloud).double().mean()) == 1


def linear_q(spec: LatentSpec, pixels: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(pixels, spec.q_dim(), generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("spec", [DIGITS, SEVERAL], ids=str)
@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 19)])
def test_adversarial_copies_equal_the_statement(spec: LatentSpec, channels: int, size: int) -> None:
    images, state = pictures(6, channels, size).double(), torch.tensor([5, 3])
    weight = linear_q(spec, images[0].numel()) / size

    def q_of(x: Tensor) -> Tensor:
        return x.flatten(1) @ weight

    pixels = LatentSpec(noise_dim=images[0].numel(), categorical_sizes=(), continuous_kinds=())
    noise = reference.sample_latents(pixels, 5, 3, 6, sample_offset=40)[0].view(images.shape)
    wanted, divergence = reference.adversarial(spec, q_of, images, noise)
    copies = adversarial(state, images, spec, q_of, sample_offset=40)
    torch.testing.assert_close(copies, wanted, atol=1e-4, rtol=0)
    assert state.tolist() == [5, 3]
    near = q_of(wanted).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(divergence(q_of(images), near), near)
    torch.testing.assert_close(answer_gradient(spec, near, q_of(images)) / 6, gradient)


def test_adversarial_copies_change_the_answers_more_than_noise() -> None:
    images = pictures(64, size=28)
    weight = linear_q(DIGITS, 784, torch.float32) / 40
    far = adversarial(torch.tensor([0, 0]), images, DIGITS, lambda x: x.flatten(1) @ weight, sample_offset=0)
    torch.testing.assert_close((far - images).flatten(1).norm(dim=1), torch.full((64,), 2.0))
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    noise *= 2.0 / noise.flatten(1).norm(dim=1)[:, None, None, None]

    def divergence(copies: Tensor) -> float:
        p, other = ((x.flatten(1) @ weight)[:, :10].log_softmax(1) for x in (images, copies))
        return (p.exp() * (p - other)).sum(1).mean().item()

    assert divergence(far) > 20 * divergence(images + noise)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_adversarial_copies_of_low_precision_have_a_direction(dtype: torch.dtype) -> None:
    """Where answers hardly change, half precision has no gradient without a scale."""
    images = pictures(8, size=28).to(dtype).contiguous(memory_format=torch.channels_last)
    weight = linear_q(DIGITS, 784, torch.float32).to(dtype) / 4000
    copies = adversarial(
        torch.tensor([0, 0]), images, DIGITS, lambda x: x.to(dtype).flatten(1) @ weight, sample_offset=0
    )
    assert copies.dtype == dtype
    assert copies.stride() == images.stride()
    lengths = (copies.float() - images.float()).flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((8,), 2.0), atol=0.02, rtol=0)


def test_an_image_without_a_direction_is_left_alone() -> None:
    images = pictures(4, size=16)
    copies = adversarial(
        torch.tensor([0, 0]), images, DIGITS, lambda x: 0.0 * x.flatten(1)[:, :14], sample_offset=0
    )
    assert torch.equal(copies, images)
