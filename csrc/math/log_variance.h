// Log-variances that Q learns are clamped to +-kLogVarianceLimit wherever they are read.
#pragma once
#include "math/elementary.h"

namespace infogan_fast {

constexpr double kLogVarianceLimit = 10.0;

// 1 / variance
template <class T>
INFOGAN_FAST_HD T precision_of(T log_variance) {
  const T limit = T(kLogVarianceLimit);
  const T low = log_variance < -limit ? -limit : log_variance;
  return exponential(-(low > limit ? limit : low));
}

}  // namespace infogan_fast
