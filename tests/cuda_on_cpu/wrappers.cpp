// What csrc/*/cuda.cu needs of CUDA and of libtorch_cuda, so that g++ can make a library of operators of it whose
// kernels run on the CPU. The current stream is a made-up one, and a launch on any other is remembered.
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/c/shim.h>

#include "simt_engine.h"

namespace {

int stream, guard;
bool asked = false;

}  // namespace

extern "C" {

AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void** current) {
  asked = true;
  *current = &stream;
  return AOTI_TORCH_SUCCESS;
}

AOTITorchError aoti_torch_create_device_guard(int32_t, DeviceGuardHandle* handle) {
  *handle = reinterpret_cast<DeviceGuardHandle>(&guard);
  return AOTI_TORCH_SUCCESS;
}

AOTITorchError aoti_torch_delete_device_guard(DeviceGuardHandle) { return AOTI_TORCH_SUCCESS; }

cudaError_t cudaGetLastError() { return cudaSuccess; }

AOTITorchError torch_c10_cuda_check_msg(int32_t, const char*, const char*, uint32_t, bool, char** message) {
  *message = nullptr;
  return AOTI_TORCH_SUCCESS;
}

void torch_c10_cuda_free_error_msg(char*) {}

// For wrappers.py: whether the launch since the last call was on the current stream.
bool launched_on_current_stream() {
  const bool right = asked && simt::stream_of_launch == &stream;
  asked = false;
  simt::stream_of_launch = nullptr;
  return right;
}

void set_schedule(uint64_t seed, int resident_blocks) { simt::schedule = {seed, resident_blocks}; }

}  // extern "C"
