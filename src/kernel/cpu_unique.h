/* Sorting of keys on the CPU (cpu_unique.c), and distinct keys by a map of bits, by instruction set
 * (cpu_unique_map.inc). */
#ifndef KERNEL_CPU_UNIQUE_H
#define KERNEL_CPU_UNIQUE_H

#include "kernel/kernel.h"

/* With a map of all keys below key_limit in the request's scratch, 12 bytes for 64 keys; at most 2^32 - 1
 * keys. begin and member are not made. Returns how many are distinct. */
int64_t unique_map_scalar(const unique_request_t *r, int threads);
int64_t unique_map_avx2(const unique_request_t *r, int threads);

/* Sorts words [count] by the key_bits above their low_bits, stably; room [count]. Returns where they are: in
 * one or the other. */
uint64_t *cpu_sort_words(uint64_t *words, uint64_t *room, int64_t count, int low_bits, int key_bits,
                         int threads);

static inline int cpu_bits_below(int64_t limit) {
  int bits = 0;
  while (bits < 63 && (limit - 1) >> bits > 0) bits++;
  return bits;
}

#endif
