#include "batch_norm_act/batch_norm_act.h"
#include "batch_norm_act/kernel.cuh"
#include "common/nvtx.h"
#include "common/stream.h"

namespace infogan_fast {
namespace {

NormLayout layout_of(const NormArguments& a, bool aligned) {
  REQUIRE(a.channels <= int64_t{1} << 31, "batch_norm_act: the CUDA kernel takes at most 2^31 channels, got ",
          a.channels);
  NormLayout layout{};
  layout.channels = a.channels;
  layout.parts = static_cast<int32_t>(a.parts());
  layout.vectors = aligned && a.channels % kNormWidth == 0;
  layout.eps = a.eps;
  layout.momentum = a.momentum;
  layout.slope = a.slope;
  std::copy(a.starts.begin(), a.starts.end(), layout.starts);
  cut_into_chunks(layout);
  return layout;
}

Tensor partials_of(const NormLayout& layout, const NormArguments& a, const Tensor& x, bool needed) {
  return allocate(x, {needed ? layout.chunks * 2 * layout.channels : 0}, a.accumulated);
}

std::tuple<Tensor, Tensor, Tensor> batch_norm_act_cuda(Tensor x, Tensor weight, Tensor bias,
                                                       std::optional<Tensor> running_mean,
                                                       std::optional<Tensor> running_var, std::optional<Tensor> batches,
                                                       std::vector<int64_t> parts, double eps, double momentum,
                                                       double slope, std::optional<Tensor> sums) {
  const NormArguments a =
      check_norm_forward(x, weight, bias, running_mean, running_var, batches, parts, eps, momentum, slope, sums);
  const Range range("batch_norm_act");
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const NormOutputs out = allocate_norm(a, x);
  const NormLayout layout = layout_of(a, on_boundary(x) && on_boundary(out.y));
  const Tensor partials = partials_of(layout, a, x, !sums && !norm_is_whole(layout));
  with_types<__half, __nv_bfloat16>(a.dtype, [&](auto value, auto accumulated) {
    using T = decltype(value);
    using A = decltype(accumulated);
    Running<A> running{};
    if (running_mean) running = Running<A>{data<A>(*running_mean), data<A>(*running_var), data<long long>(batches)};
    launch_batch_norm_act(layout, const_data<T>(x), const_data<A>(weight), const_data<A>(bias), running,
                          data<A>(partials), const_data<double>(sums), data<T>(out.y), data<A>(out.mean),
                          data<A>(out.rstd), current_stream(x.get_device_index()));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {out.y, out.mean, out.rstd};
}

std::tuple<Tensor, Tensor, Tensor> batch_norm_act_backward_cuda(Tensor grad_y, Tensor x, Tensor mean, Tensor rstd,
                                                                Tensor weight, Tensor bias, std::vector<int64_t> parts,
                                                                double slope, bool of_weights,
                                                                std::optional<Tensor> sums) {
  const NormArguments a = check_norm_gradients(grad_y, x, mean, rstd, weight, bias, parts, slope, of_weights, sums);
  const Range range("batch_norm_act_backward");
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const NormGradients out = allocate_norm_gradients(a, x, of_weights);
  const NormLayout layout = layout_of(a, on_boundary(x) && on_boundary(grad_y) && on_boundary(out.x));
  const Tensor partials = partials_of(layout, a, x, !sums && !norm_is_whole(layout));
  with_types<__half, __nv_bfloat16>(a.dtype, [&](auto value, auto accumulated) {
    using T = decltype(value);
    using A = decltype(accumulated);
    launch_batch_norm_act_backward(layout, const_data<T>(grad_y), const_data<T>(x), const_data<A>(mean),
                                   const_data<A>(rstd), const_data<A>(weight), const_data<A>(bias), data<A>(partials),
                                   const_data<double>(sums), data<T>(out.x), of_weights ? data<A>(out.weight) : nullptr,
                                   of_weights ? data<A>(out.bias) : nullptr, current_stream(x.get_device_index()));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {out.x, out.weight, out.bias};
}

Tensor batch_norm_act_sums_cuda(Tensor x, std::vector<int64_t> parts) {
  const NormArguments a = check_norm_rows(x, parts, true);
  const Range range("batch_norm_act_sums");
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const Tensor sums = allocate_norm_sums(a, x);
  const NormLayout layout = layout_of(a, on_boundary(x));
  const Tensor partials = partials_of(layout, a, x, true);
  with_types<__half, __nv_bfloat16>(a.dtype, [&](auto value, auto accumulated) {
    launch_batch_norm_act_sums(layout, const_data<decltype(value)>(x), data<decltype(accumulated)>(partials),
                               data<double>(sums), current_stream(x.get_device_index()));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return sums;
}

Tensor batch_norm_act_backward_sums_cuda(Tensor grad_y, Tensor x, Tensor mean, Tensor rstd, Tensor weight, Tensor bias,
                                         std::vector<int64_t> parts, double slope) {
  const NormArguments a = check_norm_backward(grad_y, x, mean, rstd, weight, bias, parts, slope, std::nullopt, true);
  const Range range("batch_norm_act_backward_sums");
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const Tensor sums = allocate_norm_sums(a, x);
  const NormLayout layout = layout_of(a, on_boundary(x) && on_boundary(grad_y));
  const Tensor partials = partials_of(layout, a, x, true);
  with_types<__half, __nv_bfloat16>(a.dtype, [&](auto value, auto accumulated) {
    using T = decltype(value);
    using A = decltype(accumulated);
    launch_batch_norm_act_backward_sums(layout, const_data<T>(grad_y), const_data<T>(x), const_data<A>(mean),
                                        const_data<A>(rstd), const_data<A>(weight), const_data<A>(bias),
                                        data<A>(partials), data<double>(sums), current_stream(x.get_device_index()));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return sums;
}

}  // namespace
}  // namespace infogan_fast

STABLE_TORCH_LIBRARY_IMPL(infogan_fast, CUDA, m) {
  m.impl("batch_norm_act", TORCH_BOX(&infogan_fast::batch_norm_act_cuda));
  m.impl("batch_norm_act_backward", TORCH_BOX(&infogan_fast::batch_norm_act_backward_cuda));
  m.impl("batch_norm_act_sums", TORCH_BOX(&infogan_fast::batch_norm_act_sums_cuda));
  m.impl("batch_norm_act_backward_sums", TORCH_BOX(&infogan_fast::batch_norm_act_backward_sums_cuda));
}
