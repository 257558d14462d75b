/* See apart.h. Device memory is one region, whose pages are opened and closed. */
#include "apart.h"

#include "scheduler.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <execinfo.h>
#include <map>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace emu {

enum : size_t { RESERVED_BYTES = size_t{1} << 38, PAGE_BYTES = 4096 };

/* Begins as one that nobody has: then all is allowed. */
struct region {
  char *base = nullptr;
  size_t bytes = 0; /* in use up to here */
  bool open = true;
};
static region device, host;
static std::map<size_t, std::vector<void *>> idle; /* device blocks that were freed, by size */
static runner running = HOST_RUNS;

static void allow(region *of, bool open) {
  if (of->bytes > 0 && of->open != open &&
      mprotect(of->base, of->bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
    fatal("mprotect failed: too many pieces of memory");
  of->open = open;
}

static bool is_in(const region &of, const void *at) {
  return of.base != nullptr && static_cast<const char *>(at) >= of.base &&
         static_cast<const char *>(at) < of.base + RESERVED_BYTES;
}

static void touched(int signal, siginfo_t *info, void *) {
  enum { FRAMES = 24 };
  void *frames[FRAMES];
  const char *what = nullptr;
  if (is_in(device, info->si_addr)) what = "CUDA on the CPU: the host touches device memory\n";
  if (is_in(host, info->si_addr)) what = "CUDA on the CPU: a kernel touches memory of the host\n";
  if (what != nullptr) {
    if (write(STDERR_FILENO, what, strlen(what)) > 0)
      backtrace_symbols_fd(frames, backtrace(frames, FRAMES), STDERR_FILENO);
  }
  (void)::signal(signal, SIG_DFL); /* it happens again, now for good */
}

static void listen() {
  struct sigaction action = {};
  action.sa_sigaction = touched;
  action.sa_flags = SA_SIGINFO;
  if (sigaction(SIGSEGV, &action, nullptr) != 0) fatal("sigaction failed");
}

runner apart_enter(runner now) {
  const runner before = running;
  if (emu_apart() != 0 && now != before) {
    allow(&host, now != KERNEL_RUNS);
    allow(&device, now != HOST_RUNS);
    running = now;
  }
  return before;
}

static size_t whole_pages(size_t bytes) {
  return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

void *apart_get(size_t bytes) {
  const size_t taken = whole_pages(bytes);
  if (device.base == nullptr) {
    void *made = mmap(nullptr, RESERVED_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (made == MAP_FAILED) fatal("no address space for device memory");
    device.base = static_cast<char *>(made);
    device.open = running != HOST_RUNS;
    listen();
  }
  std::vector<void *> &free_now = idle[taken];
  if (!free_now.empty()) {
    void *block = free_now.back();
    free_now.pop_back();
    return block;
  }
  if (taken > RESERVED_BYTES - device.bytes) return nullptr;
  char *block = device.base + device.bytes;
  if (device.open && mprotect(block, taken, PROT_READ | PROT_WRITE) != 0) return nullptr;
  device.bytes += taken;
  return block;
}

void apart_put(void *block, size_t bytes) {
  (void)madvise(block, whole_pages(bytes), MADV_DONTNEED);
  idle[whole_pages(bytes)].push_back(block);
}

} // namespace emu

extern "C" {

int emu_apart(void) {
  static const bool is = getenv("EMU_APART") != nullptr && getenv("EMU_APART")[0] != 0;
  return is;
}

int emu_kernel_runs(void) {
  return emu::running == emu::KERNEL_RUNS;
}

void emu_apart_host(void *base, size_t bytes) {
  emu::host.base = static_cast<char *>(base);
  emu::host.bytes = bytes;
}

} // extern "C"
