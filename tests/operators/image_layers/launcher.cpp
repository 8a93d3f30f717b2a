// The launchers of the image layers' kernels for the test process.
#include "image_layers/kernel.cuh"
#include "runner.h"

namespace {

using namespace infogan_fast;

ImageLayout layout(runner::Case& c) {
  ImageLayout a{};
  a.positions = c.integer();
  a.size = static_cast<std::int32_t>(c.integer());
  a.side = static_cast<std::int32_t>(c.integer());
  a.features = static_cast<std::int32_t>(c.integer());
  for (Strides* const strides : {&a.images, &a.weights}) {
    const auto given = c.list<std::int64_t>();
    *strides = Strides{given[0], given[1], given[2], given[3]};
  }
  return a;
}

template <class T>
ImageSource<T> source(runner::Case& c) {
  const T* const values = c.pointer<const T>();
  const T* const outputs = c.pointer<const T>();
  return ImageSource<T>{values, outputs};
}

template <class T, class A, int C>
void maps(runner::Case& c) {
  const ImageLayout a = layout(c);
  const ImageSource<T> images = source<T>(c);
  const T* const weight = c.pointer<const T>();
  const T* const bias = c.pointer<const T>();
  const double slope = c.real();
  launch_image_maps<T, A, C>(a, images, weight, bias, slope, c.pointer<T>(), nullptr);
}

template <class T, class A, int C>
void pixels(runner::Case& c) {
  const ImageLayout a = layout(c);
  const ImageSource<T> values = source<T>(c);
  const double slope = c.real();
  const T* const weight = c.pointer<const T>();
  const T* const bias = c.pointer<const T>();
  launch_image_pixels<T, A, C>(a, values, slope, weight, bias, c.pointer<T>(), nullptr);
}

template <class T, class A, int C>
void weights(runner::Case& c) {
  const ImageLayout a = layout(c);
  const ImageSource<T> images = source<T>(c), values = source<T>(c);
  const double slope = c.real();
  const bool bias_of_maps = c.integer() != 0;
  T* const grad_weight = c.pointer<T>();
  T* const grad_bias = c.pointer<T>();
  std::vector<A> partials(static_cast<std::size_t>(sum_partials<A>(a, C)), A(NAN));
  launch_image_weights<T, A, C>(a, images, values, slope, bias_of_maps, partials.data(), grad_weight, grad_bias,
                                nullptr);
}

#define ENTRIES(dtype, T, A)                                                                                  \
  ENTRY("image_maps/" dtype "/1", maps<T, A, 1>), ENTRY("image_maps/" dtype "/3", maps<T, A, 3>),             \
      ENTRY("image_pixels/" dtype "/1", pixels<T, A, 1>), ENTRY("image_pixels/" dtype "/3", pixels<T, A, 3>), \
      ENTRY("image_weights/" dtype "/1", weights<T, A, 1>), ENTRY("image_weights/" dtype "/3", weights<T, A, 3>)

const runner::Entry entries[] = {
    ENTRIES("float32", float, float),
    ENTRIES("float64", double, double),
    ENTRIES("float16", __half, float),
    ENTRIES("bfloat16", __nv_bfloat16, float),
};

}  // namespace
