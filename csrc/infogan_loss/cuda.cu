#include "infogan_loss/kernel.cuh"

#include "common/nvtx.h"
#include "common/stream.h"
#include "infogan_loss/infogan_loss.h"

namespace infogan_fast {
namespace {

template <class T, class A, class G>
void run(const LossLayout& layout, const LossArguments& a, const LossOutputs& out) {
  const LossGrid grid = loss_grid<A>(layout);
  const Tensor partials = allocate(a.any_input(), {grid.partials(layout)}, out.terms.scalar_type());
  launch_infogan_loss<T, A, G>(layout, grid, const_data<T>(a.real), const_data<T>(a.fake), const_data<T>(a.q),
                               data<G>(out.grad_real), data<G>(out.grad_fake), data<G>(out.grad_q), data<A>(partials),
                               data<A>(out.terms), data<A>(out.total),
                               current_stream(a.any_input().get_device_index()));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> infogan_loss_cuda(
    std::optional<Tensor> real_logits, std::optional<Tensor> fake_logits, std::optional<Tensor> q_output,
    std::optional<Tensor> categorical, std::optional<Tensor> continuous, std::vector<int64_t> categorical_sizes,
    std::vector<int64_t> continuous_kinds, std::vector<double> weights, bool learned_variance, double log_variance,
    std::optional<Tensor> grad_scale, std::optional<ScalarType> grad_dtype, std::optional<Tensor> sums,
    std::vector<int64_t> places) {
  const LossArguments a = check_infogan_loss(
      std::move(real_logits), std::move(fake_logits), std::move(q_output), std::move(categorical),
      std::move(continuous), std::move(categorical_sizes), std::move(continuous_kinds), std::move(weights),
      learned_variance, log_variance, std::move(grad_scale), grad_dtype, std::move(sums), std::move(places));
  REQUIRE(a.n_categorical() <= kMaxCodesOfAKind && a.n_continuous() <= kMaxCodesOfAKind,
          "infogan_loss: the CUDA kernel takes at most ", kMaxCodesOfAKind, " categorical and ", kMaxCodesOfAKind,
          " continuous codes, got ", a.n_categorical(), " and ", a.n_continuous());
  REQUIRE(a.q_dim < (int64_t{1} << 24), "infogan_loss: q_output has ", a.q_dim,
          " columns; the CUDA kernel takes fewer than 2^24");
  const Range range("infogan_loss");
  const torch::stable::accelerator::DeviceGuard guard(a.any_input().get_device_index());
  const LossOutputs out = allocate_loss(a);

  LossLayout layout{};
  layout.real_rows = a.real_rows;
  layout.fake_rows = a.fake_rows;
  layout.q_rows = a.q_rows;
  layout.real_stride = a.real ? a.real->stride(0) : 0;
  layout.fake_stride = a.fake ? a.fake->stride(0) : 0;
  layout.q_stride = a.q ? a.q->stride(0) : 0;
  layout.q_dim = static_cast<int32_t>(a.q_dim);
  layout.n_categorical = static_cast<int32_t>(a.n_categorical());
  layout.n_continuous = static_cast<int32_t>(a.n_continuous());
  layout.n_log_variances = static_cast<int32_t>(a.n_log_variances);
  layout.sums = data<double>(a.sums);
  layout.learned_variance = a.learned_variance;
  layout.log_variance = a.log_variance;
  layout.grad_scale = const_data<float>(a.grad_scale);
  layout.categorical = a.q && a.n_categorical() ? const_data<int32_t>(a.categorical) : nullptr;
  layout.continuous = a.q && a.n_continuous() ? const_data<float>(a.continuous) : nullptr;
  for (size_t i = 0; i < a.weights.size(); ++i) layout.weights[i] = a.weights[i];
  for (size_t i = 0; i < a.places.size(); ++i) layout.places[i] = static_cast<int32_t>(a.places[i]);
  for (size_t i = 0; i < a.sizes.size(); ++i) layout.sizes[i] = static_cast<int32_t>(a.sizes[i]);
  for (size_t i = 0; i < a.kinds.size(); ++i) layout.kinds[i] = static_cast<int8_t>(a.kinds[i]);

  const bool wide = a.grad_dtype == ScalarType::Float;
  with_types<__half, __nv_bfloat16>(a.dtype, [&](auto value, auto accumulated) {
    using T = decltype(value);
    using A = decltype(accumulated);
    (wide ? run<T, A, A> : run<T, A, T>)(layout, a, out);
  });
  return {out.total, out.terms, out.grad_real, out.grad_fake, out.grad_q};
}

}  // namespace
}  // namespace infogan_fast

STABLE_TORCH_LIBRARY_IMPL(infogan_fast, CUDA, m) {
  m.impl("infogan_loss", TORCH_BOX(&infogan_fast::infogan_loss_cuda));
}
