"""Bugs planted one at a time in copies of the kernel, each with the legs that have to catch it."""

from __future__ import annotations

import functools

from cuda_on_cpu.harness import ASAN, PLAIN, TSAN
from cuda_on_cpu.patches import Mutant, Patch, of_the_step, plant

KERNEL = "transform_images/kernel.cuh"

#: The arithmetic that the CPU operator shares, which is not patched.
RULE = "transform_images/affine.h"

mutant = functools.partial(plant, KERNEL)

#: A block takes several images even of a small batch: what happens between images is tested on few threads.
SMALL_GRID = (
    Patch(KERNEL, "constexpr int kTransformMaxBlocks = 4096;", "constexpr int kTransformMaxBlocks = 3;"),
)

MUTANTS: tuple[Mutant, ...] = (
    # ---- results of a rank
    mutant("the stride is left out", "a.samples.at(image)", "a.samples.offset + image", PLAIN),
    # ---- order within a block
    mutant(
        "no barrier before the map is read",
        "    __syncthreads();\n    const Affine& affine",
        "    const Affine& affine",
        PLAIN,
        TSAN,
    ),
    mutant(
        "no barrier before the map is written again",
        "    __syncthreads();  // the next image's map is written to the same place\n",
        "",
        PLAIN,
        TSAN,
    ),
    mutant(
        "threads without a pixel leave before a barrier",
        "    __syncthreads();  // the next image's",
        "    if (thread >= a.size * a.size) return;\n    __syncthreads();  // the next image's",
        PLAIN,
    ),
    # ---- order between blocks
    *of_the_step(KERNEL),
    # ---- memory
    mutant(
        "a column past the last one is read",
        "across.at + 1 < a.size ? across.at + 1 : across.at",
        "across.at + 1",
        ASAN,
    ),
    mutant(
        "a row past the last one is read", "down.at + 1 < a.size ? down.at + 1 : down.at", "down.at + 1", ASAN
    ),
    mutant("places past the border", "along < last ? along : last", "along", ASAN, file=RULE),
    mutant(
        "places before the border",
        "along > A(0) ? (along < last ? along : last) : A(0)",
        "along",
        ASAN,
        file=RULE,
    ),
    # ---- results
    mutant("a block takes one image", "image += gridDim.x", "image += a.batch_size", PLAIN),
    mutant("the slants are not written", "      slants[image] = shared_affine[0].slant;\n", "", PLAIN),
    mutant(
        "a thread takes one pixel at most", "pixel += kTransformThreads", "pixel += a.size * a.size", PLAIN
    ),
    mutant("every image by the first one's map", "a.samples.at(image)", "0", PLAIN),
    mutant("rows and columns are mixed up", "row = pixel / a.size", "row = pixel % a.size", PLAIN),
    mutant("the upper row twice", "between(at(below, across.at)", "between(at(down.at, across.at)", PLAIN),
    mutant(
        "the shares are mixed up",
        "value = between(upper, lower, down.share)",
        "value = between(upper, lower, across.share)",
        PLAIN,
    ),
    mutant(
        "one knot for all",
        "ranges, stream, sample, thread, a.size",
        "ranges, stream, sample, 0, a.size",
        PLAIN,
    ),
    mutant("rows and columns move alike", "at + kKnots * kKnots, kKnots", "at, kKnots", PLAIN),
    mutant("knots past the end are read", "index < kKnots ? index : kKnots - 1", "index", ASAN, file=RULE),
    mutant("bent along the rows alone", "  y += down;\n", "", PLAIN),
    mutant("one gain for all channels", "affine.gains[c]", "affine.gains[0]", PLAIN),
    mutant("no gain", "a.ranges.colour > 0.0 ?", "a.ranges.colour > 1.0 ?", PLAIN),
    mutant("bright pixels are not cut", "product > A(1) ? A(1) : product", "product", PLAIN, file=RULE),
    mutant("no copy is mirrored", "draws.mirror > 0.0", "draws.mirror > 1.0", PLAIN, file=RULE),
    mutant("turned the other way", "sine = s;", "sine = -s;", PLAIN, file=RULE),
    mutant("the map is not shrunk", "cosine *= shrink;", "", PLAIN, file=RULE),
    mutant("a first guess of the angle", "fused(p * z, e, e)", "0.0", PLAIN, file=RULE),
    mutant("steep shears", "a > 1.0 ? 1.0 / a : a", "a", PLAIN, file=RULE),
)
