// The kernel behind agreement: one block, whatever the batch. Its passes have a barrier between them, and leave what
// they compute in shared memory, or in global memory where that is too small. Sums over rows are a warp's, with every
// 32nd row for a lane, so that their order does not depend on the block's size. No atomics.
#pragma once
#include "agreement/agreement_row.h"
#include "common/convert.cuh"
#include "common/warp.cuh"
#include "math/latent_row.h"

namespace infogan_fast {

constexpr int kAgreementThreads = 1024;
constexpr size_t kAgreementShared = 48 << 10;  // bytes that a block has on every GPU

// Of a block at most: double arithmetic takes twice the registers.
template <class A>
constexpr int agreement_threads() {
  return kAgreementThreads * 4 / static_cast<int>(sizeof(A));
}

struct AgreementLayout {
  int32_t near_rows, pairs;  // A, B
  int32_t q_dim, categories, n_categorical, n_distances;
  bool has_joints, wide_slants;
  bool shared_tables, shared_rows;  // where these parts of AgreementMemory are
  int64_t row_stride;
  double fixed_precision;
  AgreementFactors factors;
  const void* slants;
  const float *scale, *second_scale;
  double* sums;
  const void* batch_joints;  // as `table`, instead of those of the answers; or null
  void* joints[kMaxCodesOfAKind];
  int64_t table_starts[kMaxCodesOfAKind];                     // of each code, its first entry in `table`
  int32_t sizes[kMaxCodesOfAKind], starts[kMaxCodesOfAKind];  // starts: its first column
  int32_t places[2 * kMaxCodesOfAKind];
  Distance distances[kMaxCodesOfAKind];

  void set_sizes(const int64_t* categorical_sizes, int32_t count) {
    n_categorical = count;
    categories = 0;
    int64_t entries = 0;
    for (int32_t code = 0; code < count; ++code) {
      sizes[code] = static_cast<int32_t>(categorical_sizes[code]);
      starts[code] = categories;
      table_starts[code] = entries;
      categories += sizes[code];
      entries += categorical_sizes[code] * categorical_sizes[code];
    }
  }

  INFOGAN_FAST_HD int32_t rows() const { return near_rows + 2 * pairs; }
  INFOGAN_FAST_HD bool has_probabilities() const { return has_joints || factors.smoothness != 0; }
  // an odd length keeps neighbouring columns on different banks
  INFOGAN_FAST_HD int64_t stride() const { return rows() | 1; }
  INFOGAN_FAST_HD int64_t entries() const {
    if (n_categorical == 0) return 0;
    const int64_t last = sizes[n_categorical - 1];
    return table_starts[n_categorical - 1] + last * last;
  }
  INFOGAN_FAST_HD int64_t table_values() const { return has_joints ? entries() + 2 * categories : 0; }
  INFOGAN_FAST_HD int64_t row_values() const {
    if (!has_probabilities()) return 0;
    return (has_joints ? 2 * categories + n_categorical : categories) * stride();
  }
};

static_assert(sizeof(AgreementLayout) + 64 <= 4096, "a kernel's parameters hold 4 KB");

// What one pass leaves to the next.
template <class A>
struct AgreementMemory {
  A *table, *margins, *information;  // [K, K] of each code, [categories], [categories]
  A *probabilities, *slopes, *dots;  // columns of stride() rows: [categories], [categories], [n_categorical]

  __device__ AgreementMemory(const AgreementLayout& a, A* shared, A* scratch) {
    table = a.shared_tables ? shared : scratch;
    margins = table + a.entries();
    information = margins + a.categories;
    if (a.shared_tables) {
      shared += a.table_values();
    } else {
      scratch += a.table_values();
    }
    probabilities = a.shared_rows ? shared : scratch;
    slopes = probabilities + a.categories * a.stride();
    dots = slopes + a.categories * a.stride();
  }
};

// f(row, column) for each element of a matrix, shared out over the block: neighbouring threads, neighbouring columns.
template <class F>
__device__ void for_elements(int32_t rows, int32_t columns, F f) {
  if (columns <= 0) return;
  const int32_t threads = static_cast<int32_t>(blockDim.x), thread = static_cast<int32_t>(threadIdx.x);
  const int32_t row_step = threads / columns, column_step = threads % columns;
  int32_t row = thread / columns, column = thread % columns;
  while (row < rows) {
    f(row, column);
    row += row_step;
    column += column_step;
    if (column >= columns) {
      column -= columns;
      ++row;
    }
  }
}

template <class T, class A>
__device__ void probabilities_of_rows(const AgreementLayout& a, const T* answers, const AgreementMemory<A>& m) {
  for_elements(a.n_categorical, a.rows(), [&](int32_t code, int32_t row) {
    const int32_t size = a.sizes[code];
    const T* logits = answers + row * a.row_stride + a.starts[code];
    A* p = m.probabilities + a.starts[code] * a.stride() + row;
    A top = widen(logits[0]);
    for (int32_t k = 1; k < size; ++k) {
      const A x = widen(logits[k]);
      top = x > top ? x : top;
    }
    A total = A(0);
    for (int32_t k = 0; k < size; ++k) {
      const A e = exponential(static_cast<A>(widen(logits[k])) - top);
      p[k * a.stride()] = e;
      total += e;
    }
    const A factor = A(1) / total;
    for (int32_t k = 0; k < size; ++k) p[k * a.stride()] *= factor;
  });
}

template <class A>
__device__ void update_joint(A* average, A entry, A decay, A* joint) {
  const A before = *average, next = averaged(before, entry, decay);
  *joint = next;
  *average = kept(before, next);
}

// A warp takes the entries (i, j) and (j, i) of a joint together, j >= i.
template <class A>
__device__ void joints_of_codes(const AgreementLayout& a, const AgreementMemory<A>& m) {
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, warp = static_cast<int32_t>(threadIdx.x) / 32,
                warps = static_cast<int32_t>(blockDim.x) / 32;
  const A share = static_cast<A>(a.factors.joint), decay = static_cast<A>(a.factors.joint_ema);
  for (int32_t code = 0; code < a.n_categorical; ++code) {
    const int32_t size = a.sizes[code];
    const A* real = m.probabilities + a.starts[code] * a.stride() + a.near_rows;
    const A* copy = real + a.pairs;
    A* average = static_cast<A*>(a.joints[code]);
    A* table = m.table + a.table_starts[code];
    if (a.batch_joints != nullptr) {
      const A* const batch = static_cast<const A*>(a.batch_joints) + a.table_starts[code];
      for_elements(size, size, [&](int32_t row, int32_t column) {
        const int64_t at = static_cast<int64_t>(row) * size + column;
        update_joint(average + at, batch[at], decay, table + at);
      });
      continue;
    }
    int32_t i = 0;
    for (int32_t j = warp;; j += warps) {
      while (i < size && j >= size) {  // past the end of row i: on in row i + 1, which begins at its diagonal
        ++i;
        j += i - size;
      }
      if (i >= size) break;
      const A *real_i = real + i * a.stride(), *copy_i = copy + i * a.stride();
      const A *real_j = real + j * a.stride(), *copy_j = copy + j * a.stride();
      A sum = A(0);
      for (int32_t row = lane; row < a.pairs; row += 32) {
        sum += real_i[row] * copy_j[row];
        sum += real_j[row] * copy_i[row];
      }
      sum = warp_sum(sum);
      if (lane == 0) {
        const int64_t here = static_cast<int64_t>(i) * size + j, there = static_cast<int64_t>(j) * size + i;
        update_joint(average + here, sum * share, decay, table + here);
        if (i != j) update_joint(average + there, sum * share, decay, table + there);
      }
    }
  }
}

template <class A>
__device__ void margins_of_codes(const AgreementLayout& a, const AgreementMemory<A>& m) {
  int32_t code = 0;
  for (int32_t at = static_cast<int32_t>(threadIdx.x); at < a.categories; at += static_cast<int32_t>(blockDim.x)) {
    while (at >= a.starts[code] + a.sizes[code]) ++code;
    const int64_t size = a.sizes[code];
    const A* column = m.table + a.table_starts[code] + (at - a.starts[code]);
    A sum = A(0);
    for (int64_t i = 0; i < size; ++i) sum += column[i * size];
    m.margins[at] = log_probability(sum);
  }
}

// A warp takes a row of a joint: its part of the information, and the table by which answers are weighed.
template <class A>
__device__ void information_of_rows(const AgreementLayout& a, const AgreementMemory<A>& m) {
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, warps = static_cast<int32_t>(blockDim.x) / 32;
  const A balance = static_cast<A>(a.factors.balance);
  int32_t code = 0;
  for (int32_t at = static_cast<int32_t>(threadIdx.x) / 32; at < a.categories; at += warps) {
    while (at >= a.starts[code] + a.sizes[code]) ++code;
    const int32_t size = a.sizes[code];
    const A* margins = m.margins + a.starts[code];
    A* row = m.table + a.table_starts[code] + static_cast<int64_t>(at - a.starts[code]) * size;
    A sum = A(0);
    for (int32_t j = lane; j < size; j += 32) {
      const A joint = row[j], independent = m.margins[at] + margins[j];
      const A pointwise = log_probability(joint) - independent;
      sum += joint * pointwise;
      row[j] = pointwise - balance * independent;
    }
    sum = warp_sum(sum);
    if (lane == 0) m.information[at] = sum;
  }
}

template <class A>
__device__ void report(const AgreementLayout& a, int32_t index, A value, A* metrics) {
  metrics[index] = value;
  if (a.sums != nullptr && a.places[index] >= 0) a.sums[a.places[index]] += static_cast<double>(value);
}

template <class A>
__device__ void information_of_codes(const AgreementLayout& a, const AgreementMemory<A>& m, A* metrics) {
  for (int32_t code = static_cast<int32_t>(threadIdx.x); code < a.n_categorical;
       code += static_cast<int32_t>(blockDim.x)) {
    const A* rows = m.information + a.starts[code];
    A sum = A(0);
    for (int32_t i = 0; i < a.sizes[code]; ++i) sum += rows[i];
    report(a, code, sum, metrics);
  }
}

// For images and copies: the derivative with respect to each probability.
template <class A>
__device__ void slopes_of_rows(const AgreementLayout& a, const AgreementMemory<A>& m) {
  for (int32_t code = 0; code < a.n_categorical; ++code) {
    const int32_t size = a.sizes[code];
    const int64_t first = a.starts[code] * a.stride() + a.near_rows;
    const A* table = m.table + a.table_starts[code];
    for_elements(size, 2 * a.pairs, [&](int32_t j, int32_t row) {
      const A* other = m.probabilities + first + (row < a.pairs ? row + a.pairs : row - a.pairs);
      A slope = A(0);
      for (int64_t i = 0; i < size; ++i) slope += other[i * a.stride()] * table[i * size + j];
      m.slopes[first + j * a.stride() + row] = slope;
    });
  }
}

template <class A>
__device__ void dots_of_rows(const AgreementLayout& a, const AgreementMemory<A>& m) {
  for_elements(a.n_categorical, 2 * a.pairs, [&](int32_t code, int32_t pair_row) {
    const int32_t row = a.near_rows + pair_row;
    const int64_t first = a.starts[code] * a.stride() + row;
    const A *p = m.probabilities + first, *slopes = m.slopes + first;
    A dot = A(0);
    for (int32_t j = 0; j < a.sizes[code]; ++j) dot += p[j * a.stride()] * slopes[j * a.stride()];
    m.dots[code * a.stride() + row] = dot;
  });
}

template <class T, class A>
__device__ Compared<A> compare_pair(const AgreementLayout& a, const Distance& d, const T* answers, int32_t pair) {
  const T* row = answers + (a.near_rows + pair) * a.row_stride;
  const T* copy = row + a.pairs * a.row_stride;
  A precision = static_cast<A>(a.fixed_precision), offset = A(0);
  if (d.log_variance_column >= 0)
    precision = mean_precision<A>(widen(row[d.log_variance_column]), widen(copy[d.log_variance_column]));
  if (d.slant_change != 0) {
    const A slant = a.wide_slants ? static_cast<A>(static_cast<const double*>(a.slants)[pair])
                                  : static_cast<A>(static_cast<const float*>(a.slants)[pair]);
    offset = static_cast<A>(d.slant_change) * slant;
  }
  return compare<A>(widen(row[d.mean_column]), widen(copy[d.mean_column]), offset, precision);
}

// A warp sums a distance over the images.
template <class T, class A>
__device__ void distances_of_codes(const AgreementLayout& a, const T* answers, A* metrics) {
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, warps = static_cast<int32_t>(blockDim.x) / 32;
  for (int32_t i = static_cast<int32_t>(threadIdx.x) / 32; i < a.n_distances; i += warps) {
    A sum = A(0);
    for (int32_t pair = lane; pair < a.pairs; pair += 32)
      sum += compare_pair<T, A>(a, a.distances[i], answers, pair).squared;
    sum = warp_sum(sum);
    const int32_t index = (a.has_joints ? a.n_categorical : 0) + i;
    if (lane == 0) report(a, index, sum * static_cast<A>(a.factors.distance), metrics);
  }
}

// The gradient, and the second one where there is one.
template <class A, class G>
struct AgreementStore {
  G *gradient, *second_gradient;
  A scale, second_scale;

  __device__ void operator()(int64_t at, A value) const {
    gradient[at] = Converter<G>::from(value * scale);
    if (second_gradient != nullptr) second_gradient[at] = Converter<G>::from(value * second_scale);
  }
};

template <class A, class G>
__device__ void write_categorical(const AgreementLayout& a, const AgreementMemory<A>& m,
                                  const AgreementStore<A, G>& store) {
  const A consistency = static_cast<A>(a.factors.consistency), smoothness = static_cast<A>(a.factors.smoothness);
  for (int32_t code = 0; code < a.n_categorical; ++code) {
    for_elements(a.rows(), a.sizes[code], [&](int32_t row, int32_t j) {
      const int32_t column = a.starts[code] + j;
      const int64_t at = column * a.stride() + row;
      A value = A(0);
      if (row < a.near_rows) {
        if (smoothness != A(0)) value = smoothness * (m.probabilities[at] - m.probabilities[at + a.near_rows]);
      } else if (consistency != A(0)) {
        value = consistency * m.probabilities[at] * (m.slopes[at] - m.dots[code * a.stride() + row]);
      }
      store(static_cast<int64_t>(row) * a.q_dim + column, value);
    });
  }
}

template <class T, class A, class G>
__device__ void write_continuous(const AgreementLayout& a, const T* answers, const AgreementStore<A, G>& store) {
  for_elements(a.rows(), a.q_dim - a.categories, [&](int32_t row, int32_t j) {
    const int32_t column = a.categories + j, pair_row = row - a.near_rows;
    const bool is_copy = pair_row >= a.pairs;
    A value = A(0);
    for (int32_t i = 0; i < a.n_distances && pair_row >= 0; ++i) {
      const Distance& d = a.distances[i];
      if (d.mean_column != column || d.weight == 0) continue;
      const A weight = static_cast<A>(is_copy ? -d.weight : d.weight);
      value += weight * compare_pair<T, A>(a, d, answers, is_copy ? pair_row - a.pairs : pair_row).slope;
    }
    store(static_cast<int64_t>(row) * a.q_dim + column, value);
  });
}

template <class T, class A, class G>
__global__ void __launch_bounds__(agreement_threads<A>(), 1)
    agreement_kernel(const AgreementLayout a, const T* answers, A* scratch, A* metrics, G* gradient,
                     G* second_gradient) {
  DYN_SHARED(A, shared);
  const AgreementMemory<A> m(a, shared, scratch);
  if (a.has_probabilities()) {
    probabilities_of_rows(a, answers, m);
    __syncthreads();
  }
  distances_of_codes(a, answers, metrics);
  if (a.has_joints) {
    joints_of_codes(a, m);
    __syncthreads();
    margins_of_codes(a, m);
    __syncthreads();
    information_of_rows(a, m);
    __syncthreads();
    information_of_codes(a, m, metrics);
    if (a.factors.consistency != 0) {
      slopes_of_rows(a, m);
      __syncthreads();
      dots_of_rows(a, m);
      __syncthreads();
    }
  }
  const AgreementStore<A, G> store{gradient, second_gradient, a.scale != nullptr ? static_cast<A>(*a.scale) : A(1),
                                   a.second_scale != nullptr ? static_cast<A>(*a.second_scale) : A(1)};
  write_categorical(a, m, store);
  write_continuous(a, answers, store);
}

// Decides what is in shared memory, when the rest of the layout is known. Returns how many values the kernel needs in
// global memory.
template <class A>
int64_t place_agreement(AgreementLayout& a) {
  const int64_t limit = static_cast<int64_t>(kAgreementShared / sizeof(A));
  a.shared_tables = a.table_values() <= limit;
  a.shared_rows = (a.shared_tables ? a.table_values() : 0) + a.row_values() <= limit;
  return (a.shared_tables ? 0 : a.table_values()) + (a.shared_rows ? 0 : a.row_values());
}

// `scratch` holds as many values as place_agreement() returned.
template <class T, class A, class G>
void launch_agreement(const AgreementLayout& a, const T* answers, A* scratch, A* metrics, G* gradient,
                      G* second_gradient, cudaStream_t stream) {
  const int64_t elements = static_cast<int64_t>(a.rows()) * (a.q_dim > 0 ? a.q_dim : 1);
  const int64_t most = agreement_threads<A>(), threads = elements < most ? (elements + 31) / 32 * 32 : most;
  const int64_t values = (a.shared_tables ? a.table_values() : 0) + (a.shared_rows ? a.row_values() : 0);
  launch(agreement_kernel<T, A, G>, dim3(1), dim3(static_cast<unsigned>(threads)),
         static_cast<size_t>(values) * sizeof(A), stream, a, answers, scratch, metrics, gradient, second_gradient);
}

}  // namespace infogan_fast
