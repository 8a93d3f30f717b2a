"""Bugs planted one at a time in copies of the kernels, each with the legs that have to catch it."""

from __future__ import annotations

import functools

from cuda_on_cpu.harness import ASAN, PLAIN, TSAN
from cuda_on_cpu.patches import Mutant, Patch, plant

KERNEL = "batch_norm_act/kernel.cuh"
RULE = "batch_norm_act/norm_rule.h"

mutant = functools.partial(plant, KERNEL)

#: Even parts of few rows take both kernels, and several chunks.
SMALL_GRID = (
    Patch(KERNEL, "constexpr int kNormWholeRows = 512; ", "constexpr int kNormWholeRows = 40; "),
    Patch(KERNEL, "constexpr int kNormBlocks = 264; ", "constexpr int kNormBlocks = 6; "),
)

_EACH = "for (int32_t each = 0; each < a.parts; ++each) {\n    "

MUTANTS: tuple[Mutant, ...] = (
    # ---- order within a block
    mutant(
        "no barrier before the warps' sums are added",
        "  const int thread = static_cast<int>(threadIdx.x);\n  __syncthreads();\n  if (thread < kCount",
        "  const int thread = static_cast<int>(threadIdx.x);\n  if (thread < kCount",
        PLAIN,
        TSAN,
    ),
    mutant(
        "no barrier before the totals are read",
        "    b.totals[first * kNormColumns + thread] = sum;\n  }\n  __syncthreads();",
        "    b.totals[first * kNormColumns + thread] = sum;\n  }",
        TSAN,
    ),
    mutant(
        "no barrier before the statistics are read",
        "      rstd[part * a.channels + channel] = r;\n    }\n  }\n  __syncthreads();",
        "      rstd[part * a.channels + channel] = r;\n    }\n  }",
        PLAIN,
        TSAN,
    ),
    # ---- memory
    mutant(
        "channels past the last one",
        "to[i] = i < b.count ? static_cast<A>(widen(from[i])) : A(0);",
        "to[i] = static_cast<A>(widen(from[i]));",
        ASAN,
    ),
    mutant(
        "vectors stored off their boundary",
        "T* to = values + row * a.channels + b.column;\n  if (a.vectors && b.count",
        "T* to = values + row * a.channels + b.column;\n  if (b.count",
        ASAN,
    ),
    mutant("a chunk in the next part", "end < a.starts[part + 1] ? end : a.starts[part + 1]", "end", PLAIN),
    # ---- results
    mutant("sums of half the warp", "offset < 32; offset *= 2", "offset < 16; offset *= 2", PLAIN),
    mutant(
        "squares about 0", "const A distance = values[i] - mean[i];", "const A distance = values[i];", PLAIN
    ),
    mutant(
        "chunks of one size", "sum = fused(count, distance, sum)", "sum = fused(A(64), distance, sum)", PLAIN
    ),
    mutant(
        "the distance of the chunks' means is left out",
        "squares += fused(count * distance, distance, from",
        "squares += fused(A(0), distance, from",
        PLAIN,
    ),
    mutant(
        "squares stay about the first chunk's mean",
        "fused(-rows * shift, shift, b.totals[kNormColumns + thread])",
        "b.totals[kNormColumns + thread]",
        PLAIN,
    ),
    mutant("a biased running variance", "static_cast<A>(rows - 1)", "static_cast<A>(rows)", PLAIN),
    mutant(
        "only the first part moves the statistics",
        _EACH + "const double of_each",
        _EACH.replace("a.parts", "1") + "const double of_each",
        PLAIN,
    ),
    mutant(
        "every chunk moves the statistics",
        "running.mean == nullptr || chunk != 0",
        "running.mean == nullptr",
        PLAIN,
        TSAN,
    ),
    mutant(
        "batches count calls",
        "*running.batches += a.parts;\n}\n\n// What",
        "*running.batches += 1;\n}\n\n// What",
        PLAIN,
    ),
    mutant(
        "the statistics of the first part", "mean + part * a.channels + b.column", "mean + b.column", PLAIN
    ),
    mutant(
        "gradients of the first part alone",
        _EACH + "combine_sums",
        _EACH.replace("a.parts", "1") + "combine_sums",
        PLAIN,
    ),
    mutant(
        "means over the chunk",
        "grad_x, rows, chunk_begin",
        "grad_x, static_cast<double>(a.chunk_rows), chunk_begin",
        PLAIN,
    ),
    # ---- several processes
    mutant(
        "totals are overwritten while they are read",
        "  __syncthreads();  // the totals may still be read\n",
        "",
        TSAN,
    ),
    mutant(
        "no barrier before the ranks' sums are read",
        "static_cast<A>(shared[a.channels + channel]);\n  }\n  __syncthreads();",
        "static_cast<A>(shared[a.channels + channel]);\n  }",
        PLAIN,
        TSAN,
    ),
    mutant(
        "the rows of this rank alone",
        "const double rows = shared[2 * a.channels];",
        "const double rows = static_cast<double>(a.rows_of(part));",
        PLAIN,
    ),
    mutant(
        "gradients by the rows of this rank alone",
        "return shared[2 * a.channels];",
        "return static_cast<double>(a.rows_of(part));",
        PLAIN,
    ),
    mutant(
        "the sums of the first part",
        "sums == nullptr ? nullptr : sums + part * (2 * a.channels + 1)",
        "sums",
        PLAIN,
    ),
    mutant(
        "parts written over each other",
        "double* const out = sums + part * (2 * a.channels + 1);",
        "double* const out = sums;",
        PLAIN,
        TSAN,
    ),
    mutant(
        "squares about the chunks' means",
        "kMoments ? squares + rows * value * value : squares",
        "squares",
        PLAIN,
    ),
    mutant("means instead of sums", "kMoments ? rows * value : value", "value", PLAIN),
    mutant(
        "the number of rows is not written",
        "if (blockIdx.x == 0 && thread == 0) out[2",
        "if (false) out[2",
        PLAIN,
    ),
    mutant(
        "the slope is lost on the way back",
        "return x > A(0) ? gradient : gradient * slope;",
        "return gradient;",
        PLAIN,
        file="math/activation.h",
    ),
    mutant(
        "the product's mean is left out",
        "gradient - fused(centred, mean_product, mean_gradient)",
        "gradient - mean_gradient",
        PLAIN,
        file=RULE,
    ),
)
