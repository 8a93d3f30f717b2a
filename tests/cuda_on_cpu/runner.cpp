// The test process: reads cases from standard input, runs each, writes the buffers that kernels may change to standard
// output. A bad access, race or misuse ends it with a report on standard error, which harness.py raises as a
// KernelFault. Native byte order and sizes throughout: both ends run on one machine.
#include "runner.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "simt_engine.h"

#ifdef SIMT_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace runner {
namespace {

constexpr std::size_t kGuard = 256;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "simt: %s\n", what.c_str());
  std::fflush(stderr);
  _exit(simt::kFailure);
}

std::map<std::string, void (*)(Case&)>& entries() {
  static std::map<std::string, void (*)(Case&)> all;
  return all;
}

void read_bytes(void* to, std::size_t bytes) {
  if (std::fread(to, 1, bytes, stdin) != bytes) fail("the case is cut short");
}

template <class T>
T read_value() {
  T value;
  read_bytes(&value, sizeof value);
  return value;
}

}  // namespace

Entry::Entry(const char* name, void (*call)(Case&)) {
  if (call != nullptr) entries()[name] = call;
}

const Case::Argument& Case::next() {
  if (used_ == arguments_.size()) fail("the launcher takes more arguments than the case gives");
  return arguments_[used_++];
}

std::int64_t Case::integer() {
  const Argument& a = next();
  if (a.kind != Kind::integer) fail("argument " + std::to_string(used_) + " is no integer");
  return a.integer;
}

double Case::real() {
  const Argument& a = next();
  if (a.kind != Kind::real) fail("argument " + std::to_string(used_) + " is no real number");
  return a.real;
}

void* Case::buffer() {
  const Argument& a = next();
  if (a.kind == Kind::null) return nullptr;
  if (a.kind != Kind::input && a.kind != Kind::output) fail("argument " + std::to_string(used_) + " is no buffer");
  return a.data;
}

struct Process {
  using Argument = Case::Argument;
  using Kind = Case::Kind;

  static bool is_buffer(const Argument& a) { return a.kind == Kind::input || a.kind == Kind::output; }

  // Guards hold NaN in every type; under AddressSanitizer they are also out of bounds.
  static void place(Argument& a, std::size_t misalignment) {
    const std::size_t before = kGuard + misalignment;
    a.allocated = before + a.bytes.size() + kGuard;
    void* memory = nullptr;
    if (posix_memalign(&memory, kGuard, a.allocated) != 0) fail("no memory");
    a.block = static_cast<unsigned char*>(memory);
    std::memset(a.block, 0xff, a.allocated);
    a.data = a.block + before;
    if (!a.bytes.empty()) std::memcpy(a.data, a.bytes.data(), a.bytes.size());
#ifdef SIMT_ASAN
    // Not the macros: they are empty where this file itself is not instrumented.
    __asan_poison_memory_region(a.block, before);
    __asan_poison_memory_region(a.data + a.bytes.size(), kGuard);
#endif
  }

  static void check(const Argument& a, std::size_t number) {
    const std::string which = "argument " + std::to_string(number);
#ifdef SIMT_ASAN
    __asan_unpoison_memory_region(a.block, a.allocated);
#endif
    const unsigned char *const end = a.data + a.bytes.size(), *const limit = a.block + a.allocated;
    for (const unsigned char* p = a.block; p < a.data; ++p)
      if (*p != 0xff) fail("a write " + std::to_string(a.data - p) + " bytes before the start of " + which);
    for (const unsigned char* p = end; p < limit; ++p)
      if (*p != 0xff) fail("a write " + std::to_string(p - end) + " bytes past the end of " + which);
    if (a.kind == Kind::input && std::memcmp(a.data, a.bytes.data(), a.bytes.size()) != 0)
      fail("a write to " + which + ", which is an input");
  }

  static bool run_one() {
    std::uint32_t length;
    if (std::fread(&length, sizeof length, 1, stdin) != 1) return false;
    std::string name(length, '\0');
    read_bytes(name.data(), length);
    simt::schedule.seed = read_value<std::uint64_t>();
    simt::schedule.resident_blocks = read_value<std::int32_t>();
    Case c;
    c.arguments_.resize(read_value<std::uint32_t>());
    for (Argument& a : c.arguments_) {
      a.kind = read_value<Kind>();
      if (a.kind == Kind::integer) a.integer = read_value<std::int64_t>();
      if (a.kind == Kind::real) a.real = read_value<double>();
      if (!is_buffer(a)) continue;
      const auto misalignment = read_value<std::uint32_t>();
      a.bytes.resize(read_value<std::uint64_t>());
      if (!a.bytes.empty()) read_bytes(a.bytes.data(), a.bytes.size());
      place(a, misalignment);
    }
    const auto entry = entries().find(name);
    if (entry == entries().end()) fail("there is no launcher " + name);
    entry->second(c);
    if (c.used_ != c.arguments_.size()) fail("the launcher takes fewer arguments than the case gives");
    for (std::size_t i = 0; i < c.arguments_.size(); ++i)
      if (is_buffer(c.arguments_[i])) check(c.arguments_[i], i);
    for (const Argument& a : c.arguments_)
      if (a.kind == Kind::output) std::fwrite(a.data, 1, a.bytes.size(), stdout);
    std::fflush(stdout);
    for (const Argument& a : c.arguments_) std::free(a.block);
    return true;
  }
};

}  // namespace runner

int main() {
  while (runner::Process::run_one()) {
  }
  return 0;
}
