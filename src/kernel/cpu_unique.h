/* Distinct keys by a map of bits, by instruction set: see cpu_unique_map.inc. */
#ifndef KERNEL_CPU_UNIQUE_H
#define KERNEL_CPU_UNIQUE_H

#include "kernel/kernel.h"

/* With a map of all keys below key_limit in the request's scratch, 12 bytes for 64 keys; at most 2^32 - 1
 * keys. begin and member are not made. Returns how many are distinct. */
int64_t unique_map_scalar(const unique_request_t *r, int threads);
int64_t unique_map_avx2(const unique_request_t *r, int threads);

#endif
