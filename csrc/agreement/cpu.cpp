#include "agreement/agreement.h"
#include "common/convert.h"
#include "common/isa.h"

namespace infogan_fast {
namespace {

constexpr int kTile = kSumLanes;  // rows at once: two AVX-512 vectors, and the lanes of a sum

// The tree in which a warp adds its lanes.
template <class A>
INFOGAN_FAST_INLINE A lane_sum(A* lanes) {
  for (int n = kTile / 2; n > 0; n /= 2)
    for (int i = 0; i < n; ++i) lanes[i] += lanes[i + n];
  return lanes[0];
}

// What one pass leaves to the next. Tiles are [columns, kTile]: near copies, then images, then their copies.
template <class A>
struct Scratch {
  int64_t categories, near_tiles, pair_tiles;
  std::vector<int64_t> starts, table_starts;    // of each code: its first column, its first entry in `table`
  std::vector<A> probabilities, table, slopes;  // slopes: of each distance [pair_tiles, kTile]

  explicit Scratch(const AgreementArguments& a)
      : categories(a.categories),
        near_tiles((a.near_rows + kTile - 1) / kTile),
        pair_tiles((a.pairs + kTile - 1) / kTile),
        slopes(a.n_distances() * pair_tiles * kTile) {
    int64_t start = 0, entries = 0;
    for (int64_t size : a.sizes) {
      starts.push_back(start);
      table_starts.push_back(entries);
      start += size;
      entries += size * size;
    }
    if (a.has_joints) table.resize(entries);
    if (a.has_probabilities()) probabilities.resize(tiles() * categories * kTile);
  }

  int64_t tiles() const { return near_tiles + 2 * pair_tiles; }
  A* near(int64_t tile) { return probabilities.data() + tile * categories * kTile; }
  A* real(int64_t tile) { return near(near_tiles + tile); }
  A* copy(int64_t tile) { return real(pair_tiles + tile); }
};

// Softmax of each code. Lanes past the last row are 0, so that they add nothing.
template <class T, class A>
struct Probabilities {
  const AgreementArguments& a;
  Scratch<A>& scratch;

  INFOGAN_FAST_INLINE void operator()(int64_t begin, int64_t end) const {
    const T* answers = const_data<T>(a.answers);
    const int64_t stride = a.answers->stride(0);
    for (int64_t index = begin; index < end; ++index) {
      int64_t tile = index, first = 0, rows = a.near_rows;
      if (index >= scratch.near_tiles) {
        tile -= scratch.near_tiles;
        first = a.near_rows;
        rows = a.pairs;
        if (tile >= scratch.pair_tiles) {
          tile -= scratch.pair_tiles;
          first += a.pairs;
        }
      }
      first += tile * kTile;
      const int count = static_cast<int>(std::min<int64_t>(kTile, rows - tile * kTile));
      A* at = scratch.near(index);
      for (int lane = 0; lane < count; ++lane)
        for (int64_t column = 0; column < a.categories; ++column)
          at[column * kTile + lane] = widen(answers[(first + lane) * stride + column]);
      for (int64_t size : a.sizes) {
        softmax(at, size, count);
        at += size * kTile;
      }
    }
  }

  INFOGAN_FAST_INLINE static void softmax(A* tile, int64_t size, int count) {
    A top[kTile], total[kTile] = {}, factor[kTile];
    for (int lane = 0; lane < kTile; ++lane) top[lane] = tile[lane];
    for (int64_t k = 1; k < size; ++k)
      for (int lane = 0; lane < kTile; ++lane) {
        const A x = tile[k * kTile + lane];
        top[lane] = x > top[lane] ? x : top[lane];
      }
    for (int64_t k = 0; k < size; ++k)
      for (int lane = 0; lane < kTile; ++lane) {
        const A e = exponential(tile[k * kTile + lane] - top[lane]);
        tile[k * kTile + lane] = e;
        total[lane] += e;
      }
    for (int lane = 0; lane < kTile; ++lane) factor[lane] = lane < count ? A(1) / total[lane] : A(0);
    for (int64_t k = 0; k < size; ++k)
      for (int lane = 0; lane < kTile; ++lane) tile[k * kTile + lane] *= factor[lane];
  }
};

// Rows of the joints, all codes' in one list. Row i of a code takes the entries (i, j) and (j, i) with j >= i.
template <class A>
struct Joints {
  const AgreementArguments& a;
  Scratch<A>& scratch;

  INFOGAN_FAST_INLINE void operator()(int64_t begin, int64_t end) const {
    size_t code = 0;
    for (int64_t index = begin; index < end; ++index) {
      while (index >= scratch.starts[code] + a.sizes[code]) ++code;
      const int64_t i = index - scratch.starts[code], size = a.sizes[code];
      A* average = data<A>(a.joints[code]);
      A* table = scratch.table.data() + scratch.table_starts[code];
      if (a.batch_joints) {
        const A* const batch = const_data<A>(*a.batch_joints) + scratch.table_starts[code];
        for (int64_t at = i * size; at < (i + 1) * size; ++at) update(average + at, batch[at], table + at);
        continue;
      }
      for (int64_t j = i; j < size; ++j) {
        const A entry = both_products(index, scratch.starts[code] + j) * static_cast<A>(a.factors.joint);
        update(average + i * size + j, entry, table + i * size + j);
        if (j != i) update(average + j * size + i, entry, table + j * size + i);
      }
    }
  }

  // The sum over rows of p_i p'_j + p_j p'_i, for two columns.
  INFOGAN_FAST_INLINE A both_products(int64_t i, int64_t j) const {
    A lanes[kTile] = {};
    for (int64_t tile = 0; tile < scratch.pair_tiles; ++tile) {
      const A *real = scratch.real(tile), *copy = scratch.copy(tile);
      for (int lane = 0; lane < kTile; ++lane) {
        lanes[lane] += real[i * kTile + lane] * copy[j * kTile + lane];
        lanes[lane] += real[j * kTile + lane] * copy[i * kTile + lane];
      }
    }
    return lane_sum(lanes);
  }

  INFOGAN_FAST_INLINE void update(A* average, A entry, A* joint) const {
    *joint = averaged(*average, entry, static_cast<A>(a.factors.joint_ema));
    *average = kept(*average, *joint);
  }
};

// The information of each code. Its joint becomes the table by which rows are weighed.
template <class A>
struct Information {
  const AgreementArguments& a;
  Scratch<A>& scratch;
  A* information;

  INFOGAN_FAST_INLINE void operator()(int64_t begin, int64_t end) const {
    for (int64_t code = begin; code < end; ++code) {
      const int64_t size = a.sizes[code];
      A* table = scratch.table.data() + scratch.table_starts[code];
      std::vector<A> margins(size, A(0));
      for (int64_t i = 0; i < size; ++i)
        for (int64_t j = 0; j < size; ++j) margins[j] += table[i * size + j];
      for (int64_t j = 0; j < size; ++j) margins[j] = log_probability(margins[j]);
      A total = A(0);
      for (int64_t i = 0; i < size; ++i) total += row(table + i * size, margins[i], margins.data(), size);
      information[code] = total;
    }
  }

  INFOGAN_FAST_INLINE A row(A* entries, A margin, const A* margins, int64_t size) const {
    const A balance = static_cast<A>(a.factors.balance);
    A lanes[kTile] = {};
    for (int64_t first = 0; first < size; first += kTile) {
      const int count = static_cast<int>(std::min<int64_t>(kTile, size - first));
      for (int lane = 0; lane < count; ++lane) {
        const A joint = entries[first + lane], independent = margin + margins[first + lane];
        const A pointwise = log_probability(joint) - independent;
        lanes[lane] += joint * pointwise;
        entries[first + lane] = pointwise - balance * independent;
      }
    }
    return lane_sum(lanes);
  }
};

// The distances, and the slopes of their rows.
template <class T, class A>
struct Distances {
  const AgreementArguments& a;
  Scratch<A>& scratch;
  A* distances;

  INFOGAN_FAST_INLINE A offset(const Distance& d, int64_t row) const {
    if (d.slant_change == 0) return A(0);
    const void* slants = a.slants->const_data_ptr();
    const bool wide = a.slants->scalar_type() == ScalarType::Double;
    const A slant = wide ? static_cast<A>(static_cast<const double*>(slants)[row])
                         : static_cast<A>(static_cast<const float*>(slants)[row]);
    return static_cast<A>(d.slant_change) * slant;
  }

  INFOGAN_FAST_INLINE void operator()(int64_t begin, int64_t end) const {
    const T* answers = const_data<T>(a.answers);
    const int64_t stride = a.answers->stride(0);
    for (int64_t index = begin; index < end; ++index) {
      const Distance& d = a.distances[index];
      const bool learned = d.log_variance_column >= 0;
      A* slopes = scratch.slopes.data() + index * scratch.pair_tiles * kTile;
      A lanes[kTile] = {};
      for (int64_t tile = 0; tile < scratch.pair_tiles; ++tile, slopes += kTile) {
        const int count = static_cast<int>(std::min<int64_t>(kTile, a.pairs - tile * kTile));
        A mean[kTile] = {}, copy[kTile] = {}, precision[kTile] = {}, copy_log_variance[kTile] = {}, shift[kTile] = {};
        for (int lane = 0; lane < count; ++lane) {
          const T* row = answers + (a.near_rows + tile * kTile + lane) * stride;
          const T* other = row + a.pairs * stride;
          mean[lane] = widen(row[d.mean_column]);
          copy[lane] = widen(other[d.mean_column]);
          shift[lane] = offset(d, tile * kTile + lane);
          precision[lane] = learned ? A(widen(row[d.log_variance_column])) : static_cast<A>(a.fixed_precision);
          if (learned) copy_log_variance[lane] = widen(other[d.log_variance_column]);
        }
        if (learned)
          for (int lane = 0; lane < kTile; ++lane)
            precision[lane] = mean_precision(precision[lane], copy_log_variance[lane]);
        for (int lane = 0; lane < kTile; ++lane) {
          const Compared<A> compared = compare(mean[lane], copy[lane], shift[lane], precision[lane]);
          lanes[lane] += compared.squared;
          slopes[lane] = compared.slope;
        }
      }
      distances[index] = lane_sum(lanes) * static_cast<A>(a.factors.distance);
    }
  }
};

// The gradients of a tile of near copies, or of a tile of images and that of their copies.
template <class A, class G>
struct Gradients {
  const AgreementArguments& a;
  const AgreementOutputs& out;
  Scratch<A>& scratch;
  A scale, second_scale;

  INFOGAN_FAST_INLINE void operator()(int64_t begin, int64_t end) const {
    std::vector<A> tile(a.q_dim * kTile);
    for (int64_t index = begin; index < end; ++index) {
      if (index < scratch.near_tiles) {
        smoothness(tile.data(), index);
        write(tile.data(), 0, index, a.near_rows);
        continue;
      }
      const int64_t pair = index - scratch.near_tiles;
      for (const bool copies : {false, true}) {
        consistency(tile.data(), pair, copies);
        distances(tile.data() + a.categories * kTile, pair, copies);
        write(tile.data(), a.near_rows + (copies ? a.pairs : 0), pair, a.pairs);
      }
    }
  }

  INFOGAN_FAST_INLINE void smoothness(A* tile, int64_t index) const {
    std::fill(tile, tile + a.q_dim * kTile, A(0));
    if (a.factors.smoothness == 0) return;
    const A factor = static_cast<A>(a.factors.smoothness);
    const A *p = scratch.near(index), *target = scratch.real(index);
    for (int64_t i = 0; i < a.categories * kTile; ++i) tile[i] = factor * (p[i] - target[i]);
  }

  INFOGAN_FAST_INLINE void consistency(A* tile, int64_t index, bool copies) const {
    if (a.factors.consistency == 0) {
      std::fill(tile, tile + a.categories * kTile, A(0));
      return;
    }
    const A factor = static_cast<A>(a.factors.consistency);
    for (int64_t code = 0; code < a.n_categorical(); ++code) {
      const int64_t size = a.sizes[code], start = scratch.starts[code] * kTile;
      const A *real = scratch.real(index) + start, *copy = scratch.copy(index) + start;
      const A *p = copies ? copy : real, *other = copies ? real : copy;
      const A* table = scratch.table.data() + scratch.table_starts[code];
      A* slopes = tile + start;
      A dot[kTile] = {};
      for (int64_t j = 0; j < size; ++j) {
        A slope[kTile] = {};
        for (int64_t i = 0; i < size; ++i)
          for (int lane = 0; lane < kTile; ++lane) slope[lane] += other[i * kTile + lane] * table[i * size + j];
        for (int lane = 0; lane < kTile; ++lane) {
          dot[lane] += p[j * kTile + lane] * slope[lane];
          slopes[j * kTile + lane] = slope[lane];
        }
      }
      for (int64_t j = 0; j < size; ++j)
        for (int lane = 0; lane < kTile; ++lane) {
          const int64_t at = j * kTile + lane;
          slopes[at] = factor * p[at] * (slopes[at] - dot[lane]);
        }
    }
  }

  INFOGAN_FAST_INLINE void distances(A* tile, int64_t index, bool copies) const {
    std::fill(tile, tile + (a.q_dim - a.categories) * kTile, A(0));
    for (int64_t i = 0; i < a.n_distances(); ++i) {
      if (a.distances[i].weight == 0) continue;  // no gradient, even where the slope is infinite
      const A weight = static_cast<A>(copies ? -a.distances[i].weight : a.distances[i].weight);
      const A* slopes = scratch.slopes.data() + (i * scratch.pair_tiles + index) * kTile;
      A* column = tile + (a.distances[i].mean_column - a.categories) * kTile;
      for (int lane = 0; lane < kTile; ++lane) column[lane] += weight * slopes[lane];
    }
  }

  // A tile's rows, of a part of so many rows that begins at row `first`.
  INFOGAN_FAST_INLINE void write(const A* tile, int64_t first, int64_t index, int64_t rows) const {
    const int count = static_cast<int>(std::min<int64_t>(kTile, rows - index * kTile));
    write_scaled(tile, out.gradient, scale, first + index * kTile, count);
    if (a.second_scale) write_scaled(tile, out.second_gradient, second_scale, first + index * kTile, count);
  }

  INFOGAN_FAST_INLINE void write_scaled(const A* tile, const Tensor& gradient, A factor, int64_t row, int count) const {
    G* to = data<G>(gradient) + row * a.q_dim;
    for (int lane = 0; lane < count; ++lane)
      for (int64_t column = 0; column < a.q_dim; ++column) *to++ = convert<G>(tile[column * kTile + lane] * factor);
  }
};

template <class T, class A, class G>
void compute(const AgreementArguments& a, const AgreementOutputs& out) {
  Scratch<A> scratch(a);
  A* metrics = data<A>(out.metrics);
  const auto scale_of = [](const std::optional<Tensor>& scale) {
    return scale ? static_cast<A>(*const_data<float>(scale)) : A(1);
  };
  // A range is worth a thread from about this many operations.
  const auto grain = [](int64_t operations) { return std::max<int64_t>(1, (1 << 18) / (operations + 1)); };
  const int64_t codes = a.n_categorical(), entries = static_cast<int64_t>(scratch.table.size());
  if (a.has_probabilities())
    for_rows(scratch.tiles(), grain(a.categories * kTile * 16), Probabilities<T, A>{a, scratch});
  if (a.has_joints && codes > 0) {
    for_rows(a.categories, grain(entries / a.categories * scratch.pair_tiles * kTile * 2), Joints<A>{a, scratch});
    for_rows(codes, grain(entries / codes * 16), Information<A>{a, scratch, metrics});
    metrics += codes;
  }
  for_rows(a.n_distances(), grain(a.pairs * 32), Distances<T, A>{a, scratch, metrics});
  for_rows(scratch.near_tiles + scratch.pair_tiles, grain((entries + 8 * a.q_dim) * kTile * 2),
           Gradients<A, G>{a, out, scratch, scale_of(a.scale), scale_of(a.second_scale)});

  if (!a.sums) return;
  double* sums = data<double>(a.sums);
  const A* measured = const_data<A>(out.metrics);
  for (size_t i = 0; i < a.places.size(); ++i)
    if (a.places[i] >= 0) sums[a.places[i]] += static_cast<double>(measured[i]);
}

std::tuple<Tensor, Tensor, Tensor> agreement_cpu(
    Tensor answers, int64_t near_rows, std::vector<int64_t> categorical_sizes, std::vector<int64_t> continuous_kinds,
    bool learned_variance, double log_variance, std::vector<Tensor> joints, std::optional<Tensor> batch_joints,
    std::optional<double> consistency, double balance, double joint_ema, double smoothness,
    std::vector<int64_t> distance_codes, std::vector<double> distance_weights, std::vector<double> slant_changes,
    std::optional<Tensor> slants, std::optional<Tensor> grad_scale, std::optional<Tensor> second_grad_scale,
    std::optional<ScalarType> grad_dtype, std::optional<Tensor> sums, std::vector<int64_t> places) {
  const AgreementArguments a = check_agreement(
      std::move(answers), near_rows, std::move(categorical_sizes), std::move(continuous_kinds), learned_variance,
      log_variance, std::move(joints), std::move(batch_joints), consistency, balance, joint_ema, smoothness,
      std::move(distance_codes), std::move(distance_weights), std::move(slant_changes), std::move(slants),
      std::move(grad_scale), std::move(second_grad_scale), grad_dtype, std::move(sums), std::move(places));
  const AgreementOutputs out = allocate_agreement(a);
  const bool wide = a.grad_dtype == ScalarType::Float;
  with_types<Half, BFloat16>(a.dtype, [&](auto value, auto accumulated) {
    using T = decltype(value);
    using A = decltype(accumulated);
    (wide ? compute<T, A, A> : compute<T, A, T>)(a, out);
  });
  return {out.metrics, out.gradient, out.second_gradient};
}

}  // namespace
}  // namespace infogan_fast

STABLE_TORCH_LIBRARY_IMPL(infogan_fast, CPU, m) { m.impl("agreement", TORCH_BOX(&infogan_fast::agreement_cpu)); }
