#include "sample_latents/kernel.cuh"

#include "common/nvtx.h"
#include "common/stream.h"
#include "sample_latents/sample_latents.h"

namespace infogan_fast {
namespace {

std::tuple<Tensor, Tensor, Tensor> sample_latents_cuda(Tensor rng_state, int64_t batch_size, int64_t noise_dim,
                                                       bool uniform_noise, std::vector<int64_t> categorical_sizes,
                                                       std::vector<int64_t> continuous_kinds,
                                                       std::optional<Tensor> categorical_cdf, ScalarType dtype,
                                                       int64_t sample_offset, bool advance) {
  const SampleArguments a =
      check_sample_latents(rng_state, batch_size, noise_dim, uniform_noise, std::move(categorical_sizes),
                           std::move(continuous_kinds), categorical_cdf, sample_offset, advance);
  REQUIRE(a.sizes.size() <= kMaxCodesOfAKind && a.kinds.size() <= kMaxCodesOfAKind,
          "sample_latents: the CUDA kernel takes at most ", kMaxCodesOfAKind, " categorical and ", kMaxCodesOfAKind,
          " continuous codes, got ", a.sizes.size(), " and ", a.kinds.size());
  const Range range("sample_latents");
  const torch::stable::accelerator::DeviceGuard guard(rng_state.get_device_index());
  const SampleOutputs out = allocate_sample(a, rng_state, dtype);
  LatentLayout layout{};
  layout.batch_size = a.batch_size;
  layout.noise_dim = a.noise_dim;
  layout.latent_dim = a.latent_dim;
  layout.sample_offset = a.sample_offset;
  layout.cdf = a.cdf;
  layout.n_categorical = static_cast<int32_t>(a.sizes.size());
  layout.n_continuous = static_cast<int32_t>(a.kinds.size());
  layout.uniform_noise = a.uniform_noise;
  layout.advance = a.advance;
  for (size_t i = 0; i < a.sizes.size(); ++i) layout.sizes[i] = static_cast<int32_t>(a.sizes[i]);
  for (size_t i = 0; i < a.kinds.size(); ++i) layout.kinds[i] = static_cast<int8_t>(a.kinds[i]);

  const auto run = [&](auto* inputs) {
    launch_sample_latents(layout, static_cast<int64_t*>(rng_state.mutable_data_ptr()), inputs,
                          static_cast<int32_t*>(out.categorical.mutable_data_ptr()),
                          static_cast<float*>(out.continuous.mutable_data_ptr()),
                          current_stream(rng_state.get_device_index()));
  };
  void* inputs = out.inputs.mutable_data_ptr();
  switch (dtype) {
    case ScalarType::Float: run(static_cast<float*>(inputs)); break;
    case ScalarType::Double: run(static_cast<double*>(inputs)); break;
    case ScalarType::Half: run(static_cast<__half*>(inputs)); break;
    default: run(static_cast<__nv_bfloat16*>(inputs));
  }
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {out.inputs, out.categorical, out.continuous};
}

}  // namespace
}  // namespace infogan_fast

STABLE_TORCH_LIBRARY_IMPL(infogan_fast, CUDA, m) {
  m.impl("sample_latents", TORCH_BOX(&infogan_fast::sample_latents_cuda));
}
