/* Whether a step of `shardbag bench pool` computes what it should: some rows get values that follow from
 * their place, and the bags that they are in are pooled again plainly; and rows are updated again by the
 * scalar kernel with gradients that are merged here, from the batches of all ranks. */
#ifndef BENCH_POOL_VERIFY_H
#define BENCH_POOL_VERIFY_H

#include "bench/device.h"
#include "bench/pool_batch.h"
#include "collection/context.h"
#include <shardbag/collection.h>

typedef struct bench_pool_verify {
  sbag_context_h context;
  sbag_collection_h collection;
  const bench_pool_settings_t *settings;
  const bench_pool_case_t *of;
  const bench_pool_batch_t *batch; /* this rank's number 0 */
  const bench_twin_t *grad;        /* [batch][columns], of bench_pool_grad */
  const bench_twin_t *out;         /* [batch][columns] */
} bench_pool_verify_t;

/* A rank's gradients of the pooled output: [batch][columns]. */
void bench_pool_grad(const bench_pool_settings_t *settings, int64_t dim, int rank, float *grad);

/* Takes one step. Adds to *wrong: this rank's bags and rows, of a sample, that are not what they should be.
 * Collective. */
sbag_code_t bench_pool_verify(const bench_pool_verify_t *verify, int64_t *wrong, sbag_status_t *status);

#endif
