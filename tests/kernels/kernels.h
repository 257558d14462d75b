/* The parts of tests/kernels: every variant of the CPU's kernels held against the scalar reference, and
 * timed. */
#ifndef TESTS_KERNELS_H
#define TESTS_KERNELS_H

#include "kernel/kernel.h"

typedef struct kernels_count {
  int passed, failed;
} kernels_count_t;

/* A kernel, or the end of the process. */
kernel_t *kernels_create(mem_t *mem, kernel_isa_t isa, int threads);

/* Random calls on every instruction set of this machine with 1 to 3 threads: the scalar reference's bits (a
 * NaN for a NaN), and nothing else written. */
kernels_count_t kernels_check_reduce(mem_t *mem, int cases);

/* Random rows to 8 and 4 bits: the scalar reference's bytes, and values as near as they can be. */
kernels_count_t kernels_check_quant(mem_t *mem, int cases);

/* What is to be timed; an element that is 0 (or NULL) stands for all. */
typedef struct kernels_bench {
  const char *op, *ids;
  int dim, length, threads, storage, isa;
  int64_t table_bytes;
  int rounds;
} kernels_bench_t;

/* Prints a table. */
void kernels_bench_reduce(mem_t *mem, const kernels_bench_t *options);
void kernels_bench_quant(mem_t *mem, const kernels_bench_t *options);

#endif
