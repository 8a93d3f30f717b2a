#include <algorithm>

#include "common/convert.h"
#include "common/isa.h"
#include "image_layers/image_layers.h"
#include "math/activation.h"

namespace infogan_fast {
namespace {

constexpr int64_t kLanes = 16;             // features at once, and the taps of a channel
constexpr int64_t kFeatures = 8;           // whose weights' gradients are summed at once
constexpr int64_t kTilePositions = 256;    // about so many lie in the cache together
constexpr int64_t kChunkPositions = 1024;  // about so many share a sum, so that sums do not depend on the threads

// A tensor's values; or those of a gradient, on its way back through the activation that gave `outputs`.
template <class T>
struct Source {
  const T *values, *outputs;
};

// A row of pixels, `step` apart.
template <class T, class A>
INFOGAN_FAST_INLINE void read_pixels(const Source<T>& source, int64_t first, int64_t step, int64_t count,
                                     A* __restrict__ to) {
  const T* __restrict__ values = source.values + first;
  if (source.outputs == nullptr) {
    for (int64_t i = 0; i < count; ++i) to[i] = widen(values[i * step]);
  } else {
    const T* __restrict__ outputs = source.outputs + first;
    for (int64_t i = 0; i < count; ++i) to[i] = through_sigmoid<A>(widen(values[i * step]), widen(outputs[i * step]));
  }
}

template <class T, class A>
INFOGAN_FAST_INLINE void read_maps(const Source<T>& source, A slope, int64_t first, int64_t count, A* __restrict__ to) {
  const T* __restrict__ values = source.values + first;
  if (source.outputs == nullptr) {
    for (int64_t i = 0; i < count; ++i) to[i] = widen(values[i]);
  } else {
    const T* __restrict__ outputs = source.outputs + first;
    for (int64_t i = 0; i < count; ++i) to[i] = through_leaky_relu<A>(widen(values[i]), widen(outputs[i]), slope);
  }
}

// An image with a border, so that every patch lies inside: pixel (-1, -1) comes first.
template <class A>
struct Bordered {
  int64_t width;  // of a row, and rows of a channel
  std::vector<A> pixels;

  explicit Bordered(const ImageLayer& a) : width(2 * a.side + 2), pixels(a.channels * width * width, A(0)) {}

  A* row(int64_t channel, int64_t row) { return pixels.data() + (channel * width + row + 1) * width + 1; }
  // The first pixel of a patch.
  A* patch(int64_t channel, int64_t i, int64_t j) { return pixels.data() + (channel * width + 2 * i) * width + 2 * j; }
};

template <class T, class A>
INFOGAN_FAST_INLINE void read_bordered(const ImageLayer& a, const Source<T>& source, int64_t image, Bordered<A>& to) {
  for (int64_t channel = 0; channel < a.channels; ++channel)
    for (int64_t row = 0; row < a.size; ++row) {
      const int64_t first = a.images.at(image, channel, row, 0);
      if (a.images.column == 1) {  // a constant, which vectorises
        read_pixels(source, first, 1, a.size, to.row(channel, row));
      } else {
        read_pixels(source, first, a.images.column, a.size, to.row(channel, row));
      }
    }
}

// Images to maps.
template <class T, class A>
struct MapsOfImages {
  const ImageLayer& a;
  Source<T> images;
  const A *weight, *bias;  // [C * 16, padded], [padded]: features are padded to whole lanes
  A slope;
  T* maps;

  static int64_t padded(const ImageLayer& a) { return (a.features + kLanes - 1) / kLanes * kLanes; }

  INFOGAN_FAST_INLINE void operator()(int64_t begin, int64_t end) const {
    Bordered<A> pixels(a);
    for (int64_t image = begin; image < end; ++image) {
      read_bordered(a, images, image, pixels);
      for (int64_t first = 0; first < a.features; first += kLanes)
        for (int64_t i = 0; i < a.side; ++i) {
          T* to = maps + (image * a.side + i) * a.side * a.features + first;
          int64_t j = 0;
          for (; j + 8 <= a.side; j += 8) positions<8>(pixels, first, i, j, to + j * a.features);
          for (; j + 2 <= a.side; j += 2) positions<2>(pixels, first, i, j, to + j * a.features);
          if (j < a.side) positions<1>(pixels, first, i, j, to + j * a.features);
        }
    }
  }

  template <int P>
  INFOGAN_FAST_INLINE void positions(Bordered<A>& pixels, int64_t first, int64_t i, int64_t j, T* to) const {
    A sums[P][kLanes] = {};
    const int64_t stride = padded(a);
    const A* w = weight + first;
    for (int64_t channel = 0; channel < a.channels; ++channel)
      for (int64_t row = 0; row < 4; ++row) {
        const A* const from = pixels.patch(channel, i, j) + row * pixels.width;
        for (int64_t column = 0; column < 4; ++column, w += stride)
          for (int p = 0; p < P; ++p)
#pragma omp simd
            for (int64_t lane = 0; lane < kLanes; ++lane)
              sums[p][lane] = fused(from[2 * p + column], w[lane], sums[p][lane]);
      }
    for (int p = 0; p < P; ++p, to += a.features) {
#pragma omp simd
      for (int64_t lane = 0; lane < kLanes; ++lane)
        sums[p][lane] = leaky_relu(sums[p][lane] + bias[first + lane], slope);
      if (first + kLanes <= a.features) {
#pragma omp simd
        for (int64_t lane = 0; lane < kLanes; ++lane) to[lane] = convert<T>(sums[p][lane]);
      } else {
        for (int64_t lane = 0; lane < kFeatureStep; ++lane) to[lane] = convert<T>(sums[p][lane]);
      }
    }
  }
};

// Maps to images: each position adds its patch.
template <class T, class A>
struct ImagesOfMaps {
  const ImageLayer& a;
  Source<T> maps;
  A slope;
  const A* weight;  // [K, C, 16]
  const A* bias;    // [C], with a sigmoid; null for neither
  T* images;

  INFOGAN_FAST_INLINE void operator()(int64_t begin, int64_t end) const {
    Bordered<A> pixels(a);
    std::vector<A> values(a.side * a.features);
    for (int64_t image = begin; image < end; ++image) {
      std::fill(pixels.pixels.begin(), pixels.pixels.end(), A(0));
      for (int64_t i = 0; i < a.side; ++i) {
        const int64_t count = a.side * a.features;
        read_maps(maps, slope, (image * a.side + i) * count, count, values.data());
        int64_t j = 0;
        for (; j + 8 <= a.side; j += 8) positions<8>(values.data() + j * a.features, pixels, i, j);
        for (; j + 2 <= a.side; j += 2) positions<2>(values.data() + j * a.features, pixels, i, j);
        if (j < a.side) positions<1>(values.data() + j * a.features, pixels, i, j);
      }
      write(pixels, image);
    }
  }

  template <int P>
  INFOGAN_FAST_INLINE void positions(const A* values, Bordered<A>& pixels, int64_t i, int64_t j) const {
    for (int64_t channel = 0; channel < a.channels; ++channel) {
      A sums[P][kTaps] = {};
      for (int64_t k = 0; k < a.features; ++k) {
        const A* const w = weight + (k * a.channels + channel) * kTaps;
        for (int p = 0; p < P; ++p)
#pragma omp simd
          for (int64_t tap = 0; tap < kTaps; ++tap)
            sums[p][tap] = fused(values[p * a.features + k], w[tap], sums[p][tap]);
      }
      for (int p = 0; p < P; ++p)
        for (int64_t row = 0; row < 4; ++row) {
          A* const to = pixels.patch(channel, i, j + p) + row * pixels.width;
          for (int64_t column = 0; column < 4; ++column) to[column] += sums[p][row * 4 + column];
        }
    }
  }

  INFOGAN_FAST_INLINE void write(Bordered<A>& pixels, int64_t image) const {
    for (int64_t channel = 0; channel < a.channels; ++channel)
      for (int64_t row = 0; row < a.size; ++row) {
        const A* const from = pixels.row(channel, row);
        T* const to = images + a.images.at(image, channel, row, 0);
        const int64_t step = a.images.column;
        if (bias == nullptr) {
          for (int64_t i = 0; i < a.size; ++i) to[i * step] = convert<T>(from[i]);
        } else {
          for (int64_t i = 0; i < a.size; ++i) to[i * step] = convert<T>(sigmoid(from[i] + bias[channel]));
        }
      }
  }
};

// Sums over chunks of the batch: partials [chunks, K, C, 16], then those of the bias, [chunks, K] or [chunks, C].
template <class T, class A>
struct WeightSums {
  const ImageLayer& a;
  Source<T> images, maps;
  A slope;
  bool bias_of_maps;
  A *weights, *biases;

  static int64_t images_of_a_chunk(const ImageLayer& a) {
    return std::max<int64_t>(1, kChunkPositions / (a.side * a.side));
  }
  int64_t bias_length() const { return bias_of_maps ? a.features : a.channels; }

  INFOGAN_FAST_INLINE void operator()(int64_t begin, int64_t end) const {
    const int64_t rows = std::clamp<int64_t>(kTilePositions / a.side, 1, a.side);  // of positions, in a tile
    Bordered<A> pixels(a);
    std::vector<A> values(rows * a.side * a.features), patches(rows * a.side * a.channels * kTaps);
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      A *const sums = weights + chunk * a.features * a.channels * kTaps, *const bias = biases + chunk * bias_length();
      std::fill_n(sums, a.features * a.channels * kTaps, A(0));
      std::fill_n(bias, bias_length(), A(0));
      const int64_t first = chunk * images_of_a_chunk(a), last = std::min(first + images_of_a_chunk(a), a.batch);
      for (int64_t image = first; image < last; ++image) {
        read_bordered(a, images, image, pixels);
        if (!bias_of_maps) add_pixels(pixels, bias);
        for (int64_t i = 0; i < a.side; i += rows) {
          const int64_t count = std::min(rows, a.side - i) * a.side, at = (image * a.side + i) * a.side;
          read_maps(maps, slope, at * a.features, count * a.features, values.data());
          if (bias_of_maps) add_values(values.data(), count, bias);
          copy_patches(pixels, i, count, patches.data());
          for (int64_t k = 0; k < a.features; k += kFeatures)
            add_products(values.data() + k, patches.data(), count, k, sums);
        }
      }
    }
  }

  INFOGAN_FAST_INLINE void add_pixels(Bordered<A>& pixels, A* bias) const {
    for (int64_t channel = 0; channel < a.channels; ++channel) {
      A lanes[kLanes] = {};
      for (int64_t row = 0; row < a.size; ++row)
        for (int64_t i = 0; i < a.size; ++i) lanes[i % kLanes] += pixels.row(channel, row)[i];
#pragma omp simd
      for (int64_t lane = 0; lane < kLanes; ++lane) bias[channel] += lanes[lane];
    }
  }

  INFOGAN_FAST_INLINE void add_values(const A* values, int64_t count, A* __restrict__ bias) const {
    for (int64_t at = 0; at < count; ++at, values += a.features)
      for (int64_t k = 0; k < a.features; ++k) bias[k] += values[k];
  }

  INFOGAN_FAST_INLINE void copy_patches(Bordered<A>& pixels, int64_t i, int64_t count, A* to) const {
    for (int64_t at = 0; at < count; ++at)
      for (int64_t channel = 0; channel < a.channels; ++channel) {
        const A* const from = pixels.patch(channel, i + at / a.side, at % a.side);
        for (int64_t row = 0; row < 4; ++row, to += 4)
          for (int64_t column = 0; column < 4; ++column) to[column] = from[row * pixels.width + column];
      }
  }

  INFOGAN_FAST_INLINE void add_products(const A* values, const A* patches, int64_t count, int64_t k, A* to) const {
    for (int64_t channel = 0; channel < a.channels; ++channel) {
      A sums[kFeatures][kTaps];
      A* const total = to + (k * a.channels + channel) * kTaps;
      for (int64_t f = 0; f < kFeatures; ++f)
#pragma omp simd
        for (int64_t tap = 0; tap < kTaps; ++tap) sums[f][tap] = total[f * a.channels * kTaps + tap];
      for (int64_t at = 0; at < count; ++at) {
        const A *const v = values + at * a.features, *const p = patches + (at * a.channels + channel) * kTaps;
        for (int64_t f = 0; f < kFeatures; ++f)
#pragma omp simd
          for (int64_t tap = 0; tap < kTaps; ++tap) sums[f][tap] = fused(v[f], p[tap], sums[f][tap]);
      }
      for (int64_t f = 0; f < kFeatures; ++f)
#pragma omp simd
        for (int64_t tap = 0; tap < kTaps; ++tap) total[f * a.channels * kTaps + tap] = sums[f][tap];
    }
  }
};

// Calls f(k, tap, place in memory) for each weight; taps are counted over channels, rows and columns.
template <class F>
void for_weights(const ImageLayer& a, const F& f) {
  for (int64_t k = 0; k < a.features; ++k)
    for (int64_t tap = 0; tap < a.channels * kTaps; ++tap)
      f(k, tap, a.weights.at(k, tap / kTaps, tap % kTaps / 4, tap % 4));
}

template <class T, class A>
void maps_of_images(const ImageLayer& a, Source<T> images, const Tensor& weight, const Tensor* bias, double slope,
                    const Tensor& maps) {
  const int64_t padded = MapsOfImages<T, A>::padded(a);
  std::vector<A> by_tap(a.channels * kTaps * padded, A(0)), biases(padded, A(0));
  for_weights(a,
              [&](int64_t k, int64_t tap, int64_t at) { by_tap[tap * padded + k] = widen(const_data<T>(weight)[at]); });
  for (int64_t k = 0; bias != nullptr && k < a.features; ++k) biases[k] = widen(const_data<T>(*bias)[k]);
  for_rows(a.batch, 1,
           MapsOfImages<T, A>{a, images, by_tap.data(), biases.data(), static_cast<A>(slope), data<T>(maps)});
}

template <class T, class A>
void images_of_maps(const ImageLayer& a, Source<T> maps, double slope, const Tensor& weight, const Tensor* bias,
                    const Tensor& images) {
  std::vector<A> by_feature(a.features * a.channels * kTaps), biases(a.channels);
  for_weights(a, [&](int64_t k, int64_t tap, int64_t at) {
    by_feature[k * a.channels * kTaps + tap] = widen(const_data<T>(weight)[at]);
  });
  for (int64_t c = 0; bias != nullptr && c < a.channels; ++c) biases[c] = widen(const_data<T>(*bias)[c]);
  for_rows(a.batch, 1,
           ImagesOfMaps<T, A>{a, maps, static_cast<A>(slope), by_feature.data(),
                              bias != nullptr ? biases.data() : nullptr, data<T>(images)});
}

template <class T, class A>
void weight_gradients(const ImageLayer& a, Source<T> images, Source<T> maps, double slope, bool bias_of_maps,
                      const ImageLayerGradients& out) {
  WeightSums<T, A> sums{a, images, maps, static_cast<A>(slope), bias_of_maps, nullptr, nullptr};
  const int64_t each = sums.images_of_a_chunk(a), chunks = (a.batch + each - 1) / each;
  const int64_t length = out.weight.numel(), bias_length = out.bias.numel();
  std::vector<A> weights(chunks * length), biases(chunks * bias_length);
  sums.weights = weights.data();
  sums.biases = biases.data();
  for_rows(chunks, 1, sums);
  const auto total = [&](const std::vector<A>& partials, int64_t each, int64_t at) {
    A sum = A(0);
    for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += partials[chunk * each + at];
    return convert<T>(sum);
  };
  for_weights(a, [&](int64_t k, int64_t tap, int64_t at) {
    data<T>(out.weight)[at] = total(weights, length, k * a.channels * kTaps + tap);
  });
  for (int64_t i = 0; i < bias_length; ++i) data<T>(out.bias)[i] = total(biases, bias_length, i);
}

Tensor image_conv_cpu(Tensor x, Tensor weight, Tensor bias, double slope) {
  const ImageLayer a = check_image_conv(x, weight, bias, slope);
  const Tensor y = allocate_maps(a, x);
  with_types<Half, BFloat16>(a.dtype, [&](auto value, auto accumulated) {
    using T = decltype(value);
    maps_of_images<T, decltype(accumulated)>(a, {const_data<T>(x), nullptr}, weight, &bias, slope, y);
  });
  return y;
}

std::tuple<Tensor, Tensor, Tensor> image_conv_backward_cpu(Tensor grad_y, Tensor x, Tensor y, Tensor weight,
                                                           double slope, bool of_x, bool of_weights) {
  const ImageLayer a = check_image_conv_backward(grad_y, x, y, weight, slope);
  const ImageLayerGradients out = allocate_gradients(a, x, weight, of_x, of_weights, a.features);
  with_types<Half, BFloat16>(a.dtype, [&](auto value, auto accumulated) {
    using T = decltype(value);
    using A = decltype(accumulated);
    const Source<T> maps{const_data<T>(grad_y), const_data<T>(y)};
    if (of_x) images_of_maps<T, A>(a, maps, slope, weight, nullptr, out.x);
    if (of_weights) weight_gradients<T, A>(a, {const_data<T>(x), nullptr}, maps, slope, true, out);
  });
  return {out.x, out.weight, out.bias};
}

Tensor image_conv_transpose_cpu(Tensor x, Tensor weight, Tensor bias, int64_t size) {
  const ImageLayer a = check_image_conv_transpose(x, weight, bias, size);
  const Tensor image = allocate_image(a, x);
  with_types<Half, BFloat16>(a.dtype, [&](auto value, auto accumulated) {
    using T = decltype(value);
    images_of_maps<T, decltype(accumulated)>(a, {const_data<T>(x), nullptr}, 1.0, weight, &bias, image);
  });
  return image;
}

std::tuple<Tensor, Tensor, Tensor> image_conv_transpose_backward_cpu(Tensor grad_image, Tensor x, Tensor image,
                                                                     Tensor weight, bool of_x, bool of_weights) {
  const ImageLayer a = check_image_conv_transpose_backward(grad_image, x, image, weight);
  const ImageLayerGradients out = allocate_gradients(a, x, weight, of_x, of_weights, a.channels);
  with_types<Half, BFloat16>(a.dtype, [&](auto value, auto accumulated) {
    using T = decltype(value);
    using A = decltype(accumulated);
    const Source<T> images{const_data<T>(grad_image), const_data<T>(image)};
    if (of_x) maps_of_images<T, A>(a, images, weight, nullptr, 1.0, out.x);
    if (of_weights) weight_gradients<T, A>(a, images, {const_data<T>(x), nullptr}, 1.0, false, out);
  });
  return {out.x, out.weight, out.bias};
}

}  // namespace
}  // namespace infogan_fast

STABLE_TORCH_LIBRARY_IMPL(infogan_fast, CPU, m) {
  m.impl("image_conv", TORCH_BOX(&infogan_fast::image_conv_cpu));
  m.impl("image_conv_backward", TORCH_BOX(&infogan_fast::image_conv_backward_cpu));
  m.impl("image_conv_transpose", TORCH_BOX(&infogan_fast::image_conv_transpose_cpu));
  m.impl("image_conv_transpose_backward", TORCH_BOX(&infogan_fast::image_conv_transpose_backward_cpu));
}
