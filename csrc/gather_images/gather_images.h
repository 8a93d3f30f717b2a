// gather_images as every device sees it: the arguments checked, the outputs allocated.
#pragma once
#include "common/rng_state.h"
#include "common/tensor_arguments.h"
#include "gather_images/shuffle.h"

namespace infogan_fast {

struct GatherArguments {
  int64_t images, pixels, batch_size, rows;  // pixels: bytes of an image, all channels; rows: of the batch, gathered
  Samples samples;
};

struct GatherOutputs {
  Tensor batch, indices;
};

inline GatherArguments check_gather_images(const Tensor& order_state, const Tensor& images, int64_t batch_size,
                                           int64_t sample_offset, int64_t sample_stride) {
  check_state("gather_images", "order_state", order_state);
  REQUIRE(images.scalar_type() == ScalarType::Byte && images.dim() >= 2 && images.is_contiguous(),
          "gather_images: images must be a contiguous uint8 tensor [N, ...], got ", name_of(images.scalar_type()),
          " of shape ", shape_of(images), images.is_contiguous() ? "" : ", not contiguous");
  REQUIRE(images.numel() > 0, "gather_images: images is empty, of shape ", shape_of(images));
  REQUIRE(same_device(images, order_state), "gather_images: images and order_state must be on the same device");
  REQUIRE(batch_size > 0 && batch_size < (int64_t{1} << 31), "gather_images: batch_size must be in [1, 2^31), got ",
          batch_size);
  const Samples samples = check_samples("gather_images", sample_offset, sample_stride, 1);
  REQUIRE(sample_offset < batch_size, "gather_images: sample_offset must be below the batch_size of ", batch_size,
          ", got ", sample_offset);
  const int64_t count = images.size(0), rows = (batch_size - sample_offset - 1) / sample_stride + 1;
  return GatherArguments{count, images.numel() / count, batch_size, rows, samples};
}

inline GatherOutputs allocate_gather(const GatherArguments& a, const Tensor& images, ScalarType dtype) {
  REQUIRE(is_floating(dtype), "gather_images: dtype must be float32, float16, bfloat16 or float64, got ",
          name_of(dtype));
  std::vector<int64_t> sizes(images.sizes().begin(), images.sizes().end());
  sizes[0] = a.rows;
  return GatherOutputs{allocate(images, torch::headeronly::IntHeaderOnlyArrayRef(sizes.data(), sizes.size()), dtype),
                       allocate(images, {a.rows}, ScalarType::Long)};
}

}  // namespace infogan_fast
