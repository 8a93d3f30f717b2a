// Small kernels, most of them wrong on purpose, that show what the engine and the sanitizer builds report.
// test_engine.py looks for the marks `// HERE:name` to know which line a report has to name.
#include "common/launch.h"
#include "runner.h"

namespace toys {  // named, so that reports can name the kernels

using infogan_fast::launch;

// The pattern of a sum over blocks: partials, a ticket, and the last block adds them up.
enum class Ticket { right, no_fence_before, no_fence_after, fence_before_write };

__device__ float block_sum(float value) {
  SHARED(float, warp_sums, 32);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  if (lane == 0) warp_sums[warp] = value;
  __syncthreads();
  float total = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) total += warp_sums[w];
  __syncthreads();
  return total;
}

template <Ticket kind>
__global__ void total(const float* x, long n, float* partials, unsigned long long* ticket, float* out) {
  SHARED(bool, last, 1);
  float sum = 0;
  for (long i = blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x; i < n;
       i += static_cast<long>(gridDim.x) * blockDim.x)
    sum += x[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) {
    if (kind == Ticket::fence_before_write) __threadfence();
    partials[blockIdx.x] = sum;
    if (kind == Ticket::right || kind == Ticket::no_fence_after) __threadfence();
    last[0] = atomicAdd(ticket, 1ull) == gridDim.x - 1;
    if (kind != Ticket::no_fence_after) __threadfence();
  }
  __syncthreads();
  if (last[0] && threadIdx.x == 0) {
    float all = 0;
    for (unsigned b = 0; b < gridDim.x; ++b) all += partials[b];
    *out = all;
  }
}

__global__ void divergent_barrier(float* out) {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();  // HERE:divergent_barrier
  }
  out[threadIdx.x] = 1;
}

__global__ void exit_before_warp_op(float* out) {
  if (threadIdx.x == 40) return;
  out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);  // HERE:exit_before_warp_op
}

__global__ void different_warp_ops(float* out) {
  if (threadIdx.x < 16)
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);  // HERE:different_warp_ops
  else
    out[threadIdx.x] = static_cast<float>(__ballot_sync(0xffffffffu, 1));
}

__global__ void warp_op_against_barrier(float* out) {
  if (threadIdx.x % 32 == 3) __syncthreads();
  out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);  // HERE:warp_op_against_barrier
}

__global__ void own_lane_missing(float* out) {
  out[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, 1.0f, 1);  // HERE:own_lane_missing
}

__global__ void lanes_past_the_warp(float* out) {
  out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);  // HERE:lanes_past_the_warp
}

// Legal: half warps that meet at different operations before they meet at the same one.
__global__ void half_warps(float* out) {
  const unsigned half = threadIdx.x % 32 < 16 ? 0x0000ffffu : 0xffff0000u;
  float value = static_cast<float>(threadIdx.x);
  if (threadIdx.x % 32 < 16) value = __shfl_xor_sync(half, value, 1);
  __syncwarp(half);
  value = __shfl_down_sync(0xffffffffu, value, 2, 8);
  out[threadIdx.x] = value + (__all_sync(0xffffffffu, 1) ? 0.0f : 1000.0f);
}

__global__ void undefined_source_lane(float* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 20);
}

__global__ void uninitialised_shared(float* out) {
  SHARED(float, values, 64);
  DYN_SHARED(float, more);
  out[2 * threadIdx.x] = values[threadIdx.x];
  out[2 * threadIdx.x + 1] = more[threadIdx.x];
}

__global__ void missing_syncwarp(float* out) {
  SHARED(float, values, 64);
  values[threadIdx.x] = static_cast<float>(threadIdx.x);
  out[threadIdx.x] = values[threadIdx.x ^ 1];  // HERE:missing_syncwarp
}

__global__ void shared_subscript(float* out) {
  SHARED(float, values, 63);
  values[threadIdx.x] = 1;  // HERE:shared_subscript
  out[threadIdx.x] = values[threadIdx.x];
}

__global__ void write_past_the_end(float* out, long n) { out[threadIdx.x + n - 63] = 1; }  // HERE:write_past_the_end

__global__ void read_before_the_start(const float* x, float* out) {
  out[threadIdx.x] = x[static_cast<long>(threadIdx.x) - 1];  // HERE:read_before_the_start
}

__global__ void write_to_input(float* x) { x[threadIdx.x] = 2; }

__global__ void plain_sum(float* out) {
  if (threadIdx.x == 0) *out += 1;  // HERE:plain_sum
}

// Wrong where blocks overlap: the first block to end changes what the others have yet to read.
__global__ void late_read(long* state, float* out) {
  __syncthreads();
  const long before = *state;  // HERE:late_read
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = static_cast<float>(before);
  if (blockIdx.x == gridDim.x - 1 && threadIdx.x == 0) *state = before + 1;
}

__global__ void stack_overflow(float* out) {
  volatile char big[1 << 20];
  for (int i = 0; i < (1 << 20); i += 512) big[i] = 1;
  out[threadIdx.x] = static_cast<float>(big[512]);
}

}  // namespace toys

namespace {

using namespace toys;

template <Ticket kind>
void call_total(runner::Case& c) {
  const float* const x = c.pointer<float>();
  const std::int64_t n = c.integer();
  float* const partials = c.pointer<float>();
  auto* const ticket = c.pointer<unsigned long long>();
  float* const out = c.pointer<float>();
  launch(total<kind>, static_cast<unsigned>(c.integer()), 64, 0, nullptr, x, n, partials, ticket, out);
}

template <void (*kernel)(float*), unsigned grid = 1, unsigned block = 64, std::size_t shared = 0>
void call(runner::Case& c) {
  launch(kernel, grid, block, shared, nullptr, c.pointer<float>());
}

const runner::Entry entries[] = {
    {"total", call_total<Ticket::right>},
    {"no_fence_before", call_total<Ticket::no_fence_before>},
    {"no_fence_after", call_total<Ticket::no_fence_after>},
    {"fence_before_write", call_total<Ticket::fence_before_write>},
    {"divergent_barrier", call<divergent_barrier>},
    {"exit_before_warp_op", call<exit_before_warp_op>},
    {"different_warp_ops", call<different_warp_ops>},
    {"warp_op_against_barrier", call<warp_op_against_barrier>},
    {"own_lane_missing", call<own_lane_missing>},
    {"lanes_past_the_warp", call<lanes_past_the_warp, 1, 40>},
    {"half_warps", call<half_warps>},
    {"undefined_source_lane", call<undefined_source_lane, 1, 32>},
    {"uninitialised_shared", call<uninitialised_shared, 1, 64, 64 * sizeof(float)>},
    {"missing_dynamic_shared", call<uninitialised_shared>},
    {"missing_syncwarp", call<missing_syncwarp>},
    {"shared_subscript", call<shared_subscript>},
    {"plain_sum", call<plain_sum, 4>},
    {"too_many_threads", call<divergent_barrier, 1, 1025>},
    {"too_much_shared_memory", call<divergent_barrier, 1, 32, 48 * 1024 + 1>},
    {"stack_overflow", call<stack_overflow>},
    {"write_to_input",
     [](runner::Case& c) {
       launch(write_to_input, 1, 64, 0, nullptr, c.pointer<float>());
       static_cast<void>(c.pointer<float>());
     }},
    {"write_past_the_end",
     [](runner::Case& c) {
       float* const out = c.pointer<float>();
       launch(write_past_the_end, 1, 64, 0, nullptr, out, c.integer());
     }},
    {"read_before_the_start",
     [](runner::Case& c) {
       const float* const x = c.pointer<float>();
       launch(read_before_the_start, 1, 64, 0, nullptr, x, c.pointer<float>());
     }},
    {"late_read",
     [](runner::Case& c) {
       long* const state = c.pointer<long>();
       launch(late_read, 4, 64, 0, nullptr, state, c.pointer<float>());
     }},
};

}  // namespace
