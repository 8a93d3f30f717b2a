// transform_images as every device sees it: the arguments checked, the outputs allocated.
#pragma once
#include "common/rng_state.h"
#include "common/tensor_arguments.h"
#include "transform_images/affine.h"

namespace infogan_fast {

struct TransformArguments {
  int64_t batch_size, channels, size;
  Strides strides;
  TransformRanges ranges;
  Samples samples;
};

struct TransformOutputs {
  Tensor copies, slants;
};

inline TransformArguments check_transform_images(const Tensor& rng_state, const Tensor& images, double rotation,
                                                 double scale, double shear, double shift, double colour, double bend,
                                                 bool flip, int64_t sample_offset, int64_t sample_stride) {
  check_state("transform_images", "rng_state", rng_state);
  REQUIRE(is_floating(images.scalar_type()),
          "transform_images: images must be float32, float16, bfloat16 or float64, got ",
          name_of(images.scalar_type()));
  REQUIRE(images.dim() == 4 && images.size(2) == images.size(3) && images.numel() > 0 && has_image_format(images),
          "transform_images: images must have shape [B, C, S, S], contiguous or channels_last, got ", shape_of(images));
  REQUIRE(images.size(1) <= kMaxChannels, "transform_images: images have at most ", kMaxChannels,
          " channels, got shape ", shape_of(images));
  REQUIRE(images.size(2) <= int64_t{1} << 15 && images.size(0) < int64_t{1} << 31,
          "transform_images: at most 2^31 - 1 images of 32768 pixels a side, got shape ", shape_of(images));
  REQUIRE(same_device(images, rng_state), "transform_images: images and rng_state must be on the same device");
  const auto check = [](const char* name, double value, bool right, const char* expected) {
    REQUIRE(right, "transform_images: ", name, " must be ", expected, ", got ", value);
  };
  check("rotation", rotation, rotation >= 0 && rotation <= 180, "in [0, 180] degrees");
  check("scale", scale, scale >= 0 && scale < 1, "in [0, 1)");
  check("shear", shear, shear >= 0 && std::isfinite(shear), "0 or more");
  check("shift", shift, shift >= 0 && shift <= 1, "in [0, 1]");
  check("colour", colour, colour >= 0 && colour <= 1, "in [0, 1]");
  check("bend", bend, bend >= 0 && bend <= 1, "in [0, 1]");
  return TransformArguments{images.size(0),
                            images.size(1),
                            images.size(2),
                            strides_of(images),
                            make_ranges(rotation, scale, shear, shift, colour, bend, flip),
                            check_samples("transform_images", sample_offset, sample_stride, images.size(0))};
}

inline TransformOutputs allocate_transform(const TransformArguments& a, const Tensor& images) {
  return TransformOutputs{torch::stable::empty_like(images), allocate(images, {a.batch_size}, ScalarType::Double)};
}

}  // namespace infogan_fast
