// An NVTX range around an operator's launches, in the domain that the Python side uses too; nothing where the toolkit
// has no NVTX headers.
#pragma once

#if __has_include(<nvtx3/nvtx3.hpp>)
#include <nvtx3/nvtx3.hpp>

namespace infogan_fast {

struct NvtxDomain {
  static constexpr const char* name{"infogan_fast"};
};
using Range = nvtx3::scoped_range_in<NvtxDomain>;

}  // namespace infogan_fast
#else
namespace infogan_fast {

struct Range {
  explicit Range(const char*) {}
};

}  // namespace infogan_fast
#endif
