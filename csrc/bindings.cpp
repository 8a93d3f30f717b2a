// The Python module _C: how it was built, and nothing that touches a tensor. torch's headers stay out of this file,
// since its pybind11 headers do not go with TORCH_TARGET_VERSION. Importing the module registers the operators.
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "build_config.h"  // written by setup.py
#include "common/isa_choice.h"

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

constexpr const char* kIsas[] = {"portable", "avx2", "avx512"};

std::string isa() { return kIsas[static_cast<int>(infogan_fast::active_isa())]; }

void set_isa(const std::string& name) {
  for (int i = 0; i <= static_cast<int>(infogan_fast::best_isa()); ++i)
    if (name == kIsas[i]) return infogan_fast::set_isa(static_cast<infogan_fast::Isa>(i));
  throw std::invalid_argument("instruction set '" + name + "' is unknown or not to be had on this CPU, whose best is " +
                              kIsas[static_cast<int>(infogan_fast::best_isa())]);
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.def("build_config", &build_config,
        "How this was built, all text: version, torch_version, compiler, cuda_version and cuda_arches (empty without "
        "the CUDA library), cuda_absent (why there is none) and csrc_digest.");
  m.def("isa", &isa, "The instruction set that the CPU kernels use: avx512, avx2 or portable.");
  m.def("set_isa", &set_isa, "Makes the CPU kernels use a lower instruction set, for tests and comparisons.");
}
