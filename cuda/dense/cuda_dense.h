/* Dense arithmetic on a GPU: the table of dense/dense.h on cuBLAS and kernels of our own. In a folder beside
 * the library's part because the program alone has it, and with it cuBLAS. */
#ifndef CUDA_DENSE_H
#define CUDA_DENSE_H

#include "dense/dense.h"

/* kernel: of kernel_cuda_create. reproducible: see dense_create. */
sbag_code_t dense_cuda_create(kernel_t *kernel, int reproducible, dense_t **dense, sbag_status_t *status);

#endif
