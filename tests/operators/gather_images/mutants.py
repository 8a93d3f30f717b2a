"""Bugs planted one at a time in copies of the kernel, each with the legs that have to catch it."""

from __future__ import annotations

import functools

from cuda_on_cpu.harness import ASAN, PLAIN, TSAN
from cuda_on_cpu.patches import Mutant, Patch, of_the_step, plant

KERNEL = "gather_images/kernel.cuh"

mutant = functools.partial(plant, KERNEL)

#: A block takes several tiles even of a small batch: what happens between tiles is tested on few threads.
SMALL_GRID = (Patch(KERNEL, "constexpr int kGatherMaxBlocks = 4096;", "constexpr int kGatherMaxBlocks = 3;"),)

MUTANTS: tuple[Mutant, ...] = (
    # ---- order within a block
    mutant(
        "no barrier before the index is read",
        "      indices[row] = shared_index[0];\n    }\n    __syncthreads();",
        "      indices[row] = shared_index[0];\n    }",
        PLAIN,
        TSAN,
    ),
    mutant(
        "no barrier before the index is written again",
        "    __syncthreads();  // the next image's index is written to the same place",
        "",
        PLAIN,
        TSAN,
    ),
    mutant(
        "threads without a pixel leave before a barrier",
        "    __syncthreads();  // the next image's index",
        "    if (thread >= pixels) return;\n    __syncthreads();  // the next image's index",
        PLAIN,
    ),
    # ---- order between blocks
    *of_the_step(KERNEL),
    # ---- memory
    mutant(
        "a load past the end of the images",
        "loaded = reinterpret_cast<const Vector<uint8_t>*>(from)[i];",
        "loaded = reinterpret_cast<const Vector<uint8_t>*>(from)[i + 1];",
        PLAIN,
        ASAN,
    ),
    mutant(
        "a vector over the end of an image",
        "aligned ? pixels / 16 : 0",
        "aligned ? (pixels + 15) / 16 : 0",
        ASAN,
    ),
    mutant(
        "vectors loaded from unaligned addresses",
        "reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to)",
        "reinterpret_cast<uintptr_t>(to)",
        ASAN,
    ),
    mutant(
        "vectors stored to unaligned addresses",
        "reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to)",
        "reinterpret_cast<uintptr_t>(from)",
        ASAN,
    ),
    mutant(
        "an image's place in 32 bits",
        "images + shared_index[0] * pixels",
        "images + static_cast<int32_t>(shared_index[0] * pixels)",
        PLAIN,
        ASAN,
    ),
    # ---- results
    mutant("the indices are not written", "      indices[row] = shared_index[0];\n", "", PLAIN),
    mutant("the last pixels are not written", "i < pixels;", "i < pixels && vectors == 0;", PLAIN),
    mutant("a thread takes one vector at most", "i < vectors; i +=", "i < vectors; i += vectors +", PLAIN),
    mutant("the first pixels of a vector over and over", "values[v * V::kCount + j]", "values[j]", PLAIN),
    mutant("images are skipped", "row += gridDim.x)", "row += gridDim.x + 1)", PLAIN),
    mutant("the stride is left out", "samples.at(row)", "samples.offset + row", PLAIN),
    mutant("a rank's share is the batch's size", "* batch_size + samples", "* rows + samples", PLAIN),
    mutant("every epoch has the first one's order", "position / count, count)", "0, count)", PLAIN),
    mutant("the epoch changes with the batch", "position / count, count)", "step, count)", PLAIN),
    mutant(
        "the place in an epoch is the row's in the batch",
        "static_cast<uint64_t>(position % count)",
        "static_cast<uint64_t>(row % count)",
        PLAIN,
    ),
    mutant("the step in 32 bits", "static_cast<int64_t>(step) *", "static_cast<int32_t>(step) *", PLAIN),
    mutant(
        "values past the end of the data set are not walked on",
        "while (value >= shuffle.size);",
        "while (false);",
        PLAIN,
        ASAN,
        file="gather_images/shuffle.h",
    ),
)
