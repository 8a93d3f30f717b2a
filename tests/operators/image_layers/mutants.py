"""Bugs planted one at a time in copies of the kernels, each with the legs that have to catch it."""

from __future__ import annotations

import functools

from cuda_on_cpu.harness import ASAN, PLAIN, TSAN
from cuda_on_cpu.patches import Mutant, Patch, plant

KERNEL = "image_layers/kernel.cuh"
RULE = "math/activation.h"

mutant = functools.partial(plant, KERNEL)

#: Several runs of positions a block.
SMALL_GRID = (
    Patch(KERNEL, "constexpr int kSumBlocks = 264; ", "constexpr int kSumBlocks = 3; "),
    Patch(KERNEL, "constexpr int kTotalGroups = 16; ", "constexpr int kTotalGroups = 2; "),
)

_PATCHES = "kTapsOfAll; tap += kMapsThreads / kMapsPositions)\n      patches[tap * kMapsPositions + at] = "

MUTANTS: tuple[Mutant, ...] = (
    # ---- order within a block
    mutant(
        "no barrier before the patches are read",
        "  __syncthreads();\n\n  const int lane = thread % 8 * 8",
        "\n  const int lane = thread % 8 * 8",
        PLAIN,
        TSAN,
    ),
    mutant(
        "no barrier before the next features are written",
        "    __syncthreads();\n    for (int32_t k = 0; k < depth; k += Vector",
        "    for (int32_t k = 0; k < depth; k += Vector",
        TSAN,
    ),
    mutant(
        "no barrier before the features are read",
        "    __syncthreads();\n#pragma unroll 4\n    for (int32_t k = 0",
        "#pragma unroll 4\n    for (int32_t k = 0",
        PLAIN,
        TSAN,
    ),
    mutant(
        "no barrier before patches are left where features were",
        "  for (int c = 0; c < C; ++c) {\n    __syncthreads();",
        "  for (int c = 0; c < C; ++c) {",
        TSAN,
    ),
    mutant(
        "no barrier before patches are added up",
        "    __syncthreads();\n    const A shift",
        "    const A shift",
        PLAIN,
        TSAN,
    ),
    mutant(
        "no barrier before the next run of positions",
        "    const int64_t first = tile * kRows;\n    __syncthreads();",
        "    const int64_t first = tile * kRows;",
        TSAN,
    ),
    mutant(
        "no barrier before a run of positions is read",
        "    __syncthreads();\n#pragma unroll 2",
        "#pragma unroll 2",
        PLAIN,
        TSAN,
    ),
    mutant(
        "no barrier between the groups' turns",
        "++turn) {\n    __syncthreads();",
        "++turn) {",
        TSAN,
    ),
    mutant(
        "no barrier before the warps' sums are read",
        "    __syncthreads();\n    if (thread < kFeatureTile)",
        "    if (thread < kFeatureTile)",
        TSAN,
    ),
    mutant(
        "no barrier before the partial sums leave",
        "  __syncthreads();\n  A* const to = partials",
        "  A* const to = partials",
        TSAN,
    ),
    mutant(
        "no barrier before the totals",
        "  __syncthreads();\n  if (group != 0 ||",
        "  if (group != 0 ||",
        PLAIN,
        TSAN,
    ),
    # ---- memory
    mutant("rows past the image", "row >= a.size || column < 0", "column < 0", PLAIN),
    mutant("columns before the image", "column < 0 || column", "column", PLAIN),
    mutant(
        "positions past the batch are read",
        "inside ? first + at : 0);\n    for (int tap = thread / kMapsPositions; tap < "
        + _PATCHES
        + "inside ?",
        "first + at);\n    for (int tap = thread / kMapsPositions; tap < " + _PATCHES + "true ?",
        ASAN,
    ),
    mutant(
        "positions past the batch are written",
        "    if (position >= a.positions) return;\n",
        "",
        ASAN,
    ),
    mutant("features past the last are written", "  if (feature >= a.features) return;\n", "", ASAN),
    mutant(
        "weights past the last are read",
        "feature < a.features ? static_cast<A>(widen(weight",
        "true ? static_cast<A>(widen(weight",
        ASAN,
    ),
    mutant(
        "positions above the maps",
        "row >= 0 && row < a.side && column >= 0",
        "row < a.side && column >= 0",
        PLAIN,
        ASAN,
    ),
    mutant(
        "pixels past the image",
        "pixel_row >= a.size || pixel_column >= a.size",
        "pixel_row >= a.size",
        PLAIN,
    ),
    mutant(
        "features past the last are read",
        "first + at < a.positions && first_feature + k < a.features",
        "first + at < a.positions",
        ASAN,
    ),
    # ---- results
    mutant(
        "the first tile of features again",
        "blockIdx.y) * kFeatureTile;\n  {",
        "0) * kFeatureTile;\n  {",
        PLAIN,
    ),
    mutant(
        "a whole depth of features",
        "a.features - first < kDepth ? a.features - first : kDepth",
        "kDepth",
        ASAN,
    ),
    mutant("the wrong row of a patch", "tap_row = 3 - r % 2", "tap_row = 2 + r % 2", PLAIN),
    mutant(
        "the lower positions are left out",
        "((patch[0] + patch[kRight]) + patch[kDown])",
        "((patch[0] + patch[kRight]))",
        PLAIN,
    ),
    mutant("no bias for the image", "sigmoid(sum + shift)", "sigmoid(sum)", PLAIN),
    mutant(
        "each position once for each group",
        "for (int at = group; at < kRows; at += kSumGroups)",
        "for (int at = 0; at < kRows; at += 1)",
        PLAIN,
    ),
    mutant("the groups do not add", "total = (turn == 0 ? A(0) : total)", "total = A(0)", PLAIN),
    mutant("the last row counts twice", "(row == 3 && last_row)", "row == 3", PLAIN),
    mutant("the last column does not count", " || (column == 3 && last_column)", "", PLAIN),
    mutant("blocks past the first groups are lost", "block += groups)", "block += 2 * groups)", PLAIN),
    mutant(
        "the totals of one group",
        "for (int other = 1; other < groups; ++other)",
        "for (int other = 2; other < groups; ++other)",
        PLAIN,
    ),
    mutant(
        "the slope is lost on the way back",
        "return x > A(0) ? gradient : gradient * slope;",
        "return gradient;",
        PLAIN,
        file=RULE,
    ),
    mutant("the sigmoid's slope is y", "gradient * (y * (A(1) - y))", "gradient * y", PLAIN, file=RULE),
)
