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
                                                       int64_t sample_offset, int64_t sample_stride, bool advance) {
  const SampleArguments a =
      check_sample_latents(rng_state, batch_size, noise_dim, uniform_noise, std::move(categorical_sizes),
                           std::move(continuous_kinds), categorical_cdf, sample_offset, sample_stride, advance);
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
  layout.samples = a.samples;
  layout.cdf = a.cdf;
  layout.n_categorical = static_cast<int32_t>(a.sizes.size());
  layout.n_continuous = static_cast<int32_t>(a.kinds.size());
  layout.uniform_noise = a.uniform_noise;
  layout.advance = a.advance;
  for (size_t i = 0; i < a.sizes.size(); ++i) layout.sizes[i] = static_cast<int32_t>(a.sizes[i]);
  for (size_t i = 0; i < a.kinds.size(); ++i) layout.kinds[i] = static_cast<int8_t>(a.kinds[i]);

  with_types<__half, __nv_bfloat16>(dtype, [&](auto value, auto) {
    launch_sample_latents(layout, data<int64_t>(rng_state), data<decltype(value)>(out.inputs),
                          data<int32_t>(out.categorical), data<float>(out.continuous),
                          current_stream(rng_state.get_device_index()));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {out.inputs, out.categorical, out.continuous};
}

}  // namespace
}  // namespace infogan_fast

STABLE_TORCH_LIBRARY_IMPL(infogan_fast, CUDA, m) {
  m.impl("sample_latents", TORCH_BOX(&infogan_fast::sample_latents_cuda));
}
