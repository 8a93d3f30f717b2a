#include "adam_update/adam_update.h"
#include "adam_update/kernel.cuh"
#include "common/nvtx.h"
#include "common/stream.h"

namespace infogan_fast {
namespace {

template <class A, class L>
void run(const AdamArguments& arguments, AdamLaunch<A, L> a, cudaStream_t stream) {
  a.n_groups = static_cast<int32_t>(arguments.learning_rates.size());
  std::copy(arguments.learning_rates.begin(), arguments.learning_rates.end(), a.learning_rates);
  a.beta1 = arguments.beta1;
  a.beta2 = arguments.beta2;
  a.eps = arguments.eps;
  a.average_decay = arguments.average_decay;
  a.average_every = arguments.average_every;
  const size_t total = arguments.tensors.size();
  for (size_t first = 0; first < total; first += kAdamTensors) {
    a.n_tensors = static_cast<int32_t>(std::min<size_t>(kAdamTensors, total - first));
    a.advance = first + static_cast<size_t>(a.n_tensors) == total;
    for (int32_t i = 0; i < a.n_tensors; ++i) {
      const AdamTensor& tensor = arguments.tensors[first + static_cast<size_t>(i)];
      a.gradients[i] = tensor.gradient;
      a.more[i] = tensor.more;
      a.places[i] = tensor.place;
      a.sizes[i] = tensor.size;
      a.groups[i] = static_cast<uint8_t>(tensor.group);
      a.low[i] = tensor.low;
    }
    launch_adam_update(a, stream);
  }
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

void adam_update_cuda(Tensor masters, Tensor exp_avg, Tensor exp_avg_sq, Tensor steps, std::optional<Tensor> weights,
                      std::optional<Tensor> average, std::vector<Tensor> gradients, std::vector<int64_t> places,
                      std::vector<int64_t> groups, std::vector<double> learning_rates, double beta1, double beta2,
                      double eps, double average_decay, int64_t average_every, std::optional<Tensor> grad_scale,
                      std::optional<Tensor> found_inf) {
  const AdamArguments arguments = check_adam_update(masters, exp_avg, exp_avg_sq, steps, weights, average, gradients,
                                                    places, groups, std::move(learning_rates), beta1, beta2, eps,
                                                    average_decay, average_every, grad_scale, found_inf);
  const Range range("adam_update");
  const torch::stable::accelerator::DeviceGuard guard(masters.get_device_index());
  with_types<__half, __nv_bfloat16>(arguments.low, [&](auto low, auto master) {
    using A = decltype(master);
    using L = decltype(low);
    AdamLaunch<A, L> a{};
    a.masters = data<A>(masters);
    a.exp_avg = data<A>(exp_avg);
    a.exp_avg_sq = data<A>(exp_avg_sq);
    a.average = data<A>(average);
    a.averaged = average ? average->numel() : 0;
    a.weights = data<L>(weights);
    a.steps = data<unsigned long long>(steps);
    a.grad_scale = const_data<float>(grad_scale);
    a.found_inf = const_data<float>(found_inf);
    run(arguments, a, current_stream(masters.get_device_index()));
  });
}

}  // namespace
}  // namespace infogan_fast

STABLE_TORCH_LIBRARY_IMPL(infogan_fast, CUDA, m) { m.impl("adam_update", TORCH_BOX(&infogan_fast::adam_update_cuda)); }
