// One row of latents: which random word becomes which element, and how. An element's value is a pure function of
// (seed, step, sample, purpose, dimension); nothing here knows about threads, blocks or batch sizes.
#pragma once
#include "math/philox.h"

namespace infogan_fast {

// A row's noise comes in groups of 64 dimensions: Philox block 16 g + lane gives dimensions 64 g + 16 w + lane for its
// words w = 0..3, so that 16 neighbouring lanes write 16 neighbouring dimensions.
constexpr int kLanes = 16;
constexpr int kGroup = 4 * kLanes;
constexpr int kMaxCodesOfAKind = 64;  // on a GPU, whose kernel parameters hold 4 KB

enum class Purpose : uint32_t { noise = 0, categorical = 1, continuous = 2, normal_code = 3, shuffle = 4 };
enum class Continuous : int64_t { uniform = 0, normal = 1, bernoulli = 2 };

// step and sample are below 2^48 (checked by the operator): their high halves share one counter word.
struct Stream {
  uint32_t key0, key1, step_low, step_high;
};

INFOGAN_FAST_HD Stream make_stream(int64_t seed, int64_t step) {
  const uint64_t s = static_cast<uint64_t>(seed), t = static_cast<uint64_t>(step);
  return Stream{static_cast<uint32_t>(s), static_cast<uint32_t>(s >> 32), static_cast<uint32_t>(t),
                static_cast<uint32_t>(t >> 32) & 0xffffu};
}

INFOGAN_FAST_HD Words latent_words(Stream stream, uint64_t sample, Purpose purpose, uint32_t block) {
  const Words counter{static_cast<uint32_t>(sample), (static_cast<uint32_t>(purpose) << 28) | block, stream.step_low,
                      stream.step_high | (static_cast<uint32_t>(sample >> 32) << 16)};
  return philox4x32(counter, stream.key0, stream.key1);
}

// U(0, 1): (k + 1/2) / 2^24 for the word's upper 24 bits k, rounded to float.
INFOGAN_FAST_HD float uniform_unit(uint32_t word) {
  return (static_cast<float>(static_cast<int32_t>(word >> 8)) + 0.5f) * 0x1p-24f;
}

// U(-1, 1): 2 (k + 1/2) / 2^24 - 1, exact in float.
INFOGAN_FAST_HD float uniform_signed(uint32_t word) {
  const int32_t odd = static_cast<int32_t>((word >> 8) << 1) + 1 - (1 << 24);
  return static_cast<float>(odd) * 0x1p-24f;
}

// Box and Muller 1958: two words, two independent N(0, 1). The angle 2 pi (k + 1/2) / 2^24 is reduced in integers, so
// the polynomials see [-pi/4, pi/4] with no error of reduction.
INFOGAN_FAST_HD void normal_pair(uint32_t radius_word, uint32_t angle_word, float& cosine, float& sine) {
  const float radius = sqrtf(-2.0f * logarithm(uniform_unit(radius_word)));
  const int32_t k = static_cast<int32_t>(angle_word >> 8);
  const int32_t quadrant = (k + (1 << 21)) >> 22;
  const int32_t offset = 2 * k + 1 - quadrant * (1 << 23);
  const float x = static_cast<float>(offset) * (1.57079633f * 0x1p-23f);
  const float z = x * x;
  float s = -0.000195173f;
  s = fused(s, z, 0.008332178f);
  s = fused(s, z, -0.16666655f);
  s = fused(s * z, x, x);
  float c = 2.4438452e-05f;
  c = fused(c, z, -0.0013887368f);
  c = fused(c, z, 0.041666646f);
  c = fused(c, z * z, fused(z, -0.5f, 1.0f));
  const bool swapped = (quadrant & 1) != 0;
  const float cos_magnitude = swapped ? s : c;
  const float sin_magnitude = swapped ? c : s;
  const bool cos_negative = ((quadrant + 1) & 2) != 0;
  const bool sin_negative = (quadrant & 2) != 0;
  cosine = radius * (cos_negative ? -cos_magnitude : cos_magnitude);
  sine = radius * (sin_negative ? -sin_magnitude : sin_magnitude);
}

// A uniform category by multiplication: the bias is below size / 2^32.
INFOGAN_FAST_HD int32_t category(uint32_t word, int32_t size) {
  return static_cast<int32_t>(high_product(word, static_cast<uint32_t>(size)));
}

// A category of a given prior: how many entries of its cumulative distribution, the last left out, are at most u.
INFOGAN_FAST_HD int32_t category(uint32_t word, int32_t size, const float* cdf) {
  const float u = uniform_unit(word);
  int32_t index = 0;
  for (int32_t k = 0; k + 1 < size; ++k) index += u >= cdf[k] ? 1 : 0;
  return index;
}

INFOGAN_FAST_HD uint32_t word_of(Words words, int index) {
  return index == 0 ? words.w0 : index == 1 ? words.w1 : index == 2 ? words.w2 : words.w3;
}

INFOGAN_FAST_HD float continuous_code(Stream stream, uint64_t sample, int code, Continuous kind) {
  if (kind == Continuous::normal) {
    const Words words = latent_words(stream, sample, Purpose::normal_code, static_cast<uint32_t>(code));
    float cosine, sine;
    normal_pair(words.w0, words.w1, cosine, sine);
    return cosine;
  }
  const uint32_t word =
      word_of(latent_words(stream, sample, Purpose::continuous, static_cast<uint32_t>(code) / 4), code % 4);
  return kind == Continuous::uniform ? uniform_signed(word) : static_cast<float>(word >> 31);
}

}  // namespace infogan_fast
