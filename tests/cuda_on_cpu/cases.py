"""The cases that every leg draws from: sizes around a warp and a block, dtypes, alignments, kinds of code."""

from __future__ import annotations

import torch
from cuda_on_cpu.checks import LossCase, SampleCase, Schedule

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
