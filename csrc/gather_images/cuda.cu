#include "gather_images/kernel.cuh"

#include "common/nvtx.h"
#include "common/stream.h"
#include "gather_images/gather_images.h"

namespace infogan_fast {
namespace {

std::tuple<Tensor, Tensor> gather_images_cuda(Tensor order_state, Tensor images, int64_t batch_size, ScalarType dtype,
                                              int64_t sample_offset, int64_t sample_stride, bool advance) {
  const GatherArguments a = check_gather_images(order_state, images, batch_size, sample_offset, sample_stride);
  const Range range("gather_images");
  const torch::stable::accelerator::DeviceGuard guard(images.get_device_index());
  const GatherOutputs out = allocate_gather(a, images, dtype);
  with_types<__half, __nv_bfloat16>(dtype, [&](auto value, auto) {
    launch_gather_images(data<int64_t>(order_state), const_data<uint8_t>(images), a.images, a.pixels, a.batch_size,
                         a.rows, a.samples, advance, data<decltype(value)>(out.batch), data<int64_t>(out.indices),
                         current_stream(images.get_device_index()));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {out.batch, out.indices};
}

}  // namespace
}  // namespace infogan_fast

STABLE_TORCH_LIBRARY_IMPL(infogan_fast, CUDA, m) {
  m.impl("gather_images", TORCH_BOX(&infogan_fast::gather_images_cuda));
}
