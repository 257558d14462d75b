/* Recommendation models on a collection. A kind of model is a network (network.h); config names its layers.
 *
 * Embedding tables are cut by rows (collection); dense layers are data-parallel: every rank holds all of
 * them, gradients are summed in buckets while the embedding backward runs. Loss and gradients are divided by
 * the number of samples of the global batch, so the result does not depend on how that is dealt to ranks.
 *
 * All calls are collective unless said otherwise. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "base/mem.h"
#include "base/status.h"
#include "dense/match.h"
#include <shardbag/collection.h>
#include <stdint.h>

typedef struct model model_t;

enum { MODEL_LAYERS_MAX = 16 };

/* A network each, see network.c. */
typedef enum model_kind {
  MODEL_CTR,      /* whether somebody clicks: DLRM, DCN-v2, DeepFM, Wide & Deep (ctr.h) */
  MODEL_CLASSIFY, /* one of several classes: text (classify.h) */
  MODEL_MATCH,    /* which item goes with a query: ranking, CBOW (match.h) */
  MODEL_KINDS
} model_kind_t;

/* MODEL_MATCH: what a feature is. */
typedef enum model_role {
  MODEL_INPUT,
  MODEL_QUERY,
  MODEL_POSITIVE,
  MODEL_NEGATIVE,
  MODEL_ROLES
} model_role_t;

/* MODEL_CTR: what becomes of the features' vectors. */
typedef enum model_interaction {
  MODEL_DOT,   /* the products of all pairs go to the top MLP: DLRM */
  MODEL_CROSS, /* cross layers on all vectors side by side: DCN-v2 */
  MODEL_FM,    /* a factorisation machine's second order beside the top MLP: DeepFM */
  MODEL_CONCAT /* nothing: the top MLP has the vectors side by side */
} model_interaction_t;

typedef struct model_config {
  uint64_t seed; /* dense layers' initial values; tables have their own seeds */
  model_kind_t kind;
  model_interaction_t interaction;
  int cross_count;    /* MODEL_CROSS: layers, one at least */
  int64_t cross_rank; /* of their matrices; 0: full */
  int cross_parallel; /* 1: the top MLP stands beside the cross layers; 0: behind them */
  int first_order;    /* the last so many features are weights of dim 1, whose sum goes to the logit */
  int dense_count;    /* dense values a sample; 0 leaves the bottom MLP out */
  int64_t
      interaction_dim; /* D: dim of every vector in the interaction; features of another dim are projected */
  int bottom_count;    /* hidden layers of the bottom MLP; the last layer to D is added */
  int64_t bottom[MODEL_LAYERS_MAX];
  int top_count; /* hidden layers of the top MLP; the last layer to 1 is added */
  int64_t top[MODEL_LAYERS_MAX];
  sbag_optimizer_options_t
      dense_optimizer; /* SBAG_OPT_SGD, SBAG_OPT_ADAGRAD or SBAG_OPT_ADAM, as torch defines them */
  double clip_norm;    /* of all gradients together, dense and sparse; 0 = off */
  double clip_value;   /* dense gradients clamped; tables have their own; 0 = off */
  double dropout; /* on the top MLP's hidden layers, training only; keyed by (seed, step, sample): independent
                     of ranks */
  int64_t bucket_bytes;      /* of one dense all-reduce; 0 = 1 MiB */
  int class_count;           /* of class_weights; 0: none, else as many as the network has classes */
  int64_t classes;           /* MODEL_CLASSIFY: labels are 0 to classes - 1 */
  const model_role_t *roles; /* MODEL_MATCH: [feature_count] */
  match_loss_t match_loss;   /* this, temperature (above 0) and l2: see dense/match.h */
  double temperature, l2;
  const double *class_weights; /* [class_count]: each sample's weight is multiplied by its label's */
  int inference;               /* 1: predictions alone; tables have no memory for gradients and optimizers */
  int reproducible; /* dense math in slices of MODEL_SLICE samples of the global batch, combined in a fixed
                       order */
  const sbag_table_options_t *tables;
  int table_count;
  const sbag_feature_options_t *features;
  int feature_count;
} model_config_t;

enum { MODEL_SLICE = 64 };

/* This rank's share of a global batch. */
typedef struct model_batch {
  int64_t samples, first_sample, global_samples;
  const float *labels;         /* [samples]; unused by predict */
  const float *weights;        /* [samples], 0 or more, or NULL: 1 each; unused by predict */
  const float *dense;          /* [samples][dense_count] */
  const sbag_bags_t *features; /* [feature_count] */
} model_batch_t;

/* Copies the config. `mem` must be the context's. */
sbag_code_t model_create(sbag_context_h context, const model_config_t *config, mem_t *mem, model_t **model,
                         sbag_status_t *status);
void model_destroy(model_t **model);

sbag_collection_h model_collection(const model_t *model);

/* One training step: forward, backward, update of tables and dense layers; `step` counts them from 1
 * (optimizers, dropout). loss: mean over the global batch, weighted by the samples' weights and those of
 * their classes, the same on all ranks; where all weights are 0 it is 0, and so are the gradients. A batch
 * with global_samples 0 is refused. If the loss is not finite nothing is updated and SBAG_ERR_ARGUMENT is
 * returned on all ranks with a message that the caller prefixes with the step. */
sbag_code_t model_train_step(model_t *model, const model_batch_t *batch, int64_t step, double lr_factor,
                             double *loss, sbag_status_t *status);

/* The same in three parts, for a pipeline: begin(1), then for every n begin(n + 1), compute(n), finish(n).
 *
 * begin routes the ids of its batch; they travel while the older step is computed. compute takes the vectors
 * in and goes forward and backward; finish merges the gradients at their owners and updates. The next batch
 * may also be begun between the two, or after them. What comes out is the same to the bit as with one step
 * after the other, because no row is read for batch n + 1 before batch n has updated it; its rows are on
 * their way when finish(n) returns. The batch's memory and its list of features must stay until its step is
 * finished.
 *
 * The older of the two steps is computed and finished first. What all ranks refuse in a batch is returned by
 * its own compute. A step that fails in compute or finish is gone, and the one begun behind it stands.
 *
 * cancel takes the last begin back, before the older step is finished: nothing has changed then. Once
 * finish(n) has returned, step n + 1 has brought the rows that it looks up up to date (max_norm): to save or
 * to compare the tables, let no step be under way. */
enum { MODEL_STEPS_MAX = 2 };
sbag_code_t model_train_begin(model_t *model, const model_batch_t *batch, int64_t step,
                              sbag_status_t *status);
sbag_code_t model_train_compute(model_t *model, sbag_status_t *status);
sbag_code_t model_train_finish(model_t *model, double lr_factor, double *loss, sbag_status_t *status);
void model_train_cancel(model_t *model);

/* Outputs a sample: 1, the logit, of MODEL_CTR; of MODEL_CLASSIFY the classes' logits; of MODEL_MATCH the
 * query, then the scores of the items. Not collective. */
int model_output_count(const model_t *model);
/* outputs: [samples][model_output_count]. Tables are not written. Between compute and finish it is refused.
 */
sbag_code_t model_predict(model_t *model, const model_batch_t *batch, float *outputs, sbag_status_t *status);

/* The same in parts, so that the ids of one batch travel, and owners pool for it, while the batch before it
 * is computed: begin; the step's sbag_step_forward_begin; gather, after which its vectors are in the layers'
 * place; finish. Two may be under way at a time, of one model or of two. From gather to finish no other
 * batch of this model is gathered. What all ranks refuse in a batch is returned by sbag_step_forward_begin:
 * its step can then only be released, which is the caller's to do. The batch and its memory stay until then.
 */
sbag_code_t model_predict_begin(model_t *model, const model_batch_t *batch, sbag_step_h *step,
                                sbag_status_t *status);
sbag_code_t model_predict_gather(model_t *model, const model_batch_t *batch, sbag_step_h step,
                                 sbag_status_t *status);
sbag_code_t model_predict_finish(model_t *model, const model_batch_t *batch, float *outputs,
                                 sbag_status_t *status);

/* The layers forward and backward, with whatever pooled vectors are at hand, and an update that changes no
 * weight: for a benchmark. batch: its features are not read. Refused while a step is under way. Not
 * collective. */
sbag_code_t model_dense_step(model_t *model, const model_batch_t *batch, sbag_status_t *status);
/* Their linear layers, in the order of the forward pass. Not collective. */
typedef struct model_layer {
  int64_t in, out;
} model_layer_t;
int model_layer_count(const model_t *model);
model_layer_t model_layer(const model_t *model, int layer);
int64_t model_dense_count(const model_t *model);
/* 1: the layers are computed on the CPU. */
int model_dense_on_host(const model_t *model);

/* The dense parameters and their optimizer state as named arrays ("bottom/0/weight" [out][in], "top/1/bias",
 * "state/top/1/bias/sum"), for checkpoints: the same on every rank. data is the host's
 * memory: fetch brings it up to date with the layers, send brings what was written there to them. Not
 * collective. */
typedef struct model_array {
  char name[96];
  int rank; /* 1 or 2 */
  int64_t shape[2];
  float *data;
} model_array_t;
int model_array_count(const model_t *model);
const model_array_t *model_array(const model_t *model, int array);
sbag_code_t model_arrays_fetch(const model_t *model, sbag_status_t *status);
sbag_code_t model_arrays_send(const model_t *model, sbag_status_t *status);

/* What this rank's training steps moved, since the model's creation. Not collective. */
typedef struct model_traffic {
  int64_t steps;
  int64_t bytes_sent; /* by the tables' exchanges */
  int64_t lookups;    /* of this rank's samples */
  int64_t
      owned_rows; /* distinct rows of this rank's shards that a step's batch looked up, summed over steps */
  double wire_error; /* the steps' wire_error (collection.h), added up */
} model_traffic_t;
model_traffic_t model_traffic(const model_t *model);

#endif
