// infogan_loss as every device sees it: the arguments checked, the outputs allocated.
#pragma once
#include <cmath>

#include "common/tensor_arguments.h"
#include "infogan_loss/loss_row.h"
#include "math/latent_row.h"

namespace infogan_fast {

constexpr int64_t kAdversarialTerms = 3;  // D on real, D on fake, G

struct LossArguments {
  // Absent inputs have no rows. Logits are addressed by stride, Q's output by row stride; the codes are contiguous.
  std::optional<Tensor> real, fake, q, categorical, continuous, grad_scale, sums;
  int64_t real_rows = 0, fake_rows = 0, q_rows = 0, q_dim = 0;
  std::vector<int64_t> sizes, kinds, places;
  int64_t n_log_variances = 0;  // that Q learns
  std::vector<double> weights;
  bool learned_variance;
  double log_variance;
  ScalarType dtype, grad_dtype;

  int64_t n_categorical() const { return static_cast<int64_t>(sizes.size()); }
  int64_t n_continuous() const { return static_cast<int64_t>(kinds.size()); }
  int64_t n_codes() const { return n_categorical() + n_continuous(); }
  // means of every term, then of each continuous code's squared error, then of each log-variance that Q learns
  int64_t n_terms() const { return kAdversarialTerms + n_codes() + n_continuous() + n_log_variances; }
  int64_t max_rows() const { return std::max(real_rows, std::max(fake_rows, q_rows)); }
  const Tensor& any_input() const { return real ? *real : fake ? *fake : *q; }
};

struct LossOutputs {
  Tensor total, terms, grad_real, grad_fake, grad_q;
};

inline int64_t check_logits(const std::optional<Tensor>& logits, const char* name) {
  if (!logits) return 0;
  const int64_t rows = logits->dim() > 0 ? logits->size(0) : 0;
  REQUIRE((logits->dim() == 1 || (logits->dim() == 2 && logits->size(1) == 1)) && rows > 0, "infogan_loss: ", name,
          " must have shape [B] or [B, 1] with B >= 1, got ", shape_of(*logits));
  return rows;
}

inline LossArguments check_infogan_loss(std::optional<Tensor> real, std::optional<Tensor> fake, std::optional<Tensor> q,
                                        std::optional<Tensor> categorical, std::optional<Tensor> continuous,
                                        std::vector<int64_t> sizes, std::vector<int64_t> kinds,
                                        std::vector<double> weights, bool learned_variance, double log_variance,
                                        std::optional<Tensor> grad_scale, std::optional<ScalarType> grad_dtype,
                                        std::optional<Tensor> sums, std::vector<int64_t> places) {
  LossArguments a;
  REQUIRE(real || fake || q, "infogan_loss: give at least one of real_logits, fake_logits and q_output");
  a.real_rows = check_logits(real, "real_logits");
  a.fake_rows = check_logits(fake, "fake_logits");
  const Tensor& first = real ? *real : fake ? *fake : *q;
  a.dtype = first.scalar_type();
  const std::pair<const char*, const std::optional<Tensor>*> inputs[] = {
      {"real_logits", &real}, {"fake_logits", &fake}, {"q_output", &q}};
  for (const auto& [name, input] : inputs) {
    if (!*input) continue;
    const ScalarType dtype = (*input)->scalar_type();
    REQUIRE(is_floating(dtype), "infogan_loss: ", name, " must be float32, float16, bfloat16 or float64, got ",
            name_of(dtype));
    REQUIRE(dtype == a.dtype, "infogan_loss: ", name, " is ", name_of(dtype), " while another input is ",
            name_of(a.dtype), "; give all of them the same dtype");
    REQUIRE(same_device(**input, first), "infogan_loss: ", name, " is on another device than the other inputs");
  }
  a.grad_dtype = grad_dtype.value_or(a.dtype);
  REQUIRE(a.grad_dtype == a.dtype || (a.grad_dtype == ScalarType::Float && a.dtype != ScalarType::Double),
          "infogan_loss: grad_dtype must be the inputs' dtype (", name_of(a.dtype),
          ") or float32 where that is not narrower, got ", name_of(a.grad_dtype));

  a.q_dim = check_categories("infogan_loss", sizes);
  for (int64_t kind : kinds) {
    REQUIRE(kind >= 0 && kind <= 2,
            "infogan_loss: continuous_kinds must be 0 (uniform), 1 (normal) or 2 (bernoulli), got ", kind);
    a.n_log_variances += learned_variance && kind != static_cast<int64_t>(Continuous::bernoulli);
  }
  a.sizes = std::move(sizes);
  a.kinds = std::move(kinds);
  a.learned_variance = learned_variance;
  a.log_variance = log_variance;
  REQUIRE(std::fabs(log_variance) <= kLogVarianceLimit, "infogan_loss: log_variance must be in [-", kLogVarianceLimit,
          ", ", kLogVarianceLimit, "], got ", log_variance);
  a.q_dim += a.n_continuous() + a.n_log_variances;

  const int64_t expected = kAdversarialTerms + a.n_codes();
  REQUIRE(static_cast<int64_t>(weights.size()) == expected, "infogan_loss: weights must have ", expected,
          " entries (D real, D fake, G, then one for each of the ", a.n_codes(), " codes), got ", weights.size());
  for (double weight : weights) REQUIRE(std::isfinite(weight), "infogan_loss: weights must be finite, got ", weight);
  a.weights = std::move(weights);
  REQUIRE(real || a.weights[0] == 0, "infogan_loss: weights[0] (D real) is not 0 but real_logits is missing");
  REQUIRE(fake || (a.weights[1] == 0 && a.weights[2] == 0),
          "infogan_loss: weights[1] (D fake) or weights[2] (G) is not 0 but fake_logits is missing");
  for (size_t i = kAdversarialTerms; i < a.weights.size(); ++i)
    REQUIRE(q || a.weights[i] == 0, "infogan_loss: weights[", i, "] (code c", i - kAdversarialTerms + 1,
            ") is not 0 but q_output is missing");

  if (q) {
    REQUIRE(q->dim() == 2 && q->size(1) == a.q_dim && q->size(0) > 0, "infogan_loss: q_output must have shape [B, ",
            a.q_dim, "] with B >= 1 for this latent specification, got ", shape_of(*q));
    REQUIRE(a.n_codes() > 0, "infogan_loss: q_output is given but the latent specification has no codes");
    a.q_rows = q->size(0);
    const auto check_codes = [&](std::optional<Tensor>& codes, const char* name, ScalarType dtype, int64_t columns) {
      if (columns == 0) return;
      REQUIRE(codes.has_value(), "infogan_loss: ", name, " is missing; q_output needs the codes it is scored on");
      REQUIRE(codes->scalar_type() == dtype, "infogan_loss: ", name, " must be ", name_of(dtype), ", got ",
              name_of(codes->scalar_type()));
      REQUIRE(codes->dim() == 2 && codes->size(0) == a.q_rows && codes->size(1) == columns, "infogan_loss: ", name,
              " must have shape [", a.q_rows, ", ", columns, "] as q_output and the latent specification have it, got ",
              shape_of(*codes));
      REQUIRE(same_device(*codes, first), "infogan_loss: ", name, " is on another device than q_output");
      if (!codes->is_contiguous()) codes = torch::stable::contiguous(*codes);
    };
    check_codes(categorical, "categorical", ScalarType::Int, a.n_categorical());
    check_codes(continuous, "continuous", ScalarType::Float, a.n_continuous());
    if (q->stride(1) != 1 && a.q_dim > 1) q = torch::stable::contiguous(*q);
  }
  if (grad_scale)
    REQUIRE(
        grad_scale->scalar_type() == ScalarType::Float && grad_scale->numel() == 1 && same_device(*grad_scale, first),
        "infogan_loss: grad_scale must be one float32 value on the inputs' device, got ",
        name_of(grad_scale->scalar_type()), " of shape ", shape_of(*grad_scale));
  if (sums) {
    check_sums("infogan_loss", *sums, places, a.n_terms(), first);
    a.sums = std::move(sums);
    a.places = std::move(places);
  }
  a.real = std::move(real);
  a.fake = std::move(fake);
  a.q = std::move(q);
  a.categorical = std::move(categorical);
  a.continuous = std::move(continuous);
  a.grad_scale = std::move(grad_scale);
  return a;
}

inline LossOutputs allocate_loss(const LossArguments& a) {
  const Tensor& like = a.any_input();
  const ScalarType accumulated = a.dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  const auto gradient = [&](const std::optional<Tensor>& input) {
    return input ? allocate(like, input->sizes(), a.grad_dtype) : allocate(like, {0}, a.grad_dtype);
  };
  return LossOutputs{allocate(like, {}, accumulated), allocate(like, {a.n_terms()}, accumulated), gradient(a.real),
                     gradient(a.fake), gradient(a.q)};
}

}  // namespace infogan_fast
