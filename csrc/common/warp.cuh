// Sums over the lanes of a warp.
#pragma once
#include "common/launch.h"

namespace infogan_fast {

constexpr unsigned kFullWarp = 0xffffffffu;

// Sum over the warp, every lane taking part; lane 0 has it.
template <class A>
__device__ A warp_sum(A value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) value += __shfl_down_sync(kFullWarp, value, offset);
  return value;
}

}  // namespace infogan_fast
