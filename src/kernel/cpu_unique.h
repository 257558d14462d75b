/* Distinct keys by a map of bits, by instruction set: see cpu_unique_map.inc. */
#ifndef KERNEL_CPU_UNIQUE_H
#define KERNEL_CPU_UNIQUE_H

#include "kernel/kernel.h"

/* 64 keys: which of them there are, and how many stand before them. */
typedef struct unique_block {
  uint64_t bits;
  int64_t before;
} unique_block_t;

/* With the request's scratch as a map of all keys below key_limit; begin and member are not made. Returns how
 * many are distinct. */
int64_t unique_map_scalar(const unique_request_t *r, int threads);
int64_t unique_map_avx2(const unique_request_t *r, int threads);

#endif
