/* The click-through network's forward and backward pass. */
#include "model/ctr.h"

#include "base/random.h"
#include <stdio.h>

static ctr_t *ctr_of(network_t *network) {
  return (ctr_t *)network;
}

/* ---- forward ---- */

/* Dropout is on the top MLP's hidden layers. */
static dropout_t layer_dropout(const ctr_t *c, const network_pass_t *pass, int layer) {
  int top = layer - c->at.top;
  if (!pass->training || c->dropout <= 0.0 || top < 0 || top >= c->at.top_count - 1)
    return dropout_make(0.0, 0, 0, 0);
  char name[32];
  snprintf(name, sizeof name, "dropout/top/%d", top);
  return dropout_make(c->dropout, random_key(c->seed, name), pass->step, pass->first_sample);
}

static void layer_forward(ctr_t *c, const network_pass_t *pass, const char *part, int i, const float *x,
                          int64_t x_stride) {
  network_between(pass, part);
  dense_t *dense = c->base.dense;
  linear_t layer = params_linear(&c->base.params, i);
  dropout_t dropout = layer_dropout(c, pass, i);
  layer.to_loss = pass->training;
  dense->ops->linear_forward(dense, &layer, &dropout, pass->rows, x, x_stride, c->layer_out[i]);
}

static void mlp_forward(ctr_t *c, const network_pass_t *pass, const char *part, int first, int count,
                        const float *x) {
  for (int i = first; i < first + count; i++) {
    layer_forward(c, pass, part, i, x, c->base.params.layers[i].in);
    x = c->layer_out[i];
  }
}

void ctr_begin(network_t *network, const network_pass_t *pass) {
  ctr_t *c = ctr_of(network);
  mlp_forward(c, pass, "bottom MLP", 0, c->at.bottom_count, pass->values);
  mlp_forward(c, pass, "first order", c->at.first_order, c->at.first_order_count, pass->values);
}

static void projections_forward(ctr_t *c, const network_pass_t *pass) {
  for (int f = 0; f < c->vector_features; f++) {
    const ctr_source_t *source = &c->sources[f];
    if (source->projection < 0) continue;
    layer_forward(c, pass, "projections", c->at.project + source->projection, c->base.pooled + source->column,
                  c->base.pooled_dim);
  }
}

/* x_l: x_0 is what the interaction made. */
static float *cross_place(const ctr_t *c, int l) {
  return l == 0 ? c->mixed : c->crossed + (l - 1) * c->forward_rows * c->width;
}

/* The last linear layer of cross layer l, whose output is W x + b. */
static int cross_last(const ctr_t *c, int l) {
  return c->at.cross + (l + 1) * c->cross_parts - 1;
}

static void cross_forward(ctr_t *c, const network_pass_t *pass) {
  dense_t *dense = c->base.dense;
  for (int l = 0; l < c->cross_count; l++) {
    const float *x = cross_place(c, l);
    mlp_forward(c, pass, "cross layers", cross_last(c, l) + 1 - c->cross_parts, c->cross_parts, x);
    dense->ops->cross_forward(dense, pass->rows * c->width, c->mixed, c->layer_out[cross_last(c, l)], x,
                              cross_place(c, l + 1));
  }
}

/* What other parts than the top MLP have to say. */
static void add_to_logits(ctr_t *c, const network_pass_t *pass, float *logits) {
  dense_t *dense = c->base.dense;
  const dense_ops_t *ops = dense->ops;
  if (c->kind == MODEL_FM) {
    network_between(pass, "factorisation machine");
    ops->fm_forward(dense, &c->interaction, c->vectors, 0, pass->rows, logits);
  }
  if (c->first_order > 0)
    ops->add_rows(dense, pass->rows, c->first_order, c->base.pooled + c->first_order_column,
                  c->base.pooled_dim, logits);
  if (c->at.first_order_count > 0) ops->add(dense, pass->rows, c->layer_out[c->at.first_order], logits);
  if (c->parallel) {
    mlp_forward(c, pass, "cross layers", c->at.out, 1, cross_place(c, c->cross_count));
    ops->add(dense, pass->rows, c->layer_out[c->at.out], logits);
  }
}

/* What the top MLP sees. */
static const float *top_input(const ctr_t *c) {
  return c->parallel ? c->mixed : cross_place(c, c->cross_count);
}

const float *ctr_forward(network_t *network, const network_pass_t *pass) {
  ctr_t *c = ctr_of(network);
  projections_forward(c, pass);
  network_between(pass, "interaction");
  c->interaction.to_loss = pass->training;
  network->dense->ops->interaction_forward(network->dense, &c->interaction, c->vectors, 0, pass->rows,
                                           c->mixed);
  cross_forward(c, pass);
  mlp_forward(c, pass, "top MLP", c->at.top, c->at.top_count, top_input(c));
  float *logits = c->layer_out[c->at.out - 1];
  add_to_logits(c, pass, logits);
  return logits;
}

void ctr_loss(network_t *network, const network_pass_t *pass, const network_targets_t *targets, double *sum) {
  ctr_t *c = ctr_of(network);
  dense_t *dense = network->dense;
  (void)pass;
  dense->ops->loss(dense, targets->rows, c->layer_out[c->at.out - 1] + targets->first_row,
                   targets->labels + targets->first_row,
                   targets->weights != NULL ? targets->weights + targets->first_row : NULL,
                   targets->grad_scale, c->logit_grad, sum);
}

/* ---- backward ---- */

/* One layer: x and dx are the whole pass's matrices, dy is of the rows under way. */
static sbag_code_t layer_backward(ctr_t *c, const network_backward_t *b, int i, const float *x,
                                  int64_t x_stride, float *dy, float *dx, int64_t dx_stride,
                                  sbag_status_t *status) {
  dense_t *dense = c->base.dense;
  linear_t layer = params_linear(&c->base.params, i);
  dropout_t dropout = layer_dropout(c, b->pass, i);
  dense->ops->linear_backward(dense, &layer, &dropout, b->rows, x + b->first_row * x_stride, x_stride,
                              c->layer_out[i] + b->first_row * layer.out, dy, dx, dx_stride);
  return b->ready == NULL ? SBAG_OK : b->ready(b->user, params_layer_end(&c->base.params, i), status);
}

/* Layers [first, first + count), the last one first. dy: gradient of the last one's output. *dx: that of x,
 * at `place`, or in one of the flows where that is NULL (the bottom MLP does not ask for it: dx is NULL). */
static sbag_code_t mlp_backward(ctr_t *c, const network_backward_t *b, const char *part, int first, int count,
                                const float *x, float *dy, float *place, float **dx, sbag_status_t *status) {
  for (int i = first + count - 1; i >= first; i--) {
    const params_layer_t *layer = &c->base.params.layers[i];
    const float *in = i == first ? x : c->layer_out[i - 1];
    network_between(b->pass, part);
    float *next = i == first && dx == NULL ? NULL : c->flow[dy == c->flow[0]];
    if (i == first && place != NULL) next = place;
    SBAG_TRY(layer_backward(c, b, i, in, layer->in, dy, next, layer->in, status));
    dy = next;
  }
  if (dx != NULL) *dx = dy;
  return SBAG_OK;
}

/* From the gradient of x_L, in crossed_grad, to that of x_0, all in mixed_grad. */
static sbag_code_t cross_backward(ctr_t *c, const network_backward_t *b, sbag_status_t *status) {
  dense_t *dense = c->base.dense;
  int64_t first = b->first_row * c->width, count = b->rows * c->width;
  for (int l = c->cross_count - 1; l >= 0; l--) {
    float *dx = NULL;
    network_between(b->pass, "cross layers: backward");
    dense->ops->cross_backward(dense, count, c->mixed + first, c->layer_out[cross_last(c, l)] + first,
                               c->crossed_grad, c->flow[0], c->mixed_grad);
    SBAG_TRY(mlp_backward(c, b, "cross layers: backward", cross_last(c, l) + 1 - c->cross_parts,
                          c->cross_parts, cross_place(c, l), c->flow[0], NULL, &dx, status));
    dense->ops->add(dense, count, dx, c->crossed_grad);
  }
  dense->ops->add(dense, count, c->crossed_grad, c->mixed_grad);
  return SBAG_OK;
}

static void copy_rows(const ctr_t *c, int64_t rows, const float *from, float *to) {
  kernel_t *kernel = c->base.dense->kernel;
  const copy_part_t part = {to, from, rows * (int64_t)sizeof(float)};
  kernel->ops->copy(kernel, NULL, &part, 1);
}

static void clear_mixed_grad(const ctr_t *c, int64_t rows) {
  kernel_t *kernel = c->base.dense->kernel;
  kernel->ops->clear(kernel, NULL, c->mixed_grad, rows * c->width * (int64_t)sizeof(float));
}

/* Top MLP and cross layers: *mixed_grad becomes the gradient of what the interaction made. */
static sbag_code_t mixed_backward(ctr_t *c, const network_backward_t *b, float **mixed_grad,
                                  sbag_status_t *status) {
  float *unused = NULL, *place = NULL;
  if (c->parallel)
    SBAG_TRY(mlp_backward(c, b, "cross layers: backward", c->at.out, 1, cross_place(c, c->cross_count),
                          c->logit_grad, c->crossed_grad, &unused, status));
  copy_rows(c, b->rows, c->logit_grad, c->flow[0]); /* the other parts need it too */
  if (c->cross_count > 0) place = c->parallel ? c->mixed_grad : c->crossed_grad;
  SBAG_TRY(mlp_backward(c, b, "top MLP: backward", c->at.top, c->at.top_count, top_input(c), c->flow[0],
                        place, mixed_grad, status));
  if (c->cross_count == 0) return SBAG_OK;
  if (!c->parallel) clear_mixed_grad(c, b->rows);
  *mixed_grad = c->mixed_grad;
  return cross_backward(c, b, status);
}

/* Where the interaction is to put the gradients of its vectors: the columns of pooled_grad themselves, or the
 * place from which the bottom MLP or a projection carries on. */
static void place_grads(ctr_t *c, int64_t first_row) {
  int64_t dim = c->interaction.dim, place = c->backward_rows * dim, pooled_dim = c->base.pooled_dim;
  interaction_vector_t *vector = c->vectors;
  if (c->at.bottom_count > 0) {
    vector->grad = c->vector_grad;
    vector++->grad_stride = dim;
  }
  for (int f = 0; f < c->vector_features; f++, vector++) {
    const ctr_source_t *source = &c->sources[f];
    int own = source->projection < 0;
    vector->grad_stride = own ? pooled_dim : dim;
    vector->grad = own ? c->base.pooled_grad + first_row * pooled_dim + source->column
                       : c->vector_grad + (1 + source->projection) * place;
  }
}

static sbag_code_t first_order_backward(ctr_t *c, const network_backward_t *b, sbag_status_t *status) {
  dense_t *dense = c->base.dense;
  int64_t pooled_dim = c->base.pooled_dim;
  if (c->first_order > 0)
    dense->ops->spread_rows(dense, b->rows, c->first_order, c->logit_grad,
                            c->base.pooled_grad + b->first_row * pooled_dim + c->first_order_column,
                            pooled_dim);
  return mlp_backward(c, b, "first order: backward", c->at.first_order, c->at.first_order_count,
                      b->pass->values, c->logit_grad, NULL, NULL, status);
}

static sbag_code_t projections_backward(ctr_t *c, const network_backward_t *b, sbag_status_t *status) {
  int64_t pooled_dim = c->base.pooled_dim;
  for (int f = c->vector_features - 1; f >= 0; f--) {
    const ctr_source_t *source = &c->sources[f];
    if (source->projection < 0) continue;
    network_between(b->pass, "projections: backward");
    float *dy = c->vector_grad + (1 + source->projection) * c->backward_rows * c->interaction.dim;
    SBAG_TRY(layer_backward(c, b, c->at.project + source->projection, c->base.pooled + source->column,
                            pooled_dim, dy, c->base.pooled_grad + b->first_row * pooled_dim + source->column,
                            pooled_dim, status));
  }
  return SBAG_OK;
}

sbag_code_t ctr_backward_pooled(network_t *network, const network_backward_t *backward,
                                sbag_status_t *status) {
  ctr_t *c = ctr_of(network);
  dense_t *dense = network->dense;
  float *mixed_grad = NULL;
  SBAG_TRY(mixed_backward(c, backward, &mixed_grad, status));
  network_between(backward->pass, "interaction: backward");
  place_grads(c, backward->first_row);
  dense->ops->interaction_backward(dense, &c->interaction, c->vectors, backward->first_row, backward->rows,
                                   mixed_grad);
  if (c->kind == MODEL_FM)
    dense->ops->fm_backward(dense, &c->interaction, c->vectors, backward->first_row, backward->rows,
                            c->logit_grad);
  SBAG_TRY(first_order_backward(c, backward, status));
  return projections_backward(c, backward, status);
}

sbag_code_t ctr_backward_rest(network_t *network, const network_backward_t *backward, sbag_status_t *status) {
  ctr_t *c = ctr_of(network);
  return mlp_backward(c, backward, "bottom MLP: backward", 0, c->at.bottom_count, backward->pass->values,
                      c->vector_grad, NULL, NULL, status);
}
