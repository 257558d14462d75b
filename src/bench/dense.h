/* The dense part of a training step by itself: the layers forward and backward and their update, without
 * tables and messages; and the matrix products of its layers by themselves, as fast as this machine's BLAS
 * does them. */
#ifndef BENCH_DENSE_H
#define BENCH_DENSE_H

#include "model/model.h"

typedef struct bench_dense bench_dense_t;

/* samples: of this rank. The model, its state apart, stays as it is. Not collective, nor are the others. */
sbag_code_t bench_dense_create(model_t *model, int64_t samples, mem_t *mem, bench_dense_t **dense,
                               sbag_status_t *status);
void bench_dense_destroy(bench_dense_t **dense);

/* No training step may be under way. */
sbag_code_t bench_dense_step(bench_dense_t *dense, sbag_status_t *status);
/* The products that a step has: of each layer the outputs, the gradient of the weights, and, but for the
 * first layer, that of the inputs. On the host. */
void bench_dense_products(const bench_dense_t *dense);

#endif
