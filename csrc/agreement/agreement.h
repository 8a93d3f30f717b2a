// agreement as every device sees it: the arguments checked, the outputs allocated.
#pragma once
#include <cmath>

#include "agreement/agreement_row.h"
#include "common/tensor_arguments.h"
#include "math/latent_row.h"

namespace infogan_fast {

struct AgreementArguments {
  std::optional<Tensor> answers;                                // [A + 2B, q_dim], addressed by row stride
  int64_t near_rows = 0, pairs = 0, q_dim = 0, categories = 0;  // A, B; categories: of all codes
  std::vector<int64_t> sizes, places;
  std::vector<Tensor> joints;
  std::optional<Tensor> batch_joints;
  std::vector<Distance> distances;
  bool has_joints = false;
  double fixed_precision = 0;  // of Gaussians whose variance Q does not learn
  AgreementFactors factors;
  std::optional<Tensor> slants, scale, second_scale, sums;
  ScalarType dtype, grad_dtype, accumulated;

  int64_t n_categorical() const { return static_cast<int64_t>(sizes.size()); }
  int64_t n_distances() const { return static_cast<int64_t>(distances.size()); }
  // the information of each categorical code, if it is measured, then the distances
  int64_t n_metrics() const { return (has_joints ? n_categorical() : 0) + n_distances(); }
  int64_t rows() const { return near_rows + 2 * pairs; }
  bool has_probabilities() const { return has_joints || factors.smoothness != 0; }
};

struct AgreementOutputs {
  Tensor metrics, gradient, second_gradient;
};

inline void check_scale(const std::optional<Tensor>& scale, const char* name, const Tensor& answers) {
  if (scale)
    REQUIRE(scale->scalar_type() == ScalarType::Float && scale->numel() == 1 && same_device(*scale, answers),
            "agreement: ", name, " must be one float32 value on the answers' device, got ",
            name_of(scale->scalar_type()), " of shape ", shape_of(*scale));
}

inline AgreementArguments check_agreement(Tensor answers, int64_t near_rows, std::vector<int64_t> sizes,
                                          std::vector<int64_t> kinds, bool learned_variance, double log_variance,
                                          std::vector<Tensor> joints, std::optional<Tensor> batch_joints,
                                          std::optional<double> consistency, double balance, double joint_ema,
                                          double smoothness, std::vector<int64_t> distance_codes,
                                          std::vector<double> distance_weights, std::vector<double> slant_changes,
                                          std::optional<Tensor> slants, std::optional<Tensor> scale,
                                          std::optional<Tensor> second_scale, std::optional<ScalarType> grad_dtype,
                                          std::optional<Tensor> sums, std::vector<int64_t> places) {
  AgreementArguments a;
  a.dtype = answers.scalar_type();
  REQUIRE(is_floating(a.dtype), "agreement: answers must be float32, float16, bfloat16 or float64, got ",
          name_of(a.dtype));
  a.accumulated = a.dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  a.grad_dtype = grad_dtype.value_or(a.dtype);
  REQUIRE(a.grad_dtype == a.dtype || (a.grad_dtype == ScalarType::Float && a.dtype != ScalarType::Double),
          "agreement: grad_dtype must be the answers' dtype (", name_of(a.dtype),
          ") or float32 where that is not narrower, got ", name_of(a.grad_dtype));

  a.categories = check_categories("agreement", sizes);
  const int64_t n_continuous = static_cast<int64_t>(kinds.size());
  a.q_dim = a.categories + n_continuous;
  std::vector<int64_t> log_variance_columns;
  for (int64_t kind : kinds) {
    REQUIRE(kind >= 0 && kind <= 2,
            "agreement: continuous_kinds must be 0 (uniform), 1 (normal) or 2 (bernoulli), got ", kind);
    const bool learned = learned_variance && kind != static_cast<int64_t>(Continuous::bernoulli);
    log_variance_columns.push_back(learned ? a.q_dim++ : -1);
  }
  REQUIRE(std::fabs(log_variance) <= kLogVarianceLimit, "agreement: log_variance must be in [-", kLogVarianceLimit,
          ", ", kLogVarianceLimit, "], got ", log_variance);
  a.fixed_precision = std::exp(-log_variance);

  const int64_t rows = answers.dim() == 2 ? answers.size(0) - near_rows : 0;
  REQUIRE(answers.dim() == 2 && answers.size(1) == a.q_dim && rows > 0 && rows % 2 == 0,
          "agreement: answers must have shape [A + 2B, ", a.q_dim, "] with A = ", near_rows,
          " near_rows and B >= 1 for this latent specification, got ", shape_of(answers));
  a.pairs = rows / 2;
  REQUIRE(near_rows >= 0 && near_rows <= a.pairs, "agreement: near_rows must be in [0, ", a.pairs,
          "], as they are copies of the first images, got ", near_rows);
  a.near_rows = near_rows;

  const std::pair<const char*, double> weights[] = {
      {"consistency", consistency.value_or(0)}, {"balance", balance}, {"smoothness", smoothness}};
  for (const auto& [name, value] : weights)
    REQUIRE(std::isfinite(value), "agreement: ", name, " must be finite, got ", value);
  REQUIRE(joint_ema >= 0 && joint_ema < 1, "agreement: joint_ema must be in [0, 1), got ", joint_ema);
  REQUIRE(smoothness == 0 || near_rows > 0, "agreement: smoothness is ", smoothness, " but near_rows is 0");
  a.has_joints = consistency.has_value();
  a.factors = agreement_factors(near_rows, a.pairs, consistency.value_or(0), balance, joint_ema, smoothness);

  if (a.has_joints) {
    REQUIRE(joints.size() == sizes.size(), "agreement: joints must have ", sizes.size(),
            " entries, one for each categorical code, got ", joints.size());
    for (size_t code = 0; code < sizes.size(); ++code) {
      const Tensor& joint = joints[code];
      REQUIRE(joint.scalar_type() == a.accumulated && joint.dim() == 2 && joint.size(0) == sizes[code] &&
                  joint.size(1) == sizes[code] && joint.is_contiguous(),
              "agreement: joints[", code, "] must be a contiguous ", name_of(a.accumulated), " tensor [", sizes[code],
              ", ", sizes[code], "], got ", name_of(joint.scalar_type()), " of shape ", shape_of(joint),
              joint.is_contiguous() ? "" : ", not contiguous");
      REQUIRE(same_device(joint, answers), "agreement: joints[", code, "] is on another device than answers");
    }
    a.joints = std::move(joints);
  }
  if (batch_joints) {
    int64_t entries = 0;
    for (int64_t size : sizes) entries += size * size;
    REQUIRE(a.has_joints, "agreement: batch_joints is given without consistency, which alone has joints");
    REQUIRE(
        batch_joints->scalar_type() == a.accumulated && batch_joints->dim() == 1 && batch_joints->size(0) == entries &&
            batch_joints->is_contiguous() && same_device(*batch_joints, answers),
        "agreement: batch_joints must be a contiguous ", name_of(a.accumulated), " tensor [", entries,
        "] on the answers' device, got ", name_of(batch_joints->scalar_type()), " of shape ", shape_of(*batch_joints));
    a.batch_joints = std::move(batch_joints);
  }

  REQUIRE(distance_weights.size() == distance_codes.size() && slant_changes.size() == distance_codes.size(),
          "agreement: distance_codes, distance_weights and slant_changes must have the same length, got ",
          distance_codes.size(), ", ", distance_weights.size(), " and ", slant_changes.size());
  bool slanted = false;
  for (size_t i = 0; i < distance_codes.size(); ++i) {
    const int64_t code = distance_codes[i];
    REQUIRE(code >= 0 && code < n_continuous && kinds[code] != static_cast<int64_t>(Continuous::bernoulli),
            "agreement: distance_codes[", i, "] is ", code, "; expected the index of a uniform or normal code among ",
            n_continuous, " continuous codes");
    REQUIRE(std::isfinite(distance_weights[i]) && std::isfinite(slant_changes[i]),
            "agreement: distance_weights and slant_changes must be finite, got ", distance_weights[i], " and ",
            slant_changes[i]);
    slanted = slanted || slant_changes[i] != 0;
    a.distances.push_back(
        make_distance(a.categories + code, log_variance_columns[code], distance_weights[i], slant_changes[i], a.pairs));
  }
  if (slanted) {
    REQUIRE(slants.has_value(), "agreement: slants is missing; a slant change is not 0");
    REQUIRE((slants->scalar_type() == ScalarType::Float || slants->scalar_type() == ScalarType::Double) &&
                slants->dim() == 1 && slants->size(0) == a.pairs,
            "agreement: slants must be a float32 or float64 tensor [", a.pairs, "], got ",
            name_of(slants->scalar_type()), " of shape ", shape_of(*slants));
    REQUIRE(same_device(*slants, answers), "agreement: slants is on another device than answers");
    if (!slants->is_contiguous()) slants = torch::stable::contiguous(*slants);
    a.slants = std::move(slants);
  }

  check_scale(scale, "grad_scale", answers);
  check_scale(second_scale, "second_grad_scale", answers);
  a.scale = std::move(scale);
  a.second_scale = std::move(second_scale);
  a.sizes = std::move(sizes);

  if (sums) {
    check_sums("agreement", *sums, places, a.n_metrics(), answers);
    a.sums = std::move(sums);
    a.places = std::move(places);
  }
  if (answers.stride(1) != 1 && a.q_dim > 1) answers = torch::stable::contiguous(answers);
  a.answers = std::move(answers);
  return a;
}

inline AgreementOutputs allocate_agreement(const AgreementArguments& a) {
  const Tensor& like = *a.answers;
  const auto gradient = [&](bool wanted) {
    return wanted ? allocate(like, {a.rows(), a.q_dim}, a.grad_dtype) : allocate(like, {0}, a.grad_dtype);
  };
  return AgreementOutputs{allocate(like, {a.n_metrics()}, a.accumulated), gradient(true),
                          gradient(a.second_scale.has_value())};
}

}  // namespace infogan_fast
