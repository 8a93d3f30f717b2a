// The kernel behind sample_latents. Rows are drawn in tiles: the categories of a tile first, into shared memory, then
// noise and one-hot columns by all threads, so that neighbouring threads write neighbouring columns.
#pragma once
#include "common/convert.cuh"
#include "common/rng_state.cuh"
#include "math/latent_row.h"
#include "math/samples.h"

namespace infogan_fast {

constexpr int kSampleThreads = 256;
constexpr int kSampleTile = kSampleThreads / kLanes;
constexpr int kSampleMaxBlocks = 4096;

struct LatentLayout {
  int64_t batch_size, noise_dim, latent_dim;
  Samples samples;
  const float* cdf;
  int32_t n_categorical, n_continuous;
  bool uniform_noise, advance;
  int32_t sizes[kMaxCodesOfAKind];
  int8_t kinds[kMaxCodesOfAKind];
};

template <class T>
__global__ void __launch_bounds__(kSampleThreads)
    sample_latents_kernel(const LatentLayout a, unsigned long long* state, T* inputs, int32_t* categorical,
                          float* continuous) {
  SHARED(unsigned long long, shared_step, 1);
  DYN_SHARED(int32_t, index);  // [kSampleTile, n_categorical]
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) shared_step[0] = atomicAdd(state + 1, 0ull) & kStepMask;
  __syncthreads();
  const unsigned long long step = shared_step[0];
  const Stream stream = make_stream(static_cast<int64_t>(state[0]), static_cast<int64_t>(step));

  const int64_t tiles = (a.batch_size + kSampleTile - 1) / kSampleTile;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t first = tile * kSampleTile;
    const int rows = static_cast<int>(a.batch_size - first < kSampleTile ? a.batch_size - first : kSampleTile);
    const auto sample = [&](int at) { return static_cast<uint64_t>(a.samples.at(first + at)); };

    int32_t cdf_first = 0;
    for (int code = 0; code < a.n_categorical; ++code) {
      const int32_t size = a.sizes[code];
      if (thread < rows) {
        const uint32_t word = word_of(latent_words(stream, sample(thread), Purpose::categorical, code / 4), code % 4);
        const int32_t drawn = a.cdf != nullptr ? category(word, size, a.cdf + cdf_first) : category(word, size);
        index[thread * a.n_categorical + code] = drawn;
        categorical[(first + thread) * a.n_categorical + code] = drawn;
      }
      cdf_first += size;
    }
    __syncthreads();

    const int lane = thread % kLanes, row = thread / kLanes;
    if (row < rows) {
      T* out = inputs + (first + row) * a.latent_dim;
      for (int64_t group = 0; group * kGroup < a.noise_dim; ++group) {
        const Words words = latent_words(stream, sample(row), Purpose::noise,
                                         static_cast<uint32_t>(group) * kLanes + static_cast<uint32_t>(lane));
        float values[4];
        if (a.uniform_noise) {
          values[0] = uniform_signed(words.w0);
          values[1] = uniform_signed(words.w1);
          values[2] = uniform_signed(words.w2);
          values[3] = uniform_signed(words.w3);
        } else {
          normal_pair(words.w0, words.w1, values[0], values[1]);
          normal_pair(words.w2, words.w3, values[2], values[3]);
        }
#pragma unroll
        for (int w = 0; w < 4; ++w) {
          const int64_t dimension = group * kGroup + w * kLanes + lane;
          if (dimension < a.noise_dim) out[dimension] = Converter<T>::from(values[w]);
        }
      }
    }

    int64_t column = a.noise_dim;
    for (int code = 0; code < a.n_categorical; ++code) {
      const int32_t size = a.sizes[code];
      for (int32_t item = thread; item < rows * size; item += kSampleThreads) {
        const int32_t in_tile = item / size, k = item - in_tile * size;
        inputs[(first + in_tile) * a.latent_dim + column + k] =
            Converter<T>::from(index[in_tile * a.n_categorical + code] == k ? 1.0f : 0.0f);
      }
      column += size;
    }
    for (int32_t item = thread; item < rows * a.n_continuous; item += kSampleThreads) {
      const int32_t in_tile = item / a.n_continuous, code = item - in_tile * a.n_continuous;
      const T fed =
          Converter<T>::from(continuous_code(stream, sample(in_tile), code, static_cast<Continuous>(a.kinds[code])));
      inputs[(first + in_tile) * a.latent_dim + column + code] = fed;
      continuous[(first + in_tile) * a.n_continuous + code] = static_cast<float>(widen(fed));
    }
    __syncthreads();  // the next tile writes `index` again
  }

  if (a.advance && thread == 0) advance_step(state, step);
}

template <class T>
void launch_sample_latents(const LatentLayout& a, int64_t* state, T* inputs, int32_t* categorical, float* continuous,
                           cudaStream_t stream) {
  const int64_t tiles = (a.batch_size + kSampleTile - 1) / kSampleTile;
  const unsigned blocks = static_cast<unsigned>(tiles < kSampleMaxBlocks ? tiles : kSampleMaxBlocks);
  launch(sample_latents_kernel<T>, dim3(blocks), dim3(kSampleThreads), sizeof(int32_t) * kSampleTile * a.n_categorical,
         stream, a, reinterpret_cast<unsigned long long*>(state), inputs, categorical, continuous);
}

}  // namespace infogan_fast
