/* The dense part of DLRM on one rank's samples: bottom MLP, projections, dot interaction, top MLP, and their
 * gradients. It knows neither tables nor ranks: pooled vectors come in, their gradients and those of the
 * parameters go out.
 *
 * What the top MLP sees: the dot products of all pairs of vectors, and in front of them
 *  - with dense values, the bottom MLP's output, as in the paper. Its bias gives each feature a term of its
 * own (the product with a vector that is the same for all samples), not only terms in pairs;
 *  - without, every feature's vector: there would be no such term otherwise, and "this film is liked" or
 * "this user rates high", most of what there is to know of MovieLens, could not be said.
 *
 * Buffers are device memory, sized by the largest batch, and stay. Row i of every buffer belongs to sample i.
 */
#ifndef MODEL_DLRM_H
#define MODEL_DLRM_H

#include "dense/dense.h"
#include "model/params.h"

/* Where the features' pooled vectors lie in a row of the pooled matrix. */
typedef struct dlrm_features {
  int count;
  const char *const *name; /* [count] */
  const int64_t *dim;      /* [count] */
  const int64_t *column;   /* [count] first column */
  int64_t pooled_dim;      /* columns of the pooled matrix */
} dlrm_features_t;

/* Where a feature's vector comes from. */
typedef struct dlrm_source {
  int64_t column; /* first column in the pooled matrix */
  int projection; /* which projection makes the vector; -1: the columns are the vector */
} dlrm_source_t;

typedef struct dlrm {
  mem_t *mem;
  dense_t *dense; /* borrowed */
  uint64_t seed;
  double dropout;
  int64_t dense_count, pooled_dim;
  int bottom_count, project_count, top_count; /* layers, in this order in params.layers */
  int feature_count;
  dlrm_source_t *sources;        /* [feature_count] */
  interaction_vector_t *vectors; /* the bottom MLP's output if any, then the features' */
  interaction_t interaction;
  params_t params;

  int64_t forward_rows, backward_rows; /* what the buffers hold */
  float *forward_block, *backward_block;
  float *pooled, *top_in; /* [rows][pooled_dim], [rows][interaction width] */
  float **layer_out;      /* [layers]: [rows][out] */
  float *pooled_grad;     /* [rows][pooled_dim] */
  float *vector_grad; /* [1 + projections][rows][D]: of the bottom MLP's output and of projected vectors */
  float *flow[2];     /* gradients between layers, each [rows][widest layer] */
  int64_t flow_width;
} dlrm_t;

/* Reads the layers, seed, optimizer and dropout of `config`. Not collective. */
sbag_code_t dlrm_create(dense_t *dense, const model_config_t *config, const dlrm_features_t *features,
                        dlrm_t **dlrm, sbag_status_t *status);
void dlrm_destroy(dlrm_t **dlrm);

/* Room for `rows` samples. Allocates only if a batch is larger than all before it. */
sbag_code_t dlrm_reserve(dlrm_t *dlrm, int64_t rows, int backward, sbag_status_t *status);

/* Called before each layer, with the name of the part of the model that it belongs to: where a rank of one
 * thread can push its messages on, and look at the clock. */
typedef void dlrm_between_fn(void *user, const char *part);

/* What the samples of a pass are. */
typedef struct dlrm_pass {
  int64_t rows, first_sample; /* first_sample: global number of row 0 */
  int64_t step;
  int training;             /* 1: dropout */
  dlrm_between_fn *between; /* may be NULL */
  void *between_user;
} dlrm_pass_t;

/* values: [rows][dense_count]. Nothing to do without a bottom MLP. */
void dlrm_bottom_forward(dlrm_t *dlrm, const dlrm_pass_t *pass, const float *values);
/* Projections, interaction and top MLP of dlrm->pooled. Returns logits [rows]. */
const float *dlrm_top_forward(dlrm_t *dlrm, const dlrm_pass_t *pass);

/* Called after each layer: params.grad[0, end) is final. */
typedef sbag_code_t dlrm_ready_fn(void *user, int64_t end, sbag_status_t *status);

/* Gradients of samples [first_row, first_row + rows) of the pass: writes params.grad (their sum) and their
 * rows of pooled_grad. dlrm->flow[0]: [rows] the logits' gradients, from row 0, which the caller has put
 * there. ready may be NULL. In two parts: after the first, pooled_grad is whole, and its way home can begin
 * while the second goes through the bottom MLP, which ends params.grad. */
sbag_code_t dlrm_backward_pooled(dlrm_t *dlrm, const dlrm_pass_t *pass, int64_t first_row, int64_t rows,
                                 dlrm_ready_fn *ready, void *user, sbag_status_t *status);
sbag_code_t dlrm_backward_bottom(dlrm_t *dlrm, const dlrm_pass_t *pass, int64_t first_row, int64_t rows,
                                 const float *values, dlrm_ready_fn *ready, void *user,
                                 sbag_status_t *status);
/* Both. */
sbag_code_t dlrm_backward(dlrm_t *dlrm, const dlrm_pass_t *pass, int64_t first_row, int64_t rows,
                          const float *values, dlrm_ready_fn *ready, void *user, sbag_status_t *status);

#endif
