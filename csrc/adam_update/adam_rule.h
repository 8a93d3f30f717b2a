// Adam (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1) for one weight, and the factors that one update needs.
#pragma once
#include "math/elementary.h"

namespace infogan_fast {

// beta^n by squaring: the same bits on every device.
INFOGAN_FAST_HD double integer_power(double beta, int64_t n) {
  double result = 1.0;
  for (double square = beta; n > 0; n >>= 1, square *= square)
    if (n & 1) result *= square;
  return result;
}

template <class A>
struct AdamFactors {
  A keep1, keep2;  // 1 - beta
  A beta2, step_size, root_scale, eps;
  A unscale;        // of the gradients
  A average_share;  // by which the moving average moves towards the weight; 0 where this update leaves it
};

// `step` counts the group's updates, this one included, and `first_step` those of the first group. The moving average
// moves in every `average_every`th of those, so many times as far, and further at first; it is the weight as long as
// that is all of the way.
template <class A>
INFOGAN_FAST_HD AdamFactors<A> adam_factors(double learning_rate, double beta1, double beta2, double eps, int64_t step,
                                            int64_t first_step, double scale, double average_decay,
                                            int64_t average_every) {
  const double correction1 = 1.0 - integer_power(beta1, step), correction2 = 1.0 - integer_power(beta2, step);
  const double early = 9.0 * static_cast<double>(average_every) / (static_cast<double>(first_step) + 10.0);
  const double late = 1.0 - integer_power(average_decay, average_every), more = early > late ? early : late;
  const double share = more < 1.0 ? more : 1.0;
  const bool moves = share == 1.0 || first_step % average_every == 0;
  return AdamFactors<A>{static_cast<A>(1.0 - beta1),
                        static_cast<A>(1.0 - beta2),
                        static_cast<A>(beta2),
                        static_cast<A>(learning_rate / correction1),
                        static_cast<A>(1.0 / sqrt(correction2)),
                        static_cast<A>(eps),
                        static_cast<A>(1.0 / scale),
                        static_cast<A>(moves ? share : 0.0)};
}

template <class A>
INFOGAN_FAST_HD void adam_rule(const AdamFactors<A>& f, A gradient, A& weight, A& exp_avg, A& exp_avg_sq) {
  const A g = gradient * f.unscale;
  exp_avg = fused(f.keep1, g - exp_avg, exp_avg);
  exp_avg_sq = fused(f.keep2 * g, g, exp_avg_sq * f.beta2);
  const A root = fused(square_root(exp_avg_sq), f.root_scale, f.eps);
  weight = fused(-f.step_size, exp_avg / root, weight);
}

// Where the share is 1, whatever the average was before, and be it NaN.
template <class A>
INFOGAN_FAST_HD A moved_average(const AdamFactors<A>& f, A weight, A average) {
  return f.average_share == A(1) ? weight : fused(f.average_share, weight - average, average);
}

}  // namespace infogan_fast
