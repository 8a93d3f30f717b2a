// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): a counter-based generator, so that
// a value depends on its counter and key alone and not on who draws it.
#pragma once
#include "math/elementary.h"

namespace infogan_fast {

struct Words {
  uint32_t w0, w1, w2, w3;
};

INFOGAN_FAST_HD uint32_t high_product(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>((static_cast<uint64_t>(a) * b) >> 32);
}

INFOGAN_FAST_HD Words philox4x32(Words c, uint32_t key0, uint32_t key1) {
#if defined(__CUDA_ARCH__)
#pragma unroll
#elif defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 10
#endif
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = high_product(0xD2511F53u, c.w0), low0 = 0xD2511F53u * c.w0;
    const uint32_t high1 = high_product(0xCD9E8D57u, c.w2), low1 = 0xCD9E8D57u * c.w2;
    c = Words{high1 ^ c.w1 ^ key0, low1, high0 ^ c.w3 ^ key1, low0};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return c;
}

}  // namespace infogan_fast
