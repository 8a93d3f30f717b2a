// The kernels behind batch_norm_act. A block takes 32 channels of a run of rows: 4 threads side by side read 8 channels
// each, in 128-bit loads where rows lie on 16-byte boundaries, and 64 rows at once. Where a part of the batch has few
// rows, one kernel does everything and reads them again from the cache. Where it has many, a first kernel leaves sums
// of chunks of rows, and the blocks of the second add them up before they write. Where several processes share a part,
// the sums of its chunks are added up in global memory, for them to add, and the second kernel takes what they give.
// Sums are taken in an order that depends on the sizes alone. No atomics.
#pragma once
#include "batch_norm_act/norm_rule.h"
#include "common/convert.cuh"

namespace infogan_fast {

constexpr int kNormThreads = 256;
constexpr int kNormWarps = kNormThreads / 32;
constexpr int kNormWidth = 8;  // channels of a thread
constexpr int kNormLanes = 4;  // threads side by side
constexpr int kNormColumns = kNormWidth * kNormLanes;
constexpr int kNormRows = kNormThreads / kNormLanes;  // rows of a block at once
constexpr int kNormWholeRows = 512;                   // of a part, up to which one kernel does everything
constexpr int kNormBlocks = 264;                      // about two for each processor of a large GPU
constexpr int kNormParts = 16;

struct NormLayout {
  int64_t channels;
  int64_t chunk_rows;
  int32_t parts, chunks;
  bool vectors;  // rows begin on 16-byte boundaries and are whole vectors long
  double eps, momentum, slope;
  int64_t starts[kNormParts + 1];        // of each part, in rows, and the end
  int32_t first_chunks[kNormParts + 1];  // of each part, and the number of chunks

  INFOGAN_FAST_HD int64_t rows_of(int32_t part) const { return starts[part + 1] - starts[part]; }
};

// What a thread works on, and the block's shared memory.
template <class A>
struct NormBlock {
  int64_t column;  // the thread's first channel
  int count;       // of the thread's channels
  int row;         // of the thread among the block's rows
  A* scratch;      // [kNormWarps, up to 2, kNormColumns]
  A* totals;       // [2, kNormColumns]

  // Of the thread's first channel within the block's.
  __device__ int place() const { return static_cast<int>(threadIdx.x) % kNormLanes * kNormWidth; }
};

template <class A>
__device__ NormBlock<A> norm_block(const NormLayout& a, A* scratch, A* totals) {
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kNormColumns + thread % kNormLanes * kNormWidth;
  const int64_t left = a.channels - column;
  const int count = left >= kNormWidth ? kNormWidth : left > 0 ? static_cast<int>(left) : 0;
  return NormBlock<A>{column, count, thread / kNormLanes, scratch, totals};
}

template <class T, class A>
__device__ void load_channels(const NormLayout& a, const NormBlock<A>& b, const T* values, int64_t row,
                              A (&to)[kNormWidth]) {
  const T* from = values + row * a.channels + b.column;
  if (a.vectors && b.count == kNormWidth) {
    using V = Vector<T>;
#pragma unroll
    for (int v = 0; v < kNormWidth / V::kCount; ++v) {
      const V loaded = reinterpret_cast<const V*>(from)[v];
#pragma unroll
      for (int j = 0; j < V::kCount; ++j) to[v * V::kCount + j] = widen(loaded.values[j]);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kNormWidth; ++i) to[i] = i < b.count ? static_cast<A>(widen(from[i])) : A(0);
}

template <class T, class A>
__device__ void store_channels(const NormLayout& a, const NormBlock<A>& b, T* values, int64_t row,
                               const A (&from)[kNormWidth]) {
  T* to = values + row * a.channels + b.column;
  if (a.vectors && b.count == kNormWidth) {
    using V = Vector<T>;
#pragma unroll
    for (int v = 0; v < kNormWidth / V::kCount; ++v) {
      V stored;
#pragma unroll
      for (int j = 0; j < V::kCount; ++j) stored.values[j] = Converter<T>::from(from[v * V::kCount + j]);
      store_vector(to + v * V::kCount, stored);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kNormWidth; ++i)
    if (i < b.count) to[i] = Converter<T>::from(from[i]);
}

// A value for each of the thread's channels, from global or shared memory.
template <class A>
__device__ void load_each(const A* from, int count, A (&to)[kNormWidth]) {
#pragma unroll
  for (int i = 0; i < kNormWidth; ++i) to[i] = i < count ? from[i] : A(0);
}

// What each warp left in `scratch`, [kNormWarps, kCount, kNormColumns], is added up to `totals`, from the quantity
// `first` on. Every thread of the block takes part; afterwards all may read the totals, until the next call's first
// barrier.
template <int kCount, class A>
__device__ void add_warps(const NormBlock<A>& b, int first) {
  const int thread = static_cast<int>(threadIdx.x);
  __syncthreads();
  if (thread < kCount * kNormColumns) {
    A sum = A(0);
#pragma unroll
    for (int warp = 0; warp < kNormWarps; ++warp) sum += b.scratch[warp * kCount * kNormColumns + thread];
    b.totals[first * kNormColumns + thread] = sum;
  }
  __syncthreads();
}

// The same of the threads' own sums.
template <int kCount, class A>
__device__ void add_threads(const NormBlock<A>& b, int first, const A (&sums)[kCount][kNormWidth]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int q = 0; q < kCount; ++q)
#pragma unroll
    for (int i = 0; i < kNormWidth; ++i) {
      A sum = sums[q][i];
#pragma unroll
      for (int offset = kNormLanes; offset < 32; offset *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
      if (lane < kNormLanes) b.scratch[(warp * kCount + q) * kNormColumns + lane * kNormWidth + i] = sum;
    }
  add_warps<kCount>(b, first);
}

// Over rows [begin, end): their sum in totals[0], the squared distances from their mean in totals[1].
template <class T, class A>
__device__ void moments(const NormLayout& a, const NormBlock<A>& b, const T* x, int64_t begin, int64_t end) {
  A sums[1][kNormWidth] = {}, mean[kNormWidth], values[kNormWidth];
  for (int64_t row = begin + b.row; row < end; row += kNormRows) {
    load_channels(a, b, x, row, values);
#pragma unroll
    for (int i = 0; i < kNormWidth; ++i) sums[0][i] += values[i];
  }
  add_threads<1>(b, 0, sums);
#pragma unroll
  for (int i = 0; i < kNormWidth; ++i) {
    mean[i] = b.totals[b.place() + i] / static_cast<A>(end - begin);
    sums[0][i] = A(0);
  }
  for (int64_t row = begin + b.row; row < end; row += kNormRows) {
    load_channels(a, b, x, row, values);
#pragma unroll
    for (int i = 0; i < kNormWidth; ++i) {
      const A distance = values[i] - mean[i];
      sums[0][i] = fused(distance, distance, sums[0][i]);
    }
  }
  add_threads<1>(b, 1, sums);
}

// Statistics that outlive the call, or null.
template <class A>
struct Running {
  A *mean, *var;
  long long* batches;
};

// Of a part of `rows` rows, by the thread of each channel: `mean` and `squares` become mean and 1 / standard deviation.
template <class A>
__device__ void finish_moments(const NormLayout& a, double rows, A& mean, A& squares, const Running<A>& running,
                               int64_t channel) {
  if (running.mean != nullptr) {
    const A momentum = static_cast<A>(a.momentum);
    A &running_mean = running.mean[channel], &running_var = running.var[channel];
    running_mean = fused(momentum, mean - running_mean, running_mean);
    running_var = fused(momentum, squares / static_cast<A>(rows - 1) - running_var, running_var);
  }
  squares = A(1) / square_root(squares / static_cast<A>(rows) + static_cast<A>(a.eps));
}

// Writes rows [begin, end) with the mean and 1 / standard deviation in `totals`.
template <class T, class A>
__device__ void write_rows(const NormLayout& a, const NormBlock<A>& b, const T* x, const A* weight, const A* bias, T* y,
                           int64_t begin, int64_t end) {
  A mean[kNormWidth], rstd[kNormWidth], w[kNormWidth], shift[kNormWidth], values[kNormWidth];
  load_each(b.totals + b.place(), kNormWidth, mean);
  load_each(b.totals + kNormColumns + b.place(), kNormWidth, rstd);
  load_each(weight + b.column, b.count, w);
  load_each(bias + b.column, b.count, shift);
  const A slope = static_cast<A>(a.slope);
  for (int64_t row = begin + b.row; row < end; row += kNormRows) {
    load_channels(a, b, x, row, values);
#pragma unroll
    for (int i = 0; i < kNormWidth; ++i)
      values[i] = leaky_relu(normalised(values[i], mean[i], rstd[i], w[i], shift[i]).scaled, slope);
    store_channels(a, b, y, row, values);
  }
}

// Forward, parts of few rows: a block goes through all of them, since each moves the running statistics in turn.
template <class T, class A>
__global__ void __launch_bounds__(kNormThreads, sizeof(A) == 4 ? 2 : 1)
    batch_norm_act_kernel(const NormLayout a, const T* x, const A* weight, const A* bias, Running<A> running, T* y,
                          A* mean, A* rstd) {
  SHARED(A, scratch, kNormWarps * kNormColumns);
  SHARED(A, totals, 2 * kNormColumns);
  const NormBlock<A> b = norm_block(a, scratch, totals);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kNormColumns + thread;
  for (int32_t part = 0; part < a.parts; ++part) {
    const int64_t rows = a.rows_of(part);
    moments(a, b, x, a.starts[part], a.starts[part + 1]);
    if (thread < kNormColumns && channel < a.channels) {
      A &m = totals[thread], &r = totals[kNormColumns + thread];
      m /= static_cast<A>(rows);
      finish_moments(a, static_cast<double>(rows), m, r, running, channel);
      mean[part * a.channels + channel] = m;
      rstd[part * a.channels + channel] = r;
    }
    __syncthreads();
    write_rows(a, b, x, weight, bias, y, a.starts[part], a.starts[part + 1]);
  }
  if (running.batches != nullptr && blockIdx.x == 0 && thread == 0) *running.batches += a.parts;
}

__device__ inline int32_t part_of(const NormLayout& a, int32_t chunk) {
  int32_t part = 0;
  while (chunk >= a.first_chunks[part + 1]) ++part;
  return part;
}

__device__ inline int64_t chunk_begin(const NormLayout& a, int32_t part, int32_t chunk) {
  return a.starts[part] + (chunk - a.first_chunks[part]) * a.chunk_rows;
}

__device__ inline int64_t chunk_end(const NormLayout& a, int32_t part, int32_t chunk) {
  const int64_t end = chunk_begin(a, part, chunk) + a.chunk_rows;
  return end < a.starts[part + 1] ? end : a.starts[part + 1];
}

// Forward, parts of many rows, first kernel: mean and squared distances of each chunk, partials [chunks, 2, channels].
template <class T, class A>
__global__ void __launch_bounds__(kNormThreads, sizeof(A) == 4 ? 2 : 1)
    batch_norm_act_moments_kernel(const NormLayout a, const T* x, A* partials) {
  SHARED(A, scratch, kNormWarps * kNormColumns);
  SHARED(A, totals, 2 * kNormColumns);
  const NormBlock<A> b = norm_block(a, scratch, totals);
  const int32_t chunk = static_cast<int32_t>(blockIdx.y), part = part_of(a, chunk);
  const int64_t begin = chunk_begin(a, part, chunk), end = chunk_end(a, part, chunk);
  moments(a, b, x, begin, end);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kNormColumns + thread;
  if (thread < kNormColumns && channel < a.channels) {
    A* const out = partials + static_cast<int64_t>(chunk) * 2 * a.channels + channel;
    out[0] = totals[thread] / static_cast<A>(end - begin);
    out[a.channels] = totals[kNormColumns + thread];
  }
}

// The moments of a part from those of its chunks: mean in totals[0], squared distances in totals[1]. In one pass over
// the chunks, whose means are taken from the first one's, so that the difference of squares loses nothing.
template <class A>
__device__ void combine_moments(const NormLayout& a, const NormBlock<A>& b, const A* partials, int32_t part) {
  const int thread = static_cast<int>(threadIdx.x), place = thread % kNormColumns, group = thread / kNormColumns;
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kNormColumns + place;
  const int32_t first = a.first_chunks[part], last = a.first_chunks[part + 1];
  const A rows = static_cast<A>(a.rows_of(part));
  const A* const from = partials + channel;
  A origin = A(0), sum = A(0), squares = A(0);
  if (channel < a.channels) {
    origin = from[static_cast<int64_t>(first) * 2 * a.channels];
#pragma unroll 4
    for (int32_t chunk = first + group; chunk < last; chunk += kNormWarps) {
      const A count = static_cast<A>(chunk_end(a, part, chunk) - chunk_begin(a, part, chunk));
      const A distance = from[static_cast<int64_t>(chunk) * 2 * a.channels] - origin;
      sum = fused(count, distance, sum);
      squares += fused(count * distance, distance, from[(static_cast<int64_t>(chunk) * 2 + 1) * a.channels]);
    }
  }
  b.scratch[group * 2 * kNormColumns + place] = sum;
  b.scratch[(group * 2 + 1) * kNormColumns + place] = squares;
  add_warps<2>(b, 0);
  if (thread < kNormColumns) {  // the threads that use them until the next barrier
    const A shift = b.totals[thread] / rows;
    b.totals[kNormColumns + thread] = fused(-rows * shift, shift, b.totals[kNormColumns + thread]);
    b.totals[thread] = origin + shift;
  }
}

// What processes share of a part, see allocate_norm_sums(); null where one has all of it.
INFOGAN_FAST_HD const double* sums_of_part(const NormLayout& a, const double* sums, int32_t part) {
  return sums == nullptr ? nullptr : sums + part * (2 * a.channels + 1);
}

// The moments of a part as combine_moments() leaves them. Returns its number of rows.
template <class A>
__device__ double moments_of_part(const NormLayout& a, const NormBlock<A>& b, const A* partials, const double* sums,
                                  int32_t part) {
  if (sums == nullptr) {
    combine_moments(a, b, partials, part);
    return static_cast<double>(a.rows_of(part));
  }
  const double* const shared = sums_of_part(a, sums, part);
  const double rows = shared[2 * a.channels];
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kNormColumns + thread;
  __syncthreads();  // the totals may still be read
  if (thread < kNormColumns && channel < a.channels) {
    const double mean = shared[channel] / rows, squares = shared[a.channels + channel] - shared[channel] * mean;
    b.totals[thread] = static_cast<A>(mean);
    b.totals[kNormColumns + thread] = static_cast<A>(squares < 0.0 ? 0.0 : squares);
  }
  return rows;
}

// Second kernel: each block adds up its part's chunks and writes its own; those of the first chunk also move the
// running statistics.
template <class T, class A>
__global__ void __launch_bounds__(kNormThreads, sizeof(A) == 4 ? 2 : 1)
    batch_norm_act_rows_kernel(const NormLayout a, const T* x, const A* weight, const A* bias, const A* partials,
                               const double* sums, Running<A> running, T* y, A* mean, A* rstd) {
  SHARED(A, scratch, 2 * kNormWarps * kNormColumns);
  SHARED(A, totals, 2 * kNormColumns);
  const NormBlock<A> b = norm_block(a, scratch, totals);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kNormColumns + thread;
  const bool has_channel = thread < kNormColumns && channel < a.channels;
  const int32_t chunk = static_cast<int32_t>(blockIdx.y), part = part_of(a, chunk);
  A &m = totals[thread % kNormColumns], &r = totals[kNormColumns + thread % kNormColumns];
  const double rows = moments_of_part(a, b, partials, sums, part);
  if (has_channel) {
    finish_moments(a, rows, m, r, Running<A>{}, channel);
    if (chunk == a.first_chunks[part]) {
      mean[part * a.channels + channel] = m;
      rstd[part * a.channels + channel] = r;
    }
  }
  __syncthreads();
  write_rows(a, b, x, weight, bias, y, chunk_begin(a, part, chunk), chunk_end(a, part, chunk));
  if (running.mean == nullptr || chunk != 0) return;
  for (int32_t each = 0; each < a.parts; ++each) {
    const double of_each = moments_of_part(a, b, partials, sums, each);
    if (has_channel) finish_moments(a, of_each, m, r, running, channel);
  }
  if (blockIdx.x == 0 && thread == 0) *running.batches += a.parts;
}

// What a thread knows of its channels on the way back.
template <class A>
struct NormChannels {
  A mean[kNormWidth], rstd[kNormWidth], weight[kNormWidth], bias[kNormWidth];
};

template <class A>
__device__ NormChannels<A> norm_channels(const NormLayout& a, const NormBlock<A>& b, int32_t part, const A* mean,
                                         const A* rstd, const A* weight, const A* bias) {
  NormChannels<A> c;
  load_each(mean + part * a.channels + b.column, b.count, c.mean);
  load_each(rstd + part * a.channels + b.column, b.count, c.rstd);
  load_each(weight + b.column, b.count, c.weight);
  load_each(bias + b.column, b.count, c.bias);
  return c;
}

// The gradient before the activation and the normalised value of a row's channels.
template <class T, class A>
__device__ void load_gradients(const NormLayout& a, const NormBlock<A>& b, const NormChannels<A>& c, const T* grad_y,
                               const T* x, int64_t row, A (&gradients)[kNormWidth], A (&centred)[kNormWidth]) {
  load_channels(a, b, x, row, centred);
  load_channels(a, b, grad_y, row, gradients);
  const A slope = static_cast<A>(a.slope);
#pragma unroll
  for (int i = 0; i < kNormWidth; ++i) {
    const Normalised<A> n = normalised(centred[i], c.mean[i], c.rstd[i], c.weight[i], c.bias[i]);
    gradients[i] = through_leaky_relu(gradients[i], n.scaled, slope);
    centred[i] = n.centred;
  }
}

// Over rows [begin, end): the gradient's sum in totals[0], that of its product with the normalised value in totals[1].
template <class T, class A>
__device__ void gradient_sums(const NormLayout& a, const NormBlock<A>& b, const NormChannels<A>& c, const T* grad_y,
                              const T* x, int64_t begin, int64_t end) {
  A sums[2][kNormWidth] = {}, gradients[kNormWidth], centred[kNormWidth];
  for (int64_t row = begin + b.row; row < end; row += kNormRows) {
    load_gradients(a, b, c, grad_y, x, row, gradients, centred);
#pragma unroll
    for (int i = 0; i < kNormWidth; ++i) {
      sums[0][i] += gradients[i];
      sums[1][i] = fused(gradients[i], centred[i], sums[1][i]);
    }
  }
  add_threads<2>(b, 0, sums);
}

// Writes the gradients of rows [begin, end) of a part whose sums are in `totals`.
template <class T, class A>
__device__ void write_gradients(const NormLayout& a, const NormBlock<A>& b, const NormChannels<A>& c, const T* grad_y,
                                const T* x, T* grad_x, double rows, int64_t begin, int64_t end) {
  A gradients[kNormWidth], centred[kNormWidth], mean_gradient[kNormWidth], mean_product[kNormWidth];
#pragma unroll
  for (int i = 0; i < kNormWidth; ++i) {
    mean_gradient[i] = b.totals[b.place() + i] / static_cast<A>(rows);
    mean_product[i] = b.totals[kNormColumns + b.place() + i] / static_cast<A>(rows);
  }
  for (int64_t row = begin + b.row; row < end; row += kNormRows) {
    load_gradients(a, b, c, grad_y, x, row, gradients, centred);
#pragma unroll
    for (int i = 0; i < kNormWidth; ++i)
      gradients[i] =
          norm_gradient(gradients[i], centred[i], mean_gradient[i], mean_product[i], c.weight[i] * c.rstd[i]);
    store_channels(a, b, grad_x, row, gradients);
  }
}

// Backward, parts of few rows.
template <class T, class A>
__global__ void __launch_bounds__(kNormThreads, sizeof(A) == 4 ? 2 : 1)
    batch_norm_act_backward_kernel(const NormLayout a, const T* grad_y, const T* x, const A* mean, const A* rstd,
                                   const A* weight, const A* bias, T* grad_x, A* grad_weight, A* grad_bias) {
  SHARED(A, scratch, 2 * kNormWarps * kNormColumns);
  SHARED(A, totals, 2 * kNormColumns);
  const NormBlock<A> b = norm_block(a, scratch, totals);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kNormColumns + thread;
  A of_weight = A(0), of_bias = A(0);
  for (int32_t part = 0; part < a.parts; ++part) {
    const int64_t begin = a.starts[part], end = a.starts[part + 1];
    const NormChannels<A> c = norm_channels(a, b, part, mean, rstd, weight, bias);
    gradient_sums(a, b, c, grad_y, x, begin, end);
    if (thread < kNormColumns) {
      of_bias += totals[thread];
      of_weight += totals[kNormColumns + thread];
    }
    write_gradients(a, b, c, grad_y, x, grad_x, static_cast<double>(end - begin), begin, end);
  }
  if (grad_weight != nullptr && thread < kNormColumns && channel < a.channels) {
    grad_weight[channel] = of_weight;
    grad_bias[channel] = of_bias;
  }
}

// Backward, parts of many rows, first kernel: the sums of each chunk, partials [chunks, 2, channels].
template <class T, class A>
__global__ void __launch_bounds__(kNormThreads, sizeof(A) == 4 ? 2 : 1)
    batch_norm_act_sums_kernel(const NormLayout a, const T* grad_y, const T* x, const A* mean, const A* rstd,
                               const A* weight, const A* bias, A* partials) {
  SHARED(A, scratch, 2 * kNormWarps * kNormColumns);
  SHARED(A, totals, 2 * kNormColumns);
  const NormBlock<A> b = norm_block(a, scratch, totals);
  const int32_t chunk = static_cast<int32_t>(blockIdx.y), part = part_of(a, chunk);
  const NormChannels<A> c = norm_channels(a, b, part, mean, rstd, weight, bias);
  gradient_sums(a, b, c, grad_y, x, chunk_begin(a, part, chunk), chunk_end(a, part, chunk));
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kNormColumns + thread;
  if (thread < kNormColumns && channel < a.channels) {
    A* const out = partials + static_cast<int64_t>(chunk) * 2 * a.channels + channel;
    out[0] = totals[thread];
    out[a.channels] = totals[kNormColumns + thread];
  }
}

// The sums of a part from those of its chunks, in `totals`.
template <class A>
__device__ void combine_sums(const NormLayout& a, const NormBlock<A>& b, const A* partials, int32_t part) {
  const int thread = static_cast<int>(threadIdx.x), place = thread % kNormColumns, group = thread / kNormColumns;
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kNormColumns + place;
  A gradient = A(0), product = A(0);
  if (channel < a.channels) {
#pragma unroll 4
    for (int32_t chunk = a.first_chunks[part] + group; chunk < a.first_chunks[part + 1]; chunk += kNormWarps) {
      const A* const from = partials + static_cast<int64_t>(chunk) * 2 * a.channels + channel;
      gradient += from[0];
      product += from[a.channels];
    }
  }
  b.scratch[group * 2 * kNormColumns + place] = gradient;
  b.scratch[(group * 2 + 1) * kNormColumns + place] = product;
  add_warps<2>(b, 0);
}

// The sums of a part as combine_sums() leaves them. Returns its number of rows.
template <class A>
__device__ double gradients_of_part(const NormLayout& a, const NormBlock<A>& b, const A* partials, const double* sums,
                                    int32_t part) {
  if (sums == nullptr) {
    combine_sums(a, b, partials, part);
    return static_cast<double>(a.rows_of(part));
  }
  const double* const shared = sums_of_part(a, sums, part);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kNormColumns + thread;
  if (thread < kNormColumns && channel < a.channels) {
    b.totals[thread] = static_cast<A>(shared[channel]);
    b.totals[kNormColumns + thread] = static_cast<A>(shared[a.channels + channel]);
  }
  __syncthreads();
  return shared[2 * a.channels];
}

// The sums of each part for other processes to add theirs, from those of its chunks, or from their moments.
template <bool kMoments, class A>
__global__ void __launch_bounds__(kNormThreads)
    batch_norm_act_parts_kernel(const NormLayout a, const A* partials, double* sums) {
  SHARED(double, scratch, 2 * kNormWarps * kNormColumns);
  SHARED(double, totals, 2 * kNormColumns);
  const NormBlock<double> b = norm_block(a, scratch, totals);
  const int thread = static_cast<int>(threadIdx.x), place = thread % kNormColumns, group = thread / kNormColumns;
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kNormColumns + place;
  const int32_t part = static_cast<int32_t>(blockIdx.y);
  double first = 0.0, second = 0.0;
  if (channel < a.channels) {
    for (int32_t chunk = a.first_chunks[part] + group; chunk < a.first_chunks[part + 1]; chunk += kNormWarps) {
      const A* const from = partials + static_cast<int64_t>(chunk) * 2 * a.channels + channel;
      const double value = static_cast<double>(from[0]), squares = static_cast<double>(from[a.channels]);
      const double rows = static_cast<double>(chunk_end(a, part, chunk) - chunk_begin(a, part, chunk));
      first += kMoments ? rows * value : value;
      second += kMoments ? squares + rows * value * value : squares;
    }
  }
  b.scratch[group * 2 * kNormColumns + place] = first;
  b.scratch[(group * 2 + 1) * kNormColumns + place] = second;
  add_warps<2>(b, 0);
  double* const out = sums + part * (2 * a.channels + 1);
  if (thread < kNormColumns && channel < a.channels) {
    out[channel] = totals[thread];
    out[a.channels + channel] = totals[kNormColumns + thread];
  }
  if (blockIdx.x == 0 && thread == 0) out[2 * a.channels] = static_cast<double>(a.rows_of(part));
}

// Second kernel: each block adds up its part's chunks and writes its own; those of the first chunk also write the
// gradients of weight and bias.
template <class T, class A>
__global__ void __launch_bounds__(kNormThreads, sizeof(A) == 4 ? 2 : 1)
    batch_norm_act_gradients_kernel(const NormLayout a, const T* grad_y, const T* x, const A* mean, const A* rstd,
                                    const A* weight, const A* bias, const A* partials, const double* sums, T* grad_x,
                                    A* grad_weight, A* grad_bias) {
  SHARED(A, scratch, 2 * kNormWarps * kNormColumns);
  SHARED(A, totals, 2 * kNormColumns);
  const NormBlock<A> b = norm_block(a, scratch, totals);
  const int32_t chunk = static_cast<int32_t>(blockIdx.y), part = part_of(a, chunk);
  const double rows = gradients_of_part(a, b, partials, sums, part);
  const NormChannels<A> c = norm_channels(a, b, part, mean, rstd, weight, bias);
  write_gradients(a, b, c, grad_y, x, grad_x, rows, chunk_begin(a, part, chunk), chunk_end(a, part, chunk));
  if (grad_weight == nullptr || chunk != 0) return;
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kNormColumns + thread;
  A of_weight = A(0), of_bias = A(0);
  for (int32_t each = 0; each < a.parts; ++each) {
    combine_sums(a, b, partials, each);
    if (thread < kNormColumns) {
      of_bias += totals[thread];
      of_weight += totals[kNormColumns + thread];
    }
  }
  if (thread < kNormColumns && channel < a.channels) {
    grad_weight[channel] = of_weight;
    grad_bias[channel] = of_bias;
  }
}

// Whether one kernel does everything.
inline bool norm_is_whole(const NormLayout& a) {
  int64_t most = 0;
  for (int32_t part = 0; part < a.parts; ++part) most = a.rows_of(part) > most ? a.rows_of(part) : most;
  return most <= kNormWholeRows;
}

// Fills in the chunks, by the sizes alone.
inline void cut_into_chunks(NormLayout& a) {
  const int64_t tiles = (a.channels + kNormColumns - 1) / kNormColumns;
  const int64_t rows = a.starts[a.parts] * tiles / kNormBlocks;
  a.chunk_rows = (rows / kNormRows + 1) * kNormRows;
  a.first_chunks[0] = 0;
  for (int32_t part = 0; part < a.parts; ++part)
    a.first_chunks[part + 1] =
        a.first_chunks[part] + static_cast<int32_t>((a.rows_of(part) + a.chunk_rows - 1) / a.chunk_rows);
  a.chunks = a.first_chunks[a.parts];
}

inline dim3 norm_grid(const NormLayout& a, bool whole) {
  const unsigned tiles = static_cast<unsigned>((a.channels + kNormColumns - 1) / kNormColumns);
  return whole ? dim3(tiles) : dim3(tiles, static_cast<unsigned>(a.chunks));
}

// `a` has its chunks; `partials` holds chunks * 2 * channels values, unless one kernel does everything or `sums` are
// given.
template <class T, class A>
void launch_batch_norm_act(const NormLayout& a, const T* x, const A* weight, const A* bias, const Running<A>& running,
                           A* partials, const double* sums, T* y, A* mean, A* rstd, cudaStream_t stream) {
  const dim3 threads(kNormThreads);
  if (sums == nullptr && norm_is_whole(a)) {
    launch(batch_norm_act_kernel<T, A>, norm_grid(a, true), threads, 0, stream, a, x, weight, bias, running, y, mean,
           rstd);
    return;
  }
  if (sums == nullptr)
    launch(batch_norm_act_moments_kernel<T, A>, norm_grid(a, false), threads, 0, stream, a, x, partials);
  launch(batch_norm_act_rows_kernel<T, A>, norm_grid(a, false), threads, 0, stream, a, x, weight, bias, partials, sums,
         running, y, mean, rstd);
}

inline dim3 norm_parts_grid(const NormLayout& a) { return dim3(norm_grid(a, true).x, static_cast<unsigned>(a.parts)); }

template <class T, class A>
void launch_batch_norm_act_sums(const NormLayout& a, const T* x, A* partials, double* sums, cudaStream_t stream) {
  const dim3 threads(kNormThreads);
  launch(batch_norm_act_moments_kernel<T, A>, norm_grid(a, false), threads, 0, stream, a, x, partials);
  launch(batch_norm_act_parts_kernel<true, A>, norm_parts_grid(a), threads, 0, stream, a, partials, sums);
}

template <class T, class A>
void launch_batch_norm_act_backward_sums(const NormLayout& a, const T* grad_y, const T* x, const A* mean, const A* rstd,
                                         const A* weight, const A* bias, A* partials, double* sums,
                                         cudaStream_t stream) {
  const dim3 threads(kNormThreads);
  launch(batch_norm_act_sums_kernel<T, A>, norm_grid(a, false), threads, 0, stream, a, grad_y, x, mean, rstd, weight,
         bias, partials);
  launch(batch_norm_act_parts_kernel<false, A>, norm_parts_grid(a), threads, 0, stream, a, partials, sums);
}

template <class T, class A>
void launch_batch_norm_act_backward(const NormLayout& a, const T* grad_y, const T* x, const A* mean, const A* rstd,
                                    const A* weight, const A* bias, A* partials, const double* sums, T* grad_x,
                                    A* grad_weight, A* grad_bias, cudaStream_t stream) {
  const dim3 threads(kNormThreads);
  if (sums == nullptr && norm_is_whole(a)) {
    launch(batch_norm_act_backward_kernel<T, A>, norm_grid(a, true), threads, 0, stream, a, grad_y, x, mean, rstd,
           weight, bias, grad_x, grad_weight, grad_bias);
    return;
  }
  if (sums == nullptr)
    launch(batch_norm_act_sums_kernel<T, A>, norm_grid(a, false), threads, 0, stream, a, grad_y, x, mean, rstd, weight,
           bias, partials);
  launch(batch_norm_act_gradients_kernel<T, A>, norm_grid(a, false), threads, 0, stream, a, grad_y, x, mean, rstd,
         weight, bias, partials, sums, grad_x, grad_weight, grad_bias);
}

}  // namespace infogan_fast
