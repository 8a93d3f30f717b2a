// Every operator's schema, in one place. Kernels register themselves in csrc/cpu and csrc/cuda; the fake kernels and
// autograd are in infogan_fast/ops.py, which documents the arguments.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(infogan_fast, m) {
  m.def(
      "sample_latents(Tensor(a!) rng_state, int batch_size, int noise_dim, bool uniform_noise, int[] "
      "categorical_sizes, "
      "int[] continuous_kinds, Tensor? categorical_cdf, ScalarType dtype, int sample_offset, bool advance) "
      "-> (Tensor inputs, Tensor categorical, Tensor continuous)");
  m.def(
      "gather_images(Tensor(a!) order_state, Tensor images, int batch_size, ScalarType dtype, bool advance) "
      "-> (Tensor batch, Tensor indices)");
  m.def(
      "infogan_loss(Tensor? real_logits, Tensor? fake_logits, Tensor? q_output, Tensor? categorical, "
      "Tensor? continuous, int[] categorical_sizes, int[] continuous_kinds, float[] weights, bool learned_variance, "
      "float log_variance, Tensor? grad_scale, ScalarType? grad_dtype) "
      "-> (Tensor total, Tensor terms, Tensor grad_real, Tensor grad_fake, Tensor grad_q)");
}
