/* What a checkpoint benchmark saves and loads: one table with its optimizer's state, whose values follow from
 * their place, so that what was loaded can be told from what should have been. All calls are collective. */
#ifndef BENCH_ARRAYS_H
#define BENCH_ARRAYS_H

#include "bench/settings.h"
#include <shardbag/collection.h>

enum { BENCH_STATES_MAX = 8 };

/* One array of the table: the weight (state -1) or a state. */
typedef struct bench_array {
  sbag_collection_h collection;
  int state;
  int64_t rows, width;
} bench_array_t;

typedef struct bench_arrays {
  sbag_context_h context;
  sbag_collection_h collection;
  bench_array_t arrays[BENCH_STATES_MAX + 1];
  int count;
} bench_arrays_t;

/* All values are 0. Nothing is left to destroy if it fails. */
sbag_code_t bench_arrays_create(sbag_context_h context, const bench_settings_t *settings,
                                bench_arrays_t *arrays, sbag_status_t *status);
void bench_arrays_destroy(bench_arrays_t *arrays);

/* Gives every value the one of its place, or 0. */
sbag_code_t bench_arrays_fill(bench_arrays_t *arrays, int with_zeros, sbag_status_t *status);
/* The rows, of all arrays, that have not the values of their place. */
sbag_code_t bench_arrays_wrong(bench_arrays_t *arrays, int64_t *wrong, sbag_status_t *status);

/* The whole of it to and from one checkpoint. */
sbag_code_t bench_arrays_save(bench_arrays_t *arrays, const char *path, sbag_status_t *status);
sbag_code_t bench_arrays_load(bench_arrays_t *arrays, const char *path, sbag_status_t *status);

#endif
