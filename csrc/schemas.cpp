// Every operator's schema, in one place. Kernels register themselves in each operator's cpu.cpp and cuda.cu; the fake
// kernels and autograd are in infogan_fast/ops, which documents the arguments.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(infogan_fast, m) {
  m.def(
      "sample_latents(Tensor(a!) rng_state, int batch_size, int noise_dim, bool uniform_noise, int[] "
      "categorical_sizes, "
      "int[] continuous_kinds, Tensor? categorical_cdf, ScalarType dtype, int sample_offset, int sample_stride, bool "
      "advance) "
      "-> (Tensor inputs, Tensor categorical, Tensor continuous)");
  m.def(
      "gather_images(Tensor(a!) order_state, Tensor images, int batch_size, ScalarType dtype, int sample_offset, int "
      "sample_stride, bool advance) "
      "-> (Tensor batch, Tensor indices)");
  m.def(
      "transform_images(Tensor(a!) rng_state, Tensor images, float rotation, float scale, float shear, float shift, "
      "float colour, float bend, bool flip, int sample_offset, int sample_stride, bool advance) "
      "-> (Tensor copies, Tensor slants)");
  m.def(
      "infogan_loss(Tensor? real_logits, Tensor? fake_logits, Tensor? q_output, Tensor? categorical, "
      "Tensor? continuous, int[] categorical_sizes, int[] continuous_kinds, float[] weights, bool learned_variance, "
      "float log_variance, Tensor? grad_scale, ScalarType? grad_dtype, Tensor(a!)? sums, int[] places) "
      "-> (Tensor total, Tensor terms, Tensor grad_real, Tensor grad_fake, Tensor grad_q)");
  m.def(
      "adam_update(Tensor(a!) masters, Tensor(b!) exp_avg, Tensor(c!) exp_avg_sq, Tensor(d!) steps, "
      "Tensor(e!)? weights, Tensor(f!)? average, Tensor[] gradients, int[] places, int[] groups, "
      "float[] learning_rates, float beta1, float beta2, float eps, float average_decay, int average_every, "
      "Tensor? grad_scale, Tensor? found_inf) -> ()");
  m.def(
      "batch_norm_act(Tensor x, Tensor weight, Tensor bias, Tensor(a!)? running_mean, Tensor(b!)? running_var, "
      "Tensor(c!)? batches, int[] parts, float eps, float momentum, float slope, Tensor? sums) "
      "-> (Tensor y, Tensor mean, Tensor rstd)");
  m.def(
      "batch_norm_act_backward(Tensor grad_y, Tensor x, Tensor mean, Tensor rstd, Tensor weight, Tensor bias, "
      "int[] parts, float slope, bool of_weights, Tensor? sums) -> (Tensor grad_x, Tensor grad_weight, Tensor "
      "grad_bias)");
  m.def("batch_norm_act_sums(Tensor x, int[] parts) -> Tensor");
  m.def(
      "batch_norm_act_backward_sums(Tensor grad_y, Tensor x, Tensor mean, Tensor rstd, Tensor weight, Tensor bias, "
      "int[] parts, float slope) -> Tensor");
  m.def("image_conv(Tensor x, Tensor weight, Tensor bias, float slope) -> Tensor");
  m.def(
      "image_conv_backward(Tensor grad_y, Tensor x, Tensor y, Tensor weight, float slope, bool of_x, bool of_weights) "
      "-> (Tensor grad_x, Tensor grad_weight, Tensor grad_bias)");
  m.def("image_conv_transpose(Tensor x, Tensor weight, Tensor bias, int size) -> Tensor");
  m.def(
      "image_conv_transpose_backward(Tensor grad_image, Tensor x, Tensor image, Tensor weight, bool of_x, "
      "bool of_weights) -> (Tensor grad_x, Tensor grad_weight, Tensor grad_bias)");
  m.def(
      "agreement(Tensor answers, int near_rows, int[] categorical_sizes, int[] continuous_kinds, "
      "bool learned_variance, float log_variance, Tensor(a!)[] joints, Tensor? batch_joints, float? consistency, float "
      "balance, "
      "float joint_ema, float smoothness, int[] distance_codes, float[] distance_weights, float[] slant_changes, "
      "Tensor? slants, Tensor? grad_scale, Tensor? second_grad_scale, ScalarType? grad_dtype, Tensor(b!)? sums, "
      "int[] places) -> (Tensor metrics, Tensor gradient, Tensor second_gradient)");
}
