#include "agreement/agreement.h"
#include "agreement/kernel.cuh"
#include "common/nvtx.h"
#include "common/stream.h"

namespace infogan_fast {
namespace {

template <class T, class A, class G>
void run(AgreementLayout layout, const AgreementArguments& a, const AgreementOutputs& out) {
  const Tensor scratch = allocate(*a.answers, {place_agreement<A>(layout)}, a.accumulated);
  launch_agreement<T, A, G>(layout, const_data<T>(a.answers), data<A>(scratch), data<A>(out.metrics),
                            data<G>(out.gradient), a.second_scale ? data<G>(out.second_gradient) : nullptr,
                            current_stream(a.answers->get_device_index()));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

AgreementLayout layout_of(const AgreementArguments& a) {
  AgreementLayout layout{};
  layout.near_rows = static_cast<int32_t>(a.near_rows);
  layout.pairs = static_cast<int32_t>(a.pairs);
  layout.q_dim = static_cast<int32_t>(a.q_dim);
  layout.set_sizes(a.sizes.data(), static_cast<int32_t>(a.n_categorical()));
  layout.n_distances = static_cast<int32_t>(a.n_distances());
  layout.has_joints = a.has_joints;
  layout.row_stride = a.answers->stride(0);
  layout.fixed_precision = a.fixed_precision;
  layout.factors = a.factors;
  layout.slants = a.slants ? a.slants->const_data_ptr() : nullptr;
  layout.wide_slants = a.slants && a.slants->scalar_type() == ScalarType::Double;
  layout.scale = const_data<float>(a.scale);
  layout.second_scale = const_data<float>(a.second_scale);
  layout.sums = data<double>(a.sums);
  layout.batch_joints = a.batch_joints ? a.batch_joints->const_data_ptr() : nullptr;
  for (size_t i = 0; i < a.joints.size(); ++i) layout.joints[i] = a.joints[i].mutable_data_ptr();
  for (size_t i = 0; i < a.places.size(); ++i) layout.places[i] = static_cast<int32_t>(a.places[i]);
  for (size_t i = 0; i < a.distances.size(); ++i) layout.distances[i] = a.distances[i];
  return layout;
}

std::tuple<Tensor, Tensor, Tensor> agreement_cuda(
    Tensor answers, int64_t near_rows, std::vector<int64_t> categorical_sizes, std::vector<int64_t> continuous_kinds,
    bool learned_variance, double log_variance, std::vector<Tensor> joints, std::optional<Tensor> batch_joints,
    std::optional<double> consistency, double balance, double joint_ema, double smoothness,
    std::vector<int64_t> distance_codes, std::vector<double> distance_weights, std::vector<double> slant_changes,
    std::optional<Tensor> slants, std::optional<Tensor> grad_scale, std::optional<Tensor> second_grad_scale,
    std::optional<ScalarType> grad_dtype, std::optional<Tensor> sums, std::vector<int64_t> places) {
  const AgreementArguments a = check_agreement(
      std::move(answers), near_rows, std::move(categorical_sizes), std::move(continuous_kinds), learned_variance,
      log_variance, std::move(joints), std::move(batch_joints), consistency, balance, joint_ema, smoothness,
      std::move(distance_codes), std::move(distance_weights), std::move(slant_changes), std::move(slants),
      std::move(grad_scale), std::move(second_grad_scale), grad_dtype, std::move(sums), std::move(places));
  REQUIRE(a.n_categorical() <= kMaxCodesOfAKind && a.n_distances() <= kMaxCodesOfAKind,
          "agreement: the CUDA kernel takes at most ", kMaxCodesOfAKind, " categorical codes and ", kMaxCodesOfAKind,
          " distances, got ", a.n_categorical(), " and ", a.n_distances());
  REQUIRE(a.q_dim < (int64_t{1} << 24) && a.rows() < (int64_t{1} << 30), "agreement: answers has shape ",
          shape_of(*a.answers), "; the CUDA kernel takes fewer than 2^30 rows and 2^24 columns");
  const Range range("agreement");
  const torch::stable::accelerator::DeviceGuard guard(a.answers->get_device_index());
  const AgreementOutputs out = allocate_agreement(a);
  const AgreementLayout layout = layout_of(a);
  const bool wide = a.grad_dtype == ScalarType::Float;
  with_types<__half, __nv_bfloat16>(a.dtype, [&](auto value, auto accumulated) {
    using T = decltype(value);
    using A = decltype(accumulated);
    (wide ? run<T, A, A> : run<T, A, T>)(layout, a, out);
  });
  return {out.metrics, out.gradient, out.second_gradient};
}

}  // namespace
}  // namespace infogan_fast

STABLE_TORCH_LIBRARY_IMPL(infogan_fast, CUDA, m) { m.impl("agreement", TORCH_BOX(&infogan_fast::agreement_cuda)); }
