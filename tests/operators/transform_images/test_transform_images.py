"""transform_images: against a statement in SciPy, against its ranges, and errors that name the argument."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from cuda_on_cpu.checks import DTYPES, name_of, same_bits
from operators.transform_images import reference
from operators.transform_images.cases import (
    NOTHING,
    TransformCase,
    compare_transform,
    transform,
    transform_cases,
)
from torch import Tensor

from infogan_fast import ops
from infogan_fast.objective.transformation import Transformation
from infogan_fast.runtime import native


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_it_computes_what_the_reference_does(dtype: torch.dtype) -> None:
    for case in transform_cases(dtype):
        compare_transform(transform(case), case, f"{case}: ")


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("last", [False, True])
def test_every_instruction_set_gives_the_same_bits(isa: str, dtype: torch.dtype, last: bool) -> None:
    case = TransformCase(5, 3, 21, dtype, last=last)
    copies, slants = transform(case)[0]
    native.load().set_isa("portable")
    expected = transform(case)[0]
    same_bits(copies, expected.copies, f"{isa}: copies")
    same_bits(slants, expected.slants, f"{isa}: slants")


def copies_of(state: Tensor, images: Tensor, transformation: Transformation) -> Tensor:
    return ops.transform_images(state, images, **asdict(transformation)).copies


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
        replace(NOTHING, bend=0.7),
        replace(NOTHING, flip=True),
        Transformation(180, 0.5, 1, 0.3, 0.8, 0.4, True),
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 3])
def test_copies_equal_the_statement(transformation: Transformation, channels: int) -> None:
    for size in (16, 19):
        images, state = pictures(channels=channels, size=size), ops.rng_state(5)
        for step in range(2):
            wanted = reference.transformed(images, transformation, int(ops.rng_state(5)[0]), step)
            before = state.clone()
            torch.testing.assert_close(
                copies_of(state.clone(), images.double(), transformation), wanted, atol=1e-10, rtol=0
            )
            torch.testing.assert_close(
                copies_of(state, images, transformation).double(), wanted, atol=2e-5, rtol=0
            )
            assert state.tolist() == [before[0], step + 1]


def test_without_ranges_a_copy_is_the_image() -> None:
    images = pictures(channels=3)
    torch.testing.assert_close(copies_of(ops.rng_state(0), images, NOTHING), images, atol=1e-5, rtol=0)


def maps(transformation: Transformation, count: int = 400) -> Tensor:
    """Where each copy reads its pixels, [count, 2, 3]: x and y of the image (in sides, from the middle) as
    weights of x, y and 1 of the copy. Ramps tell it, since reading them bilinearly is exact."""
    size = 33
    ramp = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    images = torch.stack([ramp.expand(size, size), ramp[:, None].expand(size, size)])
    copies = copies_of(ops.rng_state(1), images.repeat(count, 1, 1, 1), transformation)
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
    gains = copies_of(ops.rng_state(1), images, replace(NOTHING, colour=0.3))[:, :, 8, 8] * 2 - 1
    for channel in range(3):
        assert_spread(gains[:, channel], 0.3)
    assert torch.corrcoef(gains.T).triu(1).abs().max() < 0.15
    copies = copies_of(ops.rng_state(1), images * 1.8, replace(NOTHING, colour=1.0))
    assert copies.min() >= 0
    assert copies.max() == 1


def test_a_copy_is_a_function_of_seed_step_and_sample() -> None:
    images = pictures(1).repeat(8, 1, 1, 1)
    state = ops.rng_state(3)
    first, second = (copies_of(state, images, Transformation()) for _ in range(2))
    assert torch.equal(copies_of(ops.rng_state(3), images[:5], Transformation()), first[:5])
    assert torch.equal(copies_of(torch.tensor([int(state[0]), 1]), images, Transformation()), second)
    others = [*first, *second, *copies_of(ops.rng_state(4), images, Transformation())]
    for i, a in enumerate(others):
        assert not any(torch.equal(a, b) for b in others[:i])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_dtype_and_memory_format_are_kept(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    images = pictures(channels=3).to(dtype).contiguous(memory_format=memory_format)
    with torch.autocast("cpu"):
        copies = copies_of(ops.rng_state(0), images, Transformation())
    assert copies.dtype == dtype
    assert copies.stride() == images.stride()
    # Computed in float32 at least, and rounded once.
    wanted = copies_of(ops.rng_state(0), images.double(), Transformation())
    torch.testing.assert_close(copies.double(), wanted, atol=2e-5, rtol=torch.finfo(dtype).eps)


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
    transformation, state = Transformation.parse(ranges), ops.rng_state(2)
    side = 65
    image = torch.zeros(1, 1, side, side, dtype=torch.float64)
    image[:, :, 12:53, 32] = 1.0
    images = image.repeat(200, 1, 1, 1)
    for step in range(2):
        shares = ops.transform_images(state, images, **asdict(transformation), advance=False).slants
        assert state.tolist()[1] == step  # the copies that follow are those meant
        copies = copies_of(state, images, transformation)
        largest = math.radians(transformation.rotation) + math.atan(transformation.shear)
        torch.testing.assert_close(shares * largest, leaning(copies), atol=0.01, rtol=0)
        wanted = reference.slants(transformation, int(state[0]), step, 200)
        torch.testing.assert_close(shares, wanted, atol=1e-12, rtol=0)
    assert 0.8 < shares.abs().max() <= 1


def test_nan_stays_where_it_is_read() -> None:
    images = pictures(1, size=5)
    images[0, 0, 2, 2] = float("nan")
    copies = ops.transform_images(ops.rng_state(0), images, shift=0.1, colour=0.5).copies
    assert 1 <= copies.isnan().sum() <= 4


def test_a_shear_past_all_numbers_reads_pixels_of_the_image() -> None:
    images = pictures(20, size=6)
    copies = ops.transform_images(ops.rng_state(0), images, rotation=90.0, shear=1e308).copies
    assert copies.min() >= 0 and copies.max() <= 1


def test_images_that_need_a_gradient_are_constants() -> None:
    images = pictures(2).requires_grad_()
    assert not ops.transform_images(ops.rng_state(0), images, rotation=5.0).copies.requires_grad


WRONG: list[tuple[str, dict[str, Any]]] = [
    (r"rng_state must be a contiguous int64 tensor", {"rng_state": torch.zeros(2)}),
    (
        "images must be float32, float16, bfloat16 or float64, got uint8",
        {"images": torch.zeros(2, 1, 6, 6).byte()},
    ),
    (r"images must have shape \[B, C, S, S\]", {"images": torch.zeros(2, 1, 6, 5)}),
    (r"images must have shape \[B, C, S, S\]", {"images": torch.zeros(0, 1, 6, 6)}),
    (r"images must have shape \[B, C, S, S\]", {"images": torch.zeros(2, 6, 6)}),
    (r"images must have shape \[B, C, S, S\]", {"images": torch.zeros(2, 1, 6, 12)[..., ::2]}),
    ("images have at most 3 channels", {"images": torch.zeros(2, 4, 6, 6)}),
    (r"rotation must be in \[0, 180\] degrees, got 181", {"rotation": 181.0}),
    (r"rotation must be in \[0, 180\] degrees, got nan", {"rotation": math.nan}),
    (r"scale must be in \[0, 1\), got 1", {"scale": 1.0}),
    ("shear must be 0 or more, got inf", {"shear": math.inf}),
    ("shear must be 0 or more, got -1", {"shear": -1.0}),
    (r"shift must be in \[0, 1\], got 1.5", {"shift": 1.5}),
    (r"colour must be in \[0, 1\], got -0.5", {"colour": -0.5}),
    (r"bend must be in \[0, 1\], got 2", {"bend": 2.0}),
    ("sample_offset must be in .* got -1", {"sample_offset": -1}),
    (r"sample_stride must be in \[1, 2\^31\), got 0", {"sample_stride": 0}),
]


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_out_the_batch(ranks: int, device: torch.device) -> None:
    images = pictures(6).to(device)
    whole = ops.transform_images(ops.rng_state(4, 2, device), images, rotation=20.0, shift=0.1)
    for rank in range(ranks):
        own, state = images[rank::ranks].contiguous(), ops.rng_state(4, 2, device)
        part = ops.transform_images(
            state, own, rotation=20.0, shift=0.1, sample_offset=rank, sample_stride=ranks
        )
        assert all(torch.equal(a, b[rank::ranks]) for a, b in zip(part, whole, strict=True))


@pytest.mark.parametrize(("message", "changed"), WRONG)
def test_wrong_arguments_are_named(message: str, changed: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"rng_state": ops.rng_state(0), "images": torch.zeros(2, 1, 6, 6)}
    with pytest.raises(RuntimeError, match=f"transform_images: {message}"):
        ops.transform_images(**(arguments | changed))


def test_a_step_out_of_range_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"the step in rng_state must be in \[0, 2\^48 - 1\), got -1"):
        ops.transform_images(torch.tensor([0, -1]), pictures(2))


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_opcheck(device: torch.device, dtype: torch.dtype) -> None:
    for last in (False, True):
        format = torch.channels_last if last else torch.contiguous_format
        images = pictures(3, 3).to(device, dtype).contiguous(memory_format=format)
        arguments = (ops.rng_state(1, 0, device), images, 15.0, 0.1, 0.2, 0.1, 0.3, 0.2, True, 1, 2, True)
        torch.library.opcheck(torch.ops.infogan_fast.transform_images.default, arguments)


def test_compiled_equals_eager(device: torch.device) -> None:
    images = pictures(4).to(device)

    def run(state: Tensor) -> tuple[Tensor, Tensor]:
        first, second = (ops.transform_images(state, images, rotation=20.0) for _ in range(2))
        return first.copies * 2, second.slants

    eager_state, compiled_state = ops.rng_state(6, 0, device), ops.rng_state(6, 0, device)
    eager = run(eager_state)
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")(compiled_state)
    assert all(torch.equal(a, b) for a, b in zip(eager, compiled, strict=True))
    assert eager_state.tolist() == compiled_state.tolist() == [6, 2]
