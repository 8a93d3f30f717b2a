#include "philox_lanes.h"

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12's own _mm512_undefined_epi32()
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif

namespace infogan_fast {
namespace {

void portable(Stream stream, uint64_t sample, uint64_t sample_stride, Purpose purpose, uint32_t block,
              uint32_t block_stride, LaneWords& words) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const Words w = latent_words(stream, sample + lane * sample_stride, purpose, block + lane * block_stride);
    words[0][lane] = w.w0;
    words[1][lane] = w.w1;
    words[2][lane] = w.w2;
    words[3][lane] = w.w3;
  }
}

#if defined(__x86_64__)

// The counters of latent_words(), one a 64-bit lane: multiplication reads the low half of a lane and leaves the product
// in all of it, so the upper halves of the other words may hold anything.
struct Counters {
  alignas(64) uint64_t c0[kLanes], c1[kLanes], c3[kLanes];
};

INFOGAN_FAST_INLINE void fill(Counters& c, Stream stream, uint64_t sample, uint64_t sample_stride, Purpose purpose,
                              uint32_t block, uint32_t block_stride) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const uint64_t n = sample + lane * sample_stride;
    c.c0[lane] = n;
    c.c1[lane] = (static_cast<uint64_t>(purpose) << 28) | (block + lane * block_stride);
    c.c3[lane] = stream.step_high | (n >> 32 << 16);
  }
}

INFOGAN_FAST_AVX512 void avx512(Stream stream, uint64_t sample, uint64_t sample_stride, Purpose purpose, uint32_t block,
                                uint32_t block_stride, LaneWords& words) {
  Counters c;
  fill(c, stream, sample, sample_stride, purpose, block, block_stride);
  const __m512i multiplier0 = _mm512_set1_epi64(0xD2511F53u), multiplier1 = _mm512_set1_epi64(0xCD9E8D57u);
  __m512i c0[2], c1[2], c2[2], c3[2];
  for (int half = 0; half < 2; ++half) {
    c0[half] = _mm512_load_si512(c.c0 + 8 * half);
    c1[half] = _mm512_load_si512(c.c1 + 8 * half);
    c2[half] = _mm512_set1_epi64(stream.step_low);
    c3[half] = _mm512_load_si512(c.c3 + 8 * half);
  }
  uint32_t key0 = stream.key0, key1 = stream.key1;
  for (int round = 0; round < 10; ++round) {
    const __m512i k0 = _mm512_set1_epi64(key0), k1 = _mm512_set1_epi64(key1);
    for (int half = 0; half < 2; ++half) {
      const __m512i product0 = _mm512_mul_epu32(c0[half], multiplier0);
      const __m512i product1 = _mm512_mul_epu32(c2[half], multiplier1);
      c0[half] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(product1, 32), c1[half], k0, 0x96);  // a ^ b ^ c
      c1[half] = product1;
      c2[half] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(product0, 32), c3[half], k1, 0x96);
      c3[half] = product0;
    }
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  for (int half = 0; half < 2; ++half) {
    __m512i* const word[4] = {c0, c1, c2, c3};
    for (int w = 0; w < 4; ++w)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(words[w] + 8 * half), _mm512_cvtepi64_epi32(word[w][half]));
  }
}

INFOGAN_FAST_AVX2 void avx2(Stream stream, uint64_t sample, uint64_t sample_stride, Purpose purpose, uint32_t block,
                            uint32_t block_stride, LaneWords& words) {
  Counters c;
  fill(c, stream, sample, sample_stride, purpose, block, block_stride);
  const __m256i multiplier0 = _mm256_set1_epi64x(0xD2511F53u), multiplier1 = _mm256_set1_epi64x(0xCD9E8D57u);
  const __m256i low_halves = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
  for (int first = 0; first < kLanes; first += 8) {  // two vectors of four lanes: more would leave the registers
    __m256i c0[2], c1[2], c2[2], c3[2];
    for (int half = 0; half < 2; ++half) {
      c0[half] = _mm256_load_si256(reinterpret_cast<const __m256i*>(c.c0 + first + 4 * half));
      c1[half] = _mm256_load_si256(reinterpret_cast<const __m256i*>(c.c1 + first + 4 * half));
      c2[half] = _mm256_set1_epi64x(stream.step_low);
      c3[half] = _mm256_load_si256(reinterpret_cast<const __m256i*>(c.c3 + first + 4 * half));
    }
    uint32_t key0 = stream.key0, key1 = stream.key1;
    for (int round = 0; round < 10; ++round) {
      const __m256i k0 = _mm256_set1_epi64x(key0), k1 = _mm256_set1_epi64x(key1);
      for (int half = 0; half < 2; ++half) {
        const __m256i product0 = _mm256_mul_epu32(c0[half], multiplier0);
        const __m256i product1 = _mm256_mul_epu32(c2[half], multiplier1);
        c0[half] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product1, 32), c1[half]), k0);
        c1[half] = product1;
        c2[half] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product0, 32), c3[half]), k1);
        c3[half] = product0;
      }
      key0 += 0x9E3779B9u;
      key1 += 0xBB67AE85u;
    }
    for (int half = 0; half < 2; ++half) {
      __m256i* const word[4] = {c0, c1, c2, c3};
      for (int w = 0; w < 4; ++w) {
        const __m256i packed = _mm256_permutevar8x32_epi32(word[w][half], low_halves);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(words[w] + first + 4 * half), _mm256_castsi256_si128(packed));
      }
    }
  }
}

#endif

}  // namespace

PhiloxLanes philox_lanes(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return avx512;
  if (isa == Isa::avx2) return avx2;
#else
  (void)isa;
#endif
  return portable;
}

}  // namespace infogan_fast
