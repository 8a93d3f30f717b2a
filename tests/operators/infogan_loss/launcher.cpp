// infogan_loss' launcher for the test process.
#include "infogan_loss/kernel.cuh"
#include "runner.h"

namespace {

using namespace infogan_fast;

template <class T, class A, class G>
void call(runner::Case& c) {
  LossLayout layout{};
  const T* const real = c.pointer<const T>();
  layout.real_rows = c.integer();
  layout.real_stride = c.integer();
  const T* const fake = c.pointer<const T>();
  layout.fake_rows = c.integer();
  layout.fake_stride = c.integer();
  const T* const q = c.pointer<const T>();
  layout.q_rows = c.integer();
  layout.q_stride = c.integer();
  layout.q_dim = static_cast<std::int32_t>(c.integer());
  layout.categorical = c.pointer<const std::int32_t>();
  layout.continuous = c.pointer<const float>();
  const auto sizes = c.list<std::int64_t>(), kinds = c.list<std::int64_t>();
  const auto weights = c.list<double>();
  layout.learned_variance = c.integer() != 0;
  layout.log_variance = c.real();
  layout.n_log_variances = static_cast<std::int32_t>(c.integer());
  layout.grad_scale = c.pointer<const float>();
  layout.sums = c.pointer<double>();
  const auto places = c.list<std::int64_t>();
  for (std::size_t i = 0; i < places.size(); ++i) layout.places[i] = static_cast<std::int32_t>(places[i]);
  layout.n_categorical = static_cast<std::int32_t>(sizes.size());
  layout.n_continuous = static_cast<std::int32_t>(kinds.size());
  for (std::size_t i = 0; i < sizes.size(); ++i) layout.sizes[i] = static_cast<std::int32_t>(sizes[i]);
  for (std::size_t i = 0; i < kinds.size(); ++i) layout.kinds[i] = static_cast<std::int8_t>(kinds[i]);
  for (std::size_t i = 0; i < weights.size(); ++i) layout.weights[i] = weights[i];
  G* const grad_real = c.pointer<G>();
  G* const grad_fake = c.pointer<G>();
  G* const grad_q = c.pointer<G>();
  A* const partials = c.pointer<A>();
  A* const terms = c.pointer<A>();
  launch_infogan_loss<T, A, G>(layout, loss_grid<A>(layout), real, fake, q, grad_real, grad_fake, grad_q, partials,
                               terms, c.pointer<A>(), nullptr);
}

const runner::Entry entries[] = {
    ENTRY("infogan_loss/float32", call<float, float, float>),
    ENTRY("infogan_loss/float64", call<double, double, double>),
    ENTRY("infogan_loss/float16", call<__half, float, __half>),
    ENTRY("infogan_loss/float16/float32", call<__half, float, float>),
    ENTRY("infogan_loss/bfloat16", call<__nv_bfloat16, float, __nv_bfloat16>),
    ENTRY("infogan_loss/bfloat16/float32", call<__nv_bfloat16, float, float>),
};

}  // namespace
