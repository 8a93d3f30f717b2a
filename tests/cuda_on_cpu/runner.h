// One call of a kernel's launcher, as it comes from Python (harness.py): arguments are read in the launcher's order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace runner {

class Case {
 public:
  std::int64_t integer();
  double real();
  // A buffer's address, or null where Python gave None. Buffers lie between guards and, as slices do, at any offset.
  template <class T>
  T* pointer() {
    return static_cast<T*>(buffer());
  }
  template <class T>
  std::vector<T> list() {  // an array that the launcher takes from the host
    const Argument& a = next();
    const T* const data = reinterpret_cast<const T*>(a.bytes.data());
    return std::vector<T>(data, data + a.bytes.size() / sizeof(T));
  }

 private:
  friend struct Process;
  enum class Kind : std::uint8_t { integer, real, null, input, output };
  struct Argument {
    Kind kind{};
    std::int64_t integer = 0;
    double real = 0;
    std::vector<unsigned char> bytes;
    unsigned char *block = nullptr, *data = nullptr;  // of a buffer: the allocation, and the part that the kernel gets
    std::size_t allocated = 0;
  };
  const Argument& next();
  void* buffer();
  std::vector<Argument> arguments_;
  std::size_t used_ = 0;
};

// A launcher under a name: see ENTRY.
struct Entry {
  Entry(const char* name, void (*call)(Case&));
};

// Whether the launcher "operator/dtype/..." is compiled: all are, or those of the dtypes in RUNNER_DTYPES.
constexpr bool is_compiled(std::string_view name) {
#ifdef RUNNER_DTYPES
  name.remove_prefix(name.find('/') + 1);
  const std::string_view dtype = name.substr(0, name.find('/')), wanted = RUNNER_DTYPES;
  for (std::size_t first = 0; first < wanted.size();) {
    const std::size_t last = std::min(wanted.find(',', first), wanted.size());
    if (wanted.substr(first, last - first) == dtype) return true;
    first = last + 1;
  }
  return false;
#else
  return !name.empty();
#endif
}

// The launcher, or null: its code is made only where it is called.
template <bool compiled, class Call>
constexpr void (*launcher(Call))(Case&) {
  if constexpr (compiled) {
    return [](Case& c) { Call{}(c); };
  } else {
    return nullptr;
  }
}

// const runner::Entry entries[] = {ENTRY("sample_latents/float32", call<float>)};
#define ENTRY(name, ...) {name, runner::launcher<runner::is_compiled(name)>([](auto& c) { __VA_ARGS__(c); })}

}  // namespace runner
