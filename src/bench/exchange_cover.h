/* The fewest vectors that a batch can take between one requester and its owners as plain rows and pools: for
 * each owner the minimum vertex cover of the graph of rows and bags, which has as many vertices as the
 * maximum matching has edges (Koenig). Exact, by Hopcroft and Karp's algorithm; far too slow for a step. */
#ifndef BENCH_EXCHANGE_COVER_H
#define BENCH_EXCHANGE_COVER_H

#include "base/mem.h"
#include "base/status.h"
#include <stdint.h>

/* One owner's edges: row i's bags are bag[begin[i]] to bag[begin[i + 1]]. */
typedef struct bench_graph {
  int64_t rows, bags; /* bags: all numbers are below it */
  const int64_t *begin, *bag;
} bench_graph_t;

/* Words of int64 that bench_cover needs. */
int64_t bench_cover_scratch(const bench_graph_t *graph);
int64_t bench_cover(const bench_graph_t *graph, int64_t *scratch);

#endif
