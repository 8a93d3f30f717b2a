// Conversions of half types, which kernels only convert and never calculate with, and 128-bit vectors.
#pragma once
#include <cstdint>
#include <cstring>

#include "common/launch.h"

namespace infogan_fast {

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

// 16 bytes of a type: what one load or store of a thread moves at most.
template <class T>
struct alignas(16) Vector {
  static constexpr int kCount = 16 / sizeof(T);
  T values[kCount];
};

// One 128-bit store. By CUDA's own function, which is always one: where conversions come before them, a compiler may
// leave the words of an assignment apart.
template <class T>
__device__ void store_vector(T* to, const Vector<T>& vector) {
  uint32_t words[4];
  if constexpr (sizeof(T) == 2) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      uint16_t low, high;
      memcpy(&low, &vector.values[2 * i], sizeof low);
      memcpy(&high, &vector.values[2 * i + 1], sizeof high);
      words[i] = static_cast<uint32_t>(low) | static_cast<uint32_t>(high) << 16;
    }
  } else {
    memcpy(words, &vector, sizeof words);
  }
  __stwb(reinterpret_cast<uint4*>(to), uint4{words[0], words[1], words[2], words[3]});
}

}  // namespace infogan_fast
