"""Bugs planted one at a time in copies of the kernel, each with the legs that have to catch it."""

from __future__ import annotations

import functools

from cuda_on_cpu.harness import ASAN, PLAIN, TSAN
from cuda_on_cpu.patches import Mutant, Patch, plant

KERNEL = "infogan_loss/kernel.cuh"
WARP = "common/warp.cuh"

mutant = functools.partial(plant, KERNEL)

#: A block takes several tiles even of a small batch: what happens between tiles is tested on few threads.
SMALL_GRID = (
    Patch(KERNEL, "constexpr int kLossMaxBlocks = 1024;", "constexpr int kLossMaxBlocks = 3;"),
    Patch(KERNEL, "constexpr int kLoneThreads = 512;", "constexpr int kLoneThreads = 128;"),
    Patch(KERNEL, "constexpr int64_t kLoneRows = 1024;", "constexpr int64_t kLoneRows = 200;"),
)

MUTANTS: tuple[Mutant, ...] = (
    # ---- order within a block
    mutant(
        "no barrier before the cleared sums are added to",
        "sums[i] = A(0);\n  __syncthreads();",
        "sums[i] = A(0);",
        TSAN,
    ),
    mutant(
        "no barrier before the tile is read",
        "a.q_stride, rows, tile);\n      __syncthreads();",
        "a.q_stride, rows, tile);",
        PLAIN,
        TSAN,
    ),
    mutant(
        "no barrier before the gradients leave the tile",
        "sums);\n      __syncthreads();\n      unstage",
        "sums);\n      unstage",
        PLAIN,
        TSAN,
    ),
    mutant(
        "no barrier before the tile is used again",
        "      __syncthreads();  // the next tile is staged in the same place",
        "",
        TSAN,
    ),
    mutant(
        "no barrier before the warps' sums are added up",
        "  __syncthreads();\n  for (int term = thread; term < a.n_terms(); term += threads) {",
        "  for (int term = thread; term < a.n_terms(); term += threads) {",
        TSAN,
    ),
    mutant(
        "no barrier before the means are weighed",
        "report(a, term, sum, means, terms);\n  }\n  __syncthreads();",
        "report(a, term, sum, means, terms);\n  }",
        PLAIN,
        TSAN,
    ),
    mutant(
        "no barrier before a lone block weighs the means",
        "  if (gridDim.x > 1) return;\n  __syncthreads();",
        "  if (gridDim.x > 1) return;",
        PLAIN,
        TSAN,
    ),
    mutant(
        "all warps add to the first warp's sum",
        "sums[(3 + code) * warps + warp] += nll;",
        "sums[(3 + code) * warps] += nll;",
        TSAN,
    ),
    # ---- warps
    mutant(
        "threads without a row leave before a warp operation",
        "    const bool active = thread < rows;\n",
        "    const bool active = thread < rows;\n    if (!active) return;\n",
        PLAIN,
    ),
    mutant(
        "threads without a row skip a warp operation",
        "    nll = warp_sum(nll);",
        "    if (active) nll = warp_sum(nll);",
        PLAIN,
    ),
    mutant(
        "a warp operation's mask leaves a lane out",
        "kFullWarp = 0xffffffffu",
        "kFullWarp = 0x7fffffffu",
        PLAIN,
        file=WARP,
    ),
    mutant("a warp's sum leaves lanes out", "offset = 16;", "offset = 8;", PLAIN, file=WARP),
    # ---- memory
    mutant(
        "a load one vector past the end",
        "const int32_t vectors = packed ? elements / V::kCount : 0;",
        "const int32_t vectors = packed ? elements / V::kCount + 1 : 0;",
        ASAN,
    ),
    mutant(
        "vectors loaded from unaligned addresses",
        "a.q_dim && reinterpret_cast<uintptr_t>(rows_start) % 16 == 0;",
        "a.q_dim;",
        ASAN,
    ),
    mutant(
        "a tile one row too small",
        "static_cast<size_t>(tile_rows) * static_cast<size_t>(a.staged_stride());",
        "static_cast<size_t>(tile_rows - 1) * static_cast<size_t>(a.staged_stride());",
        ASAN,
    ),
    # ---- results
    mutant(
        "a lone block leaves the rows past its tile",
        "first += static_cast<int64_t>(gridDim.x) * step) {",
        "first += static_cast<int64_t>(kLossMaxBlocks) * step) {",
        PLAIN,
    ),
    mutant("sums are not added to", "a.sums[a.places[term]] += mean", "a.sums[a.places[term]] = mean", PLAIN),
    mutant("a term that is left out is added", "a.places[term] >= 0", "a.places[term] >= -1", ASAN),
    mutant(
        "log-variances over the squared errors",
        "log_variance_term = 3 + a.n_codes() + a.n_continuous;",
        "log_variance_term = 3 + a.n_codes();",
        PLAIN,
    ),
    mutant(
        "a term for the log-variance of a Bernoulli code",
        "if (kind != Continuous::bernoulli && a.learned_variance) {\n      const A log",
        "if (a.learned_variance) {\n      const A log",
        PLAIN,
    ),
    mutant(
        "the logit is read after its place holds an exponential",
        "row.exponential_again(first + k, top) * factor",
        "exponential(row.load(first + k) - top) * factor",
        PLAIN,
    ),
    mutant(
        "the sums of a lone block have no room",
        "n_terms * sizeof(double) + values * sizeof(A);",
        "values * sizeof(A);",
        ASAN,
    ),
    mutant(
        "a logit's gradient is not written",
        "    gradients[row] = Converter<G>",
        "    if (row != 32) gradients[row] = Converter<G>",
        PLAIN,
    ),
    mutant(
        "wrong sign of the generator's gradient",
        "positive * b.sigmoid - negative",
        "positive * b.sigmoid + negative",
        PLAIN,
    ),
    mutant(
        "a clamped log-variance gets a gradient",
        "magnitude(log_variance) > limit ? T(0) : derivative",
        "derivative",
        PLAIN,
        file="infogan_loss/loss_row.h",
    ),
    mutant(
        "the scale of the gradients is ignored",
        "a.weights[i] * (scale / static_cast<double>(rows))",
        "a.weights[i] * (1.0 / static_cast<double>(rows))",
        PLAIN,
    ),
)
