/* What memory gives for the rows of a batch: the loops of `shardbag bench memory` over as large a table, at
 * the same rows in the same order. Several ranks do it side by side, each for as many rows as it brings, in a
 * table as large as its part. */
#ifndef BENCH_POOL_LIMIT_H
#define BENCH_POOL_LIMIT_H

#include "bench/huge.h"
#include "bench/loops.h"
#include "bench/pool_batch.h"

typedef struct bench_limit {
  mem_t *mem;
  bench_huge_t table, out;
  int64_t words, rows; /* of a row; of a table, in this rank's part */
  int threads, trains;
  bench_loop_t forward;
  bench_walk_t *walks; /* [batches] all rows */
  bench_walk_t *once;  /* [batches] each row once */
  int64_t batches;
  void **blocks; /* [batches] of the rows */
  void *block;
} bench_limit_t;

/* words: of 32 bits a row. Nothing is left to destroy if it fails. Not collective, as all of this. */
sbag_code_t bench_limit_create(const bench_pool_settings_t *settings, int64_t words, int ranks, int threads,
                               mem_t *mem, bench_limit_t *limit, sbag_status_t *status);
void bench_limit_destroy(bench_limit_t *limit);

/* Takes over a case's rows, and finds the best way to walk over them; with those of the case before given
 * up. */
sbag_code_t bench_limit_take(bench_limit_t *limit, const bench_pool_settings_t *settings,
                             const bench_pool_case_t *of, const bench_pool_batch_t *batches,
                             sbag_status_t *status);
/* Every row of the batch is read, and, where bags are of one row, written to an output. */
void bench_limit_forward(const bench_limit_t *limit, int64_t batch);
/* Every distinct row of the batch is read and written. */
void bench_limit_update(const bench_limit_t *limit, int64_t batch);

#endif
