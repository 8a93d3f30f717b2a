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

// Sum over the warp, every lane taking part; lane 0 has it.
template <class A>
__device__ A warp_sum(A value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) value += __shfl_down_sync(kFullWarp, value, offset);
  return value;
}

}  // namespace infogan_fast
