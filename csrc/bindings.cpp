// The Python module _C: how it was built, and nothing that touches a tensor. torch's headers stay out of this file, since
// its pybind11 headers do not go with TORCH_TARGET_VERSION. Importing the module is what registers the operators.
#include <pybind11/pybind11.h>

#include "build_config.h"  // written by setup.py

namespace {

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __clang_version__;
#else
constexpr const char* kCompiler = "gcc " __VERSION__;
#endif

pybind11::dict build_config() {
  pybind11::dict config;
  config["version"] = INFOGAN_FAST_VERSION;
  config["torch_version"] = INFOGAN_FAST_TORCH_VERSION;
  config["compiler"] = kCompiler;
  config["cuda_version"] = INFOGAN_FAST_CUDA_VERSION;
  config["cuda_arches"] = INFOGAN_FAST_CUDA_ARCHES;
  config["cuda_absent"] = INFOGAN_FAST_CUDA_ABSENT;
  config["csrc_digest"] = INFOGAN_FAST_CSRC_DIGEST;
  return config;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.def("build_config", &build_config,
        "How this was built, all text: version, torch_version, compiler, cuda_version and cuda_arches (empty without the "
        "CUDA half), cuda_absent (why there is none) and csrc_digest.");
}
