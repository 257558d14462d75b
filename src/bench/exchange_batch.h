/* The batches of `shardbag bench exchange`: bags of one length, rows drawn by Zipf. A batch follows from
 * (seed, rank, number), so that any rank can make any other's. */
#ifndef BENCH_EXCHANGE_BATCH_H
#define BENCH_EXCHANGE_BATCH_H

#include "bench/exchange_settings.h"
#include <shardbag/batch.h>

typedef struct bench_shape {
  int64_t length;
  double zipf;
} bench_shape_t;

/* Indices of one batch of a case: [tables][batch][length]. */
int64_t bench_batch_indices(const bench_exchange_settings_t *settings, const bench_shape_t *of);

/* indices: [bench_batch_indices], bags: [tables], views of it. */
void bench_batch_fill(const bench_exchange_settings_t *settings, const bench_shape_t *of, int64_t rank,
                      int64_t number, int64_t *indices);
/* One table's part of it: [batch][length]. */
void bench_batch_table(const bench_exchange_settings_t *settings, const bench_shape_t *of, int64_t rank,
                       int64_t number, int64_t table, int64_t *indices);
void bench_batch_bags(const bench_exchange_settings_t *settings, const bench_shape_t *of,
                      const int64_t *indices, sbag_bags_t *bags);

#endif
