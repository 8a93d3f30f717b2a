"""Bugs planted one at a time in copies of the kernel, each with the legs that have to catch it."""

from __future__ import annotations

import functools

from cuda_on_cpu.harness import ASAN, PLAIN, TSAN
from cuda_on_cpu.patches import Mutant, Patch, plant

KERNEL = "adam_update/kernel.cuh"
RULE = "adam_update/adam_rule.h"

mutant = functools.partial(plant, KERNEL)

#: A block takes several chunks even of a small player.
SMALL_GRID = (Patch(KERNEL, "constexpr int kAdamMaxBlocks = 2048;", "constexpr int kAdamMaxBlocks = 2;"),)

_SECOND = "  exp_avg_sq = fused(f.keep2 * g, g, exp_avg_sq * f.beta2);\n"
_ROOT = "  const A root = fused(square_root(exp_avg_sq), f.root_scale, f.eps);\n"

MUTANTS: tuple[Mutant, ...] = (
    # ---- order within a block and between blocks
    mutant(
        "no barrier before the factors are read", "  __syncthreads();\n  int tensor", "  int tensor", TSAN
    ),
    mutant(
        "the count is read without an atomic",
        "counts[thread] = atomicAdd(a.steps + thread, 0ull) &",
        "counts[thread] = a.steps[thread] &",
        TSAN,
    ),
    mutant(
        "the count is read with the finished blocks in it",
        "counts[thread] = atomicAdd(a.steps + thread, 0ull) & kStepMask;",
        "counts[thread] = atomicAdd(a.steps + thread, 0ull);",
        PLAIN,
    ),
    mutant("every block moves the count on", "finished == gridDim.x - 1", "finished < gridDim.x", PLAIN),
    mutant("only the first group is counted", "group < a.n_groups; ++group)", "group < 1; ++group)", PLAIN),
    mutant("every thread counts its block as done", "a.advance && thread == 0", "a.advance", PLAIN),
    # ---- memory
    mutant("a gradient read past its end", "count == kAdamWidth && reinterpret", "reinterpret", ASAN),
    mutant(
        "vectors loaded from unaligned addresses",
        "count == kAdamWidth && reinterpret_cast<uintptr_t>(from) % 16 == 0",
        "count == kAdamWidth",
        ASAN,
    ),
    mutant("the last weights go past the tensor", "      if (i >= count) continue;", "", PLAIN),
    mutant("an average past its end", "count && place + i < a.averaged", "count && place < a.averaged", ASAN),
    # ---- results
    mutant("the second gradient is forgotten", "if (a.more[tensor] != nullptr)", "if (false)", PLAIN),
    mutant("an overflow is not skipped", "*a.found_inf != 0.0f", "false", PLAIN),
    mutant("gradients stay scaled", "static_cast<A>(1.0 / scale)", "A(1)", PLAIN, file=RULE),
    mutant("the first group's factors for all", "factors[a.groups[tensor]]", "factors[0]", PLAIN),
    mutant("a chunk of another tensor", "while (tensor + 1 < a.n_tensors", "if (false", PLAIN),
    mutant("low weights are not written", "nullptr) store_eight", "nullptr && false) store_eight", PLAIN),
    mutant("the moment of the step before", _SECOND + _ROOT, _ROOT + _SECOND, PLAIN, file=RULE),
    mutant("the step counts from 0", "counts[thread]) + 1", "counts[thread])", PLAIN),
    mutant(
        "the average moves in every update",
        "share == 1.0 || first_step % average_every == 0",
        "true",
        PLAIN,
        file=RULE,
    ),
    mutant(
        "the average moves as far as in one",
        "9.0 * static_cast<double>(average_every)",
        "9.0",
        PLAIN,
        file=RULE,
    ),
    mutant("the average moves past the weight", "more < 1.0 ? more : 1.0", "more", PLAIN, file=RULE),
    mutant(
        "the decay of one update",
        "integer_power(average_decay, average_every)",
        "average_decay",
        PLAIN,
        file=RULE,
    ),
    mutant("the average of the gradient", "f, a.masters[place + i], mean)", "f, g[0], mean)", PLAIN),
)
