#include <algorithm>

#include "common/convert.h"
#include "common/isa.h"
#include "transform_images/transform_images.h"

namespace infogan_fast {
namespace {

template <class T, class A>
struct TransformRows {
  const TransformArguments& a;
  Stream stream;
  const T* images;
  T* copies;
  double* slants;

  INFOGAN_FAST_INLINE void operator()(int64_t begin, int64_t end) const {
    const int64_t width = a.size + 1, channel = width * width;
    const bool bent = a.ranges.bend > 0;
    std::vector<A> pixels(a.channels * channel), places(bent ? 2 * a.size * a.size : 0);
    for (int64_t image = begin; image < end; ++image) {
      const Affine affine =
          affine_of(a.ranges, draw_transform(stream, static_cast<uint64_t>(a.samples.at(image))), a.size);
      slants[image] = affine.slant;
      read(image, pixels.data());
      if (bent) bend(static_cast<uint64_t>(a.samples.at(image)), places.data());
      for (int64_t c = 0; c < a.channels; ++c)
        for (int64_t row = 0; row < a.size; ++row) {
          T* const to = copies + a.strides.at(image, c, row, 0);
          const A* const from = pixels.data() + c * channel;
          const A* const place = bent ? places.data() + 2 * row * a.size : nullptr;
          if (bent) {
            write_row<true>(affine, from, c, row, place, a.strides.column, to);
          } else if (a.strides.column == 1) {  // a constant, which vectorises
            write_row<false>(affine, from, c, row, place, 1, to);
          } else {
            write_row<false>(affine, from, c, row, place, a.strides.column, to);
          }
        }
    }
  }

  // With the last column and row twice, so that every pixel has a next one.
  INFOGAN_FAST_INLINE void read(int64_t image, A* __restrict__ to) const {
    for (int64_t c = 0; c < a.channels; ++c)
      for (int64_t row = 0; row <= a.size; ++row) {
        const T* const from = images + a.strides.at(image, c, std::min(row, a.size - 1), 0);
        for (int64_t column = 0; column < a.size; ++column) to[column] = widen(from[column * a.strides.column]);
        to[a.size] = to[a.size - 1];
        to += a.size + 1;
      }
  }

  // Where each pixel of the copy lies before it is bent: the columns of a row, then their rows.
  INFOGAN_FAST_INLINE void bend(uint64_t sample, A* __restrict__ to) const {
    A knots[kBends], right[kKnots], down[kKnots];
    for (int i = 0; i < kBends; ++i) knots[i] = draw_bend<A>(a.ranges, stream, sample, i, a.size);
    const int32_t size = static_cast<int32_t>(a.size);
    for (int32_t row = 0; row < size; ++row, to += 2 * size) {
      const Knots<A> rows = knots_of<A>(row, size);
      for (int i = 0; i < kKnots; ++i) {
        right[i] = between_knots(rows, knots + i, kKnots);
        down[i] = between_knots(rows, knots + kKnots * kKnots + i, kKnots);
      }
      for (int32_t column = 0; column < size; ++column) {
        const Knots<A> columns = knots_of<A>(column, size);
        to[column] = static_cast<A>(column) + between_knots(columns, right, 1);
        to[size + column] = static_cast<A>(row) + between_knots(columns, down, 1);
      }
    }
  }

  template <bool bent>
  INFOGAN_FAST_INLINE void write_row(const Affine& affine, const A* __restrict__ from, int64_t c, int64_t row,
                                     const A* __restrict__ place, int64_t step, T* __restrict__ to) const {
    const A by_column = static_cast<A>(affine.column[0]), by_row = static_cast<A>(affine.row[0]);
    const A column_by_row = static_cast<A>(affine.column[1]), column_offset = static_cast<A>(affine.column[2]);
    const A row_by_row = static_cast<A>(affine.row[1]), row_offset = static_cast<A>(affine.row[2]);
    const A last = static_cast<A>(a.size - 1);
    const int32_t width = static_cast<int32_t>(a.size) + 1, size = static_cast<int32_t>(a.size);
    const bool coloured = a.ranges.colour > 0;
    const A gain = static_cast<A>(affine.gains[c]);
#pragma omp simd
    for (int32_t column = 0; column < size; ++column) {
      const A x = bent ? place[column] : static_cast<A>(column);
      const A y = bent ? place[size + column] : static_cast<A>(row);
      const Place<A> across = place_of(fused(by_column, x, fused(column_by_row, y, column_offset)), last);
      const Place<A> down = place_of(fused(by_row, x, fused(row_by_row, y, row_offset)), last);
      const int32_t at = down.at * width + across.at;
      const A upper = between(from[at], from[at + 1], across.share);
      const A lower = between(from[at + width], from[at + width + 1], across.share);
      const A value = between(upper, lower, down.share);
      to[column * step] = convert<T>(coloured ? amplified(value, gain) : value);
    }
  }
};

std::tuple<Tensor, Tensor> transform_images_cpu(Tensor rng_state, Tensor images, double rotation, double scale,
                                                double shear, double shift, double colour, double bend, bool flip,
                                                int64_t sample_offset, int64_t sample_stride, bool advance) {
  const TransformArguments a = check_transform_images(rng_state, images, rotation, scale, shear, shift, colour, bend,
                                                      flip, sample_offset, sample_stride);
  int64_t* const state = data<int64_t>(rng_state);
  REQUIRE(state[1] >= 0 && state[1] < kCounterLimit - 1,
          "transform_images: the step in rng_state must be in [0, 2^48 - 1), got ", state[1]);
  const TransformOutputs out = allocate_transform(a, images);
  const Stream stream = make_stream(state[0], state[1]);
  with_types<Half, BFloat16>(images.scalar_type(), [&](auto value, auto accumulated) {
    using T = decltype(value);
    for_rows(a.batch_size, std::max<int64_t>(1, 8192 / (a.size * a.size)),
             TransformRows<T, decltype(accumulated)>{a, stream, const_data<T>(images), data<T>(out.copies),
                                                     data<double>(out.slants)});
  });
  if (advance) ++state[1];
  return {out.copies, out.slants};
}

}  // namespace
}  // namespace infogan_fast

STABLE_TORCH_LIBRARY_IMPL(infogan_fast, CPU, m) {
  m.impl("transform_images", TORCH_BOX(&infogan_fast::transform_images_cpu));
}
