// The kernels behind infogan_loss. One thread scores one row; rows of Q's output pass through shared memory, so that
// global memory is read and written in full 128-bit vectors whatever the width of a row. Sums are taken in an order
// that depends on the sizes alone: registers or warps, then warps of a block, then blocks (the second kernel, which a
// batch of up to kLoneRows does without: one block scores it and finishes). No atomics.
#pragma once
#include "common/convert.cuh"
#include "common/warp.cuh"
#include "infogan_loss/loss_row.h"
#include "math/latent_row.h"

namespace infogan_fast {

constexpr int kLossThreads = 128;
constexpr int kLossMaxBlocks = 1024;
constexpr int kLoneThreads = 512;  // at most, in a block that scores all rows
constexpr int64_t kLoneRows = 1024;
constexpr int kFinishThreads = 256;
constexpr size_t kLossShared = 48 << 10;  // bytes of shared memory of a block on every GPU

struct LossLayout {
  int64_t real_rows, fake_rows, q_rows;
  int64_t real_stride, fake_stride, q_stride;  // elements
  int32_t q_dim, n_categorical, n_continuous, n_log_variances;
  bool learned_variance;
  double log_variance;
  const float* grad_scale;
  const int32_t* categorical;
  const float* continuous;
  double* sums;  // null: the means are added to nothing
  double weights[3 + 2 * kMaxCodesOfAKind];
  int32_t sizes[kMaxCodesOfAKind];
  int32_t places[3 + 4 * kMaxCodesOfAKind];  // of each term in `sums`, -1 where it is left out
  int8_t kinds[kMaxCodesOfAKind];

  INFOGAN_FAST_HD int32_t n_codes() const { return n_categorical + n_continuous; }
  INFOGAN_FAST_HD int32_t n_terms() const { return 3 + n_codes() + n_continuous + n_log_variances; }
  // an odd row length keeps the threads of a warp on different banks
  INFOGAN_FAST_HD int32_t staged_stride() const { return q_dim | 1; }
};

struct LossGrid {
  int32_t blocks, threads;
  int32_t tile_rows;  // rows of Q's output staged at once; 0: rows are read from global memory directly

  int64_t partials(const LossLayout& a) const { return blocks > 1 ? static_cast<int64_t>(blocks) * a.n_terms() : 0; }
};

// A row in shared memory, whose elements become their exponentials and then their gradients in place.
template <class T, class A, class G>
struct StagedRow {
  A* values;
  __device__ A load(int32_t column) const { return values[column]; }
  __device__ A exponential_of(int32_t column, A top) const {
    return values[column] = exponential(values[column] - top);
  }
  __device__ A exponential_again(int32_t column, A) const { return values[column]; }
  __device__ void store(int32_t column, A gradient) const { values[column] = gradient; }
};

// A row too wide to be staged.
template <class T, class A, class G>
struct DirectRow {
  const T* values;
  G* gradients;
  __device__ A load(int32_t column) const { return widen(values[column]); }
  __device__ A exponential_of(int32_t column, A top) const { return exponential(load(column) - top); }
  __device__ A exponential_again(int32_t column, A top) const { return exponential_of(column, top); }
  __device__ void store(int32_t column, A gradient) const { gradients[column] = Converter<G>::from(gradient); }
};

template <class A>
struct Scored {
  A nll, squared_error, log_variance;
};

template <class A, class Row>
__device__ A categorical_code(const Row& row, int32_t first, int32_t size, int32_t target, A weight) {
  A top = row.load(first);
  for (int32_t k = 1; k < size; ++k) {
    const A x = row.load(first + k);
    top = x > top ? x : top;
  }
  const bool valid = target >= 0 && target < size;
  const A at_target = valid ? row.load(first + target) : A(NAN);
  A total = A(0);
  for (int32_t k = 0; k < size; ++k) total += row.exponential_of(first + k, top);
  const A factor = valid ? weight / total : A(NAN);
  for (int32_t k = 0; k < size; ++k) {
    const A gradient = weight == A(0) && valid ? A(0) : row.exponential_again(first + k, top) * factor;
    row.store(first + k, k == target ? gradient - weight : gradient);
  }
  return logarithm(total) + (top - at_target);
}

template <class A, class Row>
__device__ Scored<A> continuous_code(const Row& row, int32_t column, int32_t log_variance_column, Continuous kind,
                                     const LossLayout& a, A u, A weight) {
  if (kind == Continuous::bernoulli) {
    const Bernoulli<A> b = bernoulli(u, row.load(column));
    row.store(column, weighted(weight, b.d_logit));
    return Scored<A>{b.nll, b.squared_error, A(0)};
  }
  const A log_variance = a.learned_variance ? row.load(log_variance_column) : static_cast<A>(a.log_variance);
  const Gaussian<A> g = gaussian(u, row.load(column), log_variance);
  row.store(column, weighted(weight, g.d_mean));
  if (a.learned_variance) row.store(log_variance_column, weighted(weight, g.d_log_variance));
  return Scored<A>{g.nll, g.squared_error, g.log_variance};
}

// Every code of one row; the sum of each term over the warp goes to the warp's slot in `sums`. All lanes of the warp
// come here together, those without a row with active = false.
template <class A, class Row>
__device__ void score_row(const LossLayout& a, const Row& row, bool active, int64_t index, const A* coefficients,
                          A* sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  int32_t column = 0;
  for (int32_t code = 0; code < a.n_categorical; ++code) {
    A nll = A(0);
    if (active)
      nll = categorical_code<A>(row, column, a.sizes[code], a.categorical[index * a.n_categorical + code],
                                coefficients[3 + code]);
    nll = warp_sum(nll);
    if (lane == 0) sums[(3 + code) * warps + warp] += nll;
    column += a.sizes[code];
  }
  int32_t log_variance_column = column + a.n_continuous, log_variance_term = 3 + a.n_codes() + a.n_continuous;
  for (int32_t code = 0; code < a.n_continuous; ++code) {
    const Continuous kind = static_cast<Continuous>(a.kinds[code]);
    Scored<A> scored{A(0), A(0), A(0)};
    if (active)
      scored = continuous_code<A>(row, column + code, log_variance_column, kind, a,
                                  static_cast<A>(a.continuous[index * a.n_continuous + code]),
                                  coefficients[3 + a.n_categorical + code]);
    const A nll = warp_sum(scored.nll), squared_error = warp_sum(scored.squared_error);
    if (lane == 0) {
      sums[(3 + a.n_categorical + code) * warps + warp] += nll;
      sums[(3 + a.n_codes() + code) * warps + warp] += squared_error;
    }
    if (kind != Continuous::bernoulli && a.learned_variance) {
      const A log_variance = warp_sum(scored.log_variance);
      if (lane == 0) sums[log_variance_term * warps + warp] += log_variance;
      ++log_variance_column;
      ++log_variance_term;
    }
  }
}

// Adversarial terms of this block's rows: `positive` weighs softplus(x), `negative` softplus(-x).
template <class T, class A, class G>
__device__ void score_logits(const T* logits, int64_t stride, G* gradients, int64_t rows, A positive, A negative,
                             A& positive_sum, A& negative_sum) {
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; row < rows;
       row += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    const Binary<A> b = binary(static_cast<A>(widen(logits[row * stride])));
    positive_sum += b.softplus;
    negative_sum += b.softplus_negated;
    gradients[row] = Converter<G>::from(positive * b.sigmoid - negative * b.sigmoid_negated);
  }
}

// Global memory to the tile and back. Where the rows lie end to end, the first `vectors` * kCount elements move as
// 128-bit vectors: a tile starts on a 16-byte boundary, since its rows are a multiple of 16 and the tensor's start is
// checked.
template <class T, class A>
__device__ void stage(const LossLayout& a, const T* rows_start, int64_t stride, int32_t rows, A* tile) {
  using V = Vector<T>;
  const int32_t threads = static_cast<int32_t>(blockDim.x);
  const int32_t elements = rows * a.q_dim;
  const bool packed = stride == a.q_dim && reinterpret_cast<uintptr_t>(rows_start) % 16 == 0;
  const int32_t vectors = packed ? elements / V::kCount : 0;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < vectors; i += threads) {
    const V loaded = reinterpret_cast<const V*>(rows_start)[i];
    int32_t row = i * V::kCount / a.q_dim, column = i * V::kCount - row * a.q_dim;
#pragma unroll
    for (int j = 0; j < V::kCount; ++j) {
      tile[row * a.staged_stride() + column] = widen(loaded.values[j]);
      if (++column == a.q_dim) {
        column = 0;
        ++row;
      }
    }
  }
  for (int32_t i = vectors * V::kCount + static_cast<int32_t>(threadIdx.x); i < elements; i += threads) {
    const int32_t row = i / a.q_dim, column = i - row * a.q_dim;
    tile[row * a.staged_stride() + column] = widen(rows_start[row * stride + column]);
  }
}

template <class G, class A>
__device__ void unstage(const LossLayout& a, const A* tile, int32_t rows, G* rows_start) {
  using V = Vector<G>;
  const int32_t threads = static_cast<int32_t>(blockDim.x);
  const int32_t elements = rows * a.q_dim;
  const bool aligned = reinterpret_cast<uintptr_t>(rows_start) % 16 == 0;
  const int32_t vectors = aligned ? elements / V::kCount : 0;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < vectors; i += threads) {
    V stored;
    int32_t row = i * V::kCount / a.q_dim, column = i * V::kCount - row * a.q_dim;
#pragma unroll
    for (int j = 0; j < V::kCount; ++j) {
      stored.values[j] = Converter<G>::from(tile[row * a.staged_stride() + column]);
      if (++column == a.q_dim) {
        column = 0;
        ++row;
      }
    }
    reinterpret_cast<V*>(rows_start)[i] = stored;
  }
  for (int32_t i = vectors * V::kCount + static_cast<int32_t>(threadIdx.x); i < elements; i += threads) {
    const int32_t row = i / a.q_dim, column = i - row * a.q_dim;
    rows_start[i] = Converter<G>::from(tile[row * a.staged_stride() + column]);
  }
}

// The mean of a term, for everyone who asks for it.
template <class A>
__device__ void report(const LossLayout& a, int32_t term, double sum, double* means, A* terms) {
  const int64_t rows = term == 0 ? a.real_rows : term < 3 ? a.fake_rows : a.q_rows;
  const double mean = rows > 0 ? sum / static_cast<double>(rows) : 0.0;
  means[term] = mean;
  terms[term] = static_cast<A>(mean);
  if (a.sums != nullptr && a.places[term] >= 0) a.sums[a.places[term]] += mean;
}

template <class A>
__device__ void weigh(const LossLayout& a, const double* means, A* total) {
  double weighted = 0;
  for (int32_t term = 0; term < 3 + a.n_codes(); ++term)
    if (a.weights[term] != 0) weighted += a.weights[term] * means[term];
  *total = static_cast<A>(weighted);
}

// Shared memory: [n_terms] means in double, [n_terms, warps] sums, [3 + n_codes] coefficients, then the tile.
template <class T, class A, class G>
__global__ void __launch_bounds__(kLoneThreads, sizeof(A) == 8 ? 1 : 2)
    infogan_loss_kernel(const LossLayout a, int32_t tile_rows, const T* real, const T* fake, const T* q, G* grad_real,
                        G* grad_fake, G* grad_q, A* partials, A* terms, A* total) {
  DYN_SHARED(double, means);
  const int threads = static_cast<int>(blockDim.x), warps = threads / 32;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  A* sums = reinterpret_cast<A*>(means + a.n_terms());
  A* coefficients = sums + a.n_terms() * warps;
  A* tile = coefficients + 3 + a.n_codes();

  const double scale = a.grad_scale != nullptr ? static_cast<double>(*a.grad_scale) : 1.0;
  for (int i = thread; i < 3 + a.n_codes(); i += threads) {
    const int64_t rows = i == 0 ? a.real_rows : i < 3 ? a.fake_rows : a.q_rows;
    coefficients[i] = rows > 0 ? static_cast<A>(a.weights[i] * (scale / static_cast<double>(rows))) : A(0);
  }
  for (int i = thread; i < a.n_terms() * warps; i += threads) sums[i] = A(0);
  __syncthreads();

  A unused = A(0), d_real = A(0), d_fake = A(0), g = A(0);
  score_logits<T, A, G>(real, a.real_stride, grad_real, a.real_rows, A(0), coefficients[0], unused, d_real);
  score_logits<T, A, G>(fake, a.fake_stride, grad_fake, a.fake_rows, coefficients[1], coefficients[2], d_fake, g);
  d_real = warp_sum(d_real);
  d_fake = warp_sum(d_fake);
  g = warp_sum(g);
  if (lane == 0) {
    sums[0 * warps + warp] = d_real;
    sums[1 * warps + warp] = d_fake;
    sums[2 * warps + warp] = g;
  }

  const int32_t step = tile_rows > 0 ? tile_rows : threads;
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * step; first < a.q_rows;
       first += static_cast<int64_t>(gridDim.x) * step) {
    const int32_t rows = static_cast<int32_t>(a.q_rows - first < step ? a.q_rows - first : step);
    const bool active = thread < rows;
    if (tile_rows > 0) {
      stage<T, A>(a, q + first * a.q_stride, a.q_stride, rows, tile);
      __syncthreads();
      score_row<A>(a, StagedRow<T, A, G>{tile + thread * a.staged_stride()}, active, first + thread, coefficients,
                   sums);
      __syncthreads();
      unstage<G, A>(a, tile, rows, grad_q + first * a.q_dim);
      __syncthreads();  // the next tile is staged in the same place
    } else {
      const DirectRow<T, A, G> row{q + (first + thread) * a.q_stride, grad_q + (first + thread) * a.q_dim};
      score_row<A>(a, row, active, first + thread, coefficients, sums);
    }
  }

  __syncthreads();
  for (int term = thread; term < a.n_terms(); term += threads) {
    A sum = A(0);
    for (int w = 0; w < warps; ++w) sum += sums[term * warps + w];
    if (gridDim.x == 1) {
      report(a, term, static_cast<double>(sum), means, terms);
    } else {
      partials[static_cast<int64_t>(blockIdx.x) * a.n_terms() + term] = sum;
    }
  }
  if (gridDim.x > 1) return;
  __syncthreads();
  if (thread == 0) weigh(a, means, total);
}

// One block: a warp sums a term over the blocks in double, then thread 0 weighs the means.
template <class A>
__global__ void __launch_bounds__(kFinishThreads)
    infogan_loss_finish_kernel(const LossLayout a, const A* partials, int32_t blocks, A* terms, A* total) {
  DYN_SHARED(double, means);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  for (int term = thread / 32; term < a.n_terms(); term += kFinishThreads / 32) {
    double sum = 0;
    for (int32_t block = lane; block < blocks; block += 32)
      sum += static_cast<double>(partials[static_cast<int64_t>(block) * a.n_terms() + term]);
    sum = warp_sum(sum);
    if (lane == 0) report(a, term, sum, means, terms);
  }
  __syncthreads();
  if (thread == 0) weigh(a, means, total);
}

template <class A>
size_t loss_shared(const LossLayout& a, int32_t threads, int32_t tile_rows) {
  const size_t n_terms = static_cast<size_t>(a.n_terms());
  const size_t values = n_terms * static_cast<size_t>(threads / 32) + 3 + static_cast<size_t>(a.n_codes()) +
                        static_cast<size_t>(tile_rows) * static_cast<size_t>(a.staged_stride());
  return n_terms * sizeof(double) + values * sizeof(A);
}

// How many rows of Q's output a block of so many threads stages: a multiple of 16, as 128-bit access asks, or 0 where
// not even 32 fit.
template <class A>
int32_t staged_rows(const LossLayout& a, int32_t threads) {
  for (int32_t rows = threads; rows >= 32 && a.q_rows > 0; rows /= 2)
    if (loss_shared<A>(a, threads, rows) <= kLossShared) return rows;
  return 0;
}

// Depends on the sizes alone, so that every GPU adds in the same order. Powers of two of threads keep the rows of a
// tile a multiple of 32.
template <class A>
LossGrid loss_grid(const LossLayout& a) {
  const auto larger = [](int64_t one, int64_t other) { return one > other ? one : other; };
  const int64_t rows = larger(a.real_rows, larger(a.fake_rows, a.q_rows));
  if (rows <= kLoneRows) {
    int32_t threads = 32;
    while (threads < rows && threads < kLoneThreads) threads *= 2;
    const int32_t tile_rows = staged_rows<A>(a, threads);
    if (a.q_rows <= 2 * tile_rows) return LossGrid{1, threads, tile_rows};
  }
  const int32_t tile_rows = staged_rows<A>(a, kLossThreads);
  const auto blocks = [](int64_t n, int64_t tile) { return (n + tile - 1) / tile; };
  const int64_t most = larger(blocks(larger(a.real_rows, a.fake_rows), kLossThreads),
                              blocks(a.q_rows, tile_rows > 0 ? tile_rows : kLossThreads));
  return LossGrid{static_cast<int32_t>(most < kLossMaxBlocks ? most : kLossMaxBlocks), kLossThreads, tile_rows};
}

// `grid` comes from loss_grid(), `partials` holds grid.partials(a) values.
template <class T, class A, class G>
void launch_infogan_loss(const LossLayout& a, const LossGrid& grid, const T* real, const T* fake, const T* q,
                         G* grad_real, G* grad_fake, G* grad_q, A* partials, A* terms, A* total, cudaStream_t stream) {
  launch(infogan_loss_kernel<T, A, G>, dim3(static_cast<unsigned>(grid.blocks)),
         dim3(static_cast<unsigned>(grid.threads)), loss_shared<A>(a, grid.threads, grid.tile_rows), stream, a,
         grid.tile_rows, real, fake, q, grad_real, grad_fake, grad_q, partials, terms, total);
  if (grid.blocks > 1)
    launch(infogan_loss_finish_kernel<A>, dim3(1), dim3(kFinishThreads),
           static_cast<size_t>(a.n_terms()) * sizeof(double), stream, a, partials, grid.blocks, terms, total);
}

}  // namespace infogan_fast
