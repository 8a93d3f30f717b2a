// exp, log, log1p and sincos that give the same bits on a CPU lane and in a CUDA thread: fixed polynomials, every fused
// multiply-add written out (build with -ffp-contract=off and -fmad=false), no table, no branch, so that a loop over
// lanes vectorises. The float polynomials are minimax fits made for this file; double falls back on the standard
// library.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define INFOGAN_FAST_HD __host__ __device__ __forceinline__
#else
#define INFOGAN_FAST_HD inline __attribute__((always_inline))
#endif

namespace infogan_fast {

INFOGAN_FAST_HD float fused(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return fmaf(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}

INFOGAN_FAST_HD double fused(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
  return fma(a, b, c);
#else
  return __builtin_fma(a, b, c);
#endif
}

INFOGAN_FAST_HD float square_root(float x) { return sqrtf(x); }
INFOGAN_FAST_HD double square_root(double x) { return sqrt(x); }

INFOGAN_FAST_HD uint32_t float_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

INFOGAN_FAST_HD float bits_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// e^x for x <= 88, 0 below -87 (where e^x leaves the normal range); NaN stays NaN. Error below 1 ulp.
INFOGAN_FAST_HD float exponential(float x) {
  const float clamped = x < -87.0f ? -87.0f : x;
  const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer that sits in the low bits
  const float shifted = fused(clamped, 1.44269504f, shift);
  const float n = shifted - shift;
  float r = fused(n, -0.693145752f, clamped);  // ln 2 in two parts, the first with trailing zeros
  r = fused(n, -1.42860677e-6f, r);
  float p = 0.0013950603f;
  p = fused(p, r, 0.008368953f);
  p = fused(p, r, 0.041666206f);
  p = fused(p, r, 0.16666518f);
  p = fused(p, r, 0.5f);
  p = fused(p, r * r, r) + 1.0f;
  const float power = bits_float((float_bits(shifted) + 127u) << 23);
  const float result = p * power;
  return x < -87.0f ? 0.0f : result;
}
INFOGAN_FAST_HD double exponential(double x) { return exp(x); }

// ln x for normal positive x; infinity and NaN stay as they are. Error below 1 ulp.
INFOGAN_FAST_HD float logarithm(float x) {
  const uint32_t bits = float_bits(x);
  const int32_t exponent = static_cast<int32_t>(bits - 0x3f3504f3u) >> 23;  // mantissa in [sqrt(1/2), sqrt(2))
  const float m = bits_float(bits - (static_cast<uint32_t>(exponent) << 23));
  const float n = static_cast<float>(exponent);
  const float f = m - 1.0f;
  const float s = f / (2.0f + f);
  const float z = s * s;
  float p = 0.14936537f;
  p = fused(p, z, 0.19988748f);
  p = fused(p, z, 0.33333388f);
  // ln m = 2 atanh(s) = f - s (f - 2 z p); ln 2 in two parts as above
  const float tail = s * (f - 2.0f * z * p);
  const float result = fused(n, 0.693145752f, f - (tail - n * 1.42860677e-6f));
  return x <= 3.40282347e38f ? result : x;
}
INFOGAN_FAST_HD double logarithm(double x) { return log(x); }

// ln(1 + e) for e in [0, 1]. Error below 2 ulp.
INFOGAN_FAST_HD float log1p_unit(float e) {
  const float s = e / (2.0f + e);
  const float z = s * s;
  float p = 0.12150467f;
  p = fused(p, z, 0.10713829f);
  p = fused(p, z, 0.14308442f);
  p = fused(p, z, 0.19999439f);
  p = fused(p, z, 0.33333337f);
  return e - s * (e - 2.0f * z * p);
}
INFOGAN_FAST_HD double log1p_unit(double e) { return log1p(e); }

INFOGAN_FAST_HD float magnitude(float x) { return fabsf(x); }
INFOGAN_FAST_HD double magnitude(double x) { return fabs(x); }

}  // namespace infogan_fast
