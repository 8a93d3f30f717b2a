#include "common/nvtx.h"
#include "common/stream.h"
#include "image_layers/image_layers.h"
#include "image_layers/kernel.cuh"

namespace infogan_fast {
namespace {

static_assert(kPatch == kTaps && kFeatureStep % Vector<__half>::kCount == 0);

// Kernels read maps in 128-bit vectors: a slice that begins elsewhere is copied.
Tensor aligned(Tensor maps) {
  if (on_boundary(maps)) return maps;
  Tensor copy = torch::stable::empty_like(maps);
  return torch::stable::copy_(copy, maps);
}

ImageLayout layout_of(const char* name, const ImageLayer& a) {
  REQUIRE(a.size <= int64_t{1} << 16 && a.features <= int64_t{1} << 20, name,
          ": the CUDA kernels take images of at most 65536 pixels a side and 2^20 features, got ", a.size, " and ",
          a.features);
  return ImageLayout{a.positions(),
                     static_cast<int32_t>(a.size),
                     static_cast<int32_t>(a.side),
                     static_cast<int32_t>(a.features),
                     a.images,
                     a.weights};
}

// Calls run(value, accumulated, channels) with the types of tensors and of the arithmetic, and a constant.
template <class Run>
void with_layer_types(const ImageLayer& a, const Run& run) {
  const auto with_channels = [&](auto value, auto accumulated) {
    if (a.channels == 1) {
      run(value, accumulated, std::integral_constant<int, 1>{});
    } else {
      run(value, accumulated, std::integral_constant<int, 3>{});
    }
  };
  with_types<__half, __nv_bfloat16>(a.dtype, with_channels);
}

template <class T, class A, int C>
void weight_gradients(const ImageLayout& layout, const Tensor& like, ImageSource<T> images, ImageSource<T> maps,
                      double slope, bool bias_of_maps, const ImageLayerGradients& out, cudaStream_t stream) {
  const Tensor partials =
      allocate(like, {sum_partials<A>(layout, C)}, sizeof(A) == 8 ? ScalarType::Double : ScalarType::Float);
  launch_image_weights<T, A, C>(layout, images, maps, slope, bias_of_maps, data<A>(partials), data<T>(out.weight),
                                data<T>(out.bias), stream);
}

Tensor image_conv_cuda(Tensor x, Tensor weight, Tensor bias, double slope) {
  const ImageLayer a = check_image_conv(x, weight, bias, slope);
  const ImageLayout layout = layout_of("image_conv", a);
  const Range range("image_conv");
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const Tensor y = allocate_maps(a, x);
  with_layer_types(a, [&](auto value, auto accumulated, auto channels) {
    using T = decltype(value);
    launch_image_maps<T, decltype(accumulated), channels()>(layout, ImageSource<T>{const_data<T>(x), nullptr},
                                                            const_data<T>(weight), const_data<T>(bias), slope,
                                                            data<T>(y), current_stream(x.get_device_index()));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return y;
}

std::tuple<Tensor, Tensor, Tensor> image_conv_backward_cuda(Tensor grad_y, Tensor x, Tensor y, Tensor weight,
                                                            double slope, bool of_x, bool of_weights) {
  const ImageLayer a = check_image_conv_backward(grad_y, x, y, weight, slope);
  const ImageLayout layout = layout_of("image_conv_backward", a);
  const Range range("image_conv_backward");
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const ImageLayerGradients out = allocate_gradients(a, x, weight, of_x, of_weights, a.features);
  const Tensor gradient = aligned(grad_y), activated = aligned(y);
  with_layer_types(a, [&](auto value, auto accumulated, auto channels) {
    using T = decltype(value);
    using A = decltype(accumulated);
    const cudaStream_t stream = current_stream(x.get_device_index());
    const ImageSource<T> maps{const_data<T>(gradient), const_data<T>(activated)};
    if (of_x)
      launch_image_pixels<T, A, channels()>(layout, maps, slope, const_data<T>(weight), nullptr, data<T>(out.x),
                                            stream);
    if (of_weights)
      weight_gradients<T, A, channels()>(layout, x, ImageSource<T>{const_data<T>(x), nullptr}, maps, slope, true, out,
                                         stream);
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {out.x, out.weight, out.bias};
}

Tensor image_conv_transpose_cuda(Tensor x, Tensor weight, Tensor bias, int64_t size) {
  const ImageLayer a = check_image_conv_transpose(x, weight, bias, size);
  const ImageLayout layout = layout_of("image_conv_transpose", a);
  const Range range("image_conv_transpose");
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const Tensor image = allocate_image(a, x), values = aligned(x);
  with_layer_types(a, [&](auto value, auto accumulated, auto channels) {
    using T = decltype(value);
    launch_image_pixels<T, decltype(accumulated), channels()>(layout, ImageSource<T>{const_data<T>(values), nullptr},
                                                              1.0, const_data<T>(weight), const_data<T>(bias),
                                                              data<T>(image), current_stream(x.get_device_index()));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return image;
}

std::tuple<Tensor, Tensor, Tensor> image_conv_transpose_backward_cuda(Tensor grad_image, Tensor x, Tensor image,
                                                                      Tensor weight, bool of_x, bool of_weights) {
  const ImageLayer a = check_image_conv_transpose_backward(grad_image, x, image, weight);
  const ImageLayout layout = layout_of("image_conv_transpose_backward", a);
  const Range range("image_conv_transpose_backward");
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const ImageLayerGradients out = allocate_gradients(a, x, weight, of_x, of_weights, a.channels);
  const Tensor values = aligned(x);
  with_layer_types(a, [&](auto value, auto accumulated, auto channels) {
    using T = decltype(value);
    using A = decltype(accumulated);
    const cudaStream_t stream = current_stream(x.get_device_index());
    const ImageSource<T> images{const_data<T>(grad_image), const_data<T>(image)};
    if (of_x)
      launch_image_maps<T, A, channels()>(layout, images, const_data<T>(weight), nullptr, 1.0, data<T>(out.x), stream);
    if (of_weights)
      weight_gradients<T, A, channels()>(layout, x, images, ImageSource<T>{const_data<T>(values), nullptr}, 1.0, false,
                                         out, stream);
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {out.x, out.weight, out.bias};
}

}  // namespace
}  // namespace infogan_fast

STABLE_TORCH_LIBRARY_IMPL(infogan_fast, CUDA, m) {
  m.impl("image_conv", TORCH_BOX(&infogan_fast::image_conv_cuda));
  m.impl("image_conv_backward", TORCH_BOX(&infogan_fast::image_conv_backward_cuda));
  m.impl("image_conv_transpose", TORCH_BOX(&infogan_fast::image_conv_transpose_cuda));
  m.impl("image_conv_transpose_backward", TORCH_BOX(&infogan_fast::image_conv_transpose_backward_cuda));
}
