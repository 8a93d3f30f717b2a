// The engine's interface: simt.h gives it CUDA's names, runner.cpp sets the schedule.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <functional>

namespace simt {

// Which order blocks, warps and lanes run in: seed 0 in order, seed 1 in reverse, any other seed at random. Up to
// resident_blocks blocks are under way at once, as on a GPU; 1 runs each block to its end before the next.
struct Schedule {
  std::uint64_t seed = 0;
  int resident_blocks = 1;
};
extern Schedule schedule;

extern void* stream_of_launch;  // of the last launch; nothing runs asynchronously here

constexpr int kFailure = 66;  // exit status after a report

// Where in the kernel's source a thread stands; as a default argument it names the caller's line.
struct Location {
  const char* file;
  int line;
};
constexpr Location here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }

enum class WarpOp { shfl, shfl_up, shfl_down, shfl_xor, ballot, syncwarp };

// Runs `body` once for each thread of the launch; `kernel` is only named in reports.
void run(const void* kernel, dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& body);

// Called by the running CUDA thread.
void barrier(Location at);
std::uint64_t warp_op(WarpOp op, unsigned mask, std::uint64_t value, int argument, int width, Location at);
void* shared_array(const void* key, std::size_t bytes, std::size_t alignment);
void* dynamic_shared();
void fence();
void before_atomic(void* address);
void after_atomic(void* address);

}  // namespace simt
