// The state of random numbers as an argument: an int64 tensor [seed, step].
#pragma once
#include "common/tensor_arguments.h"
#include "math/samples.h"

namespace infogan_fast {

constexpr int64_t kCounterLimit = int64_t{1} << 48;  // steps and samples: what fits the Philox counter

// Refuses a state that ops.rng_state() did not make.
inline void check_state(const char* op, const char* name, const Tensor& state) {
  REQUIRE(state.scalar_type() == ScalarType::Long && state.dim() == 1 && state.numel() == 2 && state.is_contiguous(),
          op, ": ", name, " must be a contiguous int64 tensor [seed, step] of shape [2], got ",
          name_of(state.scalar_type()), " of shape ", shape_of(state), "; make it with ops.rng_state(seed)");
}

// Which samples of the sequence the rows of a call are.
inline Samples check_samples(const char* op, int64_t offset, int64_t stride, int64_t rows) {
  REQUIRE(stride >= 1 && stride < (int64_t{1} << 31), op, ": sample_stride must be in [1, 2^31), got ", stride);
  REQUIRE(offset >= 0 && rows <= (kCounterLimit - 1) / stride && offset < kCounterLimit - (rows - 1) * stride, op,
          ": sample_offset must be in [0, 2^48 - rows * sample_stride], got ", offset);
  return Samples{offset, stride};
}

}  // namespace infogan_fast
