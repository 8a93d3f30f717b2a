#include "infogan_loss/infogan_loss.h"

#include <algorithm>
#include <atomic>

#include "common/convert.h"
#include "common/isa.h"

namespace infogan_fast {
namespace {

// Sums are taken over chunks of this many rows and then added in order, so that they do not depend on the threads.
constexpr int64_t kChunk = 256;
// Rows scored at once: two AVX-512 vectors, so that one works while the other waits for its sums.
constexpr int kTile = 32;

// T: inputs; A: arithmetic (float, or double for double inputs); G: gradients.
template <class T, class A, class G>
struct LossChunks {
  const LossArguments& a;
  const LossOutputs& out;
  double scale;
  double* partials;  // [chunks, n_terms]
  std::atomic<int64_t>& bad_category;

  INFOGAN_FAST_INLINE static int lanes_left(int64_t row, int64_t end) {
    return static_cast<int>(std::min<int64_t>(kTile, end - row));
  }

  INFOGAN_FAST_INLINE static double sum(const A* lanes) {
    A halves[kTile / 2];
    for (int i = 0; i < kTile / 2; ++i) halves[i] = lanes[i] + lanes[i + kTile / 2];
    for (int n = kTile / 4; n > 0; n /= 2)
      for (int i = 0; i < n; ++i) halves[i] += halves[i + n];
    return halves[0];
  }

  // Adversarial terms of rows [begin, end): `positive` weighs softplus(x), `negative` softplus(-x).
  INFOGAN_FAST_INLINE void logits(const Tensor& input, const Tensor& gradient, int64_t begin, int64_t end,
                                  double positive, double negative, double* positive_sum, double* negative_sum) const {
    const int64_t stride = input.stride(0);
    const T* x = const_data<T>(input);
    G* grad = data<G>(gradient);
    const A p = static_cast<A>(positive), n = static_cast<A>(negative);
    A positives[kTile] = {}, negatives[kTile] = {};
    for (int64_t row = begin; row < end; row += kTile) {
      const int count = lanes_left(row, end);
      A value[kTile] = {}, slope[kTile];
      if (count == kTile && stride == 1) {  // a constant length and stride: one vector
        for (int lane = 0; lane < kTile; ++lane) value[lane] = widen(x[row + lane]);
      } else {
        for (int lane = 0; lane < count; ++lane) value[lane] = widen(x[(row + lane) * stride]);
      }
      for (int lane = 0; lane < kTile; ++lane) {
        const Binary<A> b = binary(value[lane]);
        const bool used = lane < count;
        positives[lane] += used ? b.softplus : A(0);
        negatives[lane] += used ? b.softplus_negated : A(0);
        slope[lane] = p * b.sigmoid - n * b.sigmoid_negated;
      }
      G converted[kTile];
      for (int lane = 0; lane < kTile; ++lane) converted[lane] = convert<G>(slope[lane]);
      if (count == kTile) {
        memcpy(grad + row, converted, sizeof converted);
      } else {
        memcpy(grad + row, converted, static_cast<size_t>(count) * sizeof(G));
      }
    }
    if (positive_sum) *positive_sum = sum(positives);
    *negative_sum = sum(negatives);
  }

  // Cross-entropy of one categorical code on a tile (columns x lanes), whose logits become their gradients.
  INFOGAN_FAST_INLINE void categorical_code(A* tile, int64_t size, const int32_t (&target)[kTile], A weight,
                                            A (&nll)[kTile]) const {
    A top[kTile], total[kTile] = {}, at_target[kTile], factor[kTile];
    for (int lane = 0; lane < kTile; ++lane) {
      top[lane] = tile[lane];
      at_target[lane] = tile[target[lane] * kTile + lane];
    }
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
    for (int lane = 0; lane < kTile; ++lane) {
      nll[lane] = logarithm(total[lane]) + (top[lane] - at_target[lane]);
      factor[lane] = weight / total[lane];
    }
    for (int64_t k = 0; k < size; ++k)
      for (int lane = 0; lane < kTile; ++lane) tile[k * kTile + lane] *= factor[lane];
    for (int lane = 0; lane < kTile; ++lane) tile[target[lane] * kTile + lane] -= weight;
  }

  // of each code's likelihood, each continuous code's squared error, each learned log-variance
  INFOGAN_FAST_INLINE int64_t code_sums() const { return a.n_terms() - kAdversarialTerms; }

  INFOGAN_FAST_INLINE void codes(int64_t begin, int64_t end, A* tile, A* sums) const {
    const int64_t n_categorical = a.n_categorical(), n_continuous = a.n_continuous(), row_stride = a.q->stride(0);
    const T* q = const_data<T>(a.q);
    G* grad = data<G>(out.grad_q);
    const int32_t* categories = n_categorical ? const_data<int32_t>(a.categorical) : nullptr;
    const float* values = n_continuous ? const_data<float>(a.continuous) : nullptr;
    const double per_row = scale / static_cast<double>(a.q_rows);
    const double* weights = a.weights.data() + kAdversarialTerms;
    std::fill(sums, sums + code_sums() * kTile, A(0));

    for (int64_t row = begin; row < end; row += kTile) {
      const int count = lanes_left(row, end);
      if (count < kTile) std::fill(tile, tile + a.q_dim * kTile, A(0));
      for (int lane = 0; lane < count; ++lane)
        for (int64_t column = 0; column < a.q_dim; ++column)
          tile[column * kTile + lane] = widen(q[(row + lane) * row_stride + column]);

      A* at = tile;
      for (int64_t code = 0; code < n_categorical; ++code) {
        const int64_t size = a.sizes[code];
        int32_t target[kTile] = {};
        for (int lane = 0; lane < count; ++lane) {
          target[lane] = categories[(row + lane) * n_categorical + code];
          if (static_cast<uint64_t>(target[lane]) >= static_cast<uint64_t>(size)) {
            bad_category.store((row + lane) * n_categorical + code, std::memory_order_relaxed);
            target[lane] = 0;
          }
        }
        A nll[kTile];
        categorical_code(at, size, target, static_cast<A>(weights[code] * per_row), nll);
        if (weights[code] == 0) std::fill(at, at + size * kTile, A(0));
        for (int lane = 0; lane < kTile; ++lane) sums[code * kTile + lane] += lane < count ? nll[lane] : A(0);
        at += size * kTile;
      }
      A* log_variance_at = at + n_continuous * kTile;
      A* log_variance_sum = sums + (a.n_codes() + n_continuous) * kTile;
      for (int64_t code = 0; code < n_continuous; ++code, at += kTile) {
        const A weight = static_cast<A>(weights[n_categorical + code] * per_row);
        A u[kTile] = {};
        for (int lane = 0; lane < count; ++lane) u[lane] = values[(row + lane) * n_continuous + code];
        A* nll_sum = sums + (n_categorical + code) * kTile;
        A* error_sum = sums + (a.n_codes() + code) * kTile;
        if (static_cast<Continuous>(a.kinds[code]) == Continuous::bernoulli) {
          for (int lane = 0; lane < kTile; ++lane) {
            const Bernoulli<A> b = bernoulli(u[lane], at[lane]);
            nll_sum[lane] += lane < count ? b.nll : A(0);
            error_sum[lane] += lane < count ? b.squared_error : A(0);
            at[lane] = weighted(weight, b.d_logit);
          }
        } else if (a.learned_variance) {
          for (int lane = 0; lane < kTile; ++lane) {
            const Gaussian<A> g = gaussian(u[lane], at[lane], log_variance_at[lane]);
            nll_sum[lane] += lane < count ? g.nll : A(0);
            error_sum[lane] += lane < count ? g.squared_error : A(0);
            log_variance_sum[lane] += lane < count ? g.log_variance : A(0);
            at[lane] = weighted(weight, g.d_mean);
            log_variance_at[lane] = weighted(weight, g.d_log_variance);
          }
          log_variance_at += kTile;
          log_variance_sum += kTile;
        } else {
          for (int lane = 0; lane < kTile; ++lane) {
            const Gaussian<A> g = gaussian(u[lane], at[lane], static_cast<A>(a.log_variance));
            nll_sum[lane] += lane < count ? g.nll : A(0);
            error_sum[lane] += lane < count ? g.squared_error : A(0);
            at[lane] = weighted(weight, g.d_mean);
          }
        }
      }
      for (int lane = 0; lane < count; ++lane)
        for (int64_t column = 0; column < a.q_dim; ++column)
          grad[(row + lane) * a.q_dim + column] = convert<G>(tile[column * kTile + lane]);
    }
  }

  INFOGAN_FAST_INLINE void operator()(int64_t first, int64_t last) const {
    std::vector<A> scratch((a.q_dim + code_sums()) * kTile);
    A* sums = scratch.data() + a.q_dim * kTile;
    for (int64_t chunk = first; chunk < last; ++chunk) {
      double* partial = partials + chunk * a.n_terms();
      const int64_t begin = chunk * kChunk, end = begin + kChunk;
      if (begin < a.real_rows) {
        logits(*a.real, out.grad_real, begin, std::min(end, a.real_rows), 0.0,
               a.weights[0] * (scale / static_cast<double>(a.real_rows)), nullptr, partial);
      }
      if (begin < a.fake_rows) {
        const double per_row = scale / static_cast<double>(a.fake_rows);
        logits(*a.fake, out.grad_fake, begin, std::min(end, a.fake_rows), a.weights[1] * per_row,
               a.weights[2] * per_row, partial + 1, partial + 2);
      }
      if (begin < a.q_rows) {
        codes(begin, std::min(end, a.q_rows), scratch.data(), sums);
        for (int64_t i = 0; i < code_sums(); ++i) partial[kAdversarialTerms + i] = sum(sums + i * kTile);
      }
    }
  }
};

template <class T, class A, class G>
void compute(const LossArguments& a, const LossOutputs& out) {
  const double scale = a.grad_scale ? *const_data<float>(a.grad_scale) : 1.0;
  const int64_t chunks = (a.max_rows() + kChunk - 1) / kChunk, n_terms = a.n_terms();
  std::vector<double> partials(chunks * n_terms, 0.0);
  std::atomic<int64_t> bad_category{-1};
  const int64_t grain = std::max<int64_t>(1, 2048 / (kChunk * (a.q_dim + 2)));
  for_rows(chunks, grain, LossChunks<T, A, G>{a, out, scale, partials.data(), bad_category});

  if (const int64_t at = bad_category.load(); at >= 0) {
    const int64_t row = at / a.n_categorical(), code = at % a.n_categorical();
    REQUIRE(false, "infogan_loss: categorical[", row, ", ", code, "] is ", const_data<int32_t>(a.categorical)[at],
            "; code c", code + 1, " takes values in [0, ", a.sizes[code], ")");
  }
  A* terms = data<A>(out.terms);
  double* sums = data<double>(a.sums);
  double total = 0;
  for (int64_t i = 0; i < n_terms; ++i) {
    const int64_t rows = i == 0 ? a.real_rows : i < kAdversarialTerms ? a.fake_rows : a.q_rows;
    double sum = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += partials[chunk * n_terms + i];
    const double mean = rows ? sum / static_cast<double>(rows) : 0.0;
    terms[i] = static_cast<A>(mean);
    if (sums != nullptr && a.places[i] >= 0) sums[a.places[i]] += mean;
    if (i < kAdversarialTerms + a.n_codes() && a.weights[i] != 0) total += a.weights[i] * mean;
  }
  *data<A>(out.total) = static_cast<A>(total);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> infogan_loss_cpu(
    std::optional<Tensor> real_logits, std::optional<Tensor> fake_logits, std::optional<Tensor> q_output,
    std::optional<Tensor> categorical, std::optional<Tensor> continuous, std::vector<int64_t> categorical_sizes,
    std::vector<int64_t> continuous_kinds, std::vector<double> weights, bool learned_variance, double log_variance,
    std::optional<Tensor> grad_scale, std::optional<ScalarType> grad_dtype, std::optional<Tensor> sums,
    std::vector<int64_t> places) {
  const LossArguments a = check_infogan_loss(
      std::move(real_logits), std::move(fake_logits), std::move(q_output), std::move(categorical),
      std::move(continuous), std::move(categorical_sizes), std::move(continuous_kinds), std::move(weights),
      learned_variance, log_variance, std::move(grad_scale), grad_dtype, std::move(sums), std::move(places));
  const LossOutputs out = allocate_loss(a);
  const bool wide = a.grad_dtype == ScalarType::Float;
  with_types<Half, BFloat16>(a.dtype, [&](auto value, auto accumulated) {
    using T = decltype(value);
    using A = decltype(accumulated);
    (wide ? compute<T, A, A> : compute<T, A, T>)(a, out);
  });
  return {out.total, out.terms, out.grad_real, out.grad_fake, out.grad_q};
}

}  // namespace
}  // namespace infogan_fast

STABLE_TORCH_LIBRARY_IMPL(infogan_fast, CPU, m) { m.impl("infogan_loss", TORCH_BOX(&infogan_fast::infogan_loss_cpu)); }
