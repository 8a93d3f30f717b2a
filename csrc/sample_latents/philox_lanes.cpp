#include "sample_latents/philox_lanes.h"

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

void portable(Stream stream, uint32_t sample_stride, const LaneGroup (&groups)[2], LaneWords (&words)[2]) {
  for (int group = 0; group < 2; ++group)
    for (int lane = 0; lane < kLanes; ++lane) {
      const LaneGroup& g = groups[group];
      const Words w = latent_words(stream, g.sample + static_cast<uint64_t>(lane) * sample_stride, g.purpose,
                                   g.block + (sample_stride != 0 ? 0 : lane));
      words[group][0][lane] = w.w0;
      words[group][1][lane] = w.w1;
      words[group][2][lane] = w.w2;
      words[group][3][lane] = w.w3;
    }
}

#if defined(__x86_64__)

// One 32-bit word a 64-bit lane: a product reads the low half of a lane and fills all of it, so the upper halves of the
// other words may hold anything.
struct KeySchedule {
  uint64_t key0[10], key1[10];
};

INFOGAN_FAST_INLINE KeySchedule key_schedule(Stream stream) {
  KeySchedule keys;
  for (uint32_t round = 0; round < 10; ++round) {
    keys.key0[round] = stream.key0 + round * 0x9E3779B9u;
    keys.key1[round] = stream.key1 + round * 0xBB67AE85u;
  }
  return keys;
}

INFOGAN_FAST_INLINE uint64_t purpose_and_block(const LaneGroup& group) {
  return (static_cast<uint64_t>(group.purpose) << 28) | group.block;
}

INFOGAN_FAST_AVX512 void avx512(Stream stream, uint32_t sample_stride, const LaneGroup (&groups)[2],
                                LaneWords (&words)[2]) {
  const KeySchedule keys = key_schedule(stream);
  const __m512i multiplier0 = _mm512_set1_epi64(0xD2511F53u), multiplier1 = _mm512_set1_epi64(0xCD9E8D57u);
  const __m512i step_high = _mm512_set1_epi64(stream.step_high), stride = _mm512_set1_epi64(sample_stride);
  __m512i c0[4], c1[4], c2[4], c3[4];  // two vectors of eight lanes a group
  for (int v = 0; v < 4; ++v) {
    const LaneGroup& group = groups[v / 2];
    const __m512i lane = _mm512_add_epi64(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7), _mm512_set1_epi64(v % 2 * 8));
    const __m512i none = _mm512_setzero_si512();
    c0[v] = _mm512_add_epi64(_mm512_set1_epi64(static_cast<int64_t>(group.sample)), _mm512_mul_epu32(lane, stride));
    c1[v] = _mm512_add_epi64(_mm512_set1_epi64(static_cast<int64_t>(purpose_and_block(group))),
                             sample_stride != 0 ? none : lane);
    c2[v] = _mm512_set1_epi64(stream.step_low);
    c3[v] = _mm512_or_si512(step_high, _mm512_slli_epi64(_mm512_srli_epi64(c0[v], 32), 16));
  }
  for (int round = 0; round < 10; ++round) {
    const __m512i k0 = _mm512_set1_epi64(static_cast<int64_t>(keys.key0[round]));
    const __m512i k1 = _mm512_set1_epi64(static_cast<int64_t>(keys.key1[round]));
    for (int v = 0; v < 4; ++v) {
      const __m512i product0 = _mm512_mul_epu32(c0[v], multiplier0);
      const __m512i product1 = _mm512_mul_epu32(c2[v], multiplier1);
      c0[v] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(product1, 32), c1[v], k0, 0x96);  // a ^ b ^ c
      c1[v] = product1;
      c2[v] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(product0, 32), c3[v], k1, 0x96);
      c3[v] = product0;
    }
  }
  for (int v = 0; v < 4; ++v) {
    const __m512i word[4] = {c0[v], c1[v], c2[v], c3[v]};
    for (int w = 0; w < 4; ++w)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(words[v / 2][w] + v % 2 * 8), _mm512_cvtepi64_epi32(word[w]));
  }
}

INFOGAN_FAST_AVX2 void avx2(Stream stream, uint32_t sample_stride, const LaneGroup (&groups)[2],
                            LaneWords (&words)[2]) {
  const KeySchedule keys = key_schedule(stream);
  const __m256i multiplier0 = _mm256_set1_epi64x(0xD2511F53u), multiplier1 = _mm256_set1_epi64x(0xCD9E8D57u);
  const __m256i step_high = _mm256_set1_epi64x(stream.step_high), stride = _mm256_set1_epi64x(sample_stride);
  const __m256i low_halves = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
  for (int part = 0; part < 4; ++part) {  // two vectors of four lanes at a time: more would leave the registers
    const LaneGroup& group = groups[part / 2];
    __m256i c0[2], c1[2], c2[2], c3[2];
    for (int v = 0; v < 2; ++v) {
      const int first = part % 2 * 8 + v * 4;
      const __m256i lane = _mm256_add_epi64(_mm256_setr_epi64x(0, 1, 2, 3), _mm256_set1_epi64x(first));
      const __m256i none = _mm256_setzero_si256();
      c0[v] = _mm256_add_epi64(_mm256_set1_epi64x(static_cast<int64_t>(group.sample)), _mm256_mul_epu32(lane, stride));
      c1[v] = _mm256_add_epi64(_mm256_set1_epi64x(static_cast<int64_t>(purpose_and_block(group))),
                               sample_stride != 0 ? none : lane);
      c2[v] = _mm256_set1_epi64x(stream.step_low);
      c3[v] = _mm256_or_si256(step_high, _mm256_slli_epi64(_mm256_srli_epi64(c0[v], 32), 16));
    }
    for (int round = 0; round < 10; ++round) {
      const __m256i k0 = _mm256_set1_epi64x(static_cast<int64_t>(keys.key0[round]));
      const __m256i k1 = _mm256_set1_epi64x(static_cast<int64_t>(keys.key1[round]));
      for (int v = 0; v < 2; ++v) {
        const __m256i product0 = _mm256_mul_epu32(c0[v], multiplier0);
        const __m256i product1 = _mm256_mul_epu32(c2[v], multiplier1);
        c0[v] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product1, 32), c1[v]), k0);
        c1[v] = product1;
        c2[v] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product0, 32), c3[v]), k1);
        c3[v] = product0;
      }
    }
    for (int v = 0; v < 2; ++v) {
      const __m256i word[4] = {c0[v], c1[v], c2[v], c3[v]};
      for (int w = 0; w < 4; ++w) {
        const __m256i packed = _mm256_permutevar8x32_epi32(word[w], low_halves);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(words[part / 2][w] + part % 2 * 8 + v * 4),
                         _mm256_castsi256_si128(packed));
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
