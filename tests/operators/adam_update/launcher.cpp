// adam_update's launcher for the test process.
#include "adam_update/kernel.cuh"
#include "runner.h"

namespace {

using namespace infogan_fast;

template <class A, class L>
void call(runner::Case& c) {
  AdamLaunch<A, L> a{};
  a.masters = c.pointer<A>();
  a.exp_avg = c.pointer<A>();
  a.exp_avg_sq = c.pointer<A>();
  a.weights = c.pointer<L>();
  a.average = c.pointer<A>();
  a.averaged = c.integer();
  a.steps = c.pointer<unsigned long long>();
  a.grad_scale = c.pointer<const float>();
  a.found_inf = c.pointer<const float>();
  const auto rates = c.list<double>();
  a.n_groups = static_cast<std::int32_t>(rates.size());
  for (std::size_t i = 0; i < rates.size(); ++i) a.learning_rates[i] = rates[i];
  a.beta1 = c.real();
  a.beta2 = c.real();
  a.eps = c.real();
  a.average_decay = c.real();
  a.average_every = c.integer();
  a.advance = true;
  a.n_tensors = static_cast<std::int32_t>(c.integer());
  for (std::int32_t i = 0; i < a.n_tensors; ++i) {
    a.gradients[i] = c.pointer<const void>();
    a.more[i] = c.pointer<const void>();
    a.places[i] = c.integer();
    a.sizes[i] = c.integer();
    a.groups[i] = static_cast<std::uint8_t>(c.integer());
    a.low[i] = c.integer() != 0;
  }
  launch_adam_update(a, nullptr);
}

const runner::Entry entries[] = {
    ENTRY("adam_update/float32", call<float, float>),
    ENTRY("adam_update/float64", call<double, double>),
    ENTRY("adam_update/float16", call<float, __half>),
    ENTRY("adam_update/bfloat16", call<float, __nv_bfloat16>),
};

}  // namespace
