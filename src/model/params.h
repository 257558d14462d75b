/* The dense parameters of a model: one contiguous block of values, one of gradients, one of optimizer state.
 *
 * Layers are listed in the order of the forward pass and lie in the blocks in the opposite order, because
 * backward makes the last layer's gradient first: what is ready at any time is a range from 0, and the
 * buckets of the all-reduce are ranges of the gradient block.
 *
 * The blocks are device memory. What others read and write by name is the host's: where that is not the same,
 * it is a copy, brought up to date by params_fetch and brought home by params_send. */
#ifndef MODEL_PARAMS_H
#define MODEL_PARAMS_H

#include "dense/dense.h"
#include "model/model.h"
#include <stdint.h>

enum { PARAMS_NAME_BYTES = 64 };

typedef struct params_layer {
  char name[PARAMS_NAME_BYTES]; /* "top/1"; its arrays are "top/1/weight" and "top/1/bias" */
  int64_t in, out;
  int has_bias, relu;
  int64_t offset; /* of the weight in the blocks; the bias follows it. Set by params_create */
} params_layer_t;

typedef struct params {
  dense_t *dense; /* borrowed */
  int layer_count;
  params_layer_t *layers;
  int64_t count;                       /* values in a block */
  float *weight, *grad;                /* [count] */
  float *states[OPTIMIZER_STATES_MAX]; /* [count] each; NULL beyond the optimizer's */
  float *host_weight,
      *host_states[OPTIMIZER_STATES_MAX]; /* the blocks themselves where they are the host's */
  int array_count;
  model_array_t *arrays; /* parameters by layer, then states by layer */
} params_t;

/* Copies `layers` and fills the weights: N(0, 2 / (in + out)), biases N(0, 1 / out), as the original DLRM; a
 * function of (seed, array name, index) alone. On failure nothing is left to free. */
sbag_code_t params_create(dense_t *dense, const params_layer_t *layers, int layer_count, uint64_t seed,
                          const sbag_optimizer_options_t *optimizer, params_t *params, sbag_status_t *status);
void params_clear(params_t *params);

/* The host's values from the device's, and back. Nothing to do where they are the same. */
sbag_code_t params_fetch(const params_t *params, sbag_status_t *status);
sbag_code_t params_send(const params_t *params, sbag_status_t *status);

/* The layer with its place in the blocks, for the ops of dense.h. */
linear_t params_linear(const params_t *params, int layer);

/* One past the last value of a layer: all of [0, end) is ready once backward has done the layer. */
int64_t params_layer_end(const params_t *params, int layer);

#endif
