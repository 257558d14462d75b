/* A case of the golden files: what is looked up, what a run of it gave, and the ways to run it.
 *
 * Every rank reads the whole case, brings its part of the bags to the library, and gathers the whole result;
 * so all ranks know the outcome, and rank 0 reports it. */
#ifndef GOLDEN_CASE_H
#define GOLDEN_CASE_H

#include "golden_file.h"
#include "oracle/batch.h"
#include <shardbag/shardbag.h>

typedef enum golden_layout {
  GOLDEN_BLOCK,
  GOLDEN_CYCLIC,
  GOLDEN_SUBSET, /* owned by all ranks but the last, or by one */
  GOLDEN_REPLICATED,
  GOLDEN_SCRAMBLE
} golden_layout_t;

/* How the cases are run. */
typedef struct golden_run {
  sbag_context_h context;
  int rank, size;
  golden_layout_t layout;
  int number; /* of the case: varies who brings and who owns what */
  int oracle; /* run the tests' oracle instead of the library, in float64 only */
} golden_run_t;

/* One batch and everything that says what to do with it. */
typedef struct golden_lookup {
  oracle_table_t table;
  oracle_feature_t feature;
  oracle_bags_t bags;
  batch_form_t form;
  int has_max_norm, wants_weight_grads;
  double max_norm, norm_type;
  const double *grad_output;
} golden_lookup_t;

typedef struct golden_result {
  const char *name;
  int64_t count;
  double *values; /* [count] */
  double *scale;  /* [count]: magnitude that float32 tolerances are measured by; NULL: one for all */
} golden_result_t;

enum { GOLDEN_RESULTS_MAX = 8 };

typedef struct golden_results {
  int count;
  golden_result_t items[GOLDEN_RESULTS_MAX];
} golden_results_t;

void golden_result_add(golden_results_t *results, const char *name, int64_t count, double *values,
                       double *scale);
const golden_result_t *golden_result(const golden_results_t *results, const char *name);

/* Those below return NULL on success, else one line on what is wrong. */

/* The batch in `data`, described by the attributes of `group`, over a copy of `weight`. */
const char *golden_lookup_read(arena_t *arena, const golden_group_t *group, const golden_group_t *data,
                               const golden_array_t *weight, golden_lookup_t *lookup);
/* output, grad_weight, grad_per_sample_weights, weight_after and max_indices, with their scales. */
void golden_lookup_oracle(arena_t *arena, const golden_lookup_t *lookup, golden_results_t *results);

/* A collection of one table, holding the lookup's table, and one feature. */
const char *golden_collection(const golden_run_t *run, arena_t *arena, const golden_lookup_t *lookup,
                              const sbag_optimizer_options_t *optimizer, sbag_dtype_t dtype,
                              sbag_collection_h *collection);
/* Forward and backward; an update too if lr_factor is no NaN. Results as by the oracle, without scales. */
const char *golden_step(const golden_run_t *run, arena_t *arena, const golden_lookup_t *lookup,
                        sbag_collection_h collection, sbag_dtype_t dtype, double lr_factor,
                        golden_results_t *results);
/* All rows of the table (state < 0) or of one of its states: [rows][width]. */
const char *golden_read_rows(const golden_run_t *run, arena_t *arena, sbag_collection_h collection,
                             sbag_dtype_t dtype, int64_t rows, int64_t width, int state, double *values);

/* Compares dataset `expected` with its result. `error` is what a float32 peer itself missed. */
const char *golden_compare(arena_t *arena, const char *where, const golden_array_t *expected,
                           const golden_results_t *results, sbag_dtype_t dtype, double error);
/* The dataset's name without _f64, and the dtype of the run that it comes from. */
const char *golden_base_name(arena_t *arena, const golden_array_t *array, sbag_dtype_t *dtype);

/* A whole case. */
const char *golden_bag_case(const golden_run_t *run, arena_t *arena, const golden_group_t *group);
const char *golden_optimizer_case(const golden_run_t *run, arena_t *arena, const golden_group_t *group);

#endif
