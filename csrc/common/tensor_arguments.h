// Small helpers that the operators' argument checks share.
#pragma once
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "common/check.h"
#include "common/strides.h"

namespace infogan_fast {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline const char* name_of(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    case ScalarType::Half: return "float16";
    case ScalarType::BFloat16: return "bfloat16";
    case ScalarType::Int: return "int32";
    case ScalarType::Long: return "int64";
    case ScalarType::Bool: return "bool";
    case ScalarType::Byte: return "uint8";
    default: return "another dtype";
  }
}

inline bool is_floating(ScalarType dtype) {
  return dtype == ScalarType::Float || dtype == ScalarType::Half || dtype == ScalarType::BFloat16 ||
         dtype == ScalarType::Double;
}

inline std::string shape_of(const Tensor& tensor) {
  std::string text = "[";
  const auto sizes = tensor.sizes();
  for (size_t d = 0; d < sizes.size(); ++d) text += (d ? ", " : "") + std::to_string(sizes[d]);
  return text + "]";
}

inline bool same_device(const Tensor& a, const Tensor& b) {
  return a.is_cuda() == b.is_cuda() && a.get_device_index() == b.get_device_index();
}

// [N, C] or [N, C, H, W] whose channels lie next to each other.
inline bool has_channels_last(const Tensor& x) {
  int64_t expected = 1;
  const int64_t order4[] = {1, 3, 2, 0}, order2[] = {1, 0};
  for (int64_t i = 0; i < x.dim(); ++i) {
    const int64_t d = x.dim() == 4 ? order4[i] : order2[i];
    if (x.size(d) != 1 && x.stride(d) != expected) return false;
    expected *= x.size(d);
  }
  return true;
}

// Contiguous or channels_last, of four dimensions.
inline bool has_image_format(const Tensor& tensor) { return tensor.is_contiguous() || has_channels_last(tensor); }

// Strides of dimensions of size 1 are any number: they count for nothing.
inline Strides strides_of(const Tensor& tensor) {
  return Strides{tensor.stride(0), tensor.stride(1), tensor.stride(2), tensor.stride(3)};
}

template <class T>
const T* const_data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
T* data(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

// Null where there is no tensor.
template <class T>
const T* const_data(const std::optional<Tensor>& tensor) {
  return tensor ? const_data<T>(*tensor) : nullptr;
}

template <class T>
T* data(const std::optional<Tensor>& tensor) {
  return tensor ? data<T>(*tensor) : nullptr;
}

// Whether it begins where a 128-bit vector may.
inline bool on_boundary(const Tensor& tensor) { return reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 == 0; }

// Calls run(value, accumulated) with the types of a tensor's values and of the arithmetic on them; the half types are
// those of the device.
template <class Half, class BFloat16, class Run>
void with_types(ScalarType dtype, const Run& run) {
  switch (dtype) {
    case ScalarType::Float: run(float{}, float{}); break;
    case ScalarType::Double: run(double{}, double{}); break;
    case ScalarType::Half: run(Half{}, float{}); break;
    default: run(BFloat16{}, float{});
  }
}

// The categories of all codes together; below 2^24 of a code, so that no sum or product of counts overflows.
inline int64_t check_categories(const char* name, const std::vector<int64_t>& sizes) {
  int64_t categories = 0;
  for (int64_t size : sizes) {
    REQUIRE(size >= 2 && size < (int64_t{1} << 24), name, ": categorical_sizes must lie in [2, 2^24), got ", size);
    categories += size;
  }
  return categories;
}

// Metrics that an operator adds to a tensor of sums: places[i] is where metric i is added, -1 leaves it out.
inline void check_sums(const char* name, const Tensor& sums, std::vector<int64_t> places, int64_t n_metrics,
                       const Tensor& like) {
  REQUIRE(sums.scalar_type() == ScalarType::Double && sums.dim() == 1 && sums.is_contiguous(), name,
          ": sums must be a contiguous float64 tensor [N], got ", name_of(sums.scalar_type()), " of shape ",
          shape_of(sums), sums.is_contiguous() ? "" : ", not contiguous");
  REQUIRE(same_device(sums, like), name, ": sums is on another device than the other inputs");
  REQUIRE(static_cast<int64_t>(places.size()) == n_metrics, name, ": places must have ", n_metrics,
          " entries, one for each metric, got ", places.size());
  std::sort(places.begin(), places.end());
  for (size_t i = 0; i < places.size(); ++i)
    REQUIRE(places[i] >= -1 && places[i] < sums.size(0) && (i == 0 || places[i] == -1 || places[i] != places[i - 1]),
            name, ": places must be -1 or different indices in [0, ", sums.size(0), "), got ", places[i],
            i > 0 && places[i] == places[i - 1] ? " twice" : "");
}

inline Tensor allocate(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef sizes, ScalarType dtype) {
  return torch::stable::new_empty(like, sizes, dtype);
}

inline Tensor allocate(const Tensor& like, std::initializer_list<int64_t> sizes, ScalarType dtype) {
  return allocate(like, torch::headeronly::IntHeaderOnlyArrayRef(sizes.begin(), sizes.size()), dtype);
}

}  // namespace infogan_fast
