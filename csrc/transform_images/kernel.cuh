// The kernel behind transform_images: one block an image; its first thread draws the map, each of the first ones a knot
// of the bend, and all of them read by these.
#pragma once
#include "common/convert.cuh"
#include "common/rng_state.cuh"
#include "common/strides.h"
#include "math/samples.h"
#include "transform_images/affine.h"

namespace infogan_fast {

constexpr int kTransformThreads = 256;
constexpr int kTransformMaxBlocks = 4096;

struct TransformLayout {
  int64_t batch_size;
  int32_t channels, size;
  Strides strides;
  TransformRanges ranges;
  Samples samples;
};

// Adds to a pixel's place in the copy the way that the knots around it move.
template <class A>
__device__ void bend_place(const A* knots, int32_t row, int32_t column, int32_t size, A& x, A& y) {
  const Knots<A> rows = knots_of<A>(row, size), columns = knots_of<A>(column, size);
  A right = A(0), down = A(0);
  for (int i = 0; i < 4; ++i) {
    const A* const at = knots + knot_within(columns.first + i);
    right = fused(columns.share[i], between_knots(rows, at, kKnots), right);
    down = fused(columns.share[i], between_knots(rows, at + kKnots * kKnots, kKnots), down);
  }
  x += right;
  y += down;
}

template <class T, class A>
__global__ void __launch_bounds__(kTransformThreads, 2)
    transform_images_kernel(const TransformLayout a, unsigned long long* state, bool advance, const T* images,
                            T* copies, double* slants) {
  SHARED(Affine, shared_affine, 1);
  SHARED(A, knots, kBends);
  const int thread = static_cast<int>(threadIdx.x);
  const bool bent = a.ranges.bend > 0.0;
  unsigned long long step = 0;  // of the threads that draw
  if (thread == 0 || (bent && thread < kBends)) step = atomicAdd(state + 1, 0ull) & kStepMask;

  for (int64_t image = blockIdx.x; image < a.batch_size; image += gridDim.x) {
    const uint64_t sample = static_cast<uint64_t>(a.samples.at(image));
    if (thread == 0) {
      const Stream stream = make_stream(static_cast<int64_t>(state[0]), static_cast<int64_t>(step));
      shared_affine[0] = affine_of(a.ranges, draw_transform(stream, sample), a.size);
      slants[image] = shared_affine[0].slant;
    }
    if (bent && thread < kBends) {
      const Stream stream = make_stream(static_cast<int64_t>(state[0]), static_cast<int64_t>(step));
      knots[thread] = draw_bend<A>(a.ranges, stream, sample, thread, a.size);
    }
    __syncthreads();
    const Affine& affine = shared_affine[0];
    A by_column[3], by_row[3];
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      by_column[i] = static_cast<A>(affine.column[i]);
      by_row[i] = static_cast<A>(affine.row[i]);
    }
    const A last = static_cast<A>(a.size - 1);
    for (int32_t pixel = thread; pixel < a.size * a.size; pixel += kTransformThreads) {
      const int32_t row = pixel / a.size, column = pixel % a.size;
      A x = static_cast<A>(column), y = static_cast<A>(row);
      if (bent) bend_place<A>(knots, row, column, a.size, x, y);
      const Place<A> across = place_of(fused(by_column[0], x, fused(by_column[1], y, by_column[2])), last);
      const Place<A> down = place_of(fused(by_row[0], x, fused(by_row[1], y, by_row[2])), last);
      const int32_t right = across.at + 1 < a.size ? across.at + 1 : across.at;
      const int32_t below = down.at + 1 < a.size ? down.at + 1 : down.at;
      for (int32_t c = 0; c < a.channels; ++c) {
        const auto at = [&](int32_t r, int32_t s) -> A { return widen(images[a.strides.at(image, c, r, s)]); };
        const A upper = between(at(down.at, across.at), at(down.at, right), across.share);
        const A lower = between(at(below, across.at), at(below, right), across.share);
        const A value = between(upper, lower, down.share);
        copies[a.strides.at(image, c, row, column)] =
            Converter<T>::from(a.ranges.colour > 0.0 ? amplified(value, static_cast<A>(affine.gains[c])) : value);
      }
    }
    __syncthreads();  // the next image's map is written to the same place
  }
  if (advance && thread == 0) advance_step(state, step);
}

template <class T, class A>
void launch_transform_images(const TransformLayout& a, int64_t* state, bool advance, const T* images, T* copies,
                             double* slants, cudaStream_t stream) {
  const unsigned blocks =
      static_cast<unsigned>(a.batch_size < kTransformMaxBlocks ? a.batch_size : kTransformMaxBlocks);
  launch(transform_images_kernel<T, A>, dim3(blocks), dim3(kTransformThreads), 0, stream, a,
         reinterpret_cast<unsigned long long*>(state), advance, images, copies, slants);
}

}  // namespace infogan_fast
