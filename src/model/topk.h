/* The best rows of a table for each query by dot product, exactly, wherever the rows lie: each owner ranks
 * its own, and the rank that asks merges. Products are summed in double, column by column, and of equal ones
 * the lower row is the better; so the result depends on neither the number of ranks nor the processor. */
#ifndef MODEL_TOPK_H
#define MODEL_TOPK_H

#include "base/mem.h"
#include "comm/comm.h"
#include <shardbag/collection.h>
#include <stdint.h>

typedef struct topk topk_t;

typedef struct topk_options {
  int table;
  int64_t first_row; /* rows before it are not ranked */
  int64_t k;         /* at least 1 */
} topk_options_t;

/* This rank's queries. */
typedef struct topk_queries {
  int64_t count, stride;          /* stride: floats from one vector to the next */
  const float *vectors;           /* [count], each of the table's dim */
  const int64_t *const *excluded; /* [count]: rows, ascending, that are not for this query */
  const int64_t *excluded_counts; /* [count] */
} topk_queries_t;

typedef struct topk_hit {
  double score;
  int64_t row; /* -1: there are no more rows */
} topk_hit_t;

/* Collective. The collection's vectors are the host's, and of float32. */
sbag_code_t topk_create(sbag_collection_h collection, comm_t *comm, mem_t *mem, const topk_options_t *options,
                        topk_t **topk, sbag_status_t *status);
/* NULL is allowed. */
void topk_destroy(topk_t **topk);
/* Collective; a rank may have no queries. hits: [count][k], the best first. NaN is never a hit. */
sbag_code_t topk_search(topk_t *topk, const topk_queries_t *queries, topk_hit_t *hits, sbag_status_t *status);

#endif
