// batch_norm_act as every device sees it: the arguments checked, the outputs allocated.
#pragma once
#include <cmath>

#include "common/tensor_arguments.h"

namespace infogan_fast {

constexpr int64_t kMaxParts = 16;

// Rows of channels: a batch of vectors, or of maps whose channels lie last in memory.
struct NormArguments {
  int64_t rows, channels;
  std::vector<int64_t> starts;  // of each part of the batch, in rows, and the end
  double eps, momentum, slope;
  ScalarType dtype, accumulated;

  int64_t parts() const { return static_cast<int64_t>(starts.size()) - 1; }
  int64_t rows_of(int64_t part) const { return starts[part + 1] - starts[part]; }
  int64_t most_rows() const {
    int64_t most = 0;
    for (int64_t part = 0; part < parts(); ++part) most = rows_of(part) > most ? rows_of(part) : most;
    return most;
  }
};

struct NormOutputs {
  Tensor y, mean, rstd;
};

struct NormGradients {
  Tensor x, weight, bias;
};

// `shared`: other processes have rows of each part, too.
inline NormArguments check_norm_rows(const Tensor& x, const std::vector<int64_t>& parts, bool shared) {
  const ScalarType dtype = x.scalar_type();
  REQUIRE(is_floating(dtype), "batch_norm_act: x must be float32, float16, bfloat16 or float64, got ", name_of(dtype));
  REQUIRE((x.dim() == 2 || x.dim() == 4) && x.numel() > 0,
          "batch_norm_act: x must have shape [N, C] or [N, C, H, W] and not be empty, got ", shape_of(x));
  REQUIRE(has_channels_last(x), "batch_norm_act: x must be ",
          x.dim() == 4 ? "in channels_last format; make it with x.contiguous(memory_format=torch.channels_last)"
                       : "contiguous; make it with x.contiguous()");
  NormArguments a{};
  a.dtype = dtype;
  a.accumulated = dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  a.channels = x.size(1);
  a.rows = x.numel() / a.channels;
  const int64_t rows_each = a.rows / x.size(0);
  a.starts.push_back(0);
  if (parts.empty()) a.starts.push_back(a.rows);
  REQUIRE(static_cast<int64_t>(parts.size()) <= kMaxParts, "batch_norm_act: at most ", kMaxParts, " parts, got ",
          parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    REQUIRE(parts[i] > 0 && parts[i] <= x.size(0), "batch_norm_act: parts[", i, "] must be 1 to the ", x.size(0),
            " rows of x, got ", parts[i]);
    a.starts.push_back(a.starts.back() + parts[i] * rows_each);
  }
  REQUIRE(a.starts.back() == a.rows, "batch_norm_act: parts must add up to the ", x.size(0), " rows of x, got ",
          a.starts.back() / rows_each);
  for (int64_t part = 0; part < a.parts(); ++part)
    REQUIRE(shared || a.rows_of(part) > 1,
            "batch_norm_act: a part has a single value for each channel, which has no variance");
  return a;
}

inline NormArguments check_norm(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                const std::vector<int64_t>& parts, double slope, const std::optional<Tensor>& sums,
                                bool shared) {
  NormArguments a = check_norm_rows(x, parts, shared);
  a.slope = slope;
  REQUIRE(slope >= 0 && slope <= 1, "batch_norm_act: slope must be in [0, 1], got ", slope);
  for (const auto& [tensor, name] : {std::pair{&weight, "weight"}, std::pair{&bias, "bias"}})
    REQUIRE(tensor->scalar_type() == a.accumulated && tensor->dim() == 1 && tensor->numel() == a.channels &&
                tensor->is_contiguous() && same_device(*tensor, x),
            "batch_norm_act: ", name, " must be ", name_of(a.accumulated), " of shape [", a.channels,
            "] on the device of x, got ", name_of(tensor->scalar_type()), " of shape ", shape_of(*tensor));
  if (sums)
    REQUIRE(sums->scalar_type() == ScalarType::Double && sums->dim() == 2 && sums->size(0) == a.parts() &&
                sums->size(1) == 2 * a.channels + 1 && sums->is_contiguous() && same_device(*sums, x),
            "batch_norm_act: sums must be float64 of shape [", a.parts(), ", ", 2 * a.channels + 1,
            "] on the device of x, as batch_norm_act_sums gives it, got ", name_of(sums->scalar_type()), " of shape ",
            shape_of(*sums));
  return a;
}

inline NormArguments check_norm_forward(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                        const std::optional<Tensor>& running_mean,
                                        const std::optional<Tensor>& running_var, const std::optional<Tensor>& batches,
                                        const std::vector<int64_t>& parts, double eps, double momentum, double slope,
                                        const std::optional<Tensor>& sums) {
  NormArguments a = check_norm(x, weight, bias, parts, slope, sums, sums.has_value());
  a.eps = eps;
  a.momentum = momentum;
  REQUIRE(eps > 0 && std::isfinite(eps), "batch_norm_act: eps must be positive, got ", eps);
  REQUIRE(momentum >= 0 && momentum <= 1, "batch_norm_act: momentum must be in [0, 1], got ", momentum);
  REQUIRE(running_mean.has_value() == running_var.has_value() && running_mean.has_value() == batches.has_value(),
          "batch_norm_act: give running_mean, running_var and batches, or none of them");
  if (running_mean) {
    for (const auto& [tensor, name] :
         {std::pair{&running_mean, "running_mean"}, std::pair{&running_var, "running_var"}})
      REQUIRE((*tensor)->scalar_type() == a.accumulated && (*tensor)->dim() == 1 && (*tensor)->numel() == a.channels &&
                  (*tensor)->is_contiguous() && same_device(**tensor, x),
              "batch_norm_act: ", name, " must be ", name_of(a.accumulated), " of shape [", a.channels,
              "] on the device of x, got ", name_of((*tensor)->scalar_type()), " of shape ", shape_of(**tensor));
    REQUIRE(batches->scalar_type() == ScalarType::Long && batches->numel() == 1 && same_device(*batches, x),
            "batch_norm_act: batches must be one int64 value on the device of x, got ", name_of(batches->scalar_type()),
            " of shape ", shape_of(*batches));
  }
  return a;
}

inline NormArguments check_norm_backward(const Tensor& grad_y, const Tensor& x, const Tensor& mean, const Tensor& rstd,
                                         const Tensor& weight, const Tensor& bias, const std::vector<int64_t>& parts,
                                         double slope, const std::optional<Tensor>& sums, bool shared) {
  NormArguments a = check_norm(x, weight, bias, parts, slope, sums, shared);
  REQUIRE(grad_y.scalar_type() == a.dtype && shape_of(grad_y) == shape_of(x) && has_channels_last(grad_y) &&
              same_device(grad_y, x),
          "batch_norm_act: grad_y must be like x, ", name_of(a.dtype), " of shape ", shape_of(x),
          " in the same memory format, got ", name_of(grad_y.scalar_type()), " of shape ", shape_of(grad_y));
  for (const auto& [tensor, name] : {std::pair{&mean, "mean"}, std::pair{&rstd, "rstd"}})
    REQUIRE(tensor->scalar_type() == a.accumulated && tensor->dim() == 2 && tensor->size(0) == a.parts() &&
                tensor->size(1) == a.channels && tensor->is_contiguous() && same_device(*tensor, x),
            "batch_norm_act: ", name, " must be ", name_of(a.accumulated), " of shape [", a.parts(), ", ", a.channels,
            "], as the forward pass gave it, got ", name_of(tensor->scalar_type()), " of shape ", shape_of(*tensor));
  return a;
}

inline NormArguments check_norm_gradients(const Tensor& grad_y, const Tensor& x, const Tensor& mean, const Tensor& rstd,
                                          const Tensor& weight, const Tensor& bias, const std::vector<int64_t>& parts,
                                          double slope, bool of_weights, const std::optional<Tensor>& sums) {
  REQUIRE(!sums || !of_weights,
          "batch_norm_act: sums hold the gradients of weight and bias already; give of_weights=False with them");
  return check_norm_backward(grad_y, x, mean, rstd, weight, bias, parts, slope, sums, sums.has_value());
}

// What processes add up over each part, [parts, 2 C + 1]: for each channel two sums, and how many rows they are over.
// Of the values themselves and of their squares, in float64, which loses nothing that float32 values have; on the way
// back of the gradients before the activation, and of their products with the normalised values.
inline Tensor allocate_norm_sums(const NormArguments& a, const Tensor& x) {
  return allocate(x, {a.parts(), 2 * a.channels + 1}, ScalarType::Double);
}

inline NormOutputs allocate_norm(const NormArguments& a, const Tensor& x) {
  return NormOutputs{torch::stable::empty_like(x), allocate(x, {a.parts(), a.channels}, a.accumulated),
                     allocate(x, {a.parts(), a.channels}, a.accumulated)};
}

inline NormGradients allocate_norm_gradients(const NormArguments& a, const Tensor& x, bool of_weights) {
  const int64_t channels = of_weights ? a.channels : 0;
  return NormGradients{torch::stable::empty_like(x), allocate(x, {channels}, a.accumulated),
                       allocate(x, {channels}, a.accumulated)};
}

}  // namespace infogan_fast
