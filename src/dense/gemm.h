/* The three matrix products of a linear layer, as a table of functions: OpenBLAS, or a plain one of our own
 * whose bits depend on neither the number of rows nor the processor (reproducible mode). OpenBLAS's bits of a
 * row change with the number of rows and the core type, so it cannot serve there.
 *
 * All matrices are row-major floats; c is overwritten. Sizes must fit an int (model_create and the step check
 * them). */
#ifndef DENSE_GEMM_H
#define DENSE_GEMM_H

#include "base/mem.h"
#include <stdint.h>

/* Strides are in floats from one row to the next. */
typedef void gemm_fn(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_stride, const float *b,
                     int64_t b_stride, float *c, int64_t c_stride);

typedef struct gemm_ops {
  const char *name;
  gemm_fn *nt; /* c [m][n] = a [m][k] times the transpose of b [n][k] */
  gemm_fn *nn; /* c [m][n] = a [m][k] times b [k][n] */
  gemm_fn *tn; /* c [m][n] = the transpose of a [k][m] times b [k][n] */
} gemm_ops_t;

const gemm_ops_t *gemm_openblas(void);
/* Whether OpenBLAS has what the calling thread's products take: it asks for it at the first one, and where
 * there is none it asks for ever. Takes it where it is there; once it has, a thread may go on. */
int gemm_openblas_ready(mem_t *mem);
/* An element of c is summed over k in one fixed order: in lanes for nt, ascending for nn and tn. */
const gemm_ops_t *gemm_fixed(void);

#endif
