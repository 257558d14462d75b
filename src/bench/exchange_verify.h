/* Whether an exchange computes what it should: rows get values that follow from their place, and pools and
 * merged gradients are computed again plainly, from the batches of all ranks. */
#ifndef BENCH_EXCHANGE_VERIFY_H
#define BENCH_EXCHANGE_VERIFY_H

#include "bench/exchange_batch.h"
#include "collection/context.h"
#include <shardbag/collection.h>

typedef struct bench_verify {
  sbag_context_h context;
  sbag_collection_h collection;
  const bench_exchange_settings_t *settings;
  bench_shape_t of;
  int64_t number; /* of the batch */
} bench_verify_t;

/* Gives every row its values. Collective. */
sbag_code_t bench_verify_fill(sbag_context_h context, sbag_collection_h collection,
                              const bench_exchange_settings_t *settings, sbag_status_t *status);
/* A rank's gradients of the pooled output: [batch][columns] of the dtype. */
void bench_verify_grad(const bench_exchange_settings_t *settings, int rank, void *grad);

/* Adds to *wrong: this rank's bags, of a sample, that are not what they should be; and after the backward its
 * rows, of a sample, whose gradient is not, and rows that are missing or too many. Not collective. */
void bench_verify_forward(const bench_verify_t *v, const int64_t *indices, const void *out, int64_t *wrong);
sbag_code_t bench_verify_backward(const bench_verify_t *v, sbag_step_h step, int64_t *wrong,
                                  sbag_status_t *status);

#endif
