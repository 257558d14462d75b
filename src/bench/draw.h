/* The bags that benchmarks look up. A batch follows from (seed, rank, number), so that any rank can make any
 * other's, and two programs that draw alike look up the same rows. */
#ifndef BENCH_DRAW_H
#define BENCH_DRAW_H

#include <stdint.h>

/* How long bags are, with `length` as their mean. */
typedef enum bench_lengths {
  LENGTHS_FIXED,
  LENGTHS_UNIFORM, /* 1 to 2 * length - 1, evenly */
  LENGTHS_ZIPF     /* mostly short: Zipf of exponent 1.5, cut so that the mean is about the length */
} bench_lengths_t;

typedef struct bench_draw {
  int64_t rows, batch; /* of a table; bags of it a rank */
  int64_t length;
  bench_lengths_t lengths;
  double zipf; /* how uneven rows are, 0 = evenly */
  int scatter; /* 1: popular rows lie anywhere; 0: row 0 is the most popular */
  int64_t seed;
} bench_draw_t;

/* One table's bags of a batch: offsets [batch + 1]; returns the number of indices. */
int64_t bench_draw_offsets(const bench_draw_t *draw, int64_t rank, int64_t number, int64_t table,
                           int64_t *offsets);
/* Their rows: indices [offsets[batch]]; offsets NULL: all are of the length. */
void bench_draw_rows(const bench_draw_t *draw, int64_t rank, int64_t number, int64_t table,
                     const int64_t *offsets, int64_t *indices);

/* Those of count rows (below `rows`) that come for the first time; distinct: [count], seen: [rows / 64 + 1].
 * Returns how many they are. */
int64_t bench_draw_distinct(const int64_t *drawn, int64_t count, int64_t rows, uint64_t *seen,
                            int64_t *distinct);

#endif
