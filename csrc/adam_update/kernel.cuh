// The kernel behind adam_update: every tensor of a player in one launch. A block takes chunks of the tensors in turn;
// a thread moves 8 weights at a time, in 128-bit loads and stores where the gradient lies on a 16-byte boundary.
#pragma once
#include "adam_update/adam_rule.h"
#include "common/convert.cuh"
#include "common/rng_state.cuh"

namespace infogan_fast {

constexpr int kAdamThreads = 256;
constexpr int kAdamWidth = 8;  // weights that a thread takes at once
constexpr int kAdamChunk = kAdamThreads * kAdamWidth;
constexpr int kAdamMaxBlocks = 2048;
constexpr int kAdamTensors = 64;  // in one launch: kernel parameters hold 4 KB
constexpr int kAdamGroups = 8;

// A: masters and arithmetic; L: low-precision weights and gradients.
template <class A, class L>
struct AdamLaunch {
  A *masters, *exp_avg, *exp_avg_sq, *average;
  L* weights;
  unsigned long long* steps;  // one a group; the first one's upper 16 bits count finished blocks
  const float *grad_scale, *found_inf;
  int64_t averaged;
  double learning_rates[kAdamGroups];
  double beta1, beta2, eps, average_decay;
  int64_t average_every;
  int32_t n_tensors, n_groups, chunks;
  bool advance;  // in the last launch of an update
  const void* gradients[kAdamTensors];
  const void* more[kAdamTensors];
  int64_t places[kAdamTensors], sizes[kAdamTensors];
  int32_t first_chunks[kAdamTensors];
  uint8_t groups[kAdamTensors];
  bool low[kAdamTensors];
};

template <class T, class A>
__device__ void load_eight(const T* from, A (&to)[kAdamWidth]) {
  using V = Vector<T>;
#pragma unroll
  for (int v = 0; v < kAdamWidth / V::kCount; ++v) {
    const V loaded = reinterpret_cast<const V*>(from)[v];
#pragma unroll
    for (int j = 0; j < V::kCount; ++j) to[v * V::kCount + j] = widen(loaded.values[j]);
  }
}

template <class T, class A>
__device__ void store_eight(T* to, const A (&from)[kAdamWidth]) {
  using V = Vector<T>;
#pragma unroll
  for (int v = 0; v < kAdamWidth / V::kCount; ++v) {
    V stored;
#pragma unroll
    for (int j = 0; j < V::kCount; ++j) stored.values[j] = Converter<T>::from(from[v * V::kCount + j]);
    store_vector(to + v * V::kCount, stored);
  }
}

// The gradient of up to 8 weights, `at` elements into the tensor; zeros past `count`.
template <class G, class A>
__device__ void load_gradient(const void* gradient, int64_t at, int count, A (&to)[kAdamWidth]) {
  const G* from = static_cast<const G*>(gradient) + at;
  if (count == kAdamWidth && reinterpret_cast<uintptr_t>(from) % 16 == 0) {
    load_eight(from, to);
    return;
  }
#pragma unroll
  for (int i = 0; i < kAdamWidth; ++i) to[i] = i < count ? static_cast<A>(widen(from[i])) : A(0);
}

template <class G, class A, class L>
__device__ void adam_gradient(const AdamLaunch<A, L>& a, int tensor, int64_t at, int count, A (&g)[kAdamWidth]) {
  load_gradient<G>(a.gradients[tensor], at, count, g);
  if (a.more[tensor] != nullptr) {
    A added[kAdamWidth];
    load_gradient<G>(a.more[tensor], at, count, added);
#pragma unroll
    for (int i = 0; i < kAdamWidth; ++i) g[i] += added[i];
  }
}

// Places are multiples of 8 and the buffers are allocated whole, so that only the tensor's last vector may be partial.
template <class A, class L>
__device__ void adam_weights(const AdamLaunch<A, L>& a, const AdamFactors<A>& f, int64_t place, int count,
                             const A (&g)[kAdamWidth]) {
  A w[kAdamWidth], m[kAdamWidth], v[kAdamWidth];
  if (count == kAdamWidth) {
    load_eight(a.masters + place, w);
    load_eight(a.exp_avg + place, m);
    load_eight(a.exp_avg_sq + place, v);
#pragma unroll
    for (int i = 0; i < kAdamWidth; ++i) adam_rule(f, g[i], w[i], m[i], v[i]);
    store_eight(a.masters + place, w);
    store_eight(a.exp_avg + place, m);
    store_eight(a.exp_avg_sq + place, v);
    if (a.weights != nullptr) store_eight(a.weights + place, w);
  } else {
#pragma unroll
    for (int i = 0; i < kAdamWidth; ++i) {  // a constant length, so that `g` stays in registers
      if (i >= count) continue;
      A weight = a.masters[place + i];
      adam_rule(f, g[i], weight, a.exp_avg[place + i], a.exp_avg_sq[place + i]);
      a.masters[place + i] = weight;
      if (a.weights != nullptr) a.weights[place + i] = Converter<L>::from(weight);
    }
  }
  if (f.average_share == A(0)) return;
  for (int i = 0; i < count && place + i < a.averaged; ++i) {
    A& mean = a.average[place + i];
    mean = moved_average(f, a.masters[place + i], mean);
  }
}

template <class A, class L>
__global__ void __launch_bounds__(kAdamThreads, 2) adam_update_kernel(const AdamLaunch<A, L> a) {
  SHARED(AdamFactors<A>, factors, kAdamGroups);
  SHARED(unsigned long long, counts, kAdamGroups);
  const int thread = static_cast<int>(threadIdx.x);
  if (a.found_inf != nullptr && *a.found_inf != 0.0f) return;
  if (thread < a.n_groups) {
    counts[thread] = atomicAdd(a.steps + thread, 0ull) & kStepMask;
    const unsigned long long first = atomicAdd(a.steps, 0ull) & kStepMask;
    const double scale = a.grad_scale == nullptr ? 1.0 : static_cast<double>(*a.grad_scale);
    factors[thread] =
        adam_factors<A>(a.learning_rates[thread], a.beta1, a.beta2, a.eps, static_cast<int64_t>(counts[thread]) + 1,
                        static_cast<int64_t>(first) + 1, scale, a.average_decay, a.average_every);
  }
  __syncthreads();
  int tensor = 0;
  for (int32_t chunk = static_cast<int32_t>(blockIdx.x); chunk < a.chunks; chunk += static_cast<int32_t>(gridDim.x)) {
    while (tensor + 1 < a.n_tensors && chunk >= a.first_chunks[tensor + 1]) ++tensor;
    const int64_t at = static_cast<int64_t>(chunk - a.first_chunks[tensor]) * kAdamChunk + thread * kAdamWidth;
    const int64_t left = a.sizes[tensor] - at;
    if (left <= 0) continue;
    const int count = left < kAdamWidth ? static_cast<int>(left) : kAdamWidth;
    A g[kAdamWidth];
    if (a.low[tensor]) {
      adam_gradient<L>(a, tensor, at, count, g);
    } else {
      adam_gradient<A>(a, tensor, at, count, g);
    }
    adam_weights(a, factors[a.groups[tensor]], a.places[tensor] + at, count, g);
  }
  // Each block has read the counts when it comes here, so the last one may move them on.
  if (a.advance && thread == 0) {
    const unsigned long long finished = atomicAdd(a.steps, 1ull << kStepBits) >> kStepBits;
    if (finished == gridDim.x - 1)
      for (int group = 0; group < a.n_groups; ++group) atomicExch(a.steps + group, counts[group] + 1);
  }
}

// Fills in the chunks of the tensors listed in `a`.
template <class A, class L>
void launch_adam_update(AdamLaunch<A, L> a, cudaStream_t stream) {
  a.chunks = 0;
  for (int32_t i = 0; i < a.n_tensors; ++i) {
    a.first_chunks[i] = a.chunks;
    a.chunks += static_cast<int32_t>((a.sizes[i] + kAdamChunk - 1) / kAdamChunk);
  }
  const int32_t blocks = a.chunks < kAdamMaxBlocks ? a.chunks : kAdamMaxBlocks;
  launch(adam_update_kernel<A, L>, dim3(static_cast<unsigned>(blocks)), dim3(kAdamThreads), 0, stream, a);
}

}  // namespace infogan_fast
