/* Executes a launch block by block: a fiber for each thread, resumed in turn until it waits at a barrier or a
 * warp primitive. Compiled without instrumentation. A kernel that breaks one of these rules ends the program
 * with file and line:
 *
 *   - all threads of a block that still run meet at the same __syncthreads;
 *   - a warp primitive's mask holds the caller, and only lanes that the block has and that have not ended;
 *   - lanes named by one mask meet at the same primitive, and masks under way do not overlap;
 *   - a shuffle's source lane takes part, else its result is poison;
 *   - shared memory is read after it was written: it begins as 0xff bytes. */
#include "scheduler.h"

#include "fiber.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emu {

enum { WARP_LANES = 32, THREADS_MOST = 1024 };
static const uint64_t SHUFFLE_POISON = 0x7ff0dead7fc0deadull;

enum state { NEW, READY, AT_BARRIER, IN_WARP, ENDED };

struct thread {
  context fiber;
  uint3 index;
  unsigned lane, warp;
  state now;
  uint64_t in, out;
  unsigned source;
  place at;
};

/* Lanes of one mask on their way to one primitive. */
struct meeting {
  unsigned mask, arrived;
  warp_op op;
};

/* One block at a time: the launch under way. Nothing of it outlives the launch but the stacks. */
struct execution {
  std::vector<thread> threads;
  unsigned count, alive;                      /* threads of the block; those that have not ended */
  std::vector<unsigned> living;               /* by warp: lanes that have not ended */
  std::vector<std::vector<meeting>> meetings; /* by warp */
  std::vector<char> warp_tag;                 /* by warp: ThreadSanitizer's tags */
  char barrier_tag, fence_tag, end_tag;
  unsigned waiting; /* threads at the barrier */
  int predicates, result;
  place barrier;
  context host;
  thread *now;
  const std::function<void()> *body;
  unsigned char *dynamic;
  std::vector<std::pair<const void *, void *>> statics;
  size_t static_bytes;
  std::vector<void *> blocks; /* shared memory to be freed */
  uint64_t random;            /* 0: lanes, warps and blocks in order */
};
static execution run;

void fatal(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("CUDA on the CPU: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  abort();
}

static thread *running(const char *what, const place &at) {
  if (run.now == nullptr) fatal("%s:%d: %s outside a kernel", at.file, at.line, what);
  return run.now;
}

int lane() {
  return run.now == nullptr ? 0 : static_cast<int>(run.now->lane);
}

/* ---- shared memory ---- */

/* Exactly so many bytes, so that AddressSanitizer sees the end. */
static void *shared_block(size_t bytes) {
  void *block = nullptr;
  if (posix_memalign(&block, 16, bytes == 0 ? 1 : bytes) != 0)
    fatal("no memory for %zu bytes of shared memory", bytes);
  memset(block, 0xff, bytes);
  run.blocks.push_back(block);
  return block;
}

void *shared_static(const void *key, size_t bytes) {
  for (const auto &one : run.statics)
    if (one.first == key) {
      tsan_acquire(one.second);
      return one.second;
    }
  run.static_bytes += bytes;
  if (run.static_bytes > SHARED_DEFAULT_BYTES)
    fatal("a kernel has %zu bytes of static shared memory, more than %zu", run.static_bytes,
          static_cast<size_t>(SHARED_DEFAULT_BYTES));
  void *block = shared_block(bytes);
  run.statics.emplace_back(key, block);
  tsan_release(block);
  return block;
}

void *shared_dynamic() {
  return run.dynamic;
}

static void shared_free() {
  for (void *block : run.blocks) free(block);
  run.blocks.clear();
}

/* ---- switches ---- */

/* To the others, until it is ready and its turn. */
static void give_way(thread *self) {
  fiber_switch(&self->fiber, &run.host);
}

static void thread_entry();

/* A thread has a stack from its first turn to its end. */
static void resume(thread *next) {
  if (next->now == NEW) fiber_prepare(&next->fiber, thread_entry);
  next->now = READY;
  run.now = next;
  threadIdx = next->index;
  fiber_switch(&run.host, &next->fiber);
  run.now = nullptr;
  if (next->now == ENDED) fiber_finish(&next->fiber);
}

/* ---- the block's barrier ---- */

static void barrier_check() {
  if (run.waiting == 0 || run.waiting != run.alive) return;
  run.waiting = 0;
  run.result = run.predicates;
  run.predicates = 0;
  for (unsigned i = 0; i < run.count; i++)
    if (run.threads[i].now == AT_BARRIER) run.threads[i].now = READY;
}

int block_count(int predicate, place at) {
  thread *self = running("__syncthreads", at);
  tsan_release(&run.barrier_tag);
  if (run.waiting > 0 && (run.barrier.line != at.line || strcmp(run.barrier.file, at.file) != 0))
    fatal("%s:%d: thread %u of block %u waits here, others of its block at the barrier of %s:%d", at.file,
          at.line, static_cast<unsigned>(self - run.threads.data()), blockIdx.x, run.barrier.file,
          run.barrier.line);
  run.barrier = self->at = at;
  run.waiting++;
  run.predicates += predicate;
  self->now = AT_BARRIER;
  barrier_check();
  give_way(self);
  tsan_acquire(&run.barrier_tag);
  return run.result;
}

void block_barrier(place at) {
  block_count(0, at);
}

void fence() {
  tsan_acquire(&run.fence_tag);
  tsan_release(&run.fence_tag);
}

/* ---- warp primitives ---- */

static uint64_t combined(const meeting &all, const thread *lanes) {
  uint64_t result = 0;
  bool first = true;
  for (unsigned i = 0; i < WARP_LANES; i++) {
    if ((all.arrived >> i & 1) == 0) continue;
    const uint64_t v = lanes[i].in;
    switch (all.op) {
    case WARP_BALLOT:
      result |= static_cast<uint64_t>(v != 0) << i;
      break;
    case WARP_ADD:
      result += v;
      break;
    case WARP_OR:
      result |= v;
      break;
    case WARP_MIN:
      result = first || static_cast<int64_t>(v) < static_cast<int64_t>(result) ? v : result;
      break;
    case WARP_MAX:
      result = first || static_cast<int64_t>(v) > static_cast<int64_t>(result) ? v : result;
      break;
    default:
      break;
    }
    first = false;
  }
  return result;
}

static uint64_t of_lane(const meeting &all, const thread *lanes, unsigned i) {
  if (all.op == WARP_SHUFFLE) {
    const unsigned source = lanes[i].source;
    return (all.arrived >> source & 1) != 0 ? lanes[source].in : SHUFFLE_POISON;
  }
  uint64_t peers = 0; /* WARP_MATCH */
  for (unsigned j = 0; j < WARP_LANES; j++)
    if ((all.arrived >> j & 1) != 0 && lanes[j].in == lanes[i].in) peers |= uint64_t{1} << j;
  return peers;
}

static void complete(const meeting &all, thread *lanes) {
  const uint64_t result = combined(all, lanes);
  for (unsigned i = 0; i < WARP_LANES; i++)
    if ((all.arrived >> i & 1) != 0) {
      lanes[i].out = all.op == WARP_SHUFFLE || all.op == WARP_MATCH ? of_lane(all, lanes, i) : result;
      lanes[i].now = READY;
    }
}

static const place &waits_at(const meeting &all, const thread *lanes) {
  return lanes[__builtin_ctz(all.arrived)].at;
}

/* The place in the warp's list of the meeting that the lane joins. */
static size_t meeting_of(const thread *self, warp_op op, unsigned mask, place at) {
  std::vector<meeting> &open = run.meetings[self->warp];
  const thread *lanes = &run.threads[self->warp * WARP_LANES];
  for (size_t i = 0; i < open.size(); i++) {
    const place &other = waits_at(open[i], lanes);
    if (open[i].mask != mask && (open[i].mask & mask) != 0)
      fatal("%s:%d: mask %08x overlaps mask %08x, for which lanes wait at %s:%d", at.file, at.line, mask,
            open[i].mask, other.file, other.line);
    if (open[i].mask != mask) continue;
    if (open[i].op != op)
      fatal("%s:%d: lane %u is at another warp primitive than the lanes that wait for it at %s:%d", at.file,
            at.line, self->lane, other.file, other.line);
    return i;
  }
  open.push_back(meeting{mask, 0, op});
  return open.size() - 1;
}

uint64_t warp(warp_op op, unsigned mask, uint64_t in, int source, place at) {
  thread *self = running("a warp primitive", at);
  const unsigned living = run.living[self->warp];
  if ((mask >> self->lane & 1) == 0)
    fatal("%s:%d: lane %u is not in its own mask %08x", at.file, at.line, self->lane, mask);
  if ((mask & ~living) != 0)
    fatal("%s:%d: mask %08x names lanes that have ended or that the block does not have (there are %08x)",
          at.file, at.line, mask, living);
  const size_t joined = meeting_of(self, op, mask, at);
  std::vector<meeting> &open = run.meetings[self->warp];
  if (op == WARP_SYNC) tsan_release(&run.warp_tag[self->warp]);
  self->in = in;
  self->source = static_cast<unsigned>(source) & (WARP_LANES - 1);
  self->at = at;
  self->now = IN_WARP;
  open[joined].arrived |= 1u << self->lane;
  if (open[joined].arrived == mask) {
    complete(open[joined], &run.threads[self->warp * WARP_LANES]);
    open.erase(open.begin() + static_cast<std::ptrdiff_t>(joined));
  }
  give_way(self);
  if (op == WARP_SYNC) tsan_acquire(&run.warp_tag[self->warp]);
  return self->out;
}

/* ---- a thread's life ---- */

static void thread_end(thread *self) {
  for (const meeting &one : run.meetings[self->warp])
    if ((one.mask >> self->lane & 1) != 0) {
      const place &at = waits_at(one, &run.threads[self->warp * WARP_LANES]);
      fatal("%s:%d: lane %u ends, but other lanes wait for it here with mask %08x", at.file, at.line,
            self->lane, one.mask);
    }
  self->now = ENDED;
  run.alive--;
  run.living[self->warp] &= ~(1u << self->lane);
  barrier_check();
}

static void thread_entry() {
  thread *self = run.now;
  fiber_begin(&run.host);
  (*run.body)();
  tsan_release(&run.end_tag);
  thread_end(self);
  fiber_leave(&self->fiber, &run.host);
}

/* ---- a block's ---- */

static void block_prepare(dim3 block) {
  run.count = run.alive = block.x * block.y * block.z;
  run.waiting = 0;
  run.predicates = 0;
  const unsigned warps = (run.count + WARP_LANES - 1) / WARP_LANES;
  run.living.assign(warps, 0);
  for (std::vector<meeting> &open : run.meetings) open.clear();
  run.meetings.resize(warps);
  run.warp_tag.assign(warps, 0);
  /* Never fewer than whole warps: warp primitives index by lane. */
  if (run.threads.size() < warps * WARP_LANES) run.threads.resize(warps * WARP_LANES);
  for (unsigned i = 0; i < run.count; i++) {
    thread &one = run.threads[i];
    one.index = uint3{i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    one.lane = i % WARP_LANES;
    one.warp = i / WARP_LANES;
    one.now = NEW;
    run.living[one.warp] |= 1u << one.lane;
  }
}

/* A permutation of [0, count), another one at each call: an odd multiple modulo a power of two, others
 * skipped. */
struct order {
  uint64_t range = 1, factor = 1, first = 0;
  explicit order(uint64_t count) {
    if (run.random == 0) {
      range = count;
      return;
    }
    while (range < count) range *= 2;
    run.random = run.random * 6364136223846793005u + 1442695040888963407u;
    factor = (run.random >> 33) | 1;
    first = run.random >> 17;
  }
  uint64_t at(uint64_t i) const { return run.random == 0 ? i : (i * factor + first) & (range - 1); }
};

[[noreturn]] static void stuck() {
  for (unsigned i = 0; i < run.count; i++) {
    const thread &one = run.threads[i];
    if (one.now != ENDED)
      fprintf(stderr, "  thread %u of block %u waits at %s, %s:%d\n", i, blockIdx.x,
              one.now == AT_BARRIER ? "__syncthreads" : "a warp primitive", one.at.file, one.at.line);
  }
  fatal("no thread of block %u can go on: a divergent barrier", blockIdx.x);
}

static void run_block(dim3 block) {
  block_prepare(block);
  while (run.alive > 0) {
    bool moved = false;
    const order turn(run.count);
    for (uint64_t k = 0; k < turn.range; k++) {
      const uint64_t i = turn.at(k);
      if (i >= run.count || run.threads[i].now > READY) continue;
      moved = true;
      resume(&run.threads[i]);
    }
    if (!moved) stuck();
  }
}

void run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &thread) {
  enum : size_t { KEPT_MOST = 4096 };
  const char *seed = getenv("EMU_SEED");
  const char *unordered_text = getenv("EMU_XBLOCK");
  const bool unordered = unordered_text != nullptr && unordered_text[0] != 0;
  const uint64_t blocks = static_cast<uint64_t>(grid.x) * grid.y * grid.z;
  if (run.now != nullptr) fatal("a kernel launches a kernel");
  run.random = seed == nullptr ? 0 : strtoull(seed, nullptr, 10);
  run.body = &thread;
  gridDim = grid;
  blockDim = block;
  fiber_adopt(&run.host);
  const order turn(blocks);
  for (uint64_t k = 0; k < turn.range; k++) {
    const uint64_t i = turn.at(k);
    if (i >= blocks) continue;
    blockIdx = uint3{static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
                     static_cast<unsigned>(i / grid.x / grid.y)};
    run.dynamic = shared_bytes == 0 ? nullptr : static_cast<unsigned char *>(shared_block(shared_bytes));
    run.statics.clear();
    run.static_bytes = 0;
    run_block(block);
    /* Only now is what the block did ordered before what follows: with EMU_XBLOCK, blocks are unordered. */
    if (!unordered || run.blocks.size() > KEPT_MOST) {
      tsan_acquire(&run.end_tag);
      shared_free();
    }
  }
  tsan_acquire(&run.end_tag);
  shared_free();
}

} // namespace emu
