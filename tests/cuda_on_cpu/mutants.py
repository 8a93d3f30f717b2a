"""Bugs planted one at a time in copies of the kernels, each with the legs that have to catch it."""

from __future__ import annotations

from dataclasses import dataclass

from cuda_on_cpu.harness import ASAN, PLAIN, TSAN, Build
from cuda_on_cpu.patches import Patch

SAMPLE = "cuda/sample_latents.cuh"
GATHER = "cuda/gather_images.cuh"
LOSS = "cuda/infogan_loss.cuh"
DEVICE = "cuda/device.cuh"


@dataclass(frozen=True)
class Mutant:
    """A planted bug.

    Args:
        name: what is wrong.
        operator: whose cases have to fail.
        patch: how it is planted.
        caught_by: the builds that must report it; the others may.
    """

    name: str
    operator: str
    patch: Patch
    caught_by: tuple[Build, ...]


def sample(name: str, old: str, new: str, *caught_by: Build, file: str = SAMPLE) -> Mutant:
    return Mutant(name, "sample_latents", Patch(file, old, new), caught_by)


def gather(name: str, old: str, new: str, *caught_by: Build, file: str = GATHER) -> Mutant:
    return Mutant(name, "gather_images", Patch(file, old, new), caught_by)


def loss(name: str, old: str, new: str, *caught_by: Build, file: str = LOSS) -> Mutant:
    return Mutant(name, "infogan_loss", Patch(file, old, new), caught_by)


MUTANTS = (
    # ---- order within a block
    sample(
        "no barrier before the step is read",
        "atomicAdd(state + 1, 0ull) & kStepMask;\n  __syncthreads();",
        "atomicAdd(state + 1, 0ull) & kStepMask;",
        PLAIN,
        TSAN,
    ),
    sample(
        "no barrier before the categories are read",
        "      cdf_first += size;\n    }\n    __syncthreads();",
        "      cdf_first += size;\n    }",
        PLAIN,
        TSAN,
    ),
    sample(
        "no barrier before the categories' memory is used again",
        "    __syncthreads();  // the next tile writes `index` again",
        "",
        TSAN,
    ),
    gather(
        "no barrier before the index is read",
        "      indices[row] = shared_index[0];\n    }\n    __syncthreads();",
        "      indices[row] = shared_index[0];\n    }",
        PLAIN,
        TSAN,
    ),
    gather(
        "no barrier before the index is written again",
        "    __syncthreads();  // the next image's index is written to the same place",
        "",
        PLAIN,
        TSAN,
    ),
    loss(
        "no barrier before the cleared sums are added to",
        "sums[i] = A(0);\n  __syncthreads();",
        "sums[i] = A(0);",
        TSAN,
    ),
    loss(
        "no barrier before the tile is read",
        "a.q_stride, rows, tile);\n      __syncthreads();",
        "a.q_stride, rows, tile);",
        PLAIN,
        TSAN,
    ),
    loss(
        "no barrier before the gradients leave the tile",
        "sums);\n      __syncthreads();\n      unstage",
        "sums);\n      unstage",
        PLAIN,
        TSAN,
    ),
    loss(
        "no barrier before the tile is used again",
        "      __syncthreads();  // the next tile is staged in the same place",
        "",
        TSAN,
    ),
    loss(
        "no barrier before the warps' sums are added up",
        "  __syncthreads();\n  for (int term = thread; term < a.n_terms(); term += kLossThreads) {",
        "  for (int term = thread; term < a.n_terms(); term += kLossThreads) {",
        TSAN,
    ),
    loss(
        "no barrier before the means are weighed",
        "  __syncthreads();\n  if (thread == 0) {\n    double weighted",
        "  if (thread == 0) {\n    double weighted",
        PLAIN,
        TSAN,
    ),
    loss(
        "all warps add to the first warp's sum",
        "sums[(3 + code) * kLossWarps + warp] += nll;",
        "sums[(3 + code) * kLossWarps] += nll;",
        TSAN,
    ),
    sample(
        "divergent barrier",
        "    __syncthreads();  // the next tile writes `index` again",
        "    if (row < rows) __syncthreads();",
        PLAIN,
    ),
    sample(
        "threads without a row leave before a barrier",
        "    if (row < rows) {\n      T* out",
        "    if (row >= rows) return;\n    {\n      T* out",
        PLAIN,
    ),
    gather(
        "threads without a pixel leave before a barrier",
        "    __syncthreads();  // the next image's index",
        "    if (thread >= pixels) return;\n    __syncthreads();  // the next image's index",
        PLAIN,
    ),
    # ---- warps
    loss(
        "threads without a row leave before a warp operation",
        "    const bool active = thread < rows;\n",
        "    const bool active = thread < rows;\n    if (!active) return;\n",
        PLAIN,
    ),
    loss(
        "threads without a row skip a warp operation",
        "    nll = warp_sum(nll);",
        "    if (active) nll = warp_sum(nll);",
        PLAIN,
    ),
    loss(
        "a warp operation's mask leaves a lane out",
        "kFullWarp = 0xffffffffu",
        "kFullWarp = 0x7fffffffu",
        PLAIN,
        file=DEVICE,
    ),
    loss("a warp's sum leaves lanes out", "offset = 16;", "offset = 8;", PLAIN, file=DEVICE),
    # ---- order between blocks
    sample(
        "blocks are counted without an atomic",
        "atomicAdd(state + 1, 1ull << kStepBits) >> kStepBits;",
        "state[1] >> kStepBits;\n  state[1] += 1ull << kStepBits;",
        TSAN,
        file=DEVICE,
    ),
    sample(
        "the step is read without an atomic",
        "shared_step[0] = atomicAdd(state + 1, 0ull) & kStepMask;",
        "shared_step[0] = state[1] & kStepMask;",
        TSAN,
    ),
    sample(
        "the first block to end moves the state on",
        "if (finished == gridDim.x - 1)",
        "if (finished == 0)",
        PLAIN,
        file=DEVICE,
    ),
    sample(
        "the state is moved on by a plain store",
        "atomicExch(state + 1, step + 1);",
        "state[1] = step + 1;",
        TSAN,
        file=DEVICE,
    ),
    sample("the state is not moved on", "atomicExch(state + 1, step + 1);", ";", PLAIN, file=DEVICE),
    sample("the step is read with the count of blocks in it", "0ull) & kStepMask;", "0ull);", PLAIN),
    gather(
        "the step is read without an atomic",
        "step = atomicAdd(state + 1, 0ull) & kStepMask;",
        "step = state[1] & kStepMask;",
        TSAN,
    ),
    gather("the step is read with the count of blocks in it", "0ull) & kStepMask;", "0ull);", PLAIN),
    gather("the step is not advanced", "if (advance && thread == 0) advance_step(state, step);", "", PLAIN),
    gather("the step is advanced where it must stay", "if (advance && thread", "if (thread", PLAIN),
    gather("every thread counts its block as done", "if (advance && thread == 0)", "if (advance)", PLAIN),
    # ---- memory
    loss(
        "a load one vector past the end",
        "const int32_t vectors = packed ? elements / V::kCount : 0;",
        "const int32_t vectors = packed ? elements / V::kCount + 1 : 0;",
        ASAN,
    ),
    loss(
        "vectors loaded from unaligned addresses",
        "a.q_dim && reinterpret_cast<uintptr_t>(rows_start) % 16 == 0;",
        "a.q_dim;",
        ASAN,
    ),
    loss(
        "a tile one row too small",
        "static_cast<size_t>(a.tile_rows) * static_cast<size_t>(a.staged_stride());",
        "static_cast<size_t>(a.tile_rows - 1) * static_cast<size_t>(a.staged_stride());",
        ASAN,
    ),
    gather(
        "a load past the end of the images",
        "loaded = reinterpret_cast<const Vector<uint8_t>*>(from)[i];",
        "loaded = reinterpret_cast<const Vector<uint8_t>*>(from)[i + 1];",
        PLAIN,
        ASAN,
    ),
    gather(
        "a vector over the end of an image",
        "aligned ? pixels / 16 : 0",
        "aligned ? (pixels + 15) / 16 : 0",
        ASAN,
    ),
    gather(
        "vectors loaded from unaligned addresses",
        "reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to)",
        "reinterpret_cast<uintptr_t>(to)",
        ASAN,
    ),
    gather(
        "vectors stored to unaligned addresses",
        "reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to)",
        "reinterpret_cast<uintptr_t>(from)",
        ASAN,
    ),
    gather(
        "an image's place in 32 bits",
        "images + shared_index[0] * pixels",
        "images + static_cast<int32_t>(shared_index[0] * pixels)",
        PLAIN,
        ASAN,
    ),
    sample(
        "noise written past its columns",
        "if (dimension < a.noise_dim) out",
        "out",
        ASAN,
        TSAN,
    ),
    # ---- results
    sample("an output row is not written", "    if (row < rows) {\n", "    if (row + 1 < rows) {\n", PLAIN),
    sample("tiles are skipped", "tile += gridDim.x)", "tile += gridDim.x + 1)", PLAIN),
    sample(
        "wrong stride of the Philox counter",
        "static_cast<uint32_t>(group) * kLanes +",
        "static_cast<uint32_t>(group) * kGroup +",
        PLAIN,
    ),
    gather("the indices are not written", "      indices[row] = shared_index[0];\n", "", PLAIN),
    gather("the last pixels are not written", "i < pixels;", "i < pixels && vectors == 0;", PLAIN),
    gather("a thread takes one vector at most", "i < vectors; i +=", "i < vectors; i += vectors +", PLAIN),
    gather("the first pixels of a vector over and over", "values[v * V::kCount + j]", "values[j]", PLAIN),
    gather("images are skipped", "row += gridDim.x)", "row += gridDim.x + 1)", PLAIN),
    gather("every epoch has the first one's order", "position / count, count)", "0, count)", PLAIN),
    gather("the epoch changes with the batch", "position / count, count)", "step, count)", PLAIN),
    gather(
        "the place in an epoch is the row's in the batch",
        "static_cast<uint64_t>(position % count)",
        "static_cast<uint64_t>(row % count)",
        PLAIN,
    ),
    gather("the step in 32 bits", "static_cast<int64_t>(step) *", "static_cast<int32_t>(step) *", PLAIN),
    gather(
        "values past the end of the data set are not walked on",
        "while (value >= shuffle.size);",
        "while (false);",
        PLAIN,
        ASAN,
        file="math/shuffle.h",
    ),
    loss(
        "a logit's gradient is not written",
        "    gradients[row] = Converter<G>",
        "    if (row != 32) gradients[row] = Converter<G>",
        PLAIN,
    ),
    loss(
        "wrong sign of the generator's gradient",
        "positive * b.sigmoid - negative",
        "positive * b.sigmoid + negative",
        PLAIN,
    ),
    loss(
        "a clamped log-variance gets a gradient",
        "magnitude(log_variance) > limit ? T(0) : derivative",
        "derivative",
        PLAIN,
        file="math/loss_row.h",
    ),
    loss(
        "the scale of the gradients is ignored",
        "a.weights[i] * (scale / static_cast<double>(rows))",
        "a.weights[i] * (1.0 / static_cast<double>(rows))",
        PLAIN,
    ),
)
