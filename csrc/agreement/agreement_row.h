// What agreement computes of one value, one entry or one row, and the factors that multiply sums. T is float (fp32,
// fp16 and bf16 answers) or double. Sums over rows have 32 lanes: lane l adds rows l, l + 32, ... in order, then the
// lanes are added in a tree, as warp_sum does. So a warp and a CPU's vectors get the same bits.
#pragma once
#include "math/log_variance.h"

namespace infogan_fast {

constexpr int kSumLanes = 32;
constexpr double kSmallestProbability = 1e-30;  // whose logarithm is taken: within float's normal numbers

// A code whose means on an image and its copy are compared.
struct Distance {
  int32_t mean_column, log_variance_column;  // -1 where the variance is fixed
  double weight;                             // of a row's slope
  double slant_change;                       // what a slant of 1 should add to the copy's mean
};

inline Distance make_distance(int64_t mean_column, int64_t log_variance_column, double weight, double slant_change,
                              int64_t pairs) {
  return Distance{static_cast<int32_t>(mean_column), static_cast<int32_t>(log_variance_column),
                  weight / static_cast<double>(pairs), slant_change};
}

// Factors of sums over the batch, in double so that every device rounds them once.
struct AgreementFactors {
  double joint;        // of the sum of p p'^T and its transpose
  double joint_ema;    // decay of the joints' average
  double balance;      // of the margins' logarithms
  double consistency;  // of a row's slope
  double smoothness;   // of a difference of probabilities
  double distance;     // of the sum of squares
};

inline AgreementFactors agreement_factors(int64_t near_rows, int64_t pairs, double consistency, double balance,
                                          double joint_ema, double smoothness) {
  const double count = static_cast<double>(pairs);
  return AgreementFactors{0.5 / count,
                          joint_ema,
                          balance / 2,
                          -consistency / count,
                          near_rows > 0 ? smoothness / static_cast<double>(near_rows) : 0.0,
                          0.5 / count};
}

// The moving average with this batch's entry; the batch's alone where the decay is 0.
template <class T>
INFOGAN_FAST_HD T averaged(T average, T entry, T decay) {
  return decay == T(0) ? entry : entry + (average - entry) * decay;
}

// The gradient scaler skips a batch that overflows; the average must not keep it.
template <class T>
INFOGAN_FAST_HD T kept(T average, T next) {
  return next - next == T(0) ? next : average;
}

template <class T>
INFOGAN_FAST_HD T log_probability(T probability) {
  const T smallest = T(kSmallestProbability);
  return logarithm(probability < smallest ? smallest : probability);
}

// (mean - copy + offset)^2 precision, and half of its derivative with respect to the mean.
template <class T>
struct Compared {
  T squared, slope;
};

template <class T>
INFOGAN_FAST_HD Compared<T> compare(T mean, T copy, T offset, T precision) {
  const T change = mean - copy + offset;
  const T slope = change * precision;
  return Compared<T>{change * slope, slope};
}

template <class T>
INFOGAN_FAST_HD T mean_precision(T log_variance, T copy) {
  return (precision_of(log_variance) + precision_of(copy)) * T(0.5);
}

}  // namespace infogan_fast
