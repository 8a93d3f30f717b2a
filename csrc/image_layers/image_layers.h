// The image layers as every device sees them: the arguments checked, the outputs allocated.
#pragma once
#include "common/tensor_arguments.h"

namespace infogan_fast {

constexpr int64_t kTaps = 16;        // of a 4x4 convolution, for each channel of the image
constexpr int64_t kFeatureStep = 8;  // features are a multiple of it

// A layer between images [B, C, size, size] and maps of features [B, K, side, side] in channels_last format.
struct ImageLayer {
  int64_t batch, channels, size, side, features;
  Strides images, weights;
  ScalarType dtype, accumulated;

  int64_t positions() const { return batch * side * side; }
};

struct ImageLayerGradients {
  Tensor x, weight, bias;
};

inline bool is_image(const Tensor& tensor, const ImageLayer& a) {
  return tensor.scalar_type() == a.dtype && tensor.dim() == 4 && tensor.size(0) == a.batch &&
         tensor.size(1) == a.channels && tensor.size(2) == a.size && tensor.size(3) == a.size &&
         tensor.stride(3) == a.images.column && (a.channels == 1 || tensor.stride(1) == a.images.channel) &&
         has_image_format(tensor);
}

inline bool is_maps(const Tensor& tensor, const ImageLayer& a) {
  return tensor.scalar_type() == a.dtype && tensor.dim() == 4 && tensor.size(0) == a.batch &&
         tensor.size(1) == a.features && tensor.size(2) == a.side && tensor.size(3) == a.side &&
         has_channels_last(tensor);
}

inline void check_dtype(const char* name, const Tensor& x) {
  REQUIRE(is_floating(x.scalar_type()), name, ": x must be float32, float16, bfloat16 or float64, got ",
          name_of(x.scalar_type()));
}

// Of both operators, once the shape of x has given the layer's batch and sizes.
inline void check_weight(const char* name, ImageLayer& a, const Tensor& x, const Tensor& weight) {
  a.dtype = x.scalar_type();
  a.accumulated = a.dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  REQUIRE(weight.scalar_type() == a.dtype && weight.dim() == 4 && weight.size(2) == 4 && weight.size(3) == 4 &&
              has_image_format(weight) && same_device(weight, x),
          name, ": weight must be ", name_of(a.dtype),
          " of shape [K, C, 4, 4], contiguous or channels_last, on the device of x, got ",
          name_of(weight.scalar_type()), " of shape ", shape_of(weight));
  a.weights = strides_of(weight);
  a.features = weight.size(0);
  a.channels = weight.size(1);
  REQUIRE(a.channels == 1 || a.channels == 3, name, ": images have 1 or 3 channels; weight has shape ",
          shape_of(weight));
  REQUIRE(a.features > 0 && a.features % kFeatureStep == 0, name, ": weight must have a multiple of ", kFeatureStep,
          " features K, got shape ", shape_of(weight));
}

inline void check_bias(const char* name, const ImageLayer& a, const Tensor& x, const Tensor& bias, int64_t length) {
  REQUIRE(bias.scalar_type() == a.dtype && bias.dim() == 1 && bias.size(0) == length && bias.is_contiguous() &&
              same_device(bias, x),
          name, ": bias must be ", name_of(a.dtype), " of shape [", length, "] on the device of x, got ",
          name_of(bias.scalar_type()), " of shape ", shape_of(bias));
}

inline void check_same(const char* name, const char* argument, bool right, const Tensor& tensor, const Tensor& x,
                       const ImageLayer& a) {
  REQUIRE(right && same_device(tensor, x), name, ": ", argument, " must be ", name_of(a.dtype),
          " on the device of x, with the shape and memory format of the forward pass; got ",
          name_of(tensor.scalar_type()), " of shape ", shape_of(tensor));
}

inline ImageLayer check_conv(const char* name, const Tensor& x, const Tensor& weight, double slope) {
  check_dtype(name, x);
  REQUIRE(x.dim() == 4 && x.size(0) > 0 && x.size(2) == x.size(3) && x.size(2) >= 2 && has_image_format(x), name,
          ": x must have shape [B, C, S, S] with S >= 2, contiguous or channels_last, got ", shape_of(x));
  ImageLayer a{};
  a.batch = x.size(0);
  a.size = x.size(2);
  a.side = a.size / 2;
  a.images = strides_of(x);
  check_weight(name, a, x, weight);
  REQUIRE(x.size(1) == a.channels, name, ": x has ", x.size(1), " channels, but weight has shape ", shape_of(weight));
  REQUIRE(slope >= 0 && slope <= 1, name, ": slope must be in [0, 1], got ", slope);
  return a;
}

inline ImageLayer check_image_conv(const Tensor& x, const Tensor& weight, const Tensor& bias, double slope) {
  const ImageLayer a = check_conv("image_conv", x, weight, slope);
  check_bias("image_conv", a, x, bias, a.features);
  return a;
}

inline ImageLayer check_image_conv_backward(const Tensor& grad_y, const Tensor& x, const Tensor& y,
                                            const Tensor& weight, double slope) {
  const char* const name = "image_conv_backward";
  const ImageLayer a = check_conv(name, x, weight, slope);
  check_same(name, "y", is_maps(y, a), y, x, a);
  check_same(name, "grad_y", is_maps(grad_y, a), grad_y, x, a);
  return a;
}

inline ImageLayer check_conv_transpose(const char* name, const Tensor& x, const Tensor& weight, int64_t size) {
  check_dtype(name, x);
  REQUIRE(x.dim() == 4 && x.numel() > 0 && x.size(2) == x.size(3) && has_channels_last(x), name,
          ": x must have shape [B, K, side, side] in channels_last format; make it with "
          "x.contiguous(memory_format=torch.channels_last); got shape ",
          shape_of(x));
  ImageLayer a{};
  a.batch = x.size(0);
  a.size = size;
  a.side = x.size(2);
  check_weight(name, a, x, weight);
  REQUIRE(x.size(1) == a.features, name, ": x has ", x.size(1), " features, but weight has shape ", shape_of(weight));
  REQUIRE(size / 2 == a.side, name, ": size must be ", 2 * a.side, " or ", 2 * a.side + 1, " for maps of ", a.side,
          " positions a side, got ", size);
  a.images = Strides{size * size * a.channels, 1, size * a.channels, a.channels};  // channels_last
  return a;
}

inline ImageLayer check_image_conv_transpose(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t size) {
  const ImageLayer a = check_conv_transpose("image_conv_transpose", x, weight, size);
  check_bias("image_conv_transpose", a, x, bias, a.channels);
  return a;
}

inline ImageLayer check_image_conv_transpose_backward(const Tensor& grad_image, const Tensor& x, const Tensor& image,
                                                      const Tensor& weight) {
  const char* const name = "image_conv_transpose_backward";
  const ImageLayer a = check_conv_transpose(name, x, weight, image.dim() == 4 ? image.size(2) : 0);
  check_same(name, "image", is_image(image, a), image, x, a);
  check_same(name, "grad_image", is_image(grad_image, a), grad_image, x, a);
  return a;
}

// In channels_last format.
inline Tensor allocate_last(const Tensor& like, int64_t batch, int64_t side, int64_t channels) {
  const Tensor rows = allocate(like, {batch, side, side, channels}, like.scalar_type());
  return torch::stable::transpose(torch::stable::transpose(rows, 1, 3), 2, 3);
}

inline Tensor allocate_maps(const ImageLayer& a, const Tensor& x) {
  return allocate_last(x, a.batch, a.side, a.features);
}

inline Tensor allocate_image(const ImageLayer& a, const Tensor& x) {
  return allocate_last(x, a.batch, a.size, a.channels);
}

// Like x and weight where they are wanted, else empty.
inline ImageLayerGradients allocate_gradients(const ImageLayer& a, const Tensor& x, const Tensor& weight, bool of_x,
                                              bool of_weights, int64_t bias) {
  return ImageLayerGradients{
      of_x ? torch::stable::empty_like(x) : allocate(x, {0}, a.dtype),
      of_weights ? torch::stable::empty_like(weight) : allocate(x, {0, a.channels, 4, 4}, a.dtype),
      allocate(x, {of_weights ? bias : 0}, a.dtype)};
}

}  // namespace infogan_fast
