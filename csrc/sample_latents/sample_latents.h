// sample_latents as every device sees it: the arguments checked, the outputs allocated.
#pragma once
#include "common/rng_state.h"
#include "common/tensor_arguments.h"
#include "math/latent_row.h"

namespace infogan_fast {

struct SampleArguments {
  int64_t batch_size, noise_dim, categories, latent_dim;
  Samples samples;
  bool uniform_noise, advance;
  std::vector<int64_t> sizes, kinds;
  const float* cdf;
};

struct SampleOutputs {
  Tensor inputs, categorical, continuous;
};

inline SampleArguments check_sample_latents(const Tensor& rng_state, int64_t batch_size, int64_t noise_dim,
                                            bool uniform_noise, std::vector<int64_t> sizes, std::vector<int64_t> kinds,
                                            const std::optional<Tensor>& cdf, int64_t sample_offset,
                                            int64_t sample_stride, bool advance) {
  check_state("sample_latents", "rng_state", rng_state);
  REQUIRE(batch_size > 0, "sample_latents: batch_size must be at least 1, got ", batch_size);
  REQUIRE(noise_dim >= 0 && noise_dim < (int64_t{1} << 28), "sample_latents: noise_dim must be in [0, 2^28), got ",
          noise_dim);
  const Samples samples = check_samples("sample_latents", sample_offset, sample_stride, batch_size);
  const int64_t categories = check_categories("sample_latents", sizes);
  for (int64_t kind : kinds)
    REQUIRE(kind >= 0 && kind <= 2,
            "sample_latents: continuous_kinds must be 0 (uniform), 1 (normal) or 2 (bernoulli), got ", kind);
  const float* cdf_data = nullptr;
  if (cdf.has_value()) {
    REQUIRE(cdf->scalar_type() == ScalarType::Float && cdf->is_contiguous() && cdf->numel() == categories,
            "sample_latents: categorical_cdf must be a contiguous float32 tensor of ", categories,
            " elements (the sum of categorical_sizes), got ", name_of(cdf->scalar_type()), " with ", cdf->numel());
    REQUIRE(same_device(*cdf, rng_state), "sample_latents: categorical_cdf and rng_state must be on the same device");
    cdf_data = const_data<float>(cdf);
  }
  const int64_t latent_dim = noise_dim + categories + static_cast<int64_t>(kinds.size());
  REQUIRE(latent_dim > 0, "sample_latents: the latents are empty: noise_dim is 0 and there are no codes");
  return SampleArguments{batch_size,    noise_dim, categories,       latent_dim,       samples,
                         uniform_noise, advance,   std::move(sizes), std::move(kinds), cdf_data};
}

inline SampleOutputs allocate_sample(const SampleArguments& a, const Tensor& rng_state, ScalarType dtype) {
  REQUIRE(is_floating(dtype), "sample_latents: dtype must be float32, float16, bfloat16 or float64, got ",
          name_of(dtype));
  return SampleOutputs{allocate(rng_state, {a.batch_size, a.latent_dim}, dtype),
                       allocate(rng_state, {a.batch_size, static_cast<int64_t>(a.sizes.size())}, ScalarType::Int),
                       allocate(rng_state, {a.batch_size, static_cast<int64_t>(a.kinds.size())}, ScalarType::Float)};
}

}  // namespace infogan_fast
