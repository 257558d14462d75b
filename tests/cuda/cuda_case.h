/* What the suites of CUDA kernels share: the kernel under test beside the scalar reference, and memory of the
 * device that is filled from and compared with host arrays. */
#ifndef TESTS_CUDA_CASE_H
#define TESTS_CUDA_CASE_H

#include "kernel/kernel.h"

typedef struct cuda_case {
  mem_t *mem;
  kernel_t *cpu, *gpu;
} cuda_case_t;

void cuda_case_open(cuda_case_t *c);
void cuda_case_close(cuda_case_t *c);

/* Device memory with the host's bytes in it (NULL: as it comes); it lives until cuda_case_drop. */
void *cuda_case_put(cuda_case_t *c, const void *host, size_t bytes);
void cuda_case_get(cuda_case_t *c, void *host, const void *device, size_t bytes);
void cuda_case_drop(cuda_case_t *c, void *device);
/* Waits for the kernel's own stream; no failure is expected. */
void cuda_case_sync(cuda_case_t *c);

/* The next of a sequence of random numbers. */
uint64_t cuda_case_random(uint64_t *state);

#endif
