// Half types on the CPU as their bits, converted by integer arithmetic that vectorises on every instruction set.
// Rounding is to nearest, ties to even, as in PyTorch and CUDA.
#pragma once
#include "common/isa.h"
#include "math/elementary.h"

namespace infogan_fast {

// Scalars, not structs, so that a loop over lanes that stores them vectorises.
enum class BFloat16 : uint16_t {};
enum class Half : uint16_t {};

INFOGAN_FAST_INLINE uint16_t bfloat16_bits(float x) {
  const uint32_t u = float_bits(x);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

INFOGAN_FAST_INLINE uint16_t half_bits(float x) {
  const uint32_t u = float_bits(x), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
  const uint32_t normal = (a + 0xfffu + ((a >> 13) & 1u) - (112u << 23)) >> 13;
  // below 2^-14 a half counts in steps of 2^-24, the last place of a float in [0.5, 1): the addition rounds
  const uint32_t subnormal = float_bits(bits_float(a) + 0.5f) - float_bits(0.5f);
  const uint32_t finite = a < (113u << 23) ? subnormal : normal;
  const uint32_t ranged = a >= 0x477ff000u ? 0x7c00u : finite;  // 65520 and above round to infinity
  return static_cast<uint16_t>(sign | (a > 0x7f800000u ? 0x7e00u : ranged));
}

template <class T>
INFOGAN_FAST_INLINE T convert(double x);
template <>
INFOGAN_FAST_INLINE double convert<double>(double x) {
  return x;
}
template <class T>
INFOGAN_FAST_INLINE T convert(float x);
template <>
INFOGAN_FAST_INLINE float convert<float>(float x) {
  return x;
}
template <>
INFOGAN_FAST_INLINE double convert<double>(float x) {
  return x;
}
template <>
INFOGAN_FAST_INLINE BFloat16 convert<BFloat16>(float x) {
  return static_cast<BFloat16>(bfloat16_bits(x));
}
template <>
INFOGAN_FAST_INLINE Half convert<Half>(float x) {
  return static_cast<Half>(half_bits(x));
}

INFOGAN_FAST_INLINE float widen(float x) { return x; }
INFOGAN_FAST_INLINE double widen(double x) { return x; }
INFOGAN_FAST_INLINE float widen(BFloat16 x) { return bits_float(static_cast<uint32_t>(x) << 16); }
INFOGAN_FAST_INLINE float widen(Half x) {
  const uint32_t bits = static_cast<uint32_t>(x), sign = (bits & 0x8000u) << 16, a = bits & 0x7fffu;
  const float normal = bits_float((a << 13) + (112u << 23));
  const float subnormal = static_cast<float>(static_cast<int32_t>(a)) * 0x1p-24f;
  const float special = bits_float((a << 13) | 0x7f800000u);
  const float value = a >= 0x7c00u ? special : a < 0x400u ? subnormal : normal;
  return bits_float(float_bits(value) | sign);
}

}  // namespace infogan_fast
