// Sixteen Philox blocks at once. Compilers turn the 32 x 32 -> 64 bit product of a lane loop into a full 64-bit one,
// which costs three times as much, so this one piece is written for each instruction set.
#pragma once
#include "../math/latent_row.h"
#include "isa.h"

namespace infogan_fast {

using LaneWords = uint32_t[4][kLanes];

// words[w][lane] is word w of latent_words(stream, sample + lane * sample_stride, purpose, block + lane *
// block_stride).
using PhiloxLanes = void (*)(Stream stream, uint64_t sample, uint64_t sample_stride, Purpose purpose, uint32_t block,
                             uint32_t block_stride, LaneWords& words);

PhiloxLanes philox_lanes(Isa isa);

}  // namespace infogan_fast
