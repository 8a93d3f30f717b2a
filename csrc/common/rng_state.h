// The state of random numbers as an argument: an int64 tensor [seed, step].
#pragma once
#include "common/tensor_arguments.h"

namespace infogan_fast {

constexpr int64_t kCounterLimit = int64_t{1} << 48;  // steps and samples: what fits the Philox counter

// Refuses a state that ops.rng_state() did not make.
inline void check_state(const char* op, const char* name, const Tensor& state) {
  REQUIRE(state.scalar_type() == ScalarType::Long && state.dim() == 1 && state.numel() == 2 && state.is_contiguous(),
          op, ": ", name, " must be a contiguous int64 tensor [seed, step] of shape [2], got ",
          name_of(state.scalar_type()), " of shape ", shape_of(state), "; make it with ops.rng_state(seed)");
}

}  // namespace infogan_fast
