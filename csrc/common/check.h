// Arguments that are refused. Not STD_TORCH_CHECK: it writes numbers through a stream of the standard library, which
// crashes where a compiler links that library into this one, next to PyTorch's own, and it begins with a path of the
// machine that built this.
#pragma once
#include <concepts>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace infogan_fast {

inline const std::string& text_of(const std::string& text) { return text; }
inline const char* text_of(const char* text) { return text; }
inline std::string text_of(std::integral auto value) { return std::to_string(value); }
inline std::string text_of(double value) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%g", value);
  return digits;
}

template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  std::string message;
  ((message += text_of(parts)), ...);
  throw std::runtime_error(message);
}

}  // namespace infogan_fast

#define REQUIRE(condition, ...) ((condition) ? static_cast<void>(0) : infogan_fast::refuse(__VA_ARGS__))
