#include "sample_latents/sample_latents.h"

#include <algorithm>

#include "common/convert.h"
#include "common/isa.h"
#include "sample_latents/philox_lanes.h"

namespace infogan_fast {
namespace {

template <class T>
struct SampleRows {
  const SampleArguments& a;
  PhiloxLanes philox;
  Stream stream;
  T* inputs;
  int32_t* categorical;
  float* continuous;

  // Noise dimensions [first, first + 64) of one row, from the words of their group.
  INFOGAN_FAST_INLINE void noise_group(const LaneWords& words, int64_t first, T* out) const {
    float values[4][kLanes];
    if (a.uniform_noise) {
      for (int w = 0; w < 4; ++w)
        for (int lane = 0; lane < kLanes; ++lane) values[w][lane] = uniform_signed(words[w][lane]);
    } else {
      for (int w = 0; w < 4; w += 2)
        for (int lane = 0; lane < kLanes; ++lane)
          normal_pair(words[w][lane], words[w + 1][lane], values[w][lane], values[w + 1][lane]);
    }
    T converted[kGroup];
    for (int w = 0; w < 4; ++w)
      for (int lane = 0; lane < kLanes; ++lane) converted[w * kLanes + lane] = convert<T>(values[w][lane]);
    // Whole vectors where they fit the row: what is too much lies in its codes, which are written afterwards.
    const int64_t needed = std::min<int64_t>(kGroup, a.noise_dim - first);
    const int64_t whole = (needed + kLanes - 1) / kLanes * kLanes;
    const int64_t count = first + whole <= a.latent_dim ? whole : needed;
    if (count == kGroup) {
      memcpy(out + first, converted, sizeof converted);
    } else {
      memcpy(out + first, converted, static_cast<size_t>(count) * sizeof(T));
    }
  }

  INFOGAN_FAST_INLINE void noise(int64_t first_row, int count, uint64_t sample) const {
    const int64_t row_groups = (a.noise_dim + kGroup - 1) / kGroup, items = count * row_groups;
    LaneWords words[2];
    for (int64_t item = 0; item < items; item += 2) {
      LaneGroup groups[2];
      for (int i = 0; i < 2; ++i) {
        const int64_t row = (item + i) / row_groups, group = (item + i) % row_groups;
        groups[i] = LaneGroup{sample + static_cast<uint64_t>(row * a.samples.stride), Purpose::noise,
                              static_cast<uint32_t>(group) * kLanes};
      }
      philox(stream, 0, groups, words);
      for (int i = 0; i < 2 && item + i < items; ++i) {
        const int64_t row = (item + i) / row_groups, group = (item + i) % row_groups;
        noise_group(words[i], group * kGroup, inputs + (first_row + row) * a.latent_dim);
      }
    }
  }

  // Codes, 16 rows at a time: lanes are rows.
  INFOGAN_FAST_INLINE void codes(int64_t first, int count, uint64_t sample) const {
    const int64_t n_categorical = static_cast<int64_t>(a.sizes.size());
    const int64_t n_continuous = static_cast<int64_t>(a.kinds.size());
    LaneWords words[2];  // of the categorical codes, of the continuous ones: a block serves four codes
    const uint32_t stride = static_cast<uint32_t>(a.samples.stride);
    int64_t column = a.noise_dim, cdf_first = 0;
    for (int64_t block = 0; block * 4 < std::max(n_categorical, n_continuous); ++block) {
      const uint32_t b = static_cast<uint32_t>(block);
      philox(stream, stride, {{sample, Purpose::categorical, b}, {sample, Purpose::continuous, b}}, words);
      for (int64_t code = block * 4; code < std::min(block * 4 + 4, n_categorical); ++code) {
        const int32_t size = static_cast<int32_t>(a.sizes[code]);
        for (int lane = 0; lane < count; ++lane) {
          const uint32_t word = words[0][code % 4][lane];
          const int32_t index = a.cdf ? category(word, size, a.cdf + cdf_first) : category(word, size);
          categorical[(first + lane) * n_categorical + code] = index;
          T* one_hot = inputs + (first + lane) * a.latent_dim + column;
          for (int32_t k = 0; k < size; ++k) one_hot[k] = T{};
          one_hot[index] = convert<T>(1.0f);
        }
        column += size;
        cdf_first += size;
      }
      for (int64_t code = block * 4; code < std::min(block * 4 + 4, n_continuous); ++code) {
        const auto kind = static_cast<Continuous>(a.kinds[code]);
        const uint32_t (&word)[kLanes] = words[1][code % 4];
        float values[kLanes];
        if (kind == Continuous::normal) {
          LaneWords own[2];
          const LaneGroup group{sample, Purpose::normal_code, static_cast<uint32_t>(code)};
          philox(stream, stride, {group, group}, own);
          float sine;
          for (int lane = 0; lane < kLanes; ++lane) normal_pair(own[0][0][lane], own[0][1][lane], values[lane], sine);
        } else if (kind == Continuous::uniform) {
          for (int lane = 0; lane < kLanes; ++lane) values[lane] = uniform_signed(word[lane]);
        } else {
          for (int lane = 0; lane < kLanes; ++lane) values[lane] = static_cast<float>(word[lane] >> 31);
        }
        const int64_t at = a.noise_dim + a.categories + code;
        for (int lane = 0; lane < count; ++lane) {
          const T fed = convert<T>(values[lane]);
          inputs[(first + lane) * a.latent_dim + at] = fed;
          continuous[(first + lane) * n_continuous + code] = widen(fed);
        }
      }
    }
  }

  INFOGAN_FAST_INLINE void operator()(int64_t begin, int64_t end) const {
    for (int64_t first = begin; first < end; first += kLanes) {
      const int count = static_cast<int>(std::min<int64_t>(kLanes, end - first));
      const uint64_t sample = static_cast<uint64_t>(a.samples.at(first));
      noise(first, count, sample);
      codes(first, count, sample);
    }
  }
};

template <class T>
void sample_rows(const SampleArguments& a, Stream stream, const SampleOutputs& out) {
  const SampleRows<T> body{a,
                           philox_lanes(active_isa()),
                           stream,
                           data<T>(out.inputs),
                           data<int32_t>(out.categorical),
                           data<float>(out.continuous)};
  const int64_t grain = std::max<int64_t>(16, 4096 / a.latent_dim);
  for_rows(a.batch_size, grain, body);
}

std::tuple<Tensor, Tensor, Tensor> sample_latents_cpu(Tensor rng_state, int64_t batch_size, int64_t noise_dim,
                                                      bool uniform_noise, std::vector<int64_t> categorical_sizes,
                                                      std::vector<int64_t> continuous_kinds,
                                                      std::optional<Tensor> categorical_cdf, ScalarType dtype,
                                                      int64_t sample_offset, int64_t sample_stride, bool advance) {
  const SampleArguments a =
      check_sample_latents(rng_state, batch_size, noise_dim, uniform_noise, std::move(categorical_sizes),
                           std::move(continuous_kinds), categorical_cdf, sample_offset, sample_stride, advance);
  const SampleOutputs out = allocate_sample(a, rng_state, dtype);
  int64_t* state = data<int64_t>(rng_state);
  REQUIRE(state[1] >= 0 && state[1] < kCounterLimit - 1,
          "sample_latents: the step in rng_state must be in [0, 2^48 - 1), got ", state[1]);
  const Stream stream = make_stream(state[0], state[1]);
  with_types<Half, BFloat16>(dtype, [&](auto value, auto) { sample_rows<decltype(value)>(a, stream, out); });
  if (advance) ++state[1];
  return {out.inputs, out.categorical, out.continuous};
}

}  // namespace
}  // namespace infogan_fast

STABLE_TORCH_LIBRARY_IMPL(infogan_fast, CPU, m) {
  m.impl("sample_latents", TORCH_BOX(&infogan_fast::sample_latents_cpu));
}
