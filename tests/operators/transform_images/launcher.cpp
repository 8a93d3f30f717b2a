// transform_images' launcher for the test process.
#include "runner.h"
#include "transform_images/kernel.cuh"

namespace {

using namespace infogan_fast;

template <class T, class A>
void call(runner::Case& c) {
  TransformLayout a{};
  a.batch_size = c.integer();
  a.channels = static_cast<std::int32_t>(c.integer());
  a.size = static_cast<std::int32_t>(c.integer());
  const auto strides = c.list<std::int64_t>();
  a.strides = Strides{strides[0], strides[1], strides[2], strides[3]};
  const double rotation = c.real(), scale = c.real(), shear = c.real(), shift = c.real(), colour = c.real(),
               bend = c.real();
  a.ranges = make_ranges(rotation, scale, shear, shift, colour, bend, c.integer() != 0);
  a.samples.offset = c.integer();
  a.samples.stride = c.integer();
  std::int64_t* const state = c.pointer<std::int64_t>();
  const bool advance = c.integer() != 0;
  const T* const images = c.pointer<const T>();
  T* const copies = c.pointer<T>();
  launch_transform_images<T, A>(a, state, advance, images, copies, c.pointer<double>(), nullptr);
}

const runner::Entry entries[] = {
    ENTRY("transform_images/float32", call<float, float>),
    ENTRY("transform_images/float64", call<double, double>),
    ENTRY("transform_images/float16", call<__half, float>),
    ENTRY("transform_images/bfloat16", call<__nv_bfloat16, float>),
};

}  // namespace
