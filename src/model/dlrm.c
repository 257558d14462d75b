/* DLRM's layers: how they are put together, their buffers, forward and backward. */
#include "model/dlrm.h"

#include "base/random.h"
#include <stdio.h>

static int top_first(const dlrm_t *d) {
  return d->bottom_count + d->project_count;
}

static int layer_total(const dlrm_t *d) {
  return top_first(d) + d->top_count;
}

/* ---- creation ---- */

static params_layer_t *add_mlp(params_layer_t *next, const char *name, int64_t in, const int64_t *hidden,
                               int hidden_count, int64_t out, int last_relu) {
  for (int i = 0; i <= hidden_count; i++, next++) {
    *next = (params_layer_t){.in = i == 0 ? in : hidden[i - 1],
                             .out = i == hidden_count ? out : hidden[i],
                             .has_bias = 1,
                             .relu = i < hidden_count || last_relu};
    snprintf(next->name, sizeof next->name, "%s/%d", name, i);
  }
  return next;
}

static sbag_code_t add_projection(const char *feature, int64_t in, int64_t out, params_layer_t *layer,
                                  sbag_status_t *status) {
  *layer = (params_layer_t){.in = in, .out = out};
  int length = snprintf(layer->name, sizeof layer->name, "project/%s", feature);
  if (length < (int)sizeof layer->name) return SBAG_OK;
  return status_set(
      status, SBAG_ERR_ARGUMENT,
      "feature '%s': its vectors need a projection (dim %lld to %lld), and to name that its own "
      "name must be shorter than %d characters",
      feature, (long long)in, (long long)out, (int)sizeof layer->name - 8);
}

/* Lists all layers at `layers` in the order of the forward pass. */
static sbag_code_t list_layers(const dlrm_t *d, const model_config_t *config, const dlrm_features_t *features,
                               params_layer_t *layers, sbag_status_t *status) {
  int64_t dim = config->interaction_dim;
  params_layer_t *next = layers;
  if (d->bottom_count > 0)
    next = add_mlp(next, "bottom", d->dense_count, config->bottom, config->bottom_count, dim, 1);
  for (int f = 0; f < features->count; f++)
    if (features->dim[f] != dim)
      SBAG_TRY(add_projection(features->name[f], features->dim[f], dim, next++, status));
  add_mlp(next, "top", interaction_width(&d->interaction), config->top, config->top_count, 1, 0);
  return SBAG_OK;
}

static sbag_code_t create_params(dlrm_t *d, const model_config_t *config, const dlrm_features_t *features,
                                 sbag_status_t *status) {
  void *block = NULL;
  size_t bytes = (size_t)layer_total(d) * sizeof(params_layer_t);
  SBAG_TRY(mem_alloc(d->mem, bytes, "model: layers", &block, status));
  sbag_code_t code = list_layers(d, config, features, block, status);
  if (code == SBAG_OK)
    code = params_create(d->dense, block, layer_total(d), config->seed, &config->dense_optimizer, &d->params,
                         status);
  mem_free(d->mem, block);
  return code;
}

static void set_shape(dlrm_t *d, const model_config_t *config, const dlrm_features_t *features) {
  d->seed = config->seed;
  d->dropout = config->dropout;
  d->dense_count = config->dense_count;
  d->pooled_dim = features->pooled_dim;
  d->feature_count = features->count;
  d->bottom_count = config->dense_count > 0 ? config->bottom_count + 1 : 0;
  d->top_count = config->top_count + 1;
  for (int f = 0; f < features->count; f++) d->project_count += features->dim[f] != config->interaction_dim;
  int vectors = features->count + (d->bottom_count > 0);
  d->interaction = (interaction_t){
      .vectors = vectors, .concat = d->bottom_count > 0 ? 1 : vectors, .dim = config->interaction_dim};
}

static sbag_code_t allocate_lists(dlrm_t *d, sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(d->mem, (size_t)d->feature_count * sizeof(dlrm_source_t), "model: features", &block,
                      status));
  d->sources = block;
  SBAG_TRY(mem_calloc(d->mem, (size_t)d->interaction.vectors * sizeof(interaction_vector_t), "model: vectors",
                      &block, status));
  d->vectors = block;
  SBAG_TRY(mem_calloc(d->mem, (size_t)layer_total(d) * sizeof(float *), "model: layers", &block, status));
  d->layer_out = block;
  return SBAG_OK;
}

static void note_sources(dlrm_t *d, const dlrm_features_t *features) {
  int projection = 0;
  for (int f = 0; f < features->count; f++) {
    int projected = features->dim[f] != d->interaction.dim;
    d->sources[f] =
        (dlrm_source_t){.column = features->column[f], .projection = projected ? projection++ : -1};
  }
}

static void note_flow_width(dlrm_t *d) {
  for (int i = 0; i < layer_total(d); i++) {
    const params_layer_t *layer = &d->params.layers[i];
    if (layer->in > d->flow_width) d->flow_width = layer->in;
    if (layer->out > d->flow_width) d->flow_width = layer->out;
  }
}

sbag_code_t dlrm_create(dense_t *dense, const model_config_t *config, const dlrm_features_t *features,
                        dlrm_t **dlrm, sbag_status_t *status) {
  mem_t *mem = dense->kernel->mem;
  void *block = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof(dlrm_t), "model: dlrm", &block, status));
  dlrm_t *made = block;
  made->mem = mem;
  made->dense = made->params.dense = dense;
  set_shape(made, config, features);
  sbag_code_t code = allocate_lists(made, status);
  if (code == SBAG_OK) code = create_params(made, config, features, status);
  if (code != SBAG_OK) {
    dlrm_destroy(&made);
    return code;
  }
  note_sources(made, features);
  note_flow_width(made);
  *dlrm = made;
  return SBAG_OK;
}

static void drop_block(dense_t *dense, float **block) {
  if (*block != NULL) dense->kernel->ops->release(dense->kernel, MEMORY_DEVICE, *block);
  *block = NULL;
}

void dlrm_destroy(dlrm_t **dlrm) {
  if (dlrm == NULL || *dlrm == NULL) return;
  dlrm_t *d = *dlrm;
  mem_t *mem = d->mem;
  params_clear(&d->params);
  mem_free(mem, d->sources);
  mem_free(mem, d->vectors);
  mem_free(mem, d->layer_out);
  drop_block(d->dense, &d->forward_block);
  drop_block(d->dense, &d->backward_block);
  mem_free(mem, d);
  *dlrm = NULL;
}

/* ---- buffers ---- */

/* A block for `rows` times `width` floats in place of *block; nothing of the old one is kept. */
static sbag_code_t renew(dense_t *dense, int64_t rows, int64_t width, float **block, sbag_status_t *status) {
  int64_t count;
  if (__builtin_mul_overflow(rows, width, &count)) count = INT64_MAX;
  drop_block(dense, block);
  void *grown = NULL;
  SBAG_TRY(dense->kernel->ops->alloc(dense->kernel, MEMORY_DEVICE, mem_array_bytes(count, sizeof(float)),
                                     "model: buffers of the batch", &grown, status));
  *block = grown;
  return SBAG_OK;
}

static float *carve(float **next, int64_t rows, int64_t width) {
  float *part = *next;
  *next += rows * width;
  return part;
}

static int64_t forward_width(const dlrm_t *d) {
  int64_t width = d->pooled_dim + interaction_width(&d->interaction);
  for (int i = 0; i < layer_total(d); i++) width += d->params.layers[i].out;
  return width;
}

/* The vectors of the interaction, now that the buffers of the forward pass have their places. */
static void place_vectors(dlrm_t *d) {
  interaction_vector_t *vector = d->vectors;
  int64_t dim = d->interaction.dim;
  if (d->bottom_count > 0)
    *vector++ = (interaction_vector_t){.data = d->layer_out[d->bottom_count - 1], .data_stride = dim};
  for (int f = 0; f < d->feature_count; f++, vector++) {
    const dlrm_source_t *source = &d->sources[f];
    if (source->projection < 0)
      *vector = (interaction_vector_t){.data = d->pooled + source->column, .data_stride = d->pooled_dim};
    else
      *vector = (interaction_vector_t){.data = d->layer_out[d->bottom_count + source->projection],
                                       .data_stride = dim};
  }
}

static sbag_code_t grow_forward(dlrm_t *d, int64_t rows, sbag_status_t *status) {
  d->forward_rows = 0;
  SBAG_TRY(renew(d->dense, rows, forward_width(d), &d->forward_block, status));
  float *next = d->forward_block;
  d->pooled = carve(&next, rows, d->pooled_dim);
  d->top_in = carve(&next, rows, interaction_width(&d->interaction));
  for (int i = 0; i < layer_total(d); i++) d->layer_out[i] = carve(&next, rows, d->params.layers[i].out);
  d->forward_rows = rows;
  return SBAG_OK;
}

static sbag_code_t grow_backward(dlrm_t *d, int64_t rows, sbag_status_t *status) {
  d->backward_rows = 0;
  int64_t vectors = (1 + d->project_count) * d->interaction.dim;
  SBAG_TRY(renew(d->dense, rows, d->pooled_dim + vectors + 2 * d->flow_width, &d->backward_block, status));
  float *next = d->backward_block;
  d->pooled_grad = carve(&next, rows, d->pooled_dim);
  d->vector_grad = carve(&next, rows, vectors);
  d->flow[0] = carve(&next, rows, d->flow_width);
  d->flow[1] = carve(&next, rows, d->flow_width);
  d->backward_rows = rows;
  return SBAG_OK;
}

/* Half as much again as the old size, so that slowly growing batches do not allocate every time. */
static int64_t grown_rows(int64_t old, int64_t rows) {
  return rows > old + old / 2 ? rows : old + old / 2;
}

sbag_code_t dlrm_reserve(dlrm_t *dlrm, int64_t rows, int backward, sbag_status_t *status) {
  if (dlrm->forward_block == NULL || rows > dlrm->forward_rows) {
    SBAG_TRY(grow_forward(dlrm, grown_rows(dlrm->forward_rows, rows), status));
    place_vectors(dlrm);
  }
  if (backward && (dlrm->backward_block == NULL || rows > dlrm->backward_rows))
    SBAG_TRY(grow_backward(dlrm, grown_rows(dlrm->backward_rows, rows), status));
  return SBAG_OK;
}

/* ---- forward ---- */

static void between(const dlrm_pass_t *pass, const char *part) {
  if (pass->between != NULL) pass->between(pass->between_user, part);
}

/* Dropout is on the top MLP's hidden layers. */
static dropout_t layer_dropout(const dlrm_t *d, const dlrm_pass_t *pass, int layer) {
  int top = layer - top_first(d);
  if (!pass->training || d->dropout <= 0.0 || top < 0 || top == d->top_count - 1)
    return dropout_make(0.0, 0, 0, 0);
  char name[32];
  snprintf(name, sizeof name, "dropout/top/%d", top);
  return dropout_make(d->dropout, random_key(d->seed, name), pass->step, pass->first_sample);
}

static void mlp_forward(dlrm_t *d, const dlrm_pass_t *pass, const char *part, int first, int count,
                        const float *x) {
  for (int i = first; i < first + count; i++) {
    between(pass, part);
    linear_t layer = params_linear(&d->params, i);
    dropout_t dropout = layer_dropout(d, pass, i);
    d->dense->ops->linear_forward(d->dense, &layer, &dropout, pass->rows, x, layer.in, d->layer_out[i]);
    x = d->layer_out[i];
  }
}

void dlrm_bottom_forward(dlrm_t *dlrm, const dlrm_pass_t *pass, const float *values) {
  mlp_forward(dlrm, pass, "bottom MLP", 0, dlrm->bottom_count, values);
}

static void projections_forward(dlrm_t *d, const dlrm_pass_t *pass) {
  dropout_t none = dropout_make(0.0, 0, 0, 0);
  for (int f = 0; f < d->feature_count; f++) {
    const dlrm_source_t *source = &d->sources[f];
    if (source->projection < 0) continue;
    between(pass, "projections");
    int i = d->bottom_count + source->projection;
    linear_t layer = params_linear(&d->params, i);
    d->dense->ops->linear_forward(d->dense, &layer, &none, pass->rows, d->pooled + source->column,
                                  d->pooled_dim, d->layer_out[i]);
  }
}

const float *dlrm_top_forward(dlrm_t *dlrm, const dlrm_pass_t *pass) {
  projections_forward(dlrm, pass);
  between(pass, "interaction");
  dlrm->dense->ops->interaction_forward(dlrm->dense, &dlrm->interaction, dlrm->vectors, 0, pass->rows,
                                        dlrm->top_in);
  mlp_forward(dlrm, pass, "top MLP", top_first(dlrm), dlrm->top_count, dlrm->top_in);
  return dlrm->layer_out[layer_total(dlrm) - 1];
}

/* ---- backward ---- */

/* What a backward pass is about; `ready` is told of each layer. */
typedef struct backward {
  dlrm_t *d;
  const dlrm_pass_t *pass;
  int64_t first_row, rows;
  dlrm_ready_fn *ready;
  void *user;
} backward_t;

/* One layer: x and dx are the whole pass's matrices, dy is of the rows under way. */
static sbag_code_t layer_backward(const backward_t *b, int i, const float *x, int64_t x_stride, float *dy,
                                  float *dx, int64_t dx_stride, sbag_status_t *status) {
  linear_t layer = params_linear(&b->d->params, i);
  dropout_t dropout = layer_dropout(b->d, b->pass, i);
  b->d->dense->ops->linear_backward(b->d->dense, &layer, &dropout, b->rows, x + b->first_row * x_stride,
                                    x_stride, b->d->layer_out[i] + b->first_row * layer.out, dy, dx,
                                    dx_stride);
  return b->ready == NULL ? SBAG_OK : b->ready(b->user, params_layer_end(&b->d->params, i), status);
}

/* Layers [first, first + count), the last one first. dy: gradient of the last one's output. *dx: that of x,
 * in one of the flows (the bottom MLP does not ask for it: NULL). */
static sbag_code_t mlp_backward(const backward_t *b, const char *part, int first, int count, const float *x,
                                float *dy, float **dx, sbag_status_t *status) {
  dlrm_t *d = b->d;
  for (int i = first + count - 1; i >= first; i--) {
    const params_layer_t *layer = &d->params.layers[i];
    const float *in = i == first ? x : d->layer_out[i - 1];
    between(b->pass, part);
    float *next = i == first && dx == NULL ? NULL : d->flow[dy == d->flow[0]];
    SBAG_TRY(layer_backward(b, i, in, layer->in, dy, next, layer->in, status));
    dy = next;
  }
  if (dx != NULL) *dx = dy;
  return SBAG_OK;
}

/* Where the interaction is to put the gradients of its vectors: the columns of pooled_grad themselves, or the
 * place from which the bottom MLP or a projection carries on. */
static void place_grads(dlrm_t *d, int64_t first_row) {
  int64_t dim = d->interaction.dim, place = d->backward_rows * dim;
  interaction_vector_t *vector = d->vectors;
  if (d->bottom_count > 0) {
    vector->grad = d->vector_grad;
    vector++->grad_stride = dim;
  }
  for (int f = 0; f < d->feature_count; f++, vector++) {
    const dlrm_source_t *source = &d->sources[f];
    int own = source->projection < 0;
    vector->grad_stride = own ? d->pooled_dim : dim;
    vector->grad = own ? d->pooled_grad + first_row * d->pooled_dim + source->column
                       : d->vector_grad + (1 + source->projection) * place;
  }
}

static sbag_code_t projections_backward(const backward_t *b, sbag_status_t *status) {
  dlrm_t *d = b->d;
  for (int f = d->feature_count - 1; f >= 0; f--) {
    const dlrm_source_t *source = &d->sources[f];
    if (source->projection < 0) continue;
    between(b->pass, "projections: backward");
    float *dy = d->vector_grad + (1 + source->projection) * d->backward_rows * d->interaction.dim;
    SBAG_TRY(layer_backward(b, d->bottom_count + source->projection, d->pooled + source->column,
                            d->pooled_dim, dy, d->pooled_grad + b->first_row * d->pooled_dim + source->column,
                            d->pooled_dim, status));
  }
  return SBAG_OK;
}

sbag_code_t dlrm_backward_pooled(dlrm_t *dlrm, const dlrm_pass_t *pass, int64_t first_row, int64_t rows,
                                 dlrm_ready_fn *ready, void *user, sbag_status_t *status) {
  backward_t b = {
      .d = dlrm, .pass = pass, .first_row = first_row, .rows = rows, .ready = ready, .user = user};
  float *top_in_grad = NULL;
  SBAG_TRY(mlp_backward(&b, "top MLP: backward", top_first(dlrm), dlrm->top_count, dlrm->top_in,
                        dlrm->flow[0], &top_in_grad, status));
  between(pass, "interaction: backward");
  place_grads(dlrm, first_row);
  dlrm->dense->ops->interaction_backward(dlrm->dense, &dlrm->interaction, dlrm->vectors, first_row, rows,
                                         top_in_grad);
  return projections_backward(&b, status);
}

sbag_code_t dlrm_backward_bottom(dlrm_t *dlrm, const dlrm_pass_t *pass, int64_t first_row, int64_t rows,
                                 const float *values, dlrm_ready_fn *ready, void *user,
                                 sbag_status_t *status) {
  backward_t b = {
      .d = dlrm, .pass = pass, .first_row = first_row, .rows = rows, .ready = ready, .user = user};
  return mlp_backward(&b, "bottom MLP: backward", 0, dlrm->bottom_count, values, dlrm->vector_grad, NULL,
                      status);
}

sbag_code_t dlrm_backward(dlrm_t *dlrm, const dlrm_pass_t *pass, int64_t first_row, int64_t rows,
                          const float *values, dlrm_ready_fn *ready, void *user, sbag_status_t *status) {
  SBAG_TRY(dlrm_backward_pooled(dlrm, pass, first_row, rows, ready, user, status));
  return dlrm_backward_bottom(dlrm, pass, first_row, rows, values, ready, user, status);
}
