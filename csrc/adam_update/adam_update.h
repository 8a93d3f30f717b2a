// adam_update as every device sees it: the arguments checked, the tensors of a player listed.
#pragma once
#include <algorithm>
#include <cmath>

#include "common/rng_state.h"
#include "common/tensor_arguments.h"

namespace infogan_fast {

constexpr int64_t kAdamAlignment = 8;  // elements: a tensor's place in the flat buffers, so that vectors are whole
constexpr int kAdamMaxGroups = 8;

// One tensor of the player: its gradient, and where it lies in the flat buffers.
struct AdamTensor {
  const void* gradient;
  const void* more;  // a second gradient to be added, or null
  int64_t place, size;
  int32_t group;
  bool low;  // gradients in the dtype of `weights`, not of the masters
};

struct AdamArguments {
  std::vector<AdamTensor> tensors;
  std::vector<double> learning_rates;
  double beta1, beta2, eps, average_decay;
  int64_t average_every;
  ScalarType dtype, low;  // of the masters, and of the weights (the masters' where there are none)
};

// Whether the elements lie end to end in memory, in whatever order of the dimensions.
inline bool is_dense(const Tensor& tensor) {
  std::vector<std::pair<int64_t, int64_t>> dimensions;
  for (int64_t d = 0; d < tensor.dim(); ++d)
    if (tensor.size(d) != 1) dimensions.emplace_back(tensor.stride(d), tensor.size(d));
  std::sort(dimensions.begin(), dimensions.end());
  int64_t expected = 1;
  for (const auto& [stride, size] : dimensions) {
    if (stride != expected) return false;
    expected *= size;
  }
  return true;
}

inline void check_adam_buffers(const Tensor& masters, const Tensor& exp_avg, const Tensor& exp_avg_sq,
                               const Tensor& steps, const std::optional<Tensor>& weights,
                               const std::optional<Tensor>& average) {
  const ScalarType dtype = masters.scalar_type();
  REQUIRE((dtype == ScalarType::Float || dtype == ScalarType::Double) && masters.dim() == 1 &&
              masters.is_contiguous() && masters.numel() > 0,
          "adam_update: masters must be a contiguous float32 or float64 tensor [n], got ", name_of(dtype), " of shape ",
          shape_of(masters));
  const auto check_like = [&](const Tensor& tensor, const char* name) {
    REQUIRE(tensor.scalar_type() == dtype && tensor.dim() == 1 && tensor.is_contiguous() &&
                tensor.numel() == masters.numel() && same_device(tensor, masters),
            "adam_update: ", name, " must be like masters, ", name_of(dtype), " of shape ", shape_of(masters),
            " on its device, got ", name_of(tensor.scalar_type()), " of shape ", shape_of(tensor));
  };
  // Kernels read eight elements at a time.
  const auto check_boundary = [](const Tensor& tensor, const char* name) {
    REQUIRE(on_boundary(tensor), "adam_update: ", name, " must begin at a multiple of 16 bytes; copy it first");
  };
  check_like(exp_avg, "exp_avg");
  check_like(exp_avg_sq, "exp_avg_sq");
  REQUIRE(steps.scalar_type() == ScalarType::Long && steps.dim() == 1 && steps.is_contiguous() && steps.numel() >= 1 &&
              steps.numel() <= kAdamMaxGroups && same_device(steps, masters),
          "adam_update: steps must be a contiguous int64 tensor of 1 to ", kAdamMaxGroups,
          " groups on the device of masters, got ", name_of(steps.scalar_type()), " of shape ", shape_of(steps));
  if (weights) {
    REQUIRE(dtype == ScalarType::Float, "adam_update: masters must be float32 where weights are given, got ",
            name_of(dtype));
    REQUIRE((weights->scalar_type() == ScalarType::BFloat16 || weights->scalar_type() == ScalarType::Half) &&
                weights->dim() == 1 && weights->is_contiguous() && weights->numel() == masters.numel() &&
                same_device(*weights, masters),
            "adam_update: weights must be bfloat16 or float16 of shape ", shape_of(masters),
            " on the device of masters, got ", name_of(weights->scalar_type()), " of shape ", shape_of(*weights));
  }
  check_boundary(masters, "masters");
  check_boundary(exp_avg, "exp_avg");
  check_boundary(exp_avg_sq, "exp_avg_sq");
  if (weights) check_boundary(*weights, "weights");
  if (average)
    REQUIRE(average->scalar_type() == dtype && average->dim() == 1 && average->is_contiguous() &&
                average->numel() <= masters.numel() && same_device(*average, masters),
            "adam_update: average must be ", name_of(dtype), " of at most ", masters.numel(),
            " elements on the device of masters, got ", name_of(average->scalar_type()), " of shape ",
            shape_of(*average));
}

inline AdamArguments check_adam_update(const Tensor& masters, const Tensor& exp_avg, const Tensor& exp_avg_sq,
                                       const Tensor& steps, const std::optional<Tensor>& weights,
                                       const std::optional<Tensor>& average, const std::vector<Tensor>& gradients,
                                       const std::vector<int64_t>& places, const std::vector<int64_t>& groups,
                                       std::vector<double> learning_rates, double beta1, double beta2, double eps,
                                       double average_decay, int64_t average_every,
                                       const std::optional<Tensor>& grad_scale,
                                       const std::optional<Tensor>& found_inf) {
  check_adam_buffers(masters, exp_avg, exp_avg_sq, steps, weights, average);
  REQUIRE(static_cast<int64_t>(learning_rates.size()) == steps.numel(), "adam_update: learning_rates must have ",
          steps.numel(), " entries, one for each of steps, got ", learning_rates.size());
  for (double rate : learning_rates)
    REQUIRE(std::isfinite(rate), "adam_update: learning_rates must be finite, got ", rate);
  REQUIRE(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1, "adam_update: betas must be in [0, 1), got ", beta1,
          " and ", beta2);
  REQUIRE(eps >= 0 && std::isfinite(eps), "adam_update: eps must be 0 or more, got ", eps);
  REQUIRE(average_decay >= 0 && average_decay < 1, "adam_update: average_decay must be in [0, 1), got ", average_decay);
  REQUIRE(average_every >= 1 && average_every < kCounterLimit, "adam_update: average_every must be in [1, 2^48), got ",
          average_every);
  for (const auto& [value, name] : {std::pair{&grad_scale, "grad_scale"}, std::pair{&found_inf, "found_inf"}})
    if (*value)
      REQUIRE((*value)->scalar_type() == ScalarType::Float && (*value)->numel() == 1 && same_device(**value, masters),
              "adam_update: ", name, " must be one float32 value on the device of masters, got ",
              name_of((*value)->scalar_type()), " of shape ", shape_of(**value));

  REQUIRE(!gradients.empty() && places.size() == gradients.size() && groups.size() == gradients.size(),
          "adam_update: gradients, places and groups must have one entry a gradient, got ", gradients.size(), ", ",
          places.size(), " and ", groups.size());
  AdamArguments a{{},
                  std::move(learning_rates),
                  beta1,
                  beta2,
                  eps,
                  average_decay,
                  average_every,
                  masters.scalar_type(),
                  weights ? weights->scalar_type() : masters.scalar_type()};
  int64_t end = 0;
  for (size_t i = 0; i < gradients.size(); ++i) {
    const Tensor& gradient = gradients[i];
    const ScalarType dtype = gradient.scalar_type();
    REQUIRE((dtype == a.dtype || dtype == a.low) && same_device(gradient, masters), "adam_update: gradients[", i,
            "] must be ", name_of(a.dtype), a.low == a.dtype ? "" : " or ", a.low == a.dtype ? "" : name_of(a.low),
            " on the device of masters, got ", name_of(dtype));
    REQUIRE(is_dense(gradient) && gradient.numel() > 0, "adam_update: gradients[", i,
            "] must be dense and not empty, got shape ", shape_of(gradient));
    REQUIRE(groups[i] >= 0 && groups[i] < steps.numel(), "adam_update: groups[", i, "] is ", groups[i],
            "; expected 0 to ", steps.numel() - 1);
    AdamTensor* const last = a.tensors.empty() ? nullptr : &a.tensors.back();
    if (last && last->place == places[i]) {
      REQUIRE(
          !last->more && last->size == gradient.numel() && last->group == groups[i] && last->low == (dtype != a.dtype),
          "adam_update: gradients[", i, "] is added to the one before it, at the same place, and must have its ",
          "size, dtype and group; a place takes two at most");
      last->more = gradient.const_data_ptr();
      continue;
    }
    REQUIRE(places[i] >= end && places[i] % kAdamAlignment == 0 && gradient.numel() <= masters.numel() &&
                places[i] <= masters.numel() - gradient.numel(),
            "adam_update: places[", i, "] is ", places[i], " for ", gradient.numel(),
            " elements; expected a multiple of ", kAdamAlignment, " from ", end, " on, within the ", masters.numel(),
            " of masters");
    end = places[i] + gradient.numel();
    a.tensors.push_back(AdamTensor{gradient.const_data_ptr(), nullptr, places[i], gradient.numel(),
                                   static_cast<int32_t>(groups[i]), dtype != a.dtype});
  }
  return a;
}

}  // namespace infogan_fast
