// The state of random numbers on a device, int64 [seed, step], which the last block of a launch moves on.
#pragma once
#include "common/launch.h"

namespace infogan_fast {

// A launch counts its finished blocks in the upper 16 bits of the state's step word; the last one clears them.
constexpr int kStepBits = 48;
constexpr unsigned long long kStepMask = (1ull << kStepBits) - 1;

// Called by one thread of each block when the block is done with the step it read: the last block to come moves the
// state on, so that no block can read the new step.
__device__ inline void advance_step(unsigned long long* state, unsigned long long step) {
  const unsigned long long finished = atomicAdd(state + 1, 1ull << kStepBits) >> kStepBits;
  if (finished == gridDim.x - 1) atomicExch(state + 1, step + 1);
}

}  // namespace infogan_fast
