// sample_latents' launcher for the test process.
#include "runner.h"
#include "sample_latents/kernel.cuh"

namespace {

using namespace infogan_fast;

template <class T>
void call(runner::Case& c) {
  std::int64_t* const state = c.pointer<std::int64_t>();
  LatentLayout layout{};
  layout.batch_size = c.integer();
  layout.noise_dim = c.integer();
  layout.uniform_noise = c.integer() != 0;
  const auto sizes = c.list<std::int64_t>(), kinds = c.list<std::int64_t>();
  layout.cdf = c.pointer<const float>();
  layout.samples.offset = c.integer();
  layout.samples.stride = c.integer();
  layout.advance = c.integer() != 0;
  layout.n_categorical = static_cast<std::int32_t>(sizes.size());
  layout.n_continuous = static_cast<std::int32_t>(kinds.size());
  layout.latent_dim = layout.noise_dim + layout.n_continuous;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    layout.sizes[i] = static_cast<std::int32_t>(sizes[i]);
    layout.latent_dim += sizes[i];
  }
  for (std::size_t i = 0; i < kinds.size(); ++i) layout.kinds[i] = static_cast<std::int8_t>(kinds[i]);
  T* const inputs = c.pointer<T>();
  std::int32_t* const categorical = c.pointer<std::int32_t>();
  launch_sample_latents(layout, state, inputs, categorical, c.pointer<float>(), nullptr);
}

const runner::Entry entries[] = {
    ENTRY("sample_latents/float32", call<float>),
    ENTRY("sample_latents/float64", call<double>),
    ENTRY("sample_latents/float16", call<__half>),
    ENTRY("sample_latents/bfloat16", call<__nv_bfloat16>),
};

}  // namespace
