// gather_images' launcher for the test process.
#include <sys/mman.h>

#include "gather_images/kernel.cuh"
#include "runner.h"

namespace {

using namespace infogan_fast;

// A data set too large to be sent: zero but for the images given, which lie at these places. Memory is taken by the
// pages that are touched alone.
std::uint8_t* spread(const std::uint8_t* images, const std::vector<std::int64_t>& places, std::size_t pixels,
                     std::size_t bytes) {
  void* const all = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  std::uint8_t* const start = static_cast<std::uint8_t*>(all);
  for (std::size_t i = 0; i < places.size(); ++i)
    memcpy(start + static_cast<std::size_t>(places[i]) * pixels, images + i * pixels, pixels);
  return start;
}

template <class T>
void call(runner::Case& c) {
  std::int64_t* const state = c.pointer<std::int64_t>();
  const std::uint8_t* images = c.pointer<const std::uint8_t>();
  const auto places = c.list<std::int64_t>();  // empty: the images are all there
  const std::int64_t count = c.integer(), pixels = c.integer(), batch_size = c.integer(), rows = c.integer();
  Samples samples;
  samples.offset = c.integer();
  samples.stride = c.integer();
  const bool advance = c.integer() != 0;
  const std::size_t bytes = static_cast<std::size_t>(count * pixels);
  std::uint8_t* const all = places.empty() ? nullptr : spread(images, places, static_cast<std::size_t>(pixels), bytes);
  T* const batch = c.pointer<T>();
  launch_gather_images(state, all == nullptr ? images : all, count, pixels, batch_size, rows, samples, advance, batch,
                       c.pointer<std::int64_t>(), nullptr);
  if (all != nullptr) munmap(all, bytes);
}

const runner::Entry entries[] = {
    ENTRY("gather_images/float32", call<float>),
    ENTRY("gather_images/float64", call<double>),
    ENTRY("gather_images/float16", call<__half>),
    ENTRY("gather_images/bfloat16", call<__nv_bfloat16>),
};

}  // namespace
