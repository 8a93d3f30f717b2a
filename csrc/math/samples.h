// Which samples of the one sequence the rows of a call are: the processes of a job take turns.
#pragma once
#include "math/elementary.h"

namespace infogan_fast {

struct Samples {
  int64_t offset = 0, stride = 1;

  INFOGAN_FAST_HD int64_t at(int64_t row) const { return offset + row * stride; }
};

}  // namespace infogan_fast
