// CUDA's names for kernels that g++ compiles: each CUDA thread is a fiber of the engine in simt.cpp. Reached through
// csrc/common/launch.h when INFOGAN_FAST_SIMT is defined. It holds what the project's kernels use; a name that is
// missing here is a compile error, to be answered by adding it with CUDA's meaning.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <device_launch_parameters.h>  // declares threadIdx, blockIdx, blockDim, gridDim; the engine defines them

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "simt_engine.h"

namespace simt {

template <class T>
T shuffle(WarpOp op, unsigned mask, T value, int argument, int width, Location at) {
  static_assert(std::is_arithmetic<T>::value && sizeof(T) <= 8, "CUDA shuffles 32- and 64-bit numbers");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = warp_op(op, mask, bits, argument, width, at);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

// Relaxed, as CUDA's atomics are: order comes from __threadfence() alone.
template <class T, class Update>
T atomic(T* address, Update update) {
  static_assert(std::is_arithmetic<T>::value && (sizeof(T) == 4 || sizeof(T) == 8), "CUDA has no such atomic");
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  Bits* const bits = reinterpret_cast<Bits*>(address);
  before_atomic(address);
  Bits seen = __atomic_load_n(bits, __ATOMIC_RELAXED), wanted;
  T old;
  do {
    std::memcpy(&old, &seen, sizeof(T));
    const T updated = update(old);
    std::memcpy(&wanted, &updated, sizeof(T));
  } while (!__atomic_compare_exchange_n(bits, &seen, wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  after_atomic(address);
  return old;
}

template <class T>
using Same = std::common_type_t<T>;  // keeps T from being deduced from this argument

}  // namespace simt

#undef __launch_bounds__  // CUDA's headers leave it undefined or empty, by version
#define __launch_bounds__(...)

// A reference to an array, so that -fsanitize=bounds checks its subscripts. The static's address names the array, and a
// template's every instance has its own, as under CUDA.
#define SHARED(type, name, count) \
  static char name##_simt_key;    \
  type(&name)[count] =            \
      *static_cast<type(*)[count]>(simt::shared_array(&name##_simt_key, sizeof(type[count]), alignof(type)))
#define DYN_SHARED(type, name) type* const name = static_cast<type*>(simt::dynamic_shared())

inline void __syncthreads(simt::Location at = simt::here()) { simt::barrier(at); }
inline void __syncwarp(unsigned mask = 0xffffffffu, simt::Location at = simt::here()) {
  simt::warp_op(simt::WarpOp::syncwarp, mask, 0, 0, 32, at);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, simt::Location at = simt::here()) {
  return static_cast<unsigned>(simt::warp_op(simt::WarpOp::ballot, mask, predicate != 0, 0, 32, at));
}
inline int __any_sync(unsigned mask, int predicate, simt::Location at = simt::here()) {
  return __ballot_sync(mask, predicate, at) != 0;
}
inline int __all_sync(unsigned mask, int predicate, simt::Location at = simt::here()) {
  return __ballot_sync(mask, !predicate, at) == 0;
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, simt::Location at = simt::here()) {
  return simt::shuffle(simt::WarpOp::shfl, mask, value, lane, width, at);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, simt::Location at = simt::here()) {
  return simt::shuffle(simt::WarpOp::shfl_up, mask, value, static_cast<int>(delta), width, at);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, simt::Location at = simt::here()) {
  return simt::shuffle(simt::WarpOp::shfl_down, mask, value, static_cast<int>(delta), width, at);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, simt::Location at = simt::here()) {
  return simt::shuffle(simt::WarpOp::shfl_xor, mask, value, lane_mask, width, at);
}

inline void __threadfence() { simt::fence(); }
template <class T>
T atomicAdd(T* address, simt::Same<T> value) {
  return simt::atomic(address, [value](T old) { return static_cast<T>(old + value); });
}
template <class T>
T atomicMax(T* address, simt::Same<T> value) {
  return simt::atomic(address, [value](T old) { return old < value ? value : old; });
}
template <class T>
T atomicExch(T* address, simt::Same<T> value) {
  return simt::atomic(address, [value](T) { return value; });
}
template <class T>
T atomicCAS(T* address, simt::Same<T> compare, simt::Same<T> value) {
  return simt::atomic(address, [compare, value](T old) { return old == compare ? value : old; });
}

template <class T>
void __stwb(T* address, T value) {
  *address = value;
}
template <class T>
T __ldg(const T* address) {
  return *address;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits)); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<std::uint64_t>(a) * b) >> 32);
}

namespace infogan_fast {

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
            Arguments... arguments) {
  simt::stream_of_launch = stream;
  simt::run(reinterpret_cast<const void*>(kernel), grid, block, shared_bytes,
            [=] { kernel(static_cast<Parameters>(arguments)...); });
}

}  // namespace infogan_fast
