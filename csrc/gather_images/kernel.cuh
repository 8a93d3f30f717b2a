// The kernel behind gather_images: one block an image, which it finds by the shuffle and copies 16 pixels at a time.
#pragma once
#include "common/convert.cuh"
#include "common/rng_state.cuh"
#include "gather_images/shuffle.h"
#include "math/samples.h"

namespace infogan_fast {

constexpr int kGatherThreads = 128;
constexpr int kGatherMaxBlocks = 4096;

template <class T>
__global__ void __launch_bounds__(kGatherThreads)
    gather_images_kernel(unsigned long long* state, const uint8_t* images, int64_t count, int64_t pixels,
                         int64_t batch_size, uint32_t rows, Samples samples, bool advance, T* batch, int64_t* indices) {
  SHARED(int64_t, shared_index, 1);
  const int thread = static_cast<int>(threadIdx.x);
  unsigned long long step = 0;  // the first thread's alone
  if (thread == 0) step = atomicAdd(state + 1, 0ull) & kStepMask;

  for (uint32_t row = blockIdx.x; row < rows; row += gridDim.x) {
    if (thread == 0) {
      const int64_t position = static_cast<int64_t>(step) * batch_size + samples.at(row);
      const Shuffle shuffle = make_shuffle(static_cast<int64_t>(state[0]), position / count, count);
      shared_index[0] = static_cast<int64_t>(shuffled(shuffle, static_cast<uint64_t>(position % count)));
      indices[row] = shared_index[0];
    }
    __syncthreads();
    const uint8_t* from = images + shared_index[0] * pixels;
    T* to = batch + row * pixels;
    // 128-bit loads of 16 pixels where both ends of the copy are on a 16-byte boundary
    const bool aligned = (reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to)) % 16 == 0;
    const int64_t vectors = aligned ? pixels / 16 : 0;
    for (int64_t i = thread; i < vectors; i += kGatherThreads) {
      const Vector<uint8_t> loaded = reinterpret_cast<const Vector<uint8_t>*>(from)[i];
      using V = Vector<T>;
#pragma unroll
      for (int v = 0; v < 16 / V::kCount; ++v) {
        V stored;
#pragma unroll
        for (int j = 0; j < V::kCount; ++j)
          stored.values[j] = Converter<T>::from(pixel(loaded.values[v * V::kCount + j]));
        reinterpret_cast<V*>(to)[i * (16 / V::kCount) + v] = stored;
      }
    }
    for (int64_t i = vectors * 16 + thread; i < pixels; i += kGatherThreads) to[i] = Converter<T>::from(pixel(from[i]));
    __syncthreads();  // the next image's index is written to the same place
  }
  if (advance && thread == 0) advance_step(state, step);
}

template <class T>
void launch_gather_images(int64_t* state, const uint8_t* images, int64_t count, int64_t pixels, int64_t batch_size,
                          int64_t rows, Samples samples, bool advance, T* batch, int64_t* indices,
                          cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>(rows < kGatherMaxBlocks ? rows : kGatherMaxBlocks);
  launch(gather_images_kernel<T>, dim3(blocks), dim3(kGatherThreads), 0, stream,
         reinterpret_cast<unsigned long long*>(state), images, count, pixels, batch_size, static_cast<uint32_t>(rows),
         samples, advance, batch, indices);
}

}  // namespace infogan_fast
