/* What the exchange of a batch takes, counted without sending it: what the exchange itself chooses, what each
 * way alone would take, and the yardsticks, found here from the batch by other means. */
#ifndef BENCH_EXCHANGE_COUNT_H
#define BENCH_EXCHANGE_COUNT_H

#include "bench/exchange_batch.h"
#include "kernel/kernel.h"

typedef enum bench_count_number {
  COUNT_BATCHES,
  /* Vectors, forward. */
  COUNT_CHOSEN,   /* what the exchange takes */
  COUNT_DENSE,    /* a vector a bag and owner */
  COUNT_SPARSE,   /* a vector a bag and owner that it touches */
  COUNT_DISTINCT, /* a vector a distinct row */
  COUNT_BETTER,   /* the fewer of the last two for each owner and table */
  COUNT_COVER,    /* the minimum cover; 0 where it was not asked for */
  /* Bytes of both sides together: chosen, and each way alone in all. */
  COUNT_IDS,
  COUNT_FORWARD,
  COUNT_BACKWARD,
  COUNT_POOLS_BYTES,
  COUNT_ROWS_BYTES,
  COUNT_DENSE_BYTES,
  COUNT_OVER, /* batches whose chosen way takes more bytes than one of the three */
  COUNTS
} bench_count_number_t;

/* Sums over batches. */
typedef struct bench_count {
  int64_t n[COUNTS];
} bench_count_t;

/* Owners are the first `owners` of `ranks` ranks; the requester is `rank`, and what it owns itself is left
 * out. */
typedef struct bench_counter_config {
  const bench_exchange_settings_t *settings;
  mem_t *mem;
  int owners, ranks, rank;
  int cover; /* 1: with the exact minimum */
} bench_counter_config_t;

typedef struct bench_counter bench_counter_t;

/* Not collective, as all of this. */
sbag_code_t bench_counter_create(const bench_counter_config_t *config, bench_counter_t **counter,
                                 sbag_status_t *status);
void bench_counter_destroy(bench_counter_t **counter);

/* Adds one batch (as bench_batch_fill makes it) to `count`, and the bytes that each owner sends and gets to
 * owner_bytes [ranks], where that is not NULL. */
sbag_code_t bench_counter_add(bench_counter_t *counter, const bench_shape_t *of, const int64_t *indices,
                              bench_count_t *count, int64_t *owner_bytes, sbag_status_t *status);

static inline int64_t bench_count_bytes(const bench_count_t *count) {
  return count->n[COUNT_IDS] + count->n[COUNT_FORWARD] + count->n[COUNT_BACKWARD];
}

#endif
