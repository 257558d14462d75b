/* The GPU's kernel: the ops table of kernel/kernel.h on one CUDA device. */
#ifndef CUDA_KERNEL_H
#define CUDA_KERNEL_H

#ifdef __cplusplus
extern "C" {
#endif

#include "base/mem.h"
#include "base/status.h"
#include "kernel/kernel.h"

/* How many GPUs this process sees, at least one; or one line that says why there is none. */
sbag_code_t kernel_cuda_count(int *devices, sbag_status_t *status);

/* A kernel on GPU `device`, with a stream of its own. */
sbag_code_t kernel_cuda_create(mem_t *mem, int device, kernel_t **kernel, sbag_status_t *status);

/* Further streams. Destroy waits for what is on it and nulls *stream. */
sbag_code_t kernel_cuda_stream_create(kernel_t *kernel, kernel_stream_t **stream, sbag_status_t *status);
void kernel_cuda_stream_destroy(kernel_t *kernel, kernel_stream_t **stream);
/* What comes on `later` from now on waits for what is on `earlier` now. NULL: the kernel's own. */
void kernel_cuda_stream_wait(kernel_t *kernel, kernel_stream_t *later, kernel_stream_t *earlier);

/* The kernel's own stream, a cudaStream_t, for what is to come after its ops. */
void *kernel_cuda_stream(const kernel_t *kernel);

/* Allocations of device and pinned memory so far: flat in a warm step. */
int64_t kernel_cuda_alloc_count(const kernel_t *kernel);

#ifdef __cplusplus
}
#endif

#endif
