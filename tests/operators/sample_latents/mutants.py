"""Bugs planted one at a time in copies of the kernel, each with the legs that have to catch it."""

from __future__ import annotations

import functools

from cuda_on_cpu.harness import ASAN, PLAIN, TSAN
from cuda_on_cpu.patches import Mutant, Patch, plant

KERNEL = "sample_latents/kernel.cuh"
STATE = "common/rng_state.cuh"

mutant = functools.partial(plant, KERNEL)

#: A block takes several tiles even of a small batch: what happens between tiles is tested on few threads.
SMALL_GRID = (Patch(KERNEL, "constexpr int kSampleMaxBlocks = 4096;", "constexpr int kSampleMaxBlocks = 3;"),)

MUTANTS: tuple[Mutant, ...] = (
    # ---- order within a block
    mutant(
        "no barrier before the step is read",
        "atomicAdd(state + 1, 0ull) & kStepMask;\n  __syncthreads();",
        "atomicAdd(state + 1, 0ull) & kStepMask;",
        PLAIN,
        TSAN,
    ),
    mutant(
        "no barrier before the categories are read",
        "      cdf_first += size;\n    }\n    __syncthreads();",
        "      cdf_first += size;\n    }",
        PLAIN,
        TSAN,
    ),
    mutant(
        "no barrier before the categories' memory is used again",
        "    __syncthreads();  // the next tile writes `index` again",
        "",
        TSAN,
    ),
    mutant(
        "divergent barrier",
        "    __syncthreads();  // the next tile writes `index` again",
        "    if (row < rows) __syncthreads();",
        PLAIN,
    ),
    mutant(
        "threads without a row leave before a barrier",
        "    if (row < rows) {\n      T* out",
        "    if (row >= rows) return;\n    {\n      T* out",
        PLAIN,
    ),
    # ---- order between blocks
    mutant(
        "blocks are counted without an atomic",
        "atomicAdd(state + 1, 1ull << kStepBits) >> kStepBits;",
        "state[1] >> kStepBits;\n  state[1] += 1ull << kStepBits;",
        TSAN,
        file=STATE,
    ),
    mutant(
        "the step is read without an atomic",
        "shared_step[0] = atomicAdd(state + 1, 0ull) & kStepMask;",
        "shared_step[0] = state[1] & kStepMask;",
        TSAN,
    ),
    mutant(
        "the first block to end moves the state on",
        "if (finished == gridDim.x - 1)",
        "if (finished == 0)",
        PLAIN,
        file=STATE,
    ),
    mutant(
        "the state is moved on by a plain store",
        "atomicExch(state + 1, step + 1);",
        "state[1] = step + 1;",
        TSAN,
        file=STATE,
    ),
    mutant("the state is not moved on", "atomicExch(state + 1, step + 1);", ";", PLAIN, file=STATE),
    mutant("the step is read with the count of blocks in it", "0ull) & kStepMask;", "0ull);", PLAIN),
    # ---- memory
    mutant(
        "noise written past its columns",
        "if (dimension < a.noise_dim) out",
        "out",
        ASAN,
        TSAN,
    ),
    # ---- results
    mutant("an output row is not written", "    if (row < rows) {\n", "    if (row + 1 < rows) {\n", PLAIN),
    *(
        mutant(f"the stride is left out: {what}", old, new, PLAIN)
        for what, old, new in (
            ("categories", "(stream, sample(thread)", "(stream, a.samples.at(first) + thread"),
            ("noise", "(stream, sample(row)", "(stream, a.samples.at(first) + row"),
            ("other codes", "(stream, sample(in_tile)", "(stream, a.samples.at(first) + in_tile"),
        )
    ),
    mutant("tiles are skipped", "tile += gridDim.x)", "tile += gridDim.x + 1)", PLAIN),
    mutant(
        "wrong stride of the Philox counter",
        "static_cast<uint32_t>(group) * kLanes +",
        "static_cast<uint32_t>(group) * kGroup +",
        PLAIN,
    ),
)
