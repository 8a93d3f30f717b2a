// Where a tensor of four dimensions, [B, C, S, S] or [K, C, 4, 4], lies in memory: contiguous or channels_last.
#pragma once
#include "math/elementary.h"

namespace infogan_fast {

struct Strides {
  int64_t outer, channel, row, column;

  INFOGAN_FAST_HD int64_t at(int64_t index, int64_t c, int64_t r, int64_t s) const {
    return index * outer + c * channel + r * row + s * column;
  }
};

}  // namespace infogan_fast
