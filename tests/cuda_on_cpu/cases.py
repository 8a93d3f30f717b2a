"""The cases that every leg draws from: sizes around a warp and a block, dtypes, alignments, kinds of code."""

from __future__ import annotations

import torch
from cuda_on_cpu.checks import GatherCase, LossCase, SampleCase, Schedule

ROWS = (1, 7, 31, 33, 127, 129)
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
#: In order and in reverse, a block at a time and several at once, and at random.
SCHEDULES = (Schedule(0), Schedule(1, 3), Schedule(2, 2), Schedule(3, 8))

DEFAULT = "noise=62,cat=10,uniform=2"
MIXED = "noise=130:uniform,cat=0.5/0.3/0.2,cat=10,normal=1,bernoulli=2,uniform=5"
CATEGORICAL = "noise=0,cat=3,cat=5,cat=7,cat=2,cat=11"
CONTINUOUS = "noise=3,uniform=1,normal=2"
NOISE = "noise=65"
WIDE = "noise=1,cat=900,cat=400,uniform=2"  # rows of Q's output too wide for shared memory
MIDDLE = "noise=1,cat=100,uniform=2,bernoulli=1"  # fewer rows staged at once than a block has threads

FAR = GatherCase(3 * 2**26, 16, 33)  # a third of the images lie past 2^31 bytes


def sample_cases(dtype: torch.dtype, rows: tuple[int, ...] = ROWS) -> list[SampleCase]:
    """sample_latents: every specification, then offsets, large counters and a state that stays."""
    size = torch.empty(0, dtype=dtype).element_size()
    return [
        *(
            SampleCase(latents, n, dtype)
            for latents in (DEFAULT, MIXED, CATEGORICAL, CONTINUOUS, NOISE)
            for n in rows
        ),
        SampleCase(DEFAULT, rows[-1], dtype, seed=-1, step=2**47 + 2**33 + 1, sample_offset=2**40 + 3),
        SampleCase(MIXED, rows[-1], dtype, advance=False, offsets=(size, 4, 4)),
    ]


def gather_cases(dtype: torch.dtype) -> list[GatherCase]:
    """gather_images: whole vectors, tails and both; one image, and about a power of four of them; batches
    that run into the next epoch and through several; misaligned ends, large counters, a state that stays.
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
    ]


def loss_cases(dtype: torch.dtype, rows: tuple[int, ...] = ROWS) -> list[LossCase]:
    """infogan_loss: the D step, the G step and both; sliced, strided and misaligned inputs; every clamp."""
    size = torch.empty(0, dtype=dtype).element_size()
    last = rows[-1]
    return [
        *(LossCase(DEFAULT, n, n, n, dtype) for n in rows),
        *(LossCase(MIXED, 0, n, n, dtype, fixed_log_variance=0.5) for n in rows[::2]),
        LossCase(NOISE, last, rows[0], 0, dtype),
        LossCase(MIXED, last, 0, last, dtype, grad_scale=1024.0),
        LossCase(CATEGORICAL, 0, last, rows[-2], dtype),
        LossCase(CONTINUOUS, rows[0], 0, last, dtype, logit_stride=3),
        LossCase(DEFAULT, 0, 0, last, dtype, q_padding=5),
        LossCase(DEFAULT, last, rows[-2], last, dtype, offset=size, logit_stride=2),
        LossCase(MIDDLE, 0, 0, last, dtype),
        LossCase(MIDDLE, 0, 0, last, dtype, offset=8, q_padding=1),
        LossCase(WIDE, 0, last, rows[-2], dtype, q_padding=3),
        LossCase(MIXED, last, last, last, dtype, scale=1e4),
    ]


def mixed_precision_cases(rows: tuple[int, ...] = ROWS) -> list[LossCase]:
    """infogan_loss: half inputs with float gradients."""
    return [
        LossCase(latents, n, n, n, dtype, grad_dtype=torch.float32)
        for dtype in (torch.float16, torch.bfloat16)
        for latents in (DEFAULT, MIDDLE, WIDE)
        for n in rows[::3] + rows[-1:]
    ]
