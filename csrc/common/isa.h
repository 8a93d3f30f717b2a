// Run-time choice of the vector instruction set. A kernel is one always-inlined body; for_rows() compiles it once for
// each instruction set and runs the best that this CPU has, in parallel over [0, count).
#pragma once
#include <torch/csrc/stable/ops.h>

#include <cstdint>

#include "common/isa_choice.h"

#define INFOGAN_FAST_INLINE inline __attribute__((always_inline))

namespace infogan_fast {

#if defined(__x86_64__)
#define INFOGAN_FAST_AVX2 __attribute__((target("avx2,fma,bmi2,f16c")))
#if defined(__clang__)
#define INFOGAN_FAST_AVX512 __attribute__((target("avx512f,avx512bw,avx512cd,avx512vl,avx2,fma,bmi2,f16c")))
#else
#define INFOGAN_FAST_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512cd,avx512vl,avx2,fma,bmi2,f16c,prefer-vector-width=512")))
#endif

template <class Body>
INFOGAN_FAST_AVX512 void run_avx512(const Body& body, int64_t begin, int64_t end) {
  body(begin, end);
}
template <class Body>
INFOGAN_FAST_AVX2 void run_avx2(const Body& body, int64_t begin, int64_t end) {
  body(begin, end);
}
#endif
template <class Body>
void run_portable(const Body& body, int64_t begin, int64_t end) {
  body(begin, end);
}

// Calls body(begin, end) on disjoint ranges that cover [0, count), at least `grain` long where several threads share
// it.
template <class Body>
void for_rows(int64_t count, int64_t grain, const Body& body) {
  auto* run = &run_portable<Body>;
#if defined(__x86_64__)
  if (active_isa() == Isa::avx512) run = &run_avx512<Body>;
  if (active_isa() == Isa::avx2) run = &run_avx2<Body>;
#endif
  if (count <= grain) {
    run(body, 0, count);
  } else {
    torch::stable::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) { run(body, begin, end); });
  }
}

}  // namespace infogan_fast
