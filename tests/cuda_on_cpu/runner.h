// One call of a kernel's launcher, as it comes from Python (harness.py): arguments are read in the launcher's order.
#pragma once

#include <cstdint>
#include <string>
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

// A launcher under a name: static runner::Entry entry("sample_latents/float32", call);
struct Entry {
  Entry(const char* name, void (*call)(Case&));
};

}  // namespace runner
