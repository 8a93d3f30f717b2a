// Two groups of sixteen Philox blocks at once. Compilers turn the 32 x 32 -> 64 bit product of a lane loop into a full
// 64-bit one, which costs three times as much, so this one piece is written for each instruction set; and one group
// alone would wait on its own chain of ten rounds.
#pragma once
#include "common/isa.h"
#include "math/latent_row.h"

namespace infogan_fast {

using LaneWords = uint32_t[4][kLanes];

// Lane l of a group is latent_words() of (sample, block + l) or, with a stride, of (sample + l * stride, block).
struct LaneGroup {
  uint64_t sample;
  Purpose purpose;
  uint32_t block;
};

using PhiloxLanes = void (*)(Stream stream, uint32_t sample_stride, const LaneGroup (&groups)[2],
                             LaneWords (&words)[2]);

PhiloxLanes philox_lanes(Isa isa);

}  // namespace infogan_fast
