// The engine behind simt.h: runs a kernel launch on one operating-system thread, with one fiber for each CUDA thread.
//
// A fiber runs until it waits (block barrier, warp operation), reaches an atomic (where a seeded coin may suspend it)
// or returns. Which block, warp and lane goes next is drawn from the schedule's seed, so that every run can be
// repeated. What CUDA leaves undefined (a barrier or a warp operation that not all the named threads reach) ends the
// process with a report of kernel, block, thread and line.
//
// Threads of the operating system would not do: their barriers order more than CUDA's and so hide races. For
// ThreadSanitizer every CUDA thread is announced as a fiber, and the only order it sees is the one that CUDA promises:
// __syncthreads() within a block, __syncwarp() within a warp, __threadfence() + atomic + atomic + __threadfence()
// between blocks. Shuffles and ballots order nothing. This file itself is compiled without instrumentation.
#include "simt_engine.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#if defined(SIMT_ASAN) || defined(SIMT_TSAN)
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef SIMT_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_set_fiber_name(void* fiber, const char* name);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

// Declared const in device_launch_parameters.h, which is true for as long as one CUDA thread runs.
extern "C" {
uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
int warpSize = 32;
}

namespace simt {

Schedule schedule;
void* stream_of_launch;

namespace {

constexpr unsigned kWarp = 32;
constexpr std::size_t kSharedLimit = 48 * 1024;
constexpr std::size_t kGuard = 4096;
#if defined(SIMT_ASAN) || defined(SIMT_TSAN)
constexpr std::size_t kStack = 256 * 1024;
#else
constexpr std::size_t kStack = 64 * 1024;
#endif

// ---- What ThreadSanitizer is told -----------------------------------------------------------------------------------

#ifdef SIMT_TSAN
void acquire(void* tag) { __tsan_acquire(tag); }
void release(void* tag) { __tsan_release(tag); }
struct Unobserved {  // the engine's own accesses to memory that kernels use
  Unobserved() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unobserved() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
};
#else
void acquire(void*) {}
void release(void*) {}
struct Unobserved {
  Unobserved() {}
  ~Unobserved() {}
};
#endif

// ---- Fibers ---------------------------------------------------------------------------------------------------------

struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;  // null for the scheduler, which keeps the process's own stack
  std::size_t stack_bytes = 0;
#ifdef SIMT_TSAN
  void* tsan = nullptr;
#endif
};

Fiber scheduler;

}  // namespace

#if defined(__x86_64__)
// Saves what the calling convention asks a function to keep, swaps stacks, restores. Without it glibc's swapcontext
// makes two system calls a switch.
asm(R"(
.text
.globl simt_switch_stacks
.type simt_switch_stacks, @function
simt_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch_stacks, . - simt_switch_stacks
)");
extern "C" void simt_switch_stacks(void** save, void* load);

namespace {
void prepare_stack(Fiber& fiber, void (*entry)()) {
  void** top = reinterpret_cast<void**>(fiber.stack + fiber.stack_bytes);
  top[-1] = nullptr;  // entry's return address: it never returns
  top[-2] = reinterpret_cast<void*>(entry);
  std::fill(top - 8, top - 2, nullptr);
  fiber.stack_pointer = top - 8;
}
void switch_stacks(Fiber& from, Fiber& to) { simt_switch_stacks(&from.stack_pointer, to.stack_pointer); }
}  // namespace
#else
#include <ucontext.h>
namespace {
ucontext_t* context(Fiber& fiber) {
  if (!fiber.stack_pointer) fiber.stack_pointer = new ucontext_t{};
  return static_cast<ucontext_t*>(fiber.stack_pointer);
}
void prepare_stack(Fiber& fiber, void (*entry)()) {
  ucontext_t* const c = context(fiber);
  getcontext(c);
  c->uc_stack.ss_sp = fiber.stack;
  c->uc_stack.ss_size = fiber.stack_bytes;
  makecontext(c, entry, 0);
}
void switch_stacks(Fiber& from, Fiber& to) { swapcontext(context(from), context(to)); }
}  // namespace
#endif

namespace {

void switch_fibers(Fiber& from, Fiber& to) {
#ifdef SIMT_TSAN
  __tsan_switch_to_fiber(to.tsan, 1);  // 1: the switch itself orders nothing
#endif
#ifdef SIMT_ASAN
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, to.stack, to.stack_bytes);
#endif
  switch_stacks(from, to);
#ifdef SIMT_ASAN
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

// ---- CUDA threads and blocks ----------------------------------------------------------------------------------------

enum class State { runnable, at_barrier, at_warp_op, exited };

struct Block;

struct Thread {
  Fiber fiber;
  Block* block = nullptr;
  uint3 index{};
  unsigned rank = 0;
  State state = State::exited;
  Location at{};  // of the last barrier or warp operation
  // The warp operation it waits at, and its result.
  WarpOp op{};
  unsigned mask = 0;
  int argument = 0, width = 0;
  std::uint64_t value = 0, result = 0;
  unsigned barriers = 0, syncwarps = 0;
  // For ThreadSanitizer: what the last fence covers, and the address whose history the next fence takes over.
  bool fenced = false;
  char fence_tag = 0;
  void* last_atomic = nullptr;
#ifdef SIMT_TSAN
  void* courier = nullptr;
#endif
};

struct SharedArray {
  const void* key;
  void* memory;
};

struct Block {
  uint3 index{};
  std::vector<Thread*> threads;
  std::vector<SharedArray> arrays;
  void* dynamic = nullptr;
  std::size_t shared_bytes = 0;
  unsigned running = 0;
  // Two tags each, used in turn: the second is not released to before every thread has acquired the first.
  char barrier_tags[2] = {}, warp_tags[1024 / kWarp][2] = {};
};

struct Launch {
  const void* kernel;
  dim3 grid, block;
  std::size_t dynamic_bytes;
  const std::function<void()>* body;
} current;

Thread* self;
std::vector<Thread*> idle;  // threads whose fibers and stacks wait to be used again
char launch_tag, done_tag;
std::mt19937_64 generator;

// Seed 0 takes everything in order, seed 1 in reverse, others at random.
std::size_t pick(std::size_t count) {
  if (schedule.seed == 0) return 0;
  if (schedule.seed == 1) return count - 1;
  return generator() % count;
}

std::vector<std::size_t> permutation(std::size_t count) {
  std::vector<std::size_t> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = i;
  if (schedule.seed == 1) std::reverse(order.begin(), order.end());
  if (schedule.seed > 1) std::shuffle(order.begin(), order.end(), generator);
  return order;
}

// ---- Reports --------------------------------------------------------------------------------------------------------

std::string format(const char* text, ...) __attribute__((format(printf, 1, 2)));
std::string format(const char* text, ...) {
  char buffer[1024];
  va_list arguments;
  va_start(arguments, text);
  std::vsnprintf(buffer, sizeof buffer, text, arguments);
  va_end(arguments);
  return buffer;
}

std::string kernel_name() {
  Dl_info info{};
  if (!dladdr(current.kernel, &info) || !info.dli_sname) return format("at %p", current.kernel);
  int status = 0;
  char* const name = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
  return status == 0 ? name : info.dli_sname;
}

std::string name(const Thread& t) { return format("thread (%u,%u,%u)", t.index.x, t.index.y, t.index.z); }

std::string place(const Thread& t) {
  switch (t.state) {
    case State::exited: return name(t) + " has exited";
    case State::at_barrier: return name(t) + format(" waits at __syncthreads() at %s:%d", t.at.file, t.at.line);
    case State::at_warp_op:
      return name(t) + format(" waits at the warp operation at %s:%d with mask 0x%08x", t.at.file, t.at.line, t.mask);
    default: return name(t) + " runs";
  }
}

[[noreturn]] void fail_launch(const std::string& what) {
  std::fprintf(stderr, "simt: %s\n  kernel %s\n", what.c_str(), kernel_name().c_str());
  std::fflush(stderr);
  _exit(kFailure);
}

[[noreturn]] void fail(const Thread& t, const std::string& what) {
  const uint3 b = t.block->index;
  std::fprintf(stderr, "simt: %s\n  kernel %s\n  block (%u,%u,%u), %s, %s%s:%d (schedule seed %llu)\n", what.c_str(),
               kernel_name().c_str(), b.x, b.y, b.z, name(t).c_str(), t.state == State::runnable ? "last seen at " : "",
               t.at.file ? t.at.file : "its start", t.at.line, static_cast<unsigned long long>(schedule.seed));
  std::fflush(stderr);
  _exit(kFailure);
}

#if defined(SIMT_ASAN) || defined(SIMT_TSAN)
void on_death() {
  if (!self) return;
  const uint3 b = self->block->index;
  std::fprintf(stderr, "simt: reported while this ran: kernel %s\n  block (%u,%u,%u), %s (schedule seed %llu)\n",
               kernel_name().c_str(), b.x, b.y, b.z, name(*self).c_str(),
               static_cast<unsigned long long>(schedule.seed));
}

void watch_for_faults() { __sanitizer_set_death_callback(on_death); }
#else
void on_memory_fault(int number) {
  if (self) fail(*self, "memory fault: an address outside every buffer, or more than the stack holds");
  signal(number, SIG_DFL);  // not a kernel's: let it happen again
}

void watch_for_faults() {
  static char stack[64 * 1024];  // the fiber's own may be full
  stack_t alternate{};
  alternate.ss_sp = stack;
  alternate.ss_size = sizeof stack;
  sigaltstack(&alternate, nullptr);
  struct sigaction action{};
  action.sa_handler = on_memory_fault;
  action.sa_flags = SA_ONSTACK;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}
#endif

// ---- Running --------------------------------------------------------------------------------------------------------

void suspend() {
  Thread& me = *self;
  switch_fibers(me.fiber, scheduler);
}

void resume(Thread& t) {
  self = &t;
  threadIdx = t.index;
  blockIdx = t.block->index;
  switch_fibers(scheduler, t.fiber);
  self = nullptr;
}

// What every fiber runs: one CUDA thread after another, for as long as the process lives.
void fiber_main() {
#ifdef SIMT_ASAN
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
  scheduler.stack = static_cast<char*>(const_cast<void*>(bottom));
  scheduler.stack_bytes = bytes;
#endif
  for (;;) {
    acquire(&launch_tag);
    (*current.body)();
    release(&done_tag);
    self->state = State::exited;
    suspend();
  }
}

Thread* take_thread() {
  if (!idle.empty()) {
    Thread* const t = idle.back();
    idle.pop_back();
    return t;
  }
  Thread* const t = new Thread;
  void* const memory =
      mmap(nullptr, kGuard + kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kGuard, PROT_NONE) != 0) fail_launch("no memory for another fiber");
  t->fiber.stack = static_cast<char*>(memory) + kGuard;
  t->fiber.stack_bytes = kStack;
  prepare_stack(t->fiber, fiber_main);
#ifdef SIMT_TSAN
  t->fiber.tsan = __tsan_create_fiber(0);
#endif
  return t;
}

void* poisoned(std::size_t bytes, std::size_t alignment) {
  const Unobserved unobserved;
  void* memory = nullptr;
  if (posix_memalign(&memory, std::max<std::size_t>(alignment, 16), bytes) != 0) fail_launch("no memory");
  std::memset(memory, 0xff, bytes);  // NaN in every floating type, -1 in every integer
  return memory;
}

#ifdef SIMT_TSAN
constexpr bool kReuseFibers = false;  // within a launch: a fiber that runs threads of two blocks would order them
#else
constexpr bool kReuseFibers = true;
#endif

void retire(std::vector<std::unique_ptr<Block>>& blocks) {
  for (const std::unique_ptr<Block>& block : blocks) {
    idle.insert(idle.end(), block->threads.rbegin(), block->threads.rend());
    for (const SharedArray& array : block->arrays) std::free(array.memory);
    std::free(block->dynamic);
  }
  blocks.clear();
}

std::unique_ptr<Block> start_block(std::size_t number) {
  auto block = std::make_unique<Block>();
  const dim3 g = current.grid, b = current.block;
  block->index = {static_cast<unsigned>(number % g.x), static_cast<unsigned>(number / g.x % g.y),
                  static_cast<unsigned>(number / (static_cast<std::size_t>(g.x) * g.y))};
  block->shared_bytes = current.dynamic_bytes;
  block->dynamic = poisoned(current.dynamic_bytes, 16);  // of 0 bytes too: a kernel may name what it does not touch
  block->running = b.x * b.y * b.z;
  for (unsigned rank = 0; rank < block->running; ++rank) {
    Thread& t = *take_thread();
    t.block = block.get();
    t.rank = rank;
    t.index = {rank % b.x, rank / b.x % b.y, rank / (b.x * b.y)};
    t.state = State::runnable;
    t.at = {};
    t.barriers = t.syncwarps = 0;
    t.fenced = false;
    t.last_atomic = nullptr;
#ifdef SIMT_TSAN
    const std::string title = format("block (%u,%u,%u) ", block->index.x, block->index.y, block->index.z) + name(t);
    __tsan_set_fiber_name(t.fiber.tsan, title.c_str());
#endif
    block->threads.push_back(&t);
  }
  release(&launch_tag);
  return block;
}

// The lanes that `t` names, when all of them wait at the same operation; otherwise nothing.
std::vector<Thread*> assembled(const Thread& t) {
  std::vector<Thread*> lanes;
  const std::size_t first = t.rank / kWarp * kWarp;
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if (!(t.mask >> lane & 1u)) continue;
    Thread* const other = t.block->threads[first + lane];
    if (other->state != State::at_warp_op || other->op != t.op || other->mask != t.mask || other->width != t.width ||
        other->at.line != t.at.line || std::strcmp(other->at.file, t.at.file) != 0)
      return {};
    lanes.push_back(other);
  }
  return lanes;
}

void exchange(const std::vector<Thread*>& lanes) {
  std::uint64_t ballot = 0;
  for (const Thread* t : lanes)
    if (t->value) ballot |= 1ull << (t->rank % kWarp);
  for (Thread* t : lanes) {
    t->state = State::runnable;
    if (t->op == WarpOp::ballot || t->op == WarpOp::syncwarp) {
      t->result = ballot;
      continue;
    }
    const int lane = static_cast<int>(t->rank % kWarp), base = lane / t->width * t->width, end = base + t->width;
    int source = lane;
    if (t->op == WarpOp::shfl) source = base + (t->argument & (t->width - 1));
    if (t->op == WarpOp::shfl_up) source = lane - t->argument < base ? lane : lane - t->argument;
    if (t->op == WarpOp::shfl_down) source = lane + t->argument >= end ? lane : lane + t->argument;
    if (t->op == WarpOp::shfl_xor) source = (lane ^ t->argument) >= end ? lane : lane ^ t->argument;
    t->result = ~0ull;  // CUDA leaves a value from outside the mask undefined
    for (const Thread* from : lanes)
      if (static_cast<int>(from->rank % kWarp) == source) t->result = from->value;
  }
}

[[noreturn]] void diagnose_warp(const Thread& t) {
  const std::size_t first = t.rank / kWarp * kWarp;
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if (!(t.mask >> lane & 1u)) continue;
    const Thread& other = *t.block->threads[first + lane];
    const std::string who = format("a warp operation whose mask 0x%08x names lane %u, but ", t.mask, lane);
    if (other.state != State::at_warp_op) fail(t, who + place(other));
    if (other.mask != t.mask || other.at.line != t.at.line || std::strcmp(other.at.file, t.at.file) != 0 ||
        other.op != t.op)
      fail(t, who + "lanes wait at different warp operations: " + place(other));
    if (other.width != t.width) fail(t, who + "lanes disagree about the width");
  }
  fail(t, "a warp operation that never completes");
}

void release_barrier(Block& block) {
  const Thread* waiting = nullptr;
  for (const Thread* t : block.threads)
    if (t->state == State::at_barrier) waiting = t;
  if (!waiting) fail(*block.threads[0], "deadlock");
  for (const Thread* t : block.threads)
    if (t->state != State::at_barrier || t->at.line != waiting->at.line ||
        std::strcmp(t->at.file, waiting->at.file) != 0)
      fail(*waiting, "divergent barrier: not every thread of the block reaches this __syncthreads(): " + place(*t));
  for (Thread* t : block.threads) t->state = State::runnable;
}

bool runnable(const Thread* t) { return t->state == State::runnable; }

// Runs each lane of one warp to its next wait, or lifts the barrier when all threads wait there.
void advance(Block& block) {
  const std::size_t threads = block.threads.size();
  std::vector<std::size_t> ready;  // first thread of each warp that can go on
  for (std::size_t first = 0; first < threads; first += kWarp) {
    const auto begin = block.threads.begin() + static_cast<std::ptrdiff_t>(first);
    const auto end = begin + static_cast<std::ptrdiff_t>(std::min<std::size_t>(kWarp, threads - first));
    if (std::any_of(begin, end, runnable)) ready.push_back(first);
  }
  if (ready.empty()) return release_barrier(block);

  const std::size_t first = ready[pick(ready.size())], lanes = std::min<std::size_t>(kWarp, threads - first);
  for (std::size_t lane : permutation(lanes)) {
    Thread& t = *block.threads[first + lane];
    if (t.state != State::runnable) continue;
    resume(t);
    if (t.state == State::exited) --block.running;
  }
  const Thread* stuck = nullptr;
  bool moves = false;
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    Thread& t = *block.threads[first + lane];
    if (t.state == State::at_warp_op) {
      const std::vector<Thread*> together = assembled(t);
      if (together.empty())
        stuck = &t;
      else
        exchange(together);
    }
    moves = moves || t.state == State::runnable;
  }
  if (stuck && !moves) diagnose_warp(*stuck);
}

}  // namespace

#ifdef SIMT_ASAN
extern "C" void __ubsan_on_report() { on_death(); }  // UBSan knows nothing of ASan's callback
#endif

void run(const void* kernel, dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& body) {
  current = {kernel, grid, block, shared_bytes, &body};
  generator.seed(schedule.seed);
  gridDim = grid;
  blockDim = block;
  const std::size_t threads = static_cast<std::size_t>(block.x) * block.y * block.z;
  const std::size_t blocks = static_cast<std::size_t>(grid.x) * grid.y * grid.z;
  if (threads == 0 || threads > 1024) fail_launch(format("a block of %zu threads; CUDA takes 1 to 1,024", threads));
  if (blocks == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    fail_launch(format("a grid of (%u,%u,%u) blocks", grid.x, grid.y, grid.z));
  if (shared_bytes > kSharedLimit) fail_launch(format("%zu bytes of shared memory a block", shared_bytes));
  static const bool watched = (watch_for_faults(), true);
  static_cast<void>(watched);
#ifdef SIMT_TSAN
  scheduler.tsan = __tsan_get_current_fiber();
#endif

  const std::vector<std::size_t> order = permutation(blocks);
  std::vector<std::unique_ptr<Block>> resident, finished;
  const std::size_t most = static_cast<std::size_t>(std::max(1, schedule.resident_blocks));
  // A block keeps its turn for 1, 8 or 64 steps on average, so that some seeds interleave finely and in others one
  // block ends before another has read its first word.
  const std::uint64_t patience = std::uint64_t{1} << 3 * (generator() % 3);
  std::size_t turn = 0;
  for (std::size_t next = 0; next < blocks || !resident.empty();) {
    while (next < blocks && resident.size() < most) resident.push_back(start_block(order[next++]));
    if (turn >= resident.size() || generator() % patience == 0) turn = pick(resident.size());
    advance(*resident[turn]);
    if (resident[turn]->running > 0) continue;
    finished.push_back(std::move(resident[turn]));
    resident.erase(resident.begin() + static_cast<std::ptrdiff_t>(turn));
    turn = resident.size();
    if (kReuseFibers) retire(finished);
  }
  acquire(&done_tag);
  retire(finished);
}

void barrier(Location at) {
  Thread& me = *self;
  char* const tag = &me.block->barrier_tags[me.barriers++ % 2];
  me.state = State::at_barrier;
  me.at = at;
  release(tag);
  suspend();
  acquire(tag);
}

std::uint64_t warp_op(WarpOp op, unsigned mask, std::uint64_t value, int argument, int width, Location at) {
  Thread& me = *self;
  me.at = at;
  const std::size_t first = me.rank / kWarp * kWarp;
  const std::size_t lanes = std::min<std::size_t>(kWarp, me.block->threads.size() - first);
  if (!(mask >> (me.rank % kWarp) & 1u))
    fail(me, format("a warp operation whose mask 0x%08x lacks its own lane", mask));
  if (lanes < kWarp && mask >> lanes != 0)
    fail(me, format("a warp operation whose mask 0x%08x names lanes past the warp's %zu", mask, lanes));
  if (width < 1 || width > static_cast<int>(kWarp) || (width & (width - 1)) != 0)
    fail(me, format("a shuffle of width %d", width));
  me.state = State::at_warp_op;
  me.op = op;
  me.mask = mask;
  me.value = value;
  me.argument = argument;
  me.width = width;
  char* const tag = &me.block->warp_tags[me.rank / kWarp][me.syncwarps % 2];
  if (op == WarpOp::syncwarp) {
    ++me.syncwarps;
    release(tag);
  }
  suspend();
  if (op == WarpOp::syncwarp) acquire(tag);
  return me.result;
}

void* shared_array(const void* key, std::size_t bytes, std::size_t alignment) {
  Block& block = *self->block;
  for (const SharedArray& array : block.arrays)
    if (array.key == key) return array.memory;
  block.shared_bytes += bytes;
  if (block.shared_bytes > kSharedLimit)
    fail(*self, format("%zu bytes of shared memory, of %zu a block", block.shared_bytes, kSharedLimit));
  block.arrays.push_back({key, poisoned(bytes, alignment)});
  return block.arrays.back().memory;
}

void* dynamic_shared() { return self->block->dynamic; }

// CUDA's release and acquire: a fence before an atomic passes on what came before the fence; a fence after an atomic
// takes over what the atomic's address was passed.
void fence() {
  Thread& me = *self;
  if (me.last_atomic) acquire(me.last_atomic);
  me.fenced = true;
  release(&me.fence_tag);
#ifdef SIMT_TSAN
  if (!me.courier) me.courier = __tsan_create_fiber(0);  // here, since a new fiber starts from its maker's present
#endif
}

void before_atomic(void* address) {
  Thread& me = *self;
  if (schedule.seed > 1 && generator() % 2 == 0) suspend();
#ifdef SIMT_TSAN
  if (!me.fenced) return;
  // ThreadSanitizer can release only a thread's present: another fiber carries what the fence covers to the address.
  __tsan_switch_to_fiber(me.courier, 1);
  acquire(&me.fence_tag);
  release(address);
  __tsan_switch_to_fiber(me.fiber.tsan, 1);
#else
  static_cast<void>(me);
  static_cast<void>(address);
#endif
}

void after_atomic(void* address) { self->last_atomic = address; }

}  // namespace simt
