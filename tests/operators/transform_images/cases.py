"""Calls of transform_images: the same bits on every device and in every order of threads."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from cuda_on_cpu.checks import ROWS, Schedule, close, moved, name_of, same_bits
from cuda_on_cpu.kernels import Budget, KernelTests
from cuda_on_cpu.runner import Runner, given, poisoned, wanted
from operators.transform_images import reference
from operators.transform_images.mutants import MUTANTS, SMALL_GRID
from torch import Tensor

from infogan_fast import ops
from infogan_fast.objective.transformation import Transformation

#: Of a copy of this dtype: the rounding of places and, in half precision, of the result.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5, torch.float16: 5e-4, torch.bfloat16: 4e-3}
NOTHING = Transformation(0, 0, 0, 0, bend=0.0)
WILD = Transformation(120, 0.5, 1, 0.3, 0.8, 0.4, True)
UNBENT = Transformation(120, 0.5, 1, 0.3, 0.8, 0.0, True)


@dataclass(frozen=True)
class TransformCase:
    """One call of transform_images.

    Args:
        batch, channels, size: of the images.
        offset: bytes by which images and copies are misaligned.
        last: whether the images are in channels_last format.
        samples: offset and stride of the images' numbers.
    """

    batch: int
    channels: int
    size: int
    dtype: torch.dtype = torch.float32
    ranges: Transformation = WILD
    seed: int = 1234567890123
    step: int = 5
    advance: bool = True
    offset: int = 0
    last: bool = False
    samples: tuple[int, int] = (0, 1)

    def __str__(self) -> str:
        images = f"[{self.batch}, {self.channels}, {self.size}, {self.size}]"
        return f"{images} {name_of(self.dtype)} {self.ranges}"


@functools.cache
def transform_inputs(case: TransformCase) -> Tensor:
    """The images of a case, the same ones each time."""
    generator = torch.Generator().manual_seed(31)
    images = torch.rand(case.batch, case.channels, case.size, case.size, generator=generator)
    format = torch.channels_last if case.last else torch.contiguous_format
    return images.to(case.dtype).contiguous(memory_format=format)


def transform(case: TransformCase, device: str = "cpu") -> tuple[ops.Transformed, Tensor]:
    """(copies and slants, the state after them) from the operator."""
    state = ops.rng_state(case.seed, case.step, device)
    images = moved(transform_inputs(case), device, case.offset)
    offset, stride = case.samples
    result = ops.transform_images(
        state,
        images,
        **asdict(case.ranges),
        sample_offset=offset,
        sample_stride=stride,
        advance=case.advance,
    )
    return result, state


@functools.cache
def _expected(case: TransformCase) -> ops.Transformed:
    result, _ = transform(case)
    images = transform_inputs(case)
    right = reference.transformed(images, case.ranges, case.seed, case.step, case.samples)
    close(result.copies, right, TOLERANCE[case.dtype], "the CPU operator's copies")
    if case.ranges.has_slants:
        right = reference.slants(case.ranges, case.seed, case.step, case.batch, case.samples)
        close(result.slants, right, 1e-14, "the CPU operator's slants")
    return result


def compare_transform(result: tuple[ops.Transformed, Tensor], case: TransformCase, what: str) -> None:
    """Raises AssertionError unless copies, slants and state are what is expected to the bit."""
    actual, state = result
    same_bits(state.cpu(), torch.tensor([case.seed, case.step + int(case.advance)]), what + "state")
    expected = _expected(case)
    same_bits(actual.slants.cpu(), expected.slants, what + "slants")
    same_bits(actual.copies.cpu(), expected.copies, what + "copies")


def check_transform_images(runner: Runner, case: TransformCase, schedules: Sequence[Schedule]) -> None:
    """Raises AssertionError when the kernel's results differ from what is expected under any schedule."""
    images, r = transform_inputs(case), case.ranges
    for schedule in schedules:
        state = torch.tensor([case.seed, case.step])
        copies = torch.empty_like(images).copy_(poisoned(tuple(images.shape), case.dtype))
        slants = poisoned((case.batch,), torch.float64)
        runner(
            f"transform_images/{name_of(case.dtype)}",
            *(case.batch, case.channels, case.size, given(torch.tensor(images.stride()))),
            *map(float, (r.rotation, r.scale, r.shear, r.shift, r.colour, r.bend)),
            int(r.flip),
            *case.samples,
            wanted(state),
            int(case.advance),
            given(images, case.offset),
            wanted(copies, case.offset),
            wanted(slants),
            seed=schedule.seed,
            resident_blocks=schedule.resident_blocks,
        )
        compare_transform((ops.Transformed(copies, slants), state), case, f"{case}, {schedule}: ")


def transform_cases(dtype: torch.dtype, rows: tuple[int, ...] = ROWS) -> list[TransformCase]:
    """transform_images: batches, one pixel, odd sizes, colours in both formats, more pixels than threads,
    ranges by themselves, a far counter, a state that stays, a rank's share.
    """
    size = torch.empty(0, dtype=dtype).element_size()
    return [
        *(TransformCase(n, 1, 4, dtype) for n in (17, *(n for n in rows if n < 17))),
        TransformCase(2, 1, 28, dtype, Transformation()),
        TransformCase(3, 2, 1, dtype),
        TransformCase(2, 3, 17, dtype, offset=size, last=True),
        TransformCase(2, 3, 18, dtype, Transformation(15, 0.15, 0.2, 0.06, flip=True)),
        TransformCase(2, 3, 18, dtype, UNBENT, offset=size),
        TransformCase(2, 1, 28, dtype, Transformation(bend=0.1)),
        TransformCase(2, 1, 5, dtype, NOTHING),
        *(
            TransformCase(3, 1, 6, dtype, Transformation.parse(f"{name}=1"))
            for name in ("rotation", "shear", "shift", "bend")
        ),
        TransformCase(2, 1, 5, dtype, seed=-1, step=2**40 + 3),
        TransformCase(2, 1, 5, dtype, advance=False),
        TransformCase(5, 1, 5, dtype, samples=(1, 3)),
    ]


KERNEL_TESTS = KernelTests(
    operator="transform_images",
    run=transform,
    compare=compare_transform,
    check=check_transform_images,
    cases=transform_cases,
    largest=(TransformCase(4096 + 40, 1, 2),),
    several_tiles=(TransformCase(9, 1, 10), TransformCase(5, 3, 18, torch.bfloat16, last=True)),
    mutant_cases=(
        TransformCase(7, 1, 18, samples=(1, 2)),
        TransformCase(5, 3, 9, torch.bfloat16, offset=2, last=True),
        TransformCase(4, 1, 9, ranges=Transformation(bend=0.3)),
        TransformCase(4, 2, 5, ranges=Transformation(shear=3.0), seed=-1, step=2**40 + 3, advance=False),
    ),
    mutants=MUTANTS,
    small_grid=SMALL_GRID,
    budgets={"transform_images_kernel": Budget(256, 512)},
)
