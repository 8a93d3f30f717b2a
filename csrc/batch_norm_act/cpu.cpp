#include "batch_norm_act/batch_norm_act.h"

#include <algorithm>

#include "batch_norm_act/norm_rule.h"
#include "common/convert.h"
#include "common/isa.h"

namespace infogan_fast {
namespace {

// Sums are taken over chunks of rows and then added in order, so that they do not depend on the threads.
constexpr int64_t kChunk = 256;
constexpr int64_t kWidth = 64;  // channels at once: four AVX-512 vectors of sums
constexpr int64_t kBlock = 32;  // rows that are written at once

struct NormChunk {
  int64_t part, begin, end;  // rows
};

std::vector<NormChunk> chunks_of(const NormArguments& a, int64_t rows) {
  std::vector<NormChunk> chunks;
  for (int64_t part = 0; part < a.parts(); ++part)
    for (int64_t begin = a.starts[part]; begin < a.starts[part + 1]; begin += rows)
      chunks.push_back(NormChunk{part, begin, std::min(begin + rows, a.starts[part + 1])});
  return chunks;
}

// Calls body(first channel, number of channels), with a constant number where the tile is full.
template <class Body>
INFOGAN_FAST_INLINE void on_channels(int64_t tile, int64_t channels, const Body& body) {
  const int64_t first = tile * kWidth;
  if (channels - first >= kWidth) {
    body(first, kWidth);
  } else {
    body(first, channels - first);
  }
}

// Mean and sum of squared distances from it, of each chunk and channel: partials [chunks, 2, channels].
template <class T, class A>
struct ChunkMoments {
  const NormArguments& a;
  const std::vector<NormChunk>& chunks;
  const T* x;
  A* partials;

  INFOGAN_FAST_INLINE void operator()(int64_t begin, int64_t end) const {
    const int64_t tiles = (a.channels + kWidth - 1) / kWidth;
    for (int64_t unit = begin; unit < end; ++unit) {
      const NormChunk& chunk = chunks[unit / tiles];
      A* const out = partials + unit / tiles * 2 * a.channels;
      on_channels(unit % tiles, a.channels, [&](int64_t first, int64_t width) __attribute__((always_inline)) {
        A sums[kWidth] = {}, squares[kWidth] = {}, mean[kWidth];
        for (int64_t row = chunk.begin; row < chunk.end; ++row) {
          const T* __restrict__ values = x + row * a.channels + first;
          for (int64_t i = 0; i < width; ++i) sums[i] += widen(values[i]);
        }
        const A count = static_cast<A>(chunk.end - chunk.begin);
        for (int64_t i = 0; i < width; ++i) mean[i] = sums[i] / count;
        for (int64_t row = chunk.begin; row < chunk.end; ++row) {
          const T* __restrict__ values = x + row * a.channels + first;
          for (int64_t i = 0; i < width; ++i) {
            const A distance = widen(values[i]) - mean[i];
            squares[i] = fused(distance, distance, squares[i]);
          }
        }
        for (int64_t i = 0; i < width; ++i) out[first + i] = mean[i];
        for (int64_t i = 0; i < width; ++i) out[a.channels + first + i] = squares[i];
      });
    }
  }
};

template <class T, class A>
struct NormRows {
  const NormArguments& a;
  const std::vector<NormChunk>& blocks;
  const T* x;
  const A *mean, *rstd, *weight, *bias;
  T* y;

  INFOGAN_FAST_INLINE void operator()(int64_t begin, int64_t end) const {
    const A slope = static_cast<A>(a.slope);
    const A* __restrict__ w = weight, * __restrict__ b = bias;
    for (int64_t block = begin; block < end; ++block) {
      const A* __restrict__ m = mean + blocks[block].part * a.channels;
      const A* __restrict__ r = rstd + blocks[block].part * a.channels;
      for (int64_t row = blocks[block].begin; row < blocks[block].end; ++row) {
        const T* __restrict__ from = x + row * a.channels;
        T* __restrict__ to = y + row * a.channels;
        for (int64_t c = 0; c < a.channels; ++c)
          to[c] = convert<T>(leaky_relu(normalised<A>(widen(from[c]), m[c], r[c], w[c], b[c]).scaled, slope));
      }
    }
  }
};

// Sums of the gradient before the activation, and of its product with the normalised value: partials as above.
template <class T, class A>
struct ChunkGradients {
  const NormArguments& a;
  const std::vector<NormChunk>& chunks;
  const T *grad_y, *x;
  const A *mean, *rstd, *weight, *bias;
  A* partials;

  INFOGAN_FAST_INLINE void operator()(int64_t begin, int64_t end) const {
    const int64_t tiles = (a.channels + kWidth - 1) / kWidth;
    const A slope = static_cast<A>(a.slope);
    for (int64_t unit = begin; unit < end; ++unit) {
      const NormChunk& chunk = chunks[unit / tiles];
      A* const out = partials + unit / tiles * 2 * a.channels;
      on_channels(unit % tiles, a.channels, [&](int64_t first, int64_t width) __attribute__((always_inline)) {
        const A* __restrict__ m = mean + chunk.part * a.channels + first;
        const A* __restrict__ r = rstd + chunk.part * a.channels + first;
        const A* __restrict__ w = weight + first, * __restrict__ b = bias + first;
        A sums[kWidth] = {}, products[kWidth] = {};
        for (int64_t row = chunk.begin; row < chunk.end; ++row) {
          const T* __restrict__ values = x + row * a.channels + first;
          const T* __restrict__ gradients = grad_y + row * a.channels + first;
          for (int64_t i = 0; i < width; ++i) {
            const Normalised<A> n = normalised<A>(widen(values[i]), m[i], r[i], w[i], b[i]);
            const A gradient = through_leaky_relu<A>(widen(gradients[i]), n.scaled, slope);
            sums[i] += gradient;
            products[i] = fused(gradient, n.centred, products[i]);
          }
        }
        for (int64_t i = 0; i < width; ++i) out[first + i] = sums[i];
        for (int64_t i = 0; i < width; ++i) out[a.channels + first + i] = products[i];
      });
    }
  }
};

template <class T, class A>
struct GradientRows {
  const NormArguments& a;
  const std::vector<NormChunk>& blocks;
  const T *grad_y, *x;
  const A *mean, *rstd, *weight, *bias;
  const A* means;  // [parts, 2, channels]: of the gradient, and of its product with the normalised value
  T* grad_x;

  INFOGAN_FAST_INLINE void operator()(int64_t begin, int64_t end) const {
    const A slope = static_cast<A>(a.slope);
    const A* __restrict__ w = weight, * __restrict__ b = bias;
    for (int64_t block = begin; block < end; ++block) {
      const int64_t part = blocks[block].part;
      const A* __restrict__ m = mean + part * a.channels;
      const A* __restrict__ r = rstd + part * a.channels;
      const A* __restrict__ mean_gradient = means + part * 2 * a.channels;
      const A* __restrict__ mean_product = mean_gradient + a.channels;
      for (int64_t row = blocks[block].begin; row < blocks[block].end; ++row) {
        const T* __restrict__ from = x + row * a.channels;
        const T* __restrict__ gradients = grad_y + row * a.channels;
        T* __restrict__ to = grad_x + row * a.channels;
        for (int64_t c = 0; c < a.channels; ++c) {
          const Normalised<A> n = normalised<A>(widen(from[c]), m[c], r[c], w[c], b[c]);
          const A gradient = through_leaky_relu<A>(widen(gradients[c]), n.scaled, slope);
          to[c] = convert<T>(norm_gradient<A>(gradient, n.centred, mean_gradient[c], mean_product[c], w[c] * r[c]));
        }
      }
    }
  }
};

int64_t tiles_of(const NormArguments& a) { return (a.channels + kWidth - 1) / kWidth; }

// Of a part of `rows` rows: mean and squared distances from it become mean and 1 / standard deviation.
template <class A>
void finish_part(const NormArguments& a, double rows, const A* mean, A* squares, A* running_mean, A* running_var) {
  const A momentum = static_cast<A>(a.momentum);
  for (int64_t c = 0; c < a.channels; ++c) {
    if (running_mean) {
      running_mean[c] = fused(momentum, mean[c] - running_mean[c], running_mean[c]);
      running_var[c] = fused(momentum, squares[c] / static_cast<A>(rows - 1) - running_var[c], running_var[c]);
    }
    squares[c] = A(1) / square_root(squares[c] / static_cast<A>(rows) + static_cast<A>(a.eps));
  }
}

// Mean and 1 / standard deviation of each part and channel from those of its chunks, and the running statistics.
template <class A>
void finish_moments(const NormArguments& a, const std::vector<NormChunk>& chunks, const A* partials, A* mean, A* rstd,
                    A* running_mean, A* running_var) {
  size_t first = 0;
  for (int64_t part = 0; part < a.parts(); ++part) {
    size_t last = first;
    while (last < chunks.size() && chunks[last].part == part) ++last;
    const A count = static_cast<A>(a.rows_of(part));
    A *const m = mean + part * a.channels, *const r = rstd + part * a.channels;
    std::fill(m, m + a.channels, A(0));
    std::fill(r, r + a.channels, A(0));
    for (size_t i = first; i < last; ++i) {
      const A* const chunk = partials + static_cast<int64_t>(i) * 2 * a.channels;
      const A share = static_cast<A>(chunks[i].end - chunks[i].begin) / count;
      for (int64_t c = 0; c < a.channels; ++c) m[c] = fused(share, chunk[c], m[c]);
    }
    for (size_t i = first; i < last; ++i) {
      const A* const chunk = partials + static_cast<int64_t>(i) * 2 * a.channels;
      const A rows = static_cast<A>(chunks[i].end - chunks[i].begin);
      for (int64_t c = 0; c < a.channels; ++c) {
        const A distance = chunk[c] - m[c];
        r[c] += fused(rows * distance, distance, chunk[a.channels + c]);
      }
    }
    finish_part(a, static_cast<double>(a.rows_of(part)), m, r, running_mean, running_var);
    first = last;
  }
}

// The same from sums over all processes.
template <class A>
void finish_sums(const NormArguments& a, const double* sums, A* mean, A* rstd, A* running_mean, A* running_var) {
  for (int64_t part = 0; part < a.parts(); ++part) {
    const double* const of_part = sums + part * (2 * a.channels + 1);
    const double rows = of_part[2 * a.channels];
    REQUIRE(rows > 1, "batch_norm_act: a part has a single value for each channel in all processes together");
    A *const m = mean + part * a.channels, *const r = rstd + part * a.channels;
    for (int64_t c = 0; c < a.channels; ++c) {
      const double average = of_part[c] / rows, squares = of_part[a.channels + c] - of_part[c] * average;
      m[c] = static_cast<A>(average);
      r[c] = static_cast<A>(squares < 0 ? 0.0 : squares);
    }
    finish_part(a, rows, m, r, running_mean, running_var);
  }
}

// Sums over each part from those of its chunks, or from their means and squared distances.
template <class A>
void write_sums(const NormArguments& a, const std::vector<NormChunk>& chunks, const std::vector<A>& partials,
                bool moments, double* sums) {
  const int64_t both = 2 * a.channels;
  std::fill(sums, sums + a.parts() * (both + 1), 0.0);
  for (size_t i = 0; i < chunks.size(); ++i) {
    double* const of_part = sums + chunks[i].part * (both + 1);
    const A* const chunk = partials.data() + static_cast<int64_t>(i) * both;
    const double rows = static_cast<double>(chunks[i].end - chunks[i].begin);
    for (int64_t c = 0; c < a.channels; ++c) {
      const double first = static_cast<double>(chunk[c]), second = static_cast<double>(chunk[a.channels + c]);
      of_part[c] += moments ? rows * first : first;
      of_part[a.channels + c] += moments ? second + rows * first * first : second;
    }
    of_part[both] += rows;
  }
}

template <class T, class A>
std::vector<A> chunk_moments(const NormArguments& a, const std::vector<NormChunk>& chunks, const Tensor& x) {
  std::vector<A> partials(chunks.size() * 2 * static_cast<size_t>(a.channels));
  const int64_t units = static_cast<int64_t>(chunks.size()) * tiles_of(a);
  for_rows(units, 4, ChunkMoments<T, A>{a, chunks, const_data<T>(x), partials.data()});
  return partials;
}

template <class T, class A>
void forward(const NormArguments& a, const Tensor& x, const Tensor& weight, const Tensor& bias,
             const std::optional<Tensor>& sums, const NormOutputs& out, A* running_mean, A* running_var) {
  const std::vector<NormChunk> chunks = chunks_of(a, kChunk), blocks = chunks_of(a, kBlock);
  A *const mean = data<A>(out.mean), *const rstd = data<A>(out.rstd);
  if (sums) {
    finish_sums(a, const_data<double>(*sums), mean, rstd, running_mean, running_var);
  } else {
    finish_moments(a, chunks, chunk_moments<T, A>(a, chunks, x).data(), mean, rstd, running_mean, running_var);
  }
  for_rows(static_cast<int64_t>(blocks.size()), std::max<int64_t>(1, 16384 / (kBlock * a.channels)),
           NormRows<T, A>{a, blocks, const_data<T>(x), mean, rstd, const_data<A>(weight), const_data<A>(bias),
                          data<T>(out.y)});
}

template <class T, class A>
std::vector<A> chunk_gradients(const NormArguments& a, const std::vector<NormChunk>& chunks, const Tensor& grad_y,
                               const Tensor& x, const Tensor& mean, const Tensor& rstd, const Tensor& weight,
                               const Tensor& bias) {
  std::vector<A> partials(chunks.size() * 2 * static_cast<size_t>(a.channels));
  const int64_t units = static_cast<int64_t>(chunks.size()) * tiles_of(a);
  for_rows(units, 4,
           ChunkGradients<T, A>{a, chunks, const_data<T>(grad_y), const_data<T>(x), const_data<A>(mean),
                                const_data<A>(rstd), const_data<A>(weight), const_data<A>(bias), partials.data()});
  return partials;
}

// The means of each part from the sums of its chunks, and the gradients of weight and bias, unless they are null.
template <class A>
void finish_gradients(const NormArguments& a, const std::vector<NormChunk>& chunks, const std::vector<A>& partials,
                      A* means, A* grad_weight, A* grad_bias) {
  const int64_t both = 2 * a.channels;
  std::vector<A> totals(static_cast<size_t>(both), A(0));
  size_t chunk = 0;
  for (int64_t part = 0; part < a.parts(); ++part) {
    A* const sums = means + part * both;
    for (; chunk < chunks.size() && chunks[chunk].part == part; ++chunk)
      for (int64_t i = 0; i < both; ++i)
        sums[i] += partials[chunk * static_cast<size_t>(both) + static_cast<size_t>(i)];
    for (int64_t i = 0; i < both; ++i) totals[static_cast<size_t>(i)] += sums[i];
    for (int64_t i = 0; i < both; ++i) sums[i] /= static_cast<A>(a.rows_of(part));
  }
  if (grad_weight) {
    std::copy_n(totals.data(), a.channels, grad_bias);
    std::copy_n(totals.data() + a.channels, a.channels, grad_weight);
  }
}

template <class T, class A>
void backward(const NormArguments& a, const Tensor& grad_y, const Tensor& x, const Tensor& mean, const Tensor& rstd,
              const Tensor& weight, const Tensor& bias, bool of_weights, const std::optional<Tensor>& sums,
              const NormGradients& out) {
  const std::vector<NormChunk> blocks = chunks_of(a, kBlock);
  const int64_t both = 2 * a.channels;
  std::vector<A> means(static_cast<size_t>(a.parts() * both), A(0));
  if (sums) {
    for (int64_t part = 0; part < a.parts(); ++part) {
      const double* const of_part = const_data<double>(*sums) + part * (both + 1);
      for (int64_t i = 0; i < both; ++i)
        means[static_cast<size_t>(part * both + i)] = static_cast<A>(of_part[i] / of_part[both]);
    }
  } else {
    const std::vector<NormChunk> chunks = chunks_of(a, kChunk);
    finish_gradients(a, chunks, chunk_gradients<T, A>(a, chunks, grad_y, x, mean, rstd, weight, bias), means.data(),
                     of_weights ? data<A>(out.weight) : nullptr, of_weights ? data<A>(out.bias) : nullptr);
  }
  for_rows(
      static_cast<int64_t>(blocks.size()), std::max<int64_t>(1, 16384 / (kBlock * a.channels)),
      GradientRows<T, A>{a, blocks, const_data<T>(grad_y), const_data<T>(x), const_data<A>(mean), const_data<A>(rstd),
                         const_data<A>(weight), const_data<A>(bias), means.data(), data<T>(out.x)});
}

std::tuple<Tensor, Tensor, Tensor> batch_norm_act_cpu(Tensor x, Tensor weight, Tensor bias,
                                                      std::optional<Tensor> running_mean,
                                                      std::optional<Tensor> running_var, std::optional<Tensor> batches,
                                                      std::vector<int64_t> parts, double eps, double momentum,
                                                      double slope, std::optional<Tensor> sums) {
  const NormArguments a =
      check_norm_forward(x, weight, bias, running_mean, running_var, batches, parts, eps, momentum, slope, sums);
  const NormOutputs out = allocate_norm(a, x);
  with_types<Half, BFloat16>(a.dtype, [&](auto value, auto accumulated) {
    using A = decltype(accumulated);
    forward<decltype(value), A>(a, x, weight, bias, sums, out, data<A>(running_mean), data<A>(running_var));
  });
  if (batches) *data<int64_t>(*batches) += a.parts();
  return {out.y, out.mean, out.rstd};
}

std::tuple<Tensor, Tensor, Tensor> batch_norm_act_backward_cpu(Tensor grad_y, Tensor x, Tensor mean, Tensor rstd,
                                                               Tensor weight, Tensor bias, std::vector<int64_t> parts,
                                                               double slope, bool of_weights,
                                                               std::optional<Tensor> sums) {
  const NormArguments a = check_norm_gradients(grad_y, x, mean, rstd, weight, bias, parts, slope, of_weights, sums);
  const NormGradients out = allocate_norm_gradients(a, x, of_weights);
  with_types<Half, BFloat16>(a.dtype, [&](auto value, auto accumulated) {
    backward<decltype(value), decltype(accumulated)>(a, grad_y, x, mean, rstd, weight, bias, of_weights, sums, out);
  });
  return {out.x, out.weight, out.bias};
}

Tensor batch_norm_act_sums_cpu(Tensor x, std::vector<int64_t> parts) {
  const NormArguments a = check_norm_rows(x, parts, true);
  const Tensor sums = allocate_norm_sums(a, x);
  const std::vector<NormChunk> chunks = chunks_of(a, kChunk);
  with_types<Half, BFloat16>(a.dtype, [&](auto value, auto accumulated) {
    write_sums(a, chunks, chunk_moments<decltype(value), decltype(accumulated)>(a, chunks, x), true,
               data<double>(sums));
  });
  return sums;
}

Tensor batch_norm_act_backward_sums_cpu(Tensor grad_y, Tensor x, Tensor mean, Tensor rstd, Tensor weight, Tensor bias,
                                        std::vector<int64_t> parts, double slope) {
  const NormArguments a = check_norm_backward(grad_y, x, mean, rstd, weight, bias, parts, slope, std::nullopt, true);
  const Tensor sums = allocate_norm_sums(a, x);
  const std::vector<NormChunk> chunks = chunks_of(a, kChunk);
  with_types<Half, BFloat16>(a.dtype, [&](auto value, auto accumulated) {
    using T = decltype(value);
    using A = decltype(accumulated);
    write_sums(a, chunks, chunk_gradients<T, A>(a, chunks, grad_y, x, mean, rstd, weight, bias), false,
               data<double>(sums));
  });
  return sums;
}

}  // namespace
}  // namespace infogan_fast

STABLE_TORCH_LIBRARY_IMPL(infogan_fast, CPU, m) {
  m.impl("batch_norm_act", TORCH_BOX(&infogan_fast::batch_norm_act_cpu));
  m.impl("batch_norm_act_backward", TORCH_BOX(&infogan_fast::batch_norm_act_backward_cpu));
  m.impl("batch_norm_act_sums", TORCH_BOX(&infogan_fast::batch_norm_act_sums_cpu));
  m.impl("batch_norm_act_backward_sums", TORCH_BOX(&infogan_fast::batch_norm_act_backward_sums_cpu));
}
