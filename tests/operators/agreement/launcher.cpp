// agreement's launcher for the test process.
#include <cmath>
#include <vector>

#include "agreement/kernel.cuh"
#include "runner.h"

namespace {

using namespace infogan_fast;

template <class T, class A, class G>
void call(runner::Case& c) {
  AgreementLayout layout{};
  const T* const answers = c.pointer<const T>();
  layout.row_stride = c.integer();
  layout.q_dim = static_cast<std::int32_t>(c.integer());
  layout.near_rows = static_cast<std::int32_t>(c.integer());
  layout.pairs = static_cast<std::int32_t>(c.integer());
  const auto sizes = c.list<std::int64_t>();
  layout.set_sizes(sizes.data(), static_cast<std::int32_t>(sizes.size()));
  layout.fixed_precision = std::exp(-c.real());
  layout.has_joints = c.integer() != 0;
  const double consistency = c.real(), balance = c.real(), joint_ema = c.real(), smoothness = c.real();
  layout.factors = agreement_factors(layout.near_rows, layout.pairs, consistency, balance, joint_ema, smoothness);
  const auto columns = c.list<std::int64_t>(), log_variance_columns = c.list<std::int64_t>();
  const auto weights = c.list<double>(), slant_changes = c.list<double>();
  layout.n_distances = static_cast<std::int32_t>(columns.size());
  for (std::size_t i = 0; i < columns.size(); ++i)
    layout.distances[i] =
        make_distance(columns[i], log_variance_columns[i], weights[i], slant_changes[i], layout.pairs);
  layout.slants = c.pointer<const void>();
  layout.wide_slants = c.integer() != 0;
  layout.scale = c.pointer<const float>();
  layout.second_scale = c.pointer<const float>();
  layout.sums = c.pointer<double>();
  const auto places = c.list<std::int64_t>();
  for (std::size_t i = 0; i < places.size(); ++i) layout.places[i] = static_cast<std::int32_t>(places[i]);
  layout.batch_joints = c.pointer<const void>();
  for (std::size_t code = 0; layout.has_joints && code < sizes.size(); ++code) layout.joints[code] = c.pointer<A>();
  A* const metrics = c.pointer<A>();
  G* const gradient = c.pointer<G>();
  G* const second_gradient = c.pointer<G>();
  std::vector<A> scratch(static_cast<std::size_t>(place_agreement<A>(layout)), std::nan(""));
  launch_agreement<T, A, G>(layout, answers, scratch.data(), metrics, gradient, second_gradient, nullptr);
}

const runner::Entry entries[] = {
    ENTRY("agreement/float32", call<float, float, float>),
    ENTRY("agreement/float64", call<double, double, double>),
    ENTRY("agreement/float16", call<__half, float, __half>),
    ENTRY("agreement/float16/float32", call<__half, float, float>),
    ENTRY("agreement/bfloat16", call<__nv_bfloat16, float, __nv_bfloat16>),
    ENTRY("agreement/bfloat16/float32", call<__nv_bfloat16, float, float>),
};

}  // namespace
