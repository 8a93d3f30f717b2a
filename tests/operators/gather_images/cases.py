"""Calls of gather_images: the same bits on every device and in every order of threads."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from cuda_on_cpu.checks import ROWS, Schedule, name_of, same_bits
from cuda_on_cpu.kernels import Budget, KernelTests
from cuda_on_cpu.runner import Runner, given, poisoned, wanted
from operators.gather_images import reference
from operators.gather_images.mutants import MUTANTS, SMALL_GRID
from torch import Tensor

from infogan_fast import ops


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
    sample_offset: int = 0
    sample_stride: int = 1

    def __str__(self) -> str:
        return f"{self.rows} of {self.images}x{self.pixels} {name_of(self.dtype)}"

    @property
    def gathered(self) -> int:
        """How many images of the batch are asked for."""
        return len(range(self.sample_offset, self.rows, self.sample_stride))

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
    gathered = ops.gather_images(
        state,
        images,
        case.rows,
        dtype=case.dtype,
        sample_offset=case.sample_offset,
        sample_stride=case.sample_stride,
        advance=case.advance,
    )
    return gathered, state


@functools.cache
def _expected_gather(case: GatherCase) -> ops.Gathered:
    expected, _ = gather(case)
    samples = slice(case.sample_offset, None, case.sample_stride)
    batch, indices = reference.gather_images(gather_inputs(case), case.seed, case.step, case.rows, samples)
    same_bits(expected.indices, indices, "the CPU operator's indices")
    same_bits(expected.batch, batch.float().to(case.dtype), "the CPU operator's batch")
    return expected


def compare_gather(result: tuple[ops.Gathered, Tensor], case: GatherCase, what: str) -> None:
    """Raises AssertionError unless batch, indices and state are what is expected to the bit."""
    actual, state = result
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
            poisoned((case.gathered, case.pixels), case.dtype), poisoned((case.gathered,), torch.int64)
        )
        runner(
            f"gather_images/{name_of(case.dtype)}",
            wanted(state),
            given(images, case.offsets[0]),
            given(places),
            case.images,
            case.pixels,
            case.rows,
            case.gathered,
            case.sample_offset,
            case.sample_stride,
            int(case.advance),
            wanted(gathered.batch, case.offsets[1]),
            wanted(gathered.indices),
            seed=schedule.seed,
            resident_blocks=schedule.resident_blocks,
        )
        compare_gather((gathered, state), case, f"{case}, {schedule}: ")


FAR = GatherCase(3 * 2**26, 16, 33)  # a third of the images lie past 2^31 bytes


def gather_cases(dtype: torch.dtype, rows: tuple[int, ...] = ROWS) -> list[GatherCase]:
    """gather_images: whole vectors, tails and both; one image, and about a power of four of them; batches
    that run into the next epoch and through several; misaligned ends, large counters, a state that stays, a
    rank's share.
    """
    size = torch.empty(0, dtype=dtype).element_size()
    return [
        *(GatherCase(50, pixels, 37, dtype) for pixels in (1, 16, 31, 784)),
        *(GatherCase(count, 3, 9, dtype) for count in (1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65)),
        GatherCase(3, 257 * 16, 5, dtype),  # more vectors than a block has threads
        GatherCase(1, 129 * 16 + 5, 9, dtype),  # its rows begin on a boundary and off it
        *(GatherCase(20, 784, 9, dtype, offsets=offsets) for offsets in ((1, 0), (0, size), (8, 8))),
        GatherCase(50, 20, 33, dtype, seed=-1, step=2**40 + 3),
        GatherCase(50, 20, 33, dtype, advance=False),
        *(GatherCase(50, 20, 33, dtype, sample_offset=n, sample_stride=4) for n in (0, 3)),
    ]


KERNEL_TESTS = KernelTests(
    operator="gather_images",
    run=gather,
    compare=compare_gather,
    check=check_gather_images,
    cases=gather_cases,
    largest=(GatherCase(1000, 3, 4096 + 40),),
    far=(FAR,),
    several_tiles=(GatherCase(40, 784, 33), GatherCase(9, 31, 50, torch.bfloat16)),
    mutant_cases=(
        GatherCase(20, 31, 33),
        GatherCase(1, 2069, 9, torch.float16),
        GatherCase(7, 784, 9, offsets=(1, 0)),
        GatherCase(7, 784, 9, torch.float64, offsets=(0, 8)),
        GatherCase(20, 31, 33, sample_offset=2, sample_stride=3),
        GatherCase(50, 16, 37, torch.bfloat16, seed=-1, step=2**40 + 3, advance=False),
        FAR,
    ),
    mutants=MUTANTS,
    small_grid=SMALL_GRID,
    budgets={"gather_images_kernel": Budget(128, 1024)},
    vectorised={"gather_images_kernel": {"LDG", "STG"}},
)
