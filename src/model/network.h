/* The dense part of a model on one rank's samples, behind a table of functions, so that a step does not know
 * which model it trains. It knows neither tables nor ranks: pooled vectors come in, outputs, their gradients
 * and those of the parameters go out. What a sample's outputs mean, and what loss they have, is the network's
 * own business.
 *
 * An implementation puts network_t first in its struct. Buffers are device memory, sized by the largest
 * batch, and stay. Row i of every buffer belongs to sample i. */
#ifndef MODEL_NETWORK_H
#define MODEL_NETWORK_H

#include "dense/dense.h"
#include "model/params.h"

typedef struct network network_t;

/* Where the features' pooled vectors lie in a row of the pooled matrix. */
typedef struct network_features {
  int count;
  const char *const *name; /* [count] */
  const int64_t *dim;      /* [count] */
  const int64_t *column;   /* [count] first column */
  int64_t pooled_dim;      /* columns of the pooled matrix */
} network_features_t;

/* Called before each layer, with the name of the part of the model that it belongs to: where a rank of one
 * thread can push its messages on, and look at the clock. */
typedef void network_between_fn(void *user, const char *part);

/* What the samples of a pass are. */
typedef struct network_pass {
  int64_t rows, first_sample; /* first_sample: global number of row 0 */
  int64_t step;
  int training;                /* 1: dropout */
  network_between_fn *between; /* may be NULL */
  void *between_user;
  const float *values; /* [rows][dense_count]; never NULL */
} network_pass_t;

/* What a loss is taken of: of samples [first_row, first_row + rows) of the pass. */
typedef struct network_targets {
  int64_t first_row, rows;
  const float *labels;  /* [pass rows]; 0 or 1, or a class, as the network has it */
  const float *weights; /* [pass rows], or NULL: 1 each */
  double grad_scale;
} network_targets_t;

/* Called after each layer: params.grad[0, end) is final. */
typedef sbag_code_t network_ready_fn(void *user, int64_t end, sbag_status_t *status);

/* Samples [first_row, first_row + rows) of the pass, whose loss was taken last; `ready` may be NULL. */
typedef struct network_backward {
  const network_pass_t *pass;
  int64_t first_row, rows;
  network_ready_fn *ready;
  void *user;
} network_backward_t;

typedef struct network_ops {
  const char *name;
  void (*destroy)(network_t *network);
  /* Room for `rows` samples. Allocates only if a batch is larger than all before it. */
  sbag_code_t (*reserve)(network_t *network, int64_t rows, int backward, sbag_status_t *status);
  /* What needs no vectors, while these are on their way. */
  void (*begin)(network_t *network, const network_pass_t *pass);
  /* The rest, of network->pooled. Returns the outputs, [rows][output_count]. */
  const float *(*forward)(network_t *network, const network_pass_t *pass);
  /* *sum (host, after a dense_sync): the weighted sum of the samples' losses. Keeps the outputs' gradients
   * times grad_scale for the backward pass. */
  void (*loss)(network_t *network, const network_pass_t *pass, const network_targets_t *targets, double *sum);
  /* Writes params.grad (of these samples) and their rows of pooled_grad. In two parts: after the first,
   * pooled_grad is whole, and its way home can begin while the second ends params.grad. */
  sbag_code_t (*backward_pooled)(network_t *network, const network_backward_t *backward,
                                 sbag_status_t *status);
  sbag_code_t (*backward_rest)(network_t *network, const network_backward_t *backward, sbag_status_t *status);
} network_ops_t;

struct network {
  const network_ops_t *ops;
  mem_t *mem;
  dense_t *dense; /* borrowed */
  params_t params;
  int64_t dense_count, pooled_dim;
  int output_count;   /* values a sample */
  int class_count;    /* labels are 0 to class_count - 1; 0: there are no classes to weigh */
  int64_t widest;     /* the most values of a row of any buffer; must fit an int */
  float *pooled;      /* [rows][pooled_dim] */
  float *pooled_grad; /* [rows][pooled_dim] */
};

/* Reads the layers, seed, optimizer and dropout of `config`. Not collective. */
typedef sbag_code_t network_create_fn(dense_t *dense, const model_config_t *config,
                                      const network_features_t *features, network_t **network,
                                      sbag_status_t *status);

/* By config->kind. */
network_create_fn network_create;
/* Nulls *network; NULL is allowed. */
void network_destroy(network_t **network);

/* What implementations share: a block of `rows` times `width` floats of the device in place of *block,
 * nothing of the old one kept; a block's release; and the next rows * width floats of a block. */
sbag_code_t network_renew(dense_t *dense, int64_t rows, int64_t width, float **block, sbag_status_t *status);
void network_drop(dense_t *dense, float **block);
float *network_carve(float **next, int64_t rows, int64_t width);
/* Half as much again as the old size, so that slowly growing batches do not allocate every time. */
int64_t network_grown(int64_t old, int64_t rows);

static inline void network_between(const network_pass_t *pass, const char *part) {
  if (pass->between != NULL) pass->between(pass->between_user, part);
}

#endif
