#include "gather_images/kernel.cuh"

#include "common/nvtx.h"
#include "common/stream.h"
#include "gather_images/gather_images.h"

namespace infogan_fast {
namespace {

std::tuple<Tensor, Tensor> gather_images_cuda(Tensor order_state, Tensor images, int64_t batch_size, ScalarType dtype,
                                              bool advance) {
  const GatherArguments a = check_gather_images(order_state, images, batch_size);
  const Range range("gather_images");
  const torch::stable::accelerator::DeviceGuard guard(images.get_device_index());
  const GatherOutputs out = allocate_gather(a, images, dtype);
  const auto run = [&](auto* batch) {
    launch_gather_images(static_cast<int64_t*>(order_state.mutable_data_ptr()),
                         static_cast<const uint8_t*>(images.const_data_ptr()), a.images, a.pixels, a.batch_size,
                         advance, batch, static_cast<int64_t*>(out.indices.mutable_data_ptr()),
                         current_stream(images.get_device_index()));
  };
  void* batch = out.batch.mutable_data_ptr();
  switch (dtype) {
    case ScalarType::Float: run(static_cast<float*>(batch)); break;
    case ScalarType::Double: run(static_cast<double*>(batch)); break;
    case ScalarType::Half: run(static_cast<__half*>(batch)); break;
    default: run(static_cast<__nv_bfloat16*>(batch));
  }
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {out.batch, out.indices};
}

}  // namespace
}  // namespace infogan_fast

STABLE_TORCH_LIBRARY_IMPL(infogan_fast, CUDA, m) {
  m.impl("gather_images", TORCH_BOX(&infogan_fast::gather_images_cuda));
}
