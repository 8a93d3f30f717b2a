"""Bugs planted one at a time in copies of the kernel, each with the legs that have to catch it."""

from __future__ import annotations

import functools

from cuda_on_cpu.harness import ASAN, PLAIN, TSAN
from cuda_on_cpu.patches import Mutant, Patch, plant

KERNEL = "agreement/kernel.cuh"
ROW = "agreement/agreement_row.h"

mutant = functools.partial(plant, KERNEL)

#: A block goes over a small batch several times.
SMALL_GRID = (
    Patch(KERNEL, "constexpr int kAgreementThreads = 1024;", "constexpr int kAgreementThreads = 64;"),
)

MUTANTS: tuple[Mutant, ...] = (
    mutant(
        "the shared joint of the first code",
        "static_cast<const A*>(a.batch_joints) + a.table_starts[code]",
        "static_cast<const A*>(a.batch_joints)",
        PLAIN,
    ),
    mutant("this process's joint", "if (a.batch_joints != nullptr)", "if (false)", PLAIN),
    # ---- order within the block
    mutant(
        "no barrier before the probabilities are read",
        "probabilities_of_rows(a, answers, m);\n    __syncthreads();",
        "probabilities_of_rows(a, answers, m);",
        TSAN,
    ),
    mutant(
        "no barrier before the joints are read",
        "joints_of_codes(a, m);\n    __syncthreads();",
        "joints_of_codes(a, m);",
        PLAIN,
        TSAN,
    ),
    mutant(
        "no barrier before the margins are read",
        "margins_of_codes(a, m);\n    __syncthreads();",
        "margins_of_codes(a, m);",
        PLAIN,
        TSAN,
    ),
    mutant(
        "no barrier before the tables are read",
        "information_of_rows(a, m);\n    __syncthreads();",
        "information_of_rows(a, m);",
        PLAIN,
        TSAN,
    ),
    mutant(
        "no barrier before the slopes are read",
        "slopes_of_rows(a, m);\n      __syncthreads();",
        "slopes_of_rows(a, m);",
        PLAIN,
        TSAN,
    ),
    mutant(
        "no barrier before the dots are read",
        "dots_of_rows(a, m);\n      __syncthreads();",
        "dots_of_rows(a, m);",
        PLAIN,
        TSAN,
    ),
    mutant(
        "warps without a joint's row leave before a barrier",
        "  const A balance = static_cast<A>(a.factors.balance);\n",
        "  const A balance = static_cast<A>(a.factors.balance);\n  if (threadIdx.x >= 32) return;\n",
        PLAIN,
    ),
    mutant(
        "every lane updates the joint",
        "      if (lane == 0) {\n        const int64_t here",
        "      if (lane >= 0) {\n        const int64_t here",
        PLAIN,
        TSAN,
    ),
    # ---- memory
    mutant(
        "shared memory for the tables alone",
        "(a.shared_rows ? a.row_values() : 0);\n  launch(",
        "0;\n  launch(",
        PLAIN,
        ASAN,
    ),
    mutant(
        "scratch memory without the dots",
        "2 * categories + n_categorical : categories",
        "2 * categories : categories",
        PLAIN,
        ASAN,
    ),
    mutant(
        "a row past the last one",
        "while (row < rows) {",
        "while (row <= rows) {",
        PLAIN,
        ASAN,
    ),
    mutant(
        "the slopes where the probabilities are",
        "slopes = probabilities + a.categories * a.stride();",
        "slopes = probabilities;",
        PLAIN,
        TSAN,
    ),
    mutant(
        "the rows where the tables are",
        "      shared += a.table_values();\n",
        "",
        PLAIN,
        TSAN,
    ),
    # ---- results
    mutant("a row is skipped at each turn", "row += row_step;", "row += row_step + 1;", PLAIN),
    mutant("a carried column begins at 0", "      column -= columns;\n", "      column = 0;\n", PLAIN),
    mutant("a row of a joint begins past its diagonal", "j += i - size;", "j += i - size + 1;", PLAIN),
    mutant("half of a joint", "sum += real_j[row] * copy_i[row];", "", PLAIN),
    mutant(
        "a joint is not symmetric",
        "if (i != j) update_joint(average + there",
        "if (false) update_joint(average + there",
        PLAIN,
    ),
    mutant(
        "the diagonal is averaged twice",
        "if (i != j) update_joint(average + there",
        "update_joint(average + there",
        PLAIN,
    ),
    mutant("32 pairs at most", "row < a.pairs; row += 32", "row < 32; row += 32", PLAIN, ASAN),
    mutant("the average is not kept", "*average = kept(before, next);", "", PLAIN),
    mutant(
        "margins of the first code alone",
        "at < a.categories; at += static_cast<int32_t>(blockDim.x)",
        "at < a.sizes[0]; at += static_cast<int32_t>(blockDim.x)",
        PLAIN,
    ),
    mutant("32 entries of a joint's row", "j < size; j += 32", "j < 32 && j < size; j += 32", PLAIN),
    mutant("no balance", "row[j] = pointwise - balance * independent;", "row[j] = pointwise;", PLAIN),
    mutant(
        "sums are not added to", "] += static_cast<double>(value)", "] = static_cast<double>(value)", PLAIN
    ),
    mutant("sums in the order of the metrics", "a.sums[a.places[index]] +=", "a.sums[index] +=", PLAIN),
    mutant("a metric that is left out is added", "a.places[index] >= 0", "a.places[index] >= -1", ASAN),
    mutant(
        "distances over the places of the information",
        "(a.has_joints ? a.n_categorical : 0) + i;",
        "i;",
        PLAIN,
        TSAN,
    ),
    mutant(
        "an image weighs itself",
        "(row < a.pairs ? row + a.pairs : row - a.pairs)",
        "row",
        PLAIN,
    ),
    mutant("a table read by its columns", "table[i * size + j];", "table[j * size];", PLAIN),
    mutant("near rows in the pairs", "pair_row >= 0; ++i", "pair_row >= -1000; ++i", PLAIN),
    mutant("copies move as images do", "is_copy ? -d.weight : d.weight", "d.weight", PLAIN),
    mutant(
        "the targets of the next part",
        "m.probabilities[at + a.near_rows]",
        "m.probabilities[at + a.pairs]",
        PLAIN,
    ),
    mutant("one scale for both", "from(value * second_scale)", "from(value * scale)", PLAIN),
    mutant("slants read in single precision", "a.wide_slants ?", "false ?", PLAIN),
    mutant("no slant", "offset = static_cast<A>(d.slant_change) * slant;", "offset = A(0) * slant;", PLAIN),
    mutant(
        "the image's variance alone",
        "widen(copy[d.log_variance_column])",
        "widen(row[d.log_variance_column])",
        PLAIN,
    ),
    mutant("the largest logit of the first two", "k = 1; k < size;", "k = 1; k < 2;", PLAIN),
    mutant(
        "the average's share is the batch's",
        "entry + (average - entry) * decay",
        "average + (entry - average) * decay",
        PLAIN,
        file=ROW,
    ),
)
