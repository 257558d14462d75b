/* What the files of a model share. Nobody else includes this. */
#ifndef MODEL_MODEL_IMPL_H
#define MODEL_MODEL_IMPL_H

#include "comm/comm.h"
#include "dense/dense.h"
#include "model/model.h"
#include "model/network.h"
#include "model/reduce.h"

/* A batch's dense values, labels and weights, where the layers read them. */
typedef struct model_input {
  const float *values, *labels, *weights; /* device memory; the batch's own where that is the host's */
  kernel_buffer_t block;                  /* else what they point into */
  float *host_weights;                    /* [host_room]: the samples' weights times their classes' */
  int64_t host_room;
  const float *told; /* the weights, in the host's memory; NULL: 1 each */
} model_input_t;

/* A training step under way. */
typedef struct model_slot {
  int taken;
  sbag_step_h step; /* NULL also where the batch was refused */
  model_batch_t batch;
  int64_t number;
  int input;             /* which of the model's */
  int open, computed;    /* open: its owners know what they are asked for */
  sbag_status_t refused; /* why all ranks refuse the batch */
} model_slot_t;

struct model {
  mem_t *mem;
  comm_t *comm; /* the context's */
  dense_t *dense;
  sbag_collection_h collection;
  network_t *network;
  reduce_t reduce;
  sbag_optimizer_options_t optimizer; /* of the dense layers, with the model's clip_value */
  double clip_norm;
  int feature_count, reproducible;
  int class_count;
  double *class_weights;                     /* [class_count] */
  double loss;                               /* of the step under way: this rank's sum, after a dense_sync */
  model_slot_t slots[MODEL_STEPS_MAX];       /* the older first */
  model_input_t inputs[MODEL_STEPS_MAX + 1]; /* one a step, and the last for predictions */
  model_traffic_t traffic;
};

#endif
