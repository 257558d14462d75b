/* The batches of `shardbag bench pool`, as the library takes them. */
#ifndef BENCH_POOL_BATCH_H
#define BENCH_POOL_BATCH_H

#include "bench/device.h"
#include "bench/pool_settings.h"
#include <shardbag/batch.h>
#include <shardbag/collection.h>

/* The flags of a forward alone. */
enum { BENCH_POOL_FORWARD = SBAG_FORWARD_READ_ONLY | SBAG_FORWARD_NO_BACKWARD | SBAG_FORWARD_NO_INDICES };

typedef struct bench_pool_batch {
  int64_t *first;   /* [tables + 1] a table's indices begin there in `indices` */
  int64_t *offsets; /* [tables][batch + 1] of a table's own indices */
  int64_t *indices;
  sbag_bags_t *bags;     /* [tables] views of them, in the device's memory */
  bench_twin_t twins[2]; /* of offsets and indices */
  void *blocks[2];
} bench_pool_batch_t;

/* The number-th batch of a rank. Not collective. Nothing is left to destroy if it fails. */
sbag_code_t bench_pool_batch_create(const bench_pool_settings_t *settings, const bench_pool_case_t *of,
                                    int64_t rank, int64_t number, sbag_context_h context,
                                    bench_pool_batch_t *batch, sbag_status_t *status);
void bench_pool_batch_destroy(sbag_context_h context, bench_pool_batch_t *batch);

#endif
