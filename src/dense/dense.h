/* Dense arithmetic of a model on the kernel's device, behind a table of functions: linear layers, the dot
 * interaction, the loss, the optimizer's step. It is a table of its own, beside the kernel's, because it
 * needs a BLAS and the library below does not.
 *
 * All pointers are device memory of the kernel unless a comment says host. Ops run in the order of the
 * kernel's own stream; results that the host must see ("host:") are valid after its stream_sync. On the CPU
 * all memory is the host's and everything is done on return. None of them allocates once it is warm. */
#ifndef DENSE_DENSE_H
#define DENSE_DENSE_H

#include "base/status.h"
#include "dense/match.h"
#include "kernel/kernel.h"
#include <stdint.h>

typedef struct dense dense_t;

/* ---- a linear layer with an optional ReLU and dropout ---- */

/* Which units of which samples are dropped: a function of (key, step, global sample, unit) alone. */
typedef struct dropout {
  uint64_t key;
  uint32_t threshold; /* a unit is dropped if its random word is below; 0 = off */
  float scale;        /* of the units kept: 1 / (1 - p); 1 where off */
  int64_t step;
  int64_t first_sample; /* the global number of row 0 */
} dropout_t;

/* p in [0, 1); 0 gives an inactive one. */
dropout_t dropout_make(double p, uint64_t key, int64_t step, int64_t first_sample);

/* A row's activation is a function of that row alone; only the parameters' gradients sum over rows. Sizes
 * must fit an int (model_create and the step check them). */
typedef struct linear {
  int64_t in, out;
  const float *weight; /* [out][in] */
  const float *bias;   /* [out], or NULL */
  float *weight_grad;  /* as weight; overwritten by backward */
  float *bias_grad;    /* as bias */
  int relu;            /* dropout needs it: backward knows a dropped unit by its zero */
  int to_loss;         /* see below */
} linear_t;

/* NaN goes through all ops, so that a loss shows it. In a pass that ends in a loss and is good for nothing
 * else (to_loss), forward ops may lose it in a ReLU; then that loss is NaN. It may be the next pass's loss
 * where NaN comes of finite values in a sum that overflows, or of a parameter that somebody other than
 * `update` has set between two passes. */

/* ---- DLRM's dot interaction ----
 *
 * Of the vectors v_0 ... v_{n-1} of a sample, each of `dim` values, the dot products of all pairs, behind the
 * first `concat` vectors themselves. The vectors are read where they lie (columns of the pooled output, the
 * bottom MLP's output, a projection's output) and their gradients are written where they are needed: nothing
 * is gathered or transposed. */

/* One vector of every sample: sample i's begins at data + i * stride. */
typedef struct interaction_vector {
  const float *data;
  float *grad;
  int64_t data_stride, grad_stride;
} interaction_vector_t;

typedef struct interaction {
  int vectors, concat; /* concat <= vectors */
  int64_t dim;
  int concat_only; /* no products */
  int to_loss;     /* as linear_t's */
} interaction_t;

/* Values a sample: concat * dim + vectors * (vectors - 1) / 2, or without the products. */
int64_t interaction_width(const interaction_t *shape);

/* ---- the dense layers' optimizer ----
 *
 * The tables' own torch.optim formulas (kernel/optimizer.h), element by element. Every step touches all
 * parameters, so nothing ever lags. */

/* SBAG_ERR_UNSUPPORTED for kinds other than sgd, adagrad and adam, SBAG_ERR_ARGUMENT for values out of range.
 */
sbag_code_t dense_optimizer_check(const sbag_optimizer_options_t *options, sbag_status_t *status);

typedef struct dense_optimizer_step {
  const sbag_optimizer_options_t *options; /* host */
  int64_t step;                            /* from 1 */
  double lr;                               /* of this step */
  double grad_scale; /* gradients are multiplied by it, then clamped as the options say */
  int64_t count;
  const float *grad;
  float *weight;
  float *const *states; /* [OPTIMIZER_STATES_MAX] (host), as optimizer_info says */
} dense_optimizer_step_t;

/* ---- the table ---- */

typedef struct dense_ops {
  const char *name;
  void (*destroy)(dense_t *dense);

  /* y [rows][out] = dropout(relu(x W^T + b)). x: [rows][in], x_stride floats from row to row. */
  void (*linear_forward)(dense_t *dense, const linear_t *layer, const dropout_t *dropout, int64_t rows,
                         const float *x, int64_t x_stride, float *y);
  /* y as forward left it. dy [rows][out]: gradient of y, overwritten where the layer has a ReLU. dx:
   * [rows][in] with its stride, or NULL if nobody asks. rows may be 0: the parameters' gradients are zero
   * then. */
  void (*linear_backward)(dense_t *dense, const linear_t *layer, const dropout_t *dropout, int64_t rows,
                          const float *x, int64_t x_stride, const float *y, float *dy, float *dx,
                          int64_t dx_stride);

  /* out: [rows][width]: the first `concat` vectors, then v_i . v_j at place i (i - 1) / 2 + j for j < i (the
   * strict lower triangle of V V^T by rows). `first_row`: the row of the vectors that out's row 0 belongs
   * to. vectors: host. */
  void (*interaction_forward)(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                              int64_t first_row, int64_t rows, float *out);
  /* out_grad: [rows][width]. Writes (not adds) every vector's gradient: that of out_grad's row i at grad + i
   * * grad_stride. */
  void (*interaction_backward)(dense_t *dense, const interaction_t *shape,
                               const interaction_vector_t *vectors, int64_t first_row, int64_t rows,
                               const float *out_grad);

  /* One of DCN-v2's cross layers (Wang et al. 2020, arXiv:2008.13535) behind its linear layer, z = W x + b:
   * out = x0 * z + x, element by element. All: [rows][width]. */
  void (*cross_forward)(dense_t *dense, int64_t count, const float *x0, const float *z, const float *x,
                        float *out);
  /* dz = x0 * out_grad; x0_grad += z * out_grad. What goes to x past the layer is out_grad itself. */
  void (*cross_backward)(dense_t *dense, int64_t count, const float *x0, const float *z,
                         const float *out_grad, float *dz, float *x0_grad);
  /* y += x. */
  void (*add)(dense_t *dense, int64_t count, const float *x, float *y);
  /* y[row] += the sum of x's row, [rows][width] with its stride; and the gradient's way back: every value of
   * x's row becomes y[row]. */
  void (*add_rows)(dense_t *dense, int64_t rows, int64_t width, const float *x, int64_t x_stride, float *y);
  void (*spread_rows)(dense_t *dense, int64_t rows, int64_t width, const float *y, float *x,
                      int64_t x_stride);
  /* A factorisation machine's second order (Rendle 2010): to out[row] it adds the sum over all pairs of
   * vectors of their products, as half of |sum of vectors|^2 - sum of |vector|^2. backward adds to every
   * vector's gradient. Rows as in interaction_forward and backward. */
  void (*fm_forward)(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                     int64_t first_row, int64_t rows, float *out);
  void (*fm_backward)(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                      int64_t first_row, int64_t rows, const float *out_grad);

  /* Binary cross entropy with logits: for logit x, label y and weight w, w (log(1 + e^x) - x y). weights:
   * [samples], or NULL: 1 each. *sum (host): the sum over the samples (not the mean: that is over the global
   * batch). grad: [samples], the loss's gradient times `grad_scale` (1 / global samples). NaN and infinite
   * logits give a sum that is not finite. */
  void (*loss)(dense_t *dense, int64_t samples, const float *logits, const float *labels,
               const float *weights, double grad_scale, float *grad, double *sum);

  /* Of classifiers, as softmax_loss (softmax.h): losses [rows] and grads [rows][classes]; *sum (host): of the
   * losses. */
  void (*softmax_loss)(dense_t *dense, int64_t rows, int64_t classes, const float *logits,
                       const float *labels, const float *weights, double grad_scale, double *losses,
                       float *grads, double *sum);
  /* Of queries and items, as match_forward, match_loss and match_backward (match.h); the shape's lists are
   * the host's. *sum (host): of the losses. */
  void (*match_forward)(dense_t *dense, const match_shape_t *shape, int64_t rows, const float *pooled,
                        float *out);
  void (*match_loss)(dense_t *dense, const match_shape_t *shape, const match_targets_t *targets, int64_t rows,
                     const float *pooled, const float *out, double *losses, float *score_grads, double *sum);
  void (*match_backward)(dense_t *dense, const match_shape_t *shape, const match_targets_t *targets,
                         int64_t rows, const float *pooled, const float *out, const float *score_grads,
                         float *pooled_grad);

  /* *sum (host) = sum of squares, in an order that is the same each time. */
  void (*norm_squared)(dense_t *dense, const float *values, int64_t count, double *sum);
  void (*update)(dense_t *dense, const dense_optimizer_step_t *step);

  /* Copies from the host's memory beside what the kernel's stream does; the parts' sources may change on
   * return. Their targets must be at rest, and may be read by ops after input_ready. */
  void (*input)(dense_t *dense, const copy_part_t *parts, int64_t count);
  void (*input_ready)(dense_t *dense);
} dense_ops_t;

/* The part that all implementations share; each puts it first in its own struct. */
struct dense {
  const dense_ops_t *ops;
  kernel_t *kernel; /* borrowed */
  int on_host;      /* device memory is the host's: what the host has need not be copied */
};

/* For the kernel's device. reproducible: the bits of a row do not depend on how many rows there are, nor on
 * the processor or GPU. */
sbag_code_t dense_create(kernel_t *kernel, int reproducible, dense_t **dense, sbag_status_t *status);
/* Nulls *dense; NULL is allowed. */
void dense_destroy(dense_t **dense);

/* Waits for the kernel's own stream. */
static inline sbag_code_t dense_sync(const dense_t *dense, sbag_status_t *status) {
  return dense->kernel->ops->stream_sync(dense->kernel, NULL, status);
}

#endif
