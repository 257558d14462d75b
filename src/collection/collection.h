/* The inside of a collection, shared by the files of this layer. */
#ifndef COLLECTION_COLLECTION_H
#define COLLECTION_COLLECTION_H

#include "base/exact_sum.h"
#include "collection/context.h"
#include "exchange/exchange.h"
#include <shardbag/collection.h>

enum { COLLECTION_STEPS = 2 }; /* batches under way at a time */

typedef enum step_state {
  STEP_FREE,
  STEP_REFUSED, /* its batch is not one that all ranks take: it can only be released */
  STEP_PREFETCHED,
  STEP_BEGUN,
  STEP_FORWARD_DONE,
  STEP_BACKWARD_BEGUN,
  STEP_BACKWARD_DONE,
  STEP_UPDATED
} step_state_t;

struct sbag_step {
  sbag_collection_h collection;
  route_t *route;
  step_state_t state;
  int flags;
  int held; /* its ids are out; its vectors wait for the other step's update */
  int64_t bag_count;
  const sbag_bags_t *batch;
  const void *grad_out; /* from backward_begin on: where ops reach it */
  kernel_buffer_t grad_staged;
};

struct sbag_collection {
  sbag_context_h context;
  sbag_collection_options_t options;
  plan_t *plan;
  store_t *store;
  exchange_t *exchange;
  exchange_feature_t *features;
  int table_count, feature_count;
  int64_t output_dim;
  optimizer_update_t *updates;                  /* [tables] of a step */
  reduce_task_t *sums;                          /* [tables] beside them */
  void **weight_grads;                          /* [features] of a backward, where ops reach them */
  kernel_buffer_t out_staged;                   /* the output, or the weights' gradients: see stage.h */
  struct sbag_step steps[COLLECTION_STEPS + 1]; /* the last: to tell the other ranks that none is free here */
  int64_t
      norm[EXACT_SUM_DIGITS + 1]; /* of grad_norm_squared: not on its stack, as a broken comm may write on */
};

/* step.c: sbag_step_forward_end that does not wait: `out` is there for whatever the context's kernel does
 * next, and for the host after a stream_sync. */
sbag_code_t collection_forward_end(sbag_step_h step, void *out, sbag_status_t *status);
/* describe.c: refuses what no collection can be. */
sbag_code_t collection_check(const sbag_collection_options_t *options, const sbag_table_options_t *tables,
                             int table_count, const sbag_feature_options_t *features, int feature_count,
                             sbag_status_t *status);
/* agree.c: refuses descriptions that differ between ranks, naming the first that does. Collective. */
sbag_code_t collection_same(sbag_context_h context, const sbag_collection_options_t *options,
                            const sbag_table_options_t *tables, int table_count,
                            const sbag_feature_options_t *features, int feature_count, sbag_status_t *status);
/* collection.c: this rank's rows of a weight (state -1) or a state. */
sbag_code_t collection_array(sbag_collection_h collection, int table, int state, exchange_rows_t *array,
                             sbag_status_t *status);
/* init_file.c: rows of the tables that start from a file. Collective. */
sbag_code_t collection_init_files(sbag_collection_h collection, const sbag_table_options_t *tables,
                                  sbag_status_t *status);
/* batch.c: shapes of a batch. */
sbag_code_t batch_check_feature(const char *name, sbag_mode_t mode, const sbag_bags_t *bags,
                                int64_t *bag_count, sbag_status_t *status);
sbag_code_t batch_check(const exchange_feature_t *features, int feature_count, const sbag_bags_t *batch,
                        int64_t *bag_count, sbag_status_t *status);
/* The features as the exchange sees them; features[f].name stays the caller's. Returns the output's columns.
 */
int64_t collection_features(const sbag_table_options_t *tables, const sbag_feature_options_t *features,
                            int feature_count, exchange_feature_t *made);

#endif
