// The kernels behind the image layers. Each is a small matrix product in shared memory, with patches of 16 pixels as
// one side: maps = patches x weights, patches = maps x weights (an image adds up the patches that overlap), and the
// weights' gradient = maps x patches, summed over the batch in an order that depends on the sizes alone. Maps move in
// 128-bit vectors. No atomics.
#pragma once
#include "common/convert.cuh"
#include "common/strides.h"
#include "common/warp.cuh"
#include "math/activation.h"

namespace infogan_fast {

constexpr int kPatch = 16;        // pixels of a patch, for each channel
constexpr int kFeatureTile = 64;  // features of a block

struct ImageLayout {
  int64_t positions;  // of the batch: places of patches, side * side an image
  int32_t size, side, features;
  Strides images, weights;

  // Of a weight; taps are counted over channels, rows and columns.
  __device__ int32_t weight_at(int32_t feature, int tap) const {
    return feature * static_cast<int32_t>(weights.outer) + tap / kPatch * static_cast<int32_t>(weights.channel) +
           tap % kPatch / 4 * static_cast<int32_t>(weights.row) + tap % 4 * static_cast<int32_t>(weights.column);
  }
};

// A tensor's values; or those of a gradient, on its way back through the activation that gave `outputs`.
template <class T>
struct ImageSource {
  const T *values, *outputs;

  template <class A>
  __device__ A pixel(int64_t at) const {
    const A value = static_cast<A>(widen(values[at]));
    return outputs == nullptr ? value : through_sigmoid(value, static_cast<A>(widen(outputs[at])));
  }

  // As many features as a vector has.
  template <class A>
  __device__ void features(int64_t at, A slope, A (&to)[Vector<T>::kCount]) const {
    const Vector<T> vector = *reinterpret_cast<const Vector<T>*>(values + at);
#pragma unroll
    for (int i = 0; i < Vector<T>::kCount; ++i) to[i] = static_cast<A>(widen(vector.values[i]));
    if (outputs == nullptr) return;
    const Vector<T> activated = *reinterpret_cast<const Vector<T>*>(outputs + at);
#pragma unroll
    for (int i = 0; i < Vector<T>::kCount; ++i)
      to[i] = through_leaky_relu(to[i], static_cast<A>(widen(activated.values[i])), slope);
  }
};

// Four values side by side in shared memory.
template <class A>
struct alignas(16) Quad {
  A values[4];
};

template <class A>
__device__ const Quad<A>& quad(const A* at) {
  return *reinterpret_cast<const Quad<A>*>(at);
}

template <class A>
__device__ void store_quad(A* to, A a, A b, A c, A d) {
  *reinterpret_cast<Quad<A>*>(to) = Quad<A>{{a, b, c, d}};
}

// The place of a patch in the batch; its first pixel is at (row, column), which may be -1.
struct PatchPlace {
  int64_t image;
  int32_t row, column;

  __device__ PatchPlace(const ImageLayout& a, int64_t position) {
    const int32_t each = a.side * a.side;
    image = position / each;
    const int32_t within = static_cast<int32_t>(position % each);
    row = within / a.side * 2 - 1;
    column = within % a.side * 2 - 1;
  }
};

// Pixel `tap` of a patch, counted over channels, rows and columns; 0 past the image's border.
template <class A, class T>
__device__ A pixel_of_patch(const ImageLayout& a, const ImageSource<T>& images, const PatchPlace& place, int tap) {
  const int32_t row = place.row + tap % kPatch / 4, column = place.column + tap % 4;
  if (row < 0 || row >= a.size || column < 0 || column >= a.size) return A(0);
  return images.template pixel<A>(a.images.at(place.image, tap / kPatch, row, column));
}

// ---- images to maps

constexpr int kMapsThreads = 128;
constexpr int kMapsPositions = 64;

// A thread computes 8 features at 4 positions.
template <class T, class A, int C>
__global__ void __launch_bounds__(kMapsThreads)
    image_maps_kernel(const ImageLayout a, const ImageSource<T> images, const T* weight, const T* bias, double slope,
                      T* maps) {
  constexpr int kTapsOfAll = C * kPatch;
  SHARED(A, patches, kTapsOfAll * kMapsPositions);  // [taps, positions]
  SHARED(A, weights, kTapsOfAll * kFeatureTile);    // [taps, features]
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kMapsPositions;
  const int32_t first_feature = static_cast<int32_t>(blockIdx.y) * kFeatureTile;
  {
    const int at = thread % kMapsPositions;
    const bool inside = first + at < a.positions;
    const PatchPlace place(a, inside ? first + at : 0);
    for (int tap = thread / kMapsPositions; tap < kTapsOfAll; tap += kMapsThreads / kMapsPositions)
      patches[tap * kMapsPositions + at] = inside ? pixel_of_patch<A>(a, images, place, tap) : A(0);
  }
  {
    const int32_t feature = first_feature + thread % kFeatureTile;
    for (int tap = thread / kFeatureTile; tap < kTapsOfAll; tap += kMapsThreads / kFeatureTile)
      weights[tap * kFeatureTile + thread % kFeatureTile] =
          feature < a.features ? static_cast<A>(widen(weight[a.weight_at(feature, tap)])) : A(0);
  }
  __syncthreads();

  const int lane = thread % 8 * 8, group = thread / 8 * 4;
  A sums[4][8] = {};
#pragma unroll 4
  for (int tap = 0; tap < kTapsOfAll; ++tap) {
    const Quad<A> p = quad(patches + tap * kMapsPositions + group);
    const Quad<A> low = quad(weights + tap * kFeatureTile + lane), high = quad(weights + tap * kFeatureTile + lane + 4);
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int f = 0; f < 4; ++f) {
        sums[i][f] = fused(p.values[i], low.values[f], sums[i][f]);
        sums[i][f + 4] = fused(p.values[i], high.values[f], sums[i][f + 4]);
      }
  }

  const int32_t feature = first_feature + lane;
  if (feature >= a.features) return;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t position = first + group + i;
    if (position >= a.positions) return;
    T* const to = maps + position * a.features + feature;
#pragma unroll
    for (int f = 0; f < 8; f += Vector<T>::kCount) {
      Vector<T> vector;
#pragma unroll
      for (int n = 0; n < Vector<T>::kCount; ++n) {
        const A shift = bias == nullptr ? A(0) : static_cast<A>(widen(bias[feature + f + n]));
        vector.values[n] = Converter<T>::from(leaky_relu(sums[i][f + n] + shift, static_cast<A>(slope)));
      }
      store_vector(to + f, vector);
    }
  }
}

// ---- maps to images

// A block writes 16 x 32 pixels, in quads of which each needs its own position and those around it.
constexpr int kQuadRows = 8, kQuadColumns = 16;
constexpr int kImagePixels = kQuadRows * kQuadColumns * 4;
constexpr int kImageColumns = kQuadColumns + 2;  // of positions
constexpr int kImagePositions = (kQuadRows + 2) * kImageColumns;
constexpr int kImageStride = 192;  // kImagePositions in whole groups of 4 threads' positions
constexpr int kImageThreads = kImageStride;

// Features at once: what 24 KB hold of them.
template <class A>
constexpr int image_features() {
  return 128 / static_cast<int>(sizeof(A));
}

// A thread computes 4 pixels of the patches at 4 positions, for each channel.
template <class T, class A, int C>
__global__ void __launch_bounds__(kImageThreads)
    image_pixels_kernel(const ImageLayout a, const ImageSource<T> maps, double slope, const T* weight, const T* bias,
                        int32_t tile_rows, int32_t tile_columns, T* images) {
  constexpr int kDepth = image_features<A>(), kTapsOfAll = C * kPatch;
  SHARED(A, values, kDepth * kImageStride);  // [features, positions]; then patches, [16, positions]
  SHARED(A, weights, kDepth * kTapsOfAll);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t image = static_cast<int64_t>(blockIdx.x) / (tile_rows * tile_columns);
  const int32_t tile = static_cast<int32_t>(static_cast<int64_t>(blockIdx.x) % (tile_rows * tile_columns));
  const int32_t quad_row = tile / tile_columns * kQuadRows, quad_column = tile % tile_columns * kQuadColumns;

  const int32_t row = quad_row + thread / kImageColumns - 1, column = quad_column + thread % kImageColumns - 1;
  const bool inside = thread < kImagePositions && row >= 0 && row < a.side && column >= 0 && column < a.side;
  const int64_t position = (image * a.side + row) * a.side + column;
  const int group = thread / 4 * 4, tap_group = thread % 4 * 4;
  A sums[C][4][4] = {};  // [channel, tap, position]
  for (int32_t first = 0; first < a.features; first += kDepth) {
    const int32_t depth = a.features - first < kDepth ? a.features - first : kDepth;
    __syncthreads();
    for (int32_t k = 0; k < depth; k += Vector<T>::kCount) {
      A some[Vector<T>::kCount] = {};
      if (inside) maps.features(position * a.features + first + k, static_cast<A>(slope), some);
#pragma unroll
      for (int i = 0; i < Vector<T>::kCount; ++i) values[(k + i) * kImageStride + thread] = some[i];
    }
    for (int32_t at = thread; at < depth * kTapsOfAll; at += kImageThreads)
      weights[at] = static_cast<A>(widen(weight[a.weight_at(first + at / kTapsOfAll, at % kTapsOfAll)]));
    __syncthreads();
#pragma unroll 4
    for (int32_t k = 0; k < depth; ++k) {
      const Quad<A> v = quad(values + k * kImageStride + group);
#pragma unroll
      for (int c = 0; c < C; ++c) {
        const Quad<A> w = quad(weights + k * kTapsOfAll + c * kPatch + tap_group);
#pragma unroll
        for (int tap = 0; tap < 4; ++tap)
#pragma unroll
          for (int i = 0; i < 4; ++i) sums[c][tap][i] = fused(v.values[i], w.values[tap], sums[c][tap][i]);
      }
    }
  }

#pragma unroll
  for (int c = 0; c < C; ++c) {
    __syncthreads();
#pragma unroll
    for (int tap = 0; tap < 4; ++tap)
      store_quad(values + (tap_group + tap) * kImageStride + group, sums[c][tap][0], sums[c][tap][1], sums[c][tap][2],
                 sums[c][tap][3]);
    __syncthreads();
    const A shift = bias == nullptr ? A(0) : static_cast<A>(widen(bias[c]));
    for (int at = thread; at < kImagePixels; at += kImageThreads) {
      const int r = at / (2 * kQuadColumns), s = at % (2 * kQuadColumns);
      const int32_t pixel_row = 2 * quad_row + r, pixel_column = 2 * quad_column + s;
      if (pixel_row >= a.size || pixel_column >= a.size) continue;
      // The two rows and columns of positions whose patches hold the pixel, and its place in the first one.
      const int upper = (r + 1) / 2, left = (s + 1) / 2, tap_row = 3 - r % 2, tap_column = 3 - s % 2;
      const A* const patch = values + (tap_row * 4 + tap_column) * kImageStride + upper * kImageColumns + left;
      constexpr int kRight = 1 - 2 * kImageStride, kDown = kImageColumns - 8 * kImageStride;
      const A sum = ((patch[0] + patch[kRight]) + patch[kDown]) + patch[kDown + kRight];
      images[a.images.at(image, c, pixel_row, pixel_column)] =
          Converter<T>::from(bias == nullptr ? sum : sigmoid(sum + shift));
    }
  }
}

// ---- the weights' gradient

constexpr int kSumThreads = 256;
constexpr int kSumGroups = 4;      // of threads: each takes every 4th position
constexpr int kSumBlocks = 264;    // at most: about two for each processor of a large GPU
constexpr int kTotalThreads = 32;  // of a group in the second kernel
constexpr int kTotalGroups = 16;   // at most: each takes every so many blocks of the first

// Positions at once: what 16 KB hold of their features.
template <class A>
constexpr int sum_positions() {
  return 256 / static_cast<int>(sizeof(A));
}

// Of a block: the weights' gradients [taps, features], then that of the bias.
template <int C>
constexpr int sum_values() {
  return C * kPatch * kFeatureTile + kFeatureTile;
}

// Whether a pixel of a patch stands for itself: each pixel of an image lies in several patches, in one of them so.
__device__ inline bool counts_once(const ImageLayout& a, const PatchPlace& place, int tap) {
  const int row = tap % kPatch / 4, column = tap % 4;
  const bool last_row = place.row + 4 == a.size, last_column = place.column + 4 == a.size;
  return (row == 1 || row == 2 || (row == 3 && last_row)) &&
         (column == 1 || column == 2 || (column == 3 && last_column));
}

// First kernel: each block sums runs of positions; partials [feature tiles, blocks, sum_values]. A thread sums 4
// features by 4 pixels of each channel.
template <class T, class A, int C>
__global__ void __launch_bounds__(kSumThreads, sizeof(A) == 4 ? 2 : 1)
    image_weight_sums_kernel(const ImageLayout a, const ImageSource<T> images, const ImageSource<T> maps, double slope,
                             bool bias_of_maps, A* partials) {
  constexpr int kRows = sum_positions<A>(), kTapsOfAll = C * kPatch, kStride = kTapsOfAll + 4;
  constexpr int kWords = kRows * (kFeatureTile + kStride);
  constexpr int kShared = kWords > sum_values<C>() ? kWords : sum_values<C>();
  SHARED(A, shared, kShared);
  A* const values = shared;                          // [positions, features]
  A* const patches = shared + kRows * kFeatureTile;  // [positions, taps and padding]
  const int thread = static_cast<int>(threadIdx.x);
  const int32_t first_feature = static_cast<int32_t>(blockIdx.y) * kFeatureTile;
  const int feature = thread % 16 * 4, tap_group = thread / 16 % 4 * 4, group = thread / 64;
  A sums[C][4][4] = {}, of_features[4] = {}, of_pixels[C] = {};  // [channel, tap, feature]

  const int64_t tiles = (a.positions + kRows - 1) / kRows;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t first = tile * kRows;
    __syncthreads();
    {
      const int at = thread % kRows;
      const bool inside = first + at < a.positions;
      const PatchPlace place(a, inside ? first + at : 0);
#pragma unroll
      for (int c = 0; c < C; ++c)
        for (int tap = c * kPatch + thread / kRows; tap < (c + 1) * kPatch; tap += kSumThreads / kRows) {
          const A pixel = inside ? pixel_of_patch<A>(a, images, place, tap) : A(0);
          patches[at * kStride + tap] = pixel;
          if (!bias_of_maps && inside && counts_once(a, place, tap)) of_pixels[c] += pixel;
        }
    }
    for (int e = thread; e < kRows * kFeatureTile / Vector<T>::kCount; e += kSumThreads) {
      const int at = e / (kFeatureTile / Vector<T>::kCount);
      const int k = e % (kFeatureTile / Vector<T>::kCount) * Vector<T>::kCount;
      A* const to = values + at * kFeatureTile + k;
      A some[Vector<T>::kCount] = {};
      if (first + at < a.positions && first_feature + k < a.features)
        maps.features((first + at) * a.features + first_feature + k, static_cast<A>(slope), some);
      if constexpr (Vector<T>::kCount % 4 == 0) {
#pragma unroll
        for (int i = 0; i < Vector<T>::kCount; i += 4)
          store_quad(to + i, some[i], some[i + 1], some[i + 2], some[i + 3]);
      } else {
#pragma unroll
        for (int i = 0; i < Vector<T>::kCount; ++i) to[i] = some[i];
      }
    }
    __syncthreads();
#pragma unroll 2
    for (int at = group; at < kRows; at += kSumGroups) {
      const Quad<A> v = quad(values + at * kFeatureTile + feature);
#pragma unroll
      for (int f = 0; f < 4; ++f) of_features[f] += v.values[f];
#pragma unroll
      for (int c = 0; c < C; ++c) {
        const Quad<A> p = quad(patches + at * kStride + c * kPatch + tap_group);
#pragma unroll
        for (int tap = 0; tap < 4; ++tap)
#pragma unroll
          for (int f = 0; f < 4; ++f) sums[c][tap][f] = fused(p.values[tap], v.values[f], sums[c][tap][f]);
      }
    }
  }

  // The groups of threads add theirs one after the other.
  A* const of_bias = shared + kTapsOfAll * kFeatureTile;
  for (int turn = 0; turn < kSumGroups; ++turn) {
    __syncthreads();
    if (group != turn) continue;
#pragma unroll
    for (int c = 0; c < C; ++c)
#pragma unroll
      for (int tap = 0; tap < 4; ++tap)
#pragma unroll
        for (int f = 0; f < 4; ++f) {
          A& total = shared[(c * kPatch + tap_group + tap) * kFeatureTile + feature + f];
          total = (turn == 0 ? A(0) : total) + sums[c][tap][f];
        }
    if (bias_of_maps && tap_group == 0) {
#pragma unroll
      for (int f = 0; f < 4; ++f) of_bias[feature + f] = (turn == 0 ? A(0) : of_bias[feature + f]) + of_features[f];
    }
  }
  if (!bias_of_maps) {
    SHARED(A, of_warps, kSumThreads / 32 * C);
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const A sum = warp_sum(of_pixels[c]);
      if (thread % 32 == 0) of_warps[thread / 32 * C + c] = sum;
    }
    __syncthreads();
    if (thread < kFeatureTile) {
      A sum = A(0);
      for (int warp = 0; warp < kSumThreads / 32 && thread < C; ++warp) sum += of_warps[warp * C + thread];
      of_bias[thread] = sum;
    }
  }
  __syncthreads();
  A* const to = partials + (static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * sum_values<C>();
  for (int at = thread; at < sum_values<C>(); at += kSumThreads) to[at] = shared[at];
}

// Second kernel: the sum over the blocks of the first. A thread takes 4 values side by side.
template <class T, class A, int C>
__global__ void __launch_bounds__(kTotalThreads* kTotalGroups)
    image_weight_totals_kernel(const ImageLayout a, const A* partials, int32_t blocks, bool bias_of_maps,
                               T* grad_weight, T* grad_bias) {
  SHARED(A, sums, kTotalThreads * 4 * kTotalGroups);
  const int lane = static_cast<int>(threadIdx.x) % kTotalThreads, group = static_cast<int>(threadIdx.x) / kTotalThreads;
  const int groups = static_cast<int>(blockDim.x) / kTotalThreads;
  const int first = (static_cast<int>(blockIdx.x) * kTotalThreads + lane) * 4;
  const A* const from = partials + static_cast<int64_t>(blockIdx.y) * blocks * sum_values<C>() + first;
  Quad<A> sum{};
  if (first < sum_values<C>()) {
#pragma unroll 4
    for (int32_t block = group; block < blocks; block += groups) {
      const Quad<A> values = quad(from + static_cast<int64_t>(block) * sum_values<C>());
#pragma unroll
      for (int i = 0; i < 4; ++i) sum.values[i] += values.values[i];
    }
  }
  *reinterpret_cast<Quad<A>*>(sums + (group * kTotalThreads + lane) * 4) = sum;
  __syncthreads();
  if (group != 0 || first >= sum_values<C>()) return;
  for (int other = 1; other < groups; ++other) {
    const Quad<A> values = quad(sums + (other * kTotalThreads + lane) * 4);
#pragma unroll
    for (int i = 0; i < 4; ++i) sum.values[i] += values.values[i];
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int tap = (first + i) / kFeatureTile;
    const int32_t feature = static_cast<int32_t>(blockIdx.y) * kFeatureTile + (first + i) % kFeatureTile;
    if (tap < C * kPatch) {
      if (feature < a.features) grad_weight[a.weight_at(feature, tap)] = Converter<T>::from(sum.values[i]);
    } else if (feature < (bias_of_maps ? a.features : C)) {
      grad_bias[feature] = Converter<T>::from(sum.values[i]);
    }
  }
}

inline unsigned feature_tiles(const ImageLayout& a) {
  return static_cast<unsigned>((a.features + kFeatureTile - 1) / kFeatureTile);
}

template <class A>
int32_t sum_blocks(const ImageLayout& a) {
  const int64_t tiles = (a.positions + sum_positions<A>() - 1) / sum_positions<A>();
  return static_cast<int32_t>(tiles < kSumBlocks ? tiles : kSumBlocks);
}

// How many values the weights' gradient needs in `partials`.
template <class A>
int64_t sum_partials(const ImageLayout& a, int channels) {
  const int64_t each = channels == 1 ? sum_values<1>() : sum_values<3>();
  return each * sum_blocks<A>(a) * feature_tiles(a);
}

template <class T, class A, int C>
void launch_image_maps(const ImageLayout& a, ImageSource<T> images, const T* weight, const T* bias, double slope,
                       T* maps, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((a.positions + kMapsPositions - 1) / kMapsPositions), feature_tiles(a));
  launch(image_maps_kernel<T, A, C>, grid, dim3(kMapsThreads), 0, stream, a, images, weight, bias, slope, maps);
}

template <class T, class A, int C>
void launch_image_pixels(const ImageLayout& a, ImageSource<T> maps, double slope, const T* weight, const T* bias,
                         T* images, cudaStream_t stream) {
  const int32_t quads = (a.size + 1) / 2, tile_rows = (quads + kQuadRows - 1) / kQuadRows,
                tile_columns = (quads + kQuadColumns - 1) / kQuadColumns;
  const int64_t batch = a.positions / (static_cast<int64_t>(a.side) * a.side);
  launch(image_pixels_kernel<T, A, C>, dim3(static_cast<unsigned>(batch * tile_rows * tile_columns)),
         dim3(kImageThreads), 0, stream, a, maps, slope, weight, bias, tile_rows, tile_columns, images);
}

template <class T, class A, int C>
void launch_image_weights(const ImageLayout& a, ImageSource<T> images, ImageSource<T> maps, double slope,
                          bool bias_of_maps, A* partials, T* grad_weight, T* grad_bias, cudaStream_t stream) {
  const int32_t blocks = sum_blocks<A>(a);
  launch(image_weight_sums_kernel<T, A, C>, dim3(static_cast<unsigned>(blocks), feature_tiles(a)), dim3(kSumThreads), 0,
         stream, a, images, maps, slope, bias_of_maps, partials);
  const int32_t groups = blocks < kTotalGroups ? blocks : kTotalGroups;
  launch(image_weight_totals_kernel<T, A, C>,
         dim3((sum_values<C>() / 4 + kTotalThreads - 1) / kTotalThreads, feature_tiles(a)),
         dim3(static_cast<unsigned>(kTotalThreads * groups)), 0, stream, a, partials, blocks, bias_of_maps, grad_weight,
         grad_bias);
}

}  // namespace infogan_fast
