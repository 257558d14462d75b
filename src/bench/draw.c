/* Drawing batches: see draw.h. */
#include "bench/draw.h"

#include "base/random.h"
#include "reader/zipf.h"
#include <math.h>
#include <stddef.h>
#include <string.h>

/* A bag's number over all batches and ranks. */
static uint64_t bag_of(int64_t rank, int64_t number, int64_t bag) {
  return ((uint64_t)number << 40 | (uint64_t)rank << 24) + (uint64_t)bag;
}

/* The greatest length, so that lengths l from 1 to it of weight l^-1.5 have this mean at least. */
static int64_t longest(int64_t mean) {
  double weights = 0, sum = 0;
  for (int64_t limit = 1;; limit++) {
    sum += 1 / sqrt((double)limit);
    weights += 1 / ((double)limit * sqrt((double)limit));
    if (sum >= (double)mean * weights) return limit;
  }
}

int64_t bench_draw_offsets(const bench_draw_t *d, int64_t rank, int64_t number, int64_t table,
                           int64_t *offsets) {
  int64_t limit = d->lengths == LENGTHS_ZIPF ? longest(d->length) : 2 * d->length - 1;
  zipf_t zipf = reader_zipf_make(limit, d->lengths == LENGTHS_ZIPF ? 1.5 : 0.0);
  uint64_t key = random_key((uint64_t)d->seed, "bench: lengths");
  offsets[0] = 0;
  for (int64_t b = 0; b < d->batch; b++) {
    int64_t length = d->length;
    if (d->lengths != LENGTHS_FIXED)
      length = 1 + reader_zipf_draw(&zipf, key, bag_of(rank, number, b), (uint64_t)table);
    offsets[b + 1] = offsets[b] + length;
  }
  return offsets[d->batch];
}

void bench_draw_rows(const bench_draw_t *d, int64_t rank, int64_t number, int64_t table,
                     const int64_t *offsets, int64_t *indices) {
  zipf_t zipf = reader_zipf_make(d->rows, d->zipf);
  uint64_t key = random_key((uint64_t)d->seed, "bench: rows");
  uint64_t places = random_key((uint64_t)d->seed, "bench: places") + (uint64_t)table;
  for (int64_t b = 0; b < d->batch; b++) {
    int64_t length = offsets != NULL ? offsets[b + 1] - offsets[b] : d->length;
    for (int64_t j = 0; j < length; j++) {
      uint64_t at = (uint64_t)table << 24 | (uint64_t)j;
      int64_t row = reader_zipf_draw(&zipf, key, bag_of(rank, number, b), at);
      *indices++ = d->scatter ? random_permute(places, d->rows, row) : row;
    }
  }
}

int64_t bench_draw_distinct(const int64_t *drawn, int64_t count, int64_t rows, uint64_t *seen,
                            int64_t *distinct) {
  int64_t found = 0;
  memset(seen, 0, (size_t)(rows / 64 + 1) * sizeof *seen);
  for (int64_t i = 0; i < count; i++) {
    uint64_t bit = UINT64_C(1) << (drawn[i] % 64), *word = &seen[drawn[i] / 64];
    if ((*word & bit) == 0) distinct[found++] = drawn[i];
    *word |= bit;
  }
  return found;
}
