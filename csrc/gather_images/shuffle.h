// A shuffle without a stored permutation: a keyed bijection of [0, n), so that the image at a position of an epoch is a
// pure function of (seed, epoch, position). A Feistel network permutes the next power of four; values at or past n are
// sent through again (cycle walking; Black and Rogaway 2002), four times at most on average.
#pragma once
#include "math/latent_row.h"

namespace infogan_fast {

constexpr int kShuffleRounds = 8;

struct Shuffle {
  uint64_t size;
  int half_bits;
  uint32_t keys[kShuffleRounds];
};

INFOGAN_FAST_HD Shuffle make_shuffle(int64_t seed, int64_t epoch, int64_t size) {
  Shuffle shuffle;
  shuffle.size = static_cast<uint64_t>(size);
  shuffle.half_bits = 1;
  while (shuffle.half_bits < 31 && (uint64_t{1} << (2 * shuffle.half_bits)) < shuffle.size) ++shuffle.half_bits;
  const Stream stream = make_stream(seed, epoch);
  const Words first = latent_words(stream, 0, Purpose::shuffle, 0),
              second = latent_words(stream, 0, Purpose::shuffle, 1);
  shuffle.keys[0] = first.w0;
  shuffle.keys[1] = first.w1;
  shuffle.keys[2] = first.w2;
  shuffle.keys[3] = first.w3;
  shuffle.keys[4] = second.w0;
  shuffle.keys[5] = second.w1;
  shuffle.keys[6] = second.w2;
  shuffle.keys[7] = second.w3;
  return shuffle;
}

// Any function would do; this one mixes the key and the half by two multiplications.
INFOGAN_FAST_HD uint32_t shuffle_round(uint32_t half, uint32_t key) {
  uint32_t x = (half ^ key) * 0x9E3779B1u;
  x = (x ^ (x >> 15)) * 0x85EBCA77u;
  return x ^ (x >> 13);
}

INFOGAN_FAST_HD uint64_t shuffled(const Shuffle& shuffle, uint64_t position) {
  const uint32_t mask = (uint32_t{1} << shuffle.half_bits) - 1;
  uint64_t value = position;
  do {
    uint32_t left = static_cast<uint32_t>(value >> shuffle.half_bits), right = static_cast<uint32_t>(value) & mask;
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
    for (int round = 0; round < kShuffleRounds; ++round) {
      const uint32_t next = left ^ (shuffle_round(right, shuffle.keys[round]) & mask);
      left = right;
      right = next;
    }
    value = (static_cast<uint64_t>(left) << shuffle.half_bits) | right;
  } while (value >= shuffle.size);
  return value;
}

// A pixel in [0, 1]: value / 255 rounded to the nearest float, without a division, which is a subroutine on a GPU. In
// base 256, 1 / 255 is 0.010101...: the first product is exact, and the second's rounding is too small to move the
// sum's.
INFOGAN_FAST_HD float pixel(uint8_t value) {
  const float x = static_cast<float>(value);
  return x * 0x1.01p-8f + x * 0x1.0101p-24f;
}

}  // namespace infogan_fast
