/* The CUDA kernel: the ops table of kernel/kernel.h on one GPU. */
#ifndef CUDA_KERNEL_H
#define CUDA_KERNEL_H

#include "kernel/kernel.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A kernel on a device, with a stream of its own. Errors: no driver, no GPU, no such device, no memory. */
sbag_code_t kernel_cuda_create(mem_t *mem, int device, kernel_t **kernel, sbag_status_t *status);

#ifdef __cplusplus
}
#endif
#endif
