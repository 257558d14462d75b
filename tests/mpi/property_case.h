/* A random case of the property test: tables, features and how they are looked up, drawn from a seed and a
 * number alone, so that all ranks hold the same case and any case can be repeated. */
#ifndef TESTS_MPI_PROPERTY_CASE_H
#define TESTS_MPI_PROPERTY_CASE_H

#include "oracle/batch.h"
#include <shardbag/shardbag.h>

enum { TABLES_MAX = 4, FEATURES_MAX = 6, STEPS_MAX = 4 };

typedef struct property_case {
  arena_t arena;
  draw_t draw;
  uint64_t seed, number;
  int rank, size;

  sbag_collection_options_t options;
  int table_count, feature_count, step_count;
  sbag_table_options_t tables[TABLES_MAX];
  sbag_feature_options_t features[FEATURES_MAX];
  int special;        /* NaN, infinities and -0.0 among the weights; such a case is not updated */
  int synchronized;   /* the oracle takes over the library's weights after every step; otherwise nothing is
                         read before the end, and no winner can be held against another */
  int full;           /* long bags of few samples, rows that many share: mixtures and dense pools pay */
  int writes_weights; /* weights come by write_rows, not by from_pretrained */

  double unit[TABLES_MAX]; /* a table in 16 bits: the most that rounding takes, of a value; else 0 */
  oracle_table_t weights[TABLES_MAX]; /* what the tables should hold */
  oracle_feature_t lookups[FEATURES_MAX];
  oracle_optimizer_t optimizers[TABLES_MAX];
} property_case_t;

/* One global batch, cut over the ranks. */
typedef struct property_batch {
  int64_t *first; /* [size + 1] samples of each rank */
  int64_t samples;
  int spread;                       /* in a full case: each bag has rows of about every owner */
  oracle_bags_t bags[FEATURES_MAX]; /* of all ranks */
  int *unweighted[FEATURES_MAX];    /* [size] this rank brings no per_sample_weights */
  double *grads[FEATURES_MAX];      /* [samples][dim] */
  sbag_bags_t mine[FEATURES_MAX];   /* this rank's part */
  int64_t lookups, dropped;         /* of this rank */
} property_batch_t;

void property_case_draw(property_case_t *it, uint64_t seed, uint64_t number, int rank, int size);
void property_batch_draw(property_case_t *it, property_batch_t *batch);

#endif
