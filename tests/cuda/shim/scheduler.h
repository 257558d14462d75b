/* Inside the tests' execution of kernels: what its files share. */
#ifndef EMU_SCHEDULER_H
#define EMU_SCHEDULER_H

#include <cuda_runtime.h>

namespace emu {

/* Runs every block of a launch, now. */
void run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &thread);

/* Prints the message and aborts: a kernel broke a rule of CUDA. */
[[noreturn]] void fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));

enum : size_t {
  SHARED_DEFAULT_BYTES = 48 << 10, /* without an attribute of the kernel */
  SHARED_MOST_BYTES = 163 << 10    /* of sm_80, the least of our architectures */
};

} // namespace emu

#endif
