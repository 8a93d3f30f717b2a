#include "adam_update/adam_update.h"

#include "adam_update/adam_rule.h"
#include "common/convert.h"
#include "common/isa.h"

namespace infogan_fast {
namespace {

constexpr int64_t kChunk = 1024;  // elements: what later passes over a chunk read is still in the first cache

struct AdamChunk {
  const AdamTensor* tensor;
  int64_t begin, end;  // within the tensor
};

// A: masters and arithmetic; L: low-precision weights and gradients.
template <class A, class L>
struct AdamChunks {
  const std::vector<AdamChunk>& chunks;
  const AdamFactors<A>* factors;  // one a group
  A *masters, *exp_avg, *exp_avg_sq, *average;
  L* weights;
  int64_t averaged;

  // Whole loops over memory that does not overlap, so that they vectorise.
  template <class G, bool kMore>
  INFOGAN_FAST_INLINE void update_masters(const AdamChunk& chunk, const AdamFactors<A>& f) const {
    const AdamTensor& tensor = *chunk.tensor;
    const G* __restrict__ gradient = static_cast<const G*>(tensor.gradient) + chunk.begin;
    const G* __restrict__ more = kMore ? static_cast<const G*>(tensor.more) + chunk.begin : nullptr;
    A* __restrict__ w = masters + tensor.place + chunk.begin;
    A* __restrict__ m = exp_avg + tensor.place + chunk.begin;
    A* __restrict__ v = exp_avg_sq + tensor.place + chunk.begin;
    const int64_t count = chunk.end - chunk.begin;
    for (int64_t i = 0; i < count; ++i) {
      A g = widen(gradient[i]), weight = w[i], first = m[i], second = v[i];
      if constexpr (kMore) g += widen(more[i]);
      adam_rule(f, g, weight, first, second);
      w[i] = weight;
      m[i] = first;
      v[i] = second;
    }
  }

  template <class G>
  INFOGAN_FAST_INLINE void chunk_of(const AdamChunk& chunk) const {
    const AdamFactors<A> f = factors[chunk.tensor->group];
    if (chunk.tensor->more) {
      update_masters<G, true>(chunk, f);
    } else {
      update_masters<G, false>(chunk, f);
    }
    const int64_t place = chunk.tensor->place + chunk.begin, count = chunk.end - chunk.begin;
    const A* __restrict__ w = masters + place;
    if (weights) {
      L* __restrict__ low = weights + place;
      for (int64_t i = 0; i < count; ++i) low[i] = convert<L>(w[i]);
    }
    if (place < averaged && f.average_share != A(0)) {
      A* __restrict__ mean = average + place;
      const int64_t shared = std::min(count, averaged - place);
      for (int64_t i = 0; i < shared; ++i) mean[i] = moved_average(f, w[i], mean[i]);
    }
  }

  INFOGAN_FAST_INLINE void operator()(int64_t begin, int64_t end) const {
    for (int64_t i = begin; i < end; ++i) {
      if (chunks[i].tensor->low) {
        chunk_of<L>(chunks[i]);
      } else {
        chunk_of<A>(chunks[i]);
      }
    }
  }
};

template <class A, class L>
void update(const AdamArguments& a, const Tensor& masters, const Tensor& exp_avg, const Tensor& exp_avg_sq,
            const int64_t* steps, const std::optional<Tensor>& weights, const std::optional<Tensor>& average,
            double scale) {
  std::vector<AdamFactors<A>> factors;
  for (size_t group = 0; group < a.learning_rates.size(); ++group)
    factors.push_back(adam_factors<A>(a.learning_rates[group], a.beta1, a.beta2, a.eps, steps[group] + 1, steps[0] + 1,
                                      scale, a.average_decay, a.average_every));
  std::vector<AdamChunk> chunks;
  for (const AdamTensor& tensor : a.tensors)
    for (int64_t begin = 0; begin < tensor.size; begin += kChunk)
      chunks.push_back(AdamChunk{&tensor, begin, std::min(begin + kChunk, tensor.size)});
  for_rows(static_cast<int64_t>(chunks.size()), 16,
           AdamChunks<A, L>{chunks, factors.data(), data<A>(masters), data<A>(exp_avg), data<A>(exp_avg_sq),
                            data<A>(average), data<L>(weights), average ? average->numel() : 0});
}

void adam_update_cpu(Tensor masters, Tensor exp_avg, Tensor exp_avg_sq, Tensor steps, std::optional<Tensor> weights,
                     std::optional<Tensor> average, std::vector<Tensor> gradients, std::vector<int64_t> places,
                     std::vector<int64_t> groups, std::vector<double> learning_rates, double beta1, double beta2,
                     double eps, double average_decay, int64_t average_every, std::optional<Tensor> grad_scale,
                     std::optional<Tensor> found_inf) {
  const AdamArguments a = check_adam_update(masters, exp_avg, exp_avg_sq, steps, weights, average, gradients, places,
                                            groups, std::move(learning_rates), beta1, beta2, eps, average_decay,
                                            average_every, grad_scale, found_inf);
  int64_t* const counts = data<int64_t>(steps);
  for (int64_t group = 0; group < steps.numel(); ++group)
    REQUIRE(counts[group] >= 0 && counts[group] < kCounterLimit - 1,
            "adam_update: steps must be in [0, 2^48 - 1), got ", counts[group]);
  if (found_inf && *const_data<float>(found_inf) != 0) return;
  const double scale = grad_scale ? *const_data<float>(grad_scale) : 1.0;
  with_types<Half, BFloat16>(a.low, [&](auto low, auto master) {
    update<decltype(master), decltype(low)>(a, masters, exp_avg, exp_avg_sq, counts, weights, average, scale);
  });
  for (int64_t group = 0; group < steps.numel(); ++group) ++counts[group];
}

}  // namespace
}  // namespace infogan_fast

STABLE_TORCH_LIBRARY_IMPL(infogan_fast, CPU, m) { m.impl("adam_update", TORCH_BOX(&infogan_fast::adam_update_cpu)); }
