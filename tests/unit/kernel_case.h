/* What the kernel suites share: the kernels under test, and arrays in their memory. A kernel joins all suites
 * by its line in kernel_case.c. */
#ifndef TESTS_UNIT_KERNEL_CASE_H
#define TESTS_UNIT_KERNEL_CASE_H

#include "kernel/kernel.h"
#include "oracle/arena.h"
#include "oracle/draw.h"

#include <check.h>

typedef struct kernel_block {
  char *device;
  size_t bytes;
  struct kernel_block *next;
} kernel_block_t;

typedef struct kernel_case {
  mem_t *mem;
  kernel_t *kernel;
  const kernel_ops_t *ops;
  arena_t arena; /* the host's side */
  kernel_block_t *blocks;
} kernel_case_t;

int kernel_case_count(void);
/* Every array of the case ends in guard bytes, which close looks at; then nothing may be left. */
void kernel_case_open(kernel_case_t *c, int which);
void kernel_case_close(kernel_case_t *c);

/* An array of the kernel's memory, filled with a pattern or from the host. */
void *kernel_new(kernel_case_t *c, int64_t count, size_t bytes);
void *kernel_put(kernel_case_t *c, const void *host, int64_t count, size_t bytes);
/* The host's copy of one, after all work is done. */
void *kernel_get(kernel_case_t *c, const void *device, int64_t count, size_t bytes);

static inline int64_t *kernel_new_ints(kernel_case_t *c, int64_t count) {
  return kernel_new(c, count, sizeof(int64_t));
}
static inline int64_t *kernel_put_ints(kernel_case_t *c, const int64_t *host, int64_t count) {
  return kernel_put(c, host, count, sizeof(int64_t));
}
static inline int64_t *kernel_get_ints(kernel_case_t *c, const int64_t *device, int64_t count) {
  return kernel_get(c, device, count, sizeof(int64_t));
}

/* Values of either dtype, as doubles on the host. */
void *kernel_put_real(kernel_case_t *c, sbag_dtype_t dtype, const double *host, int64_t count);
double *kernel_get_real(kernel_case_t *c, sbag_dtype_t dtype, const void *device, int64_t count);

/* Multiples of 1/8 in [-8, 8]: sums and products of a few are exact in both dtypes, in any order. */
double kernel_draw_value(draw_t *draw);
double *kernel_draw_values(kernel_case_t *c, draw_t *draw, int64_t count);

/* What the dtype keeps of a value. */
static inline double kernel_round(sbag_dtype_t dtype, double value) {
  return dtype == SBAG_F64 ? value : (double)(float)value;
}

/* Equal, counting NaN as equal to NaN, and -0.0 as different from 0.0. */
int kernel_same(double a, double b);

/* Room for all of 0 .. count - 1 in random order. */
int64_t *kernel_draw_order(kernel_case_t *c, draw_t *draw, int64_t count);
/* begin [segments + 1]: random lengths from 0 to most. */
int64_t *kernel_draw_segments(kernel_case_t *c, draw_t *draw, int64_t segments, int64_t most);

#endif
