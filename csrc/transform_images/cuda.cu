#include "common/nvtx.h"
#include "common/stream.h"
#include "transform_images/kernel.cuh"
#include "transform_images/transform_images.h"

namespace infogan_fast {
namespace {

std::tuple<Tensor, Tensor> transform_images_cuda(Tensor rng_state, Tensor images, double rotation, double scale,
                                                 double shear, double shift, double colour, double bend, bool flip,
                                                 int64_t sample_offset, int64_t sample_stride, bool advance) {
  const TransformArguments a = check_transform_images(rng_state, images, rotation, scale, shear, shift, colour, bend,
                                                      flip, sample_offset, sample_stride);
  const Range range("transform_images");
  const torch::stable::accelerator::DeviceGuard guard(images.get_device_index());
  const TransformOutputs out = allocate_transform(a, images);
  const TransformLayout layout{
      a.batch_size, static_cast<int32_t>(a.channels), static_cast<int32_t>(a.size), a.strides, a.ranges, a.samples};
  with_types<__half, __nv_bfloat16>(images.scalar_type(), [&](auto value, auto accumulated) {
    using T = decltype(value);
    launch_transform_images<T, decltype(accumulated)>(layout, data<int64_t>(rng_state), advance, const_data<T>(images),
                                                      data<T>(out.copies), data<double>(out.slants),
                                                      current_stream(images.get_device_index()));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {out.copies, out.slants};
}

}  // namespace
}  // namespace infogan_fast

STABLE_TORCH_LIBRARY_IMPL(infogan_fast, CUDA, m) {
  m.impl("transform_images", TORCH_BOX(&infogan_fast::transform_images_cuda));
}
