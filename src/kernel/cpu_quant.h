/* Rows to codes by instruction set: see quant.h for what comes out, which is the same for all of them. */
#ifndef KERNEL_CPU_QUANT_H
#define KERNEL_CPU_QUANT_H

#include "kernel/kernel.h"

/* row: of kernel_row_bytes, written whole. */
typedef void (*quant_row_fn)(sbag_storage_t storage, const float *values, int64_t dim, uint8_t *row);

void quant_row_scalar(sbag_storage_t storage, const float *values, int64_t dim, uint8_t *row);
void quant_row_avx2(sbag_storage_t storage, const float *values, int64_t dim, uint8_t *row);
void quant_row_avx512(sbag_storage_t storage, const float *values, int64_t dim, uint8_t *row);

#endif
