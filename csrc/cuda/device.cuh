// What the kernels share: conversions of half types (which are only ever converted) and warp sums.
#pragma once
#include "../math/elementary.h"
#include "launch.h"

namespace infogan_fast {

constexpr unsigned kFullWarp = 0xffffffffu;

__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
__device__ inline float widen(__half x) { return __half2float(x); }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T>
struct Converter;
template <>
struct Converter<float> {
  __device__ static float from(float x) { return x; }
};
template <>
struct Converter<double> {
  __device__ static double from(double x) { return x; }
};
template <>
struct Converter<__half> {
  __device__ static __half from(float x) { return __float2half_rn(x); }
};
template <>
struct Converter<__nv_bfloat16> {
  __device__ static __nv_bfloat16 from(float x) { return __float2bfloat16_rn(x); }
};

// A launch counts its finished blocks in the upper 16 bits of the state's step word; the last one clears them.
constexpr int kStepBits = 48;
constexpr unsigned long long kStepMask = (1ull << kStepBits) - 1;

// Called by one thread of each block when the block is done with the step it read: the last block to come moves the
// state on, so that no block can read the new step.
__device__ inline void advance_step(unsigned long long* state, unsigned long long step) {
  const unsigned long long finished = atomicAdd(state + 1, 1ull << kStepBits) >> kStepBits;
  if (finished == gridDim.x - 1) atomicExch(state + 1, step + 1);
}

// 16 bytes of a type: what one load or store of a thread moves at most.
template <class T>
struct alignas(16) Vector {
  static constexpr int kCount = 16 / sizeof(T);
  T values[kCount];
};

// Sum over the warp, every lane taking part; lane 0 has it.
template <class A>
__device__ A warp_sum(A value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) value += __shfl_down_sync(kFullWarp, value, offset);
  return value;
}

}  // namespace infogan_fast
