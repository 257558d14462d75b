/* Requests of one signature side by side: one look-up for all of them, and each its part of the result. */
#ifndef SERVE_BATCH_H
#define SERVE_BATCH_H

#include "serve/queue.h"

/* Memory that grows and stays. */
typedef struct batch_feature {
  int64_t *indices, *offsets;
  float *weights;
  int64_t index_room, offset_room, weight_room;
} batch_feature_t;

typedef struct batch {
  mem_t *mem;
  const model_config_t *config; /* borrowed */
  int input_count;              /* features that bring bags */
  batch_feature_t *features;    /* [input_count] */
  sbag_bags_t *bags;            /* [the model's features] */
  float *dense, *outputs;
  int64_t dense_room, output_room;
  int64_t samples, tickets;
} batch_t;

sbag_code_t batch_create(const model_config_t *config, mem_t *mem, batch_t *batch, sbag_status_t *status);
void batch_clear(batch_t *batch);

/* The tickets' bags one behind the other in `bags`, for the model's features; valid until the tickets go or
 * the next call. tickets NULL: none, a rank without samples. */
sbag_code_t batch_join(batch_t *batch, const ticket_t *tickets, sbag_status_t *status);
/* Room for so many values a sample in `outputs`. */
sbag_code_t batch_room(batch_t *batch, int64_t columns, sbag_status_t *status);
/* Deals `outputs` out to the tickets' results: of a prediction, the model's outputs become the signature's.
 */
void batch_deal(const batch_t *batch, ticket_t *tickets, int model_outputs);

#endif
