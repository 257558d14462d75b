/* Batches that a reader has made, copied, so that they can come again. */
#ifndef BENCH_BATCHES_H
#define BENCH_BATCHES_H

#include "reader/reader.h"

typedef struct bench_batches {
  mem_t *mem;
  int64_t count;
  reader_batch_t *batch; /* [count] */
  void **block;          /* [count] what each one points into */
} bench_batches_t;

/* The next `count` training batches of a reader that is started, from the epoch's first again where it ends.
 * Not collective. */
sbag_code_t bench_batches_read(reader_t *reader, int64_t count, mem_t *mem, bench_batches_t *batches,
                               sbag_status_t *status);
void bench_batches_destroy(bench_batches_t *batches);

#endif
