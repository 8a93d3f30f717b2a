// batch_norm_act's launchers for the test process.
#include "batch_norm_act/kernel.cuh"
#include "runner.h"

namespace {

using namespace infogan_fast;

NormLayout layout(runner::Case& c) {
  NormLayout a{};
  a.channels = c.integer();
  a.vectors = c.integer() != 0;
  const auto starts = c.list<std::int64_t>();
  a.parts = static_cast<std::int32_t>(starts.size()) - 1;
  for (std::size_t i = 0; i < starts.size(); ++i) a.starts[i] = starts[i];
  a.eps = c.real();
  a.momentum = c.real();
  a.slope = c.real();
  cut_into_chunks(a);
  return a;
}

template <class T, class A>
void forward(runner::Case& c) {
  const NormLayout a = layout(c);
  const T* const x = c.pointer<const T>();
  const A* const weight = c.pointer<const A>();
  const A* const bias = c.pointer<const A>();
  Running<A> running{};
  running.mean = c.pointer<A>();
  running.var = c.pointer<A>();
  running.batches = c.pointer<long long>();
  const double* const sums = c.pointer<const double>();
  T* const y = c.pointer<T>();
  A* const mean = c.pointer<A>();
  A* const rstd = c.pointer<A>();
  std::vector<A> partials(static_cast<std::size_t>(a.chunks * 2 * a.channels), A(NAN));
  launch_batch_norm_act(a, x, weight, bias, running, partials.data(), sums, y, mean, rstd, nullptr);
}

template <class T, class A>
void backward(runner::Case& c) {
  const NormLayout a = layout(c);
  const T* const grad_y = c.pointer<const T>();
  const T* const x = c.pointer<const T>();
  const A* const mean = c.pointer<const A>();
  const A* const rstd = c.pointer<const A>();
  const A* const weight = c.pointer<const A>();
  const A* const bias = c.pointer<const A>();
  const double* const sums = c.pointer<const double>();
  T* const grad_x = c.pointer<T>();
  A* const grad_weight = c.pointer<A>();
  A* const grad_bias = c.pointer<A>();
  std::vector<A> partials(static_cast<std::size_t>(a.chunks * 2 * a.channels), A(NAN));
  launch_batch_norm_act_backward(a, grad_y, x, mean, rstd, weight, bias, partials.data(), sums, grad_x, grad_weight,
                                 grad_bias, nullptr);
}

template <class T, class A>
void sums(runner::Case& c) {
  const NormLayout a = layout(c);
  const T* const x = c.pointer<const T>();
  std::vector<A> partials(static_cast<std::size_t>(a.chunks * 2 * a.channels), A(NAN));
  launch_batch_norm_act_sums(a, x, partials.data(), c.pointer<double>(), nullptr);
}

template <class T, class A>
void backward_sums(runner::Case& c) {
  const NormLayout a = layout(c);
  const T* const grad_y = c.pointer<const T>();
  const T* const x = c.pointer<const T>();
  const A* const mean = c.pointer<const A>();
  const A* const rstd = c.pointer<const A>();
  const A* const weight = c.pointer<const A>();
  const A* const bias = c.pointer<const A>();
  std::vector<A> partials(static_cast<std::size_t>(a.chunks * 2 * a.channels), A(NAN));
  launch_batch_norm_act_backward_sums(a, grad_y, x, mean, rstd, weight, bias, partials.data(), c.pointer<double>(),
                                      nullptr);
}

const runner::Entry entries[] = {
    ENTRY("batch_norm_act/float32", forward<float, float>),
    ENTRY("batch_norm_act/float64", forward<double, double>),
    ENTRY("batch_norm_act/float16", forward<__half, float>),
    ENTRY("batch_norm_act/bfloat16", forward<__nv_bfloat16, float>),
    ENTRY("batch_norm_act_backward/float32", backward<float, float>),
    ENTRY("batch_norm_act_backward/float64", backward<double, double>),
    ENTRY("batch_norm_act_backward/float16", backward<__half, float>),
    ENTRY("batch_norm_act_backward/bfloat16", backward<__nv_bfloat16, float>),
    ENTRY("batch_norm_act_sums/float32", sums<float, float>),
    ENTRY("batch_norm_act_sums/float64", sums<double, double>),
    ENTRY("batch_norm_act_sums/float16", sums<__half, float>),
    ENTRY("batch_norm_act_sums/bfloat16", sums<__nv_bfloat16, float>),
    ENTRY("batch_norm_act_backward_sums/float32", backward_sums<float, float>),
    ENTRY("batch_norm_act_backward_sums/float64", backward_sums<double, double>),
    ENTRY("batch_norm_act_backward_sums/float16", backward_sums<__half, float>),
    ENTRY("batch_norm_act_backward_sums/bfloat16", backward_sums<__nv_bfloat16, float>),
};

}  // namespace
