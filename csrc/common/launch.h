// The one header through which kernels reach CUDA. Under nvcc it is CUDA itself; under g++ with INFOGAN_FAST_SIMT the
// same names come from tests/cuda_on_cpu, which runs each CUDA thread as a fiber, so that a kernel's own source is
// tested without a GPU. That asks of kernels: shared memory through SHARED and DYN_SHARED, launches through launch(),
// arithmetic in fp32 or fp64 (half types are only converted), and no inline assembly, cub or cooperative groups.
#pragma once

#ifdef INFOGAN_FAST_SIMT
#include "simt.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>

// An array of `count` elements in the block's shared memory, 16-byte aligned: SHARED(float, partials, 32);
#define SHARED(type, name, count) __shared__ __align__(16) type name[count]

// The block's dynamic shared memory, 16-byte aligned, of the size given to launch(): DYN_SHARED(float, row);
#define DYN_SHARED(type, name)                                                 \
  extern __shared__ __align__(16) unsigned char infogan_fast_dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(infogan_fast_dynamic_shared)

namespace infogan_fast {

// Arguments are converted to the kernel's parameter types, as in a direct launch. Errors surface where the caller
// checks them.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
            Arguments... arguments) {
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Parameters>(arguments)...);
}

}  // namespace infogan_fast
#endif
