#include "gather_images/gather_images.h"

#include <algorithm>

#include "common/convert.h"
#include "common/isa.h"

namespace infogan_fast {
namespace {

template <class T>
struct GatherRows {
  const GatherArguments& a;
  int64_t seed, first_position;
  const uint8_t* images;
  T* batch;
  int64_t* indices;

  INFOGAN_FAST_INLINE void operator()(int64_t begin, int64_t end) const {
    int64_t epoch = -1;
    Shuffle shuffle{};
    for (int64_t row = begin; row < end; ++row) {
      const int64_t position = first_position + a.samples.at(row);
      if (position / a.images != epoch) {
        epoch = position / a.images;
        shuffle = make_shuffle(seed, epoch, a.images);
      }
      const int64_t index = static_cast<int64_t>(shuffled(shuffle, static_cast<uint64_t>(position % a.images)));
      indices[row] = index;
      const uint8_t* from = images + index * a.pixels;
      T* to = batch + row * a.pixels;
      for (int64_t i = 0; i < a.pixels; ++i) to[i] = convert<T>(pixel(from[i]));
    }
  }
};

template <class T>
void gather(const GatherArguments& a, const int64_t* state, const Tensor& images, const GatherOutputs& out) {
  const GatherRows<T> body{a,
                           state[0],
                           state[1] * a.batch_size,
                           const_data<uint8_t>(images),
                           data<T>(out.batch),
                           data<int64_t>(out.indices)};
  for_rows(a.rows, std::max<int64_t>(1, 32768 / a.pixels), body);
}

std::tuple<Tensor, Tensor> gather_images_cpu(Tensor order_state, Tensor images, int64_t batch_size, ScalarType dtype,
                                             int64_t sample_offset, int64_t sample_stride, bool advance) {
  const GatherArguments a = check_gather_images(order_state, images, batch_size, sample_offset, sample_stride);
  const GatherOutputs out = allocate_gather(a, images, dtype);
  int64_t* state = data<int64_t>(order_state);
  REQUIRE(state[1] >= 0 && state[1] < kCounterLimit / batch_size - 1,
          "gather_images: the step in order_state must be in [0, 2^48 / batch_size - 1), got ", state[1]);
  with_types<Half, BFloat16>(dtype, [&](auto value, auto) { gather<decltype(value)>(a, state, images, out); });
  if (advance) ++state[1];
  return {out.batch, out.indices};
}

}  // namespace
}  // namespace infogan_fast

STABLE_TORCH_LIBRARY_IMPL(infogan_fast, CPU, m) {
  m.impl("gather_images", TORCH_BOX(&infogan_fast::gather_images_cpu));
}
