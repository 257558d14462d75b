/* What the files of a model share. Nobody else includes this. */
#ifndef MODEL_MODEL_IMPL_H
#define MODEL_MODEL_IMPL_H

#include "comm/comm.h"
#include "model/dlrm.h"
#include "model/model.h"
#include "model/reduce.h"

/* A training step under way. */
typedef struct model_slot {
  int taken;
  sbag_step_h step; /* NULL also where the batch was refused */
  model_batch_t batch;
  int64_t number;
  int open, computed;    /* open: its owners know what they are asked for */
  sbag_status_t refused; /* why all ranks refuse the batch */
} model_slot_t;

struct model {
  mem_t *mem;
  comm_t *comm; /* the context's */
  sbag_collection_h collection;
  dlrm_t *dlrm;
  reduce_t reduce;
  sbag_optimizer_options_t optimizer; /* of the dense layers, with the model's clip_value */
  double clip_norm;
  int feature_count, reproducible;
  model_slot_t slots[MODEL_STEPS_MAX]; /* the older first */
  model_traffic_t traffic;
};

#endif
