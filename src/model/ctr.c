/* The click-through network's layers: how they are put together, and their buffers. */
#include "model/ctr.h"

#include <stdio.h>

static ctr_t *ctr_of(network_t *network) {
  return (ctr_t *)network;
}

/* ---- layers ---- */

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

/* A matrix of low rank is the product of two: "cross/0/down" [rank][width] and "cross/0/up" [width][rank]. */
static params_layer_t *add_cross(params_layer_t *next, const ctr_t *c, int64_t rank) {
  for (int i = 0; i < c->cross_count; i++) {
    if (c->cross_parts == 2) {
      *next = (params_layer_t){.in = c->width, .out = rank};
      snprintf(next->name, sizeof next->name, "cross/%d/down", i);
      next++;
    }
    *next = (params_layer_t){.in = c->cross_parts == 2 ? rank : c->width, .out = c->width, .has_bias = 1};
    snprintf(next->name, sizeof next->name, c->cross_parts == 2 ? "cross/%d/up" : "cross/%d", i);
    next++;
  }
  return next;
}

/* Lists all layers at `layers` in the order of the forward pass: backward ends them in the opposite one. */
static sbag_code_t list_layers(const ctr_t *c, const model_config_t *config,
                               const network_features_t *features, params_layer_t *layers,
                               sbag_status_t *status) {
  int64_t dim = config->interaction_dim;
  params_layer_t *next = layers;
  if (c->at.bottom_count > 0)
    next = add_mlp(next, "bottom", config->dense_count, config->bottom, config->bottom_count, dim, 1);
  for (int f = 0; f < c->vector_features; f++)
    if (features->dim[f] != dim)
      SBAG_TRY(add_projection(features->name[f], features->dim[f], dim, next++, status));
  if (c->at.first_order_count > 0)
    *next++ = (params_layer_t){.name = "first_order", .in = config->dense_count, .out = 1};
  next = add_cross(next, c, config->cross_rank);
  next = add_mlp(next, "top", c->width, config->top, config->top_count, 1, 0);
  if (c->at.out_count > 0) *next = (params_layer_t){.name = "cross/out", .in = c->width, .out = 1};
  return SBAG_OK;
}

static sbag_code_t create_params(ctr_t *c, const model_config_t *config, const network_features_t *features,
                                 sbag_status_t *status) {
  network_t *base = &c->base;
  void *block = NULL;
  size_t bytes = (size_t)c->at.count * sizeof(params_layer_t);
  SBAG_TRY(mem_calloc(base->mem, bytes, "model: layers", &block, status));
  sbag_code_t code = list_layers(c, config, features, block, status);
  if (code == SBAG_OK)
    code = params_create(base->dense, block, c->at.count, config->seed, &config->dense_optimizer,
                         &base->params, status);
  mem_free(base->mem, block);
  return code;
}

/* ---- creation ---- */

static void place_layers(ctr_layers_t *at) {
  at->project = at->bottom_count;
  at->first_order = at->project + at->project_count;
  at->cross = at->first_order + at->first_order_count;
  at->top = at->cross + at->cross_count;
  at->out = at->top + at->top_count;
  at->count = at->out + at->out_count;
}

static void set_shape(ctr_t *c, const model_config_t *config, const network_features_t *features) {
  ctr_layers_t *at = &c->at;
  c->seed = config->seed;
  c->dropout = config->dropout;
  c->kind = config->interaction;
  c->first_order = config->first_order;
  c->vector_features = features->count - config->first_order;
  if (c->first_order > 0) c->first_order_column = features->column[c->vector_features];
  c->cross_count = c->kind == MODEL_CROSS ? config->cross_count : 0;
  c->cross_parts = config->cross_rank > 0 ? 2 : 1;
  c->parallel = c->kind == MODEL_CROSS && config->cross_parallel;
  at->bottom_count = config->dense_count > 0 ? config->bottom_count + 1 : 0;
  for (int f = 0; f < c->vector_features; f++)
    at->project_count += features->dim[f] != config->interaction_dim;
  at->first_order_count = c->first_order > 0 && config->dense_count > 0;
  at->cross_count = c->cross_count * c->cross_parts;
  at->top_count = config->top_count + 1;
  at->out_count = c->parallel;
  place_layers(at);
  int vectors = c->vector_features + (at->bottom_count > 0);
  int all = c->kind != MODEL_DOT || at->bottom_count == 0;
  c->interaction = (interaction_t){.vectors = vectors,
                                   .concat = all ? vectors : 1,
                                   .dim = config->interaction_dim,
                                   .concat_only = c->kind != MODEL_DOT};
  c->width = interaction_width(&c->interaction);
}

/* The weights' columns must lie side by side. */
static sbag_code_t check_first_order(const ctr_t *c, const network_features_t *features,
                                     sbag_status_t *status) {
  for (int f = c->vector_features; f < features->count; f++) {
    if (features->dim[f] != 1)
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "feature '%s': the table of a first-order weight has dim %lld; it must be 1",
                        features->name[f], (long long)features->dim[f]);
    if (features->column[f] != c->first_order_column + f - c->vector_features)
      return status_set(status, SBAG_ERR_STATE, "model: first-order weights do not lie side by side");
  }
  return SBAG_OK;
}

static sbag_code_t check_config(const model_config_t *config, const network_features_t *features,
                                sbag_status_t *status) {
  if (config->interaction == MODEL_CROSS && (config->cross_count < 1 || config->cross_rank < 0))
    return status_set(
        status, SBAG_ERR_ARGUMENT,
        "model: %d cross layers of rank %lld; it must have one at least, of rank 0 (full) or more",
        config->cross_count, (long long)config->cross_rank);
  if (config->first_order < 0 || config->first_order >= features->count)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "model: %d of %d features are first-order weights; one at least must give a vector",
                      config->first_order, features->count);
  return SBAG_OK;
}

static sbag_code_t allocate_lists(ctr_t *c, sbag_status_t *status) {
  mem_t *mem = c->base.mem;
  void *block = NULL;
  SBAG_TRY(
      mem_calloc(mem, (size_t)c->vector_features * sizeof(ctr_source_t), "model: features", &block, status));
  c->sources = block;
  SBAG_TRY(mem_calloc(mem, (size_t)c->interaction.vectors * sizeof(interaction_vector_t), "model: vectors",
                      &block, status));
  c->vectors = block;
  SBAG_TRY(mem_calloc(mem, (size_t)c->at.count * sizeof(float *), "model: layers", &block, status));
  c->layer_out = block;
  return SBAG_OK;
}

static void note_sources(ctr_t *c, const network_features_t *features) {
  int projection = 0;
  for (int f = 0; f < c->vector_features; f++) {
    int projected = features->dim[f] != c->interaction.dim;
    c->sources[f] =
        (ctr_source_t){.column = features->column[f], .projection = projected ? projection++ : -1};
  }
}

static void note_flow_width(ctr_t *c) {
  for (int i = 0; i < c->at.count; i++) {
    const params_layer_t *layer = &c->base.params.layers[i];
    if (layer->in > c->flow_width) c->flow_width = layer->in;
    if (layer->out > c->flow_width) c->flow_width = layer->out;
  }
  c->base.widest = c->flow_width;
}

/* ---- buffers ---- */

static int64_t forward_width(const ctr_t *c) {
  int64_t width = c->base.pooled_dim + (1 + c->cross_count) * c->width;
  for (int i = 0; i < c->at.count; i++) width += c->base.params.layers[i].out;
  return width;
}

/* The vectors of the interaction, now that the buffers of the forward pass have their places. */
static void place_vectors(ctr_t *c) {
  interaction_vector_t *vector = c->vectors;
  int64_t dim = c->interaction.dim, pooled_dim = c->base.pooled_dim;
  if (c->at.bottom_count > 0)
    *vector++ = (interaction_vector_t){.data = c->layer_out[c->at.bottom_count - 1], .data_stride = dim};
  for (int f = 0; f < c->vector_features; f++, vector++) {
    const ctr_source_t *source = &c->sources[f];
    if (source->projection < 0)
      *vector = (interaction_vector_t){.data = c->base.pooled + source->column, .data_stride = pooled_dim};
    else
      *vector = (interaction_vector_t){.data = c->layer_out[c->at.project + source->projection],
                                       .data_stride = dim};
  }
}

static sbag_code_t grow_forward(ctr_t *c, int64_t rows, sbag_status_t *status) {
  network_t *base = &c->base;
  c->forward_rows = 0;
  SBAG_TRY(network_renew(base->dense, rows, forward_width(c), &c->forward_block, status));
  float *next = c->forward_block;
  base->pooled = network_carve(&next, rows, base->pooled_dim);
  c->mixed = network_carve(&next, rows, c->width);
  for (int i = 0; i < c->at.count; i++)
    c->layer_out[i] = network_carve(&next, rows, base->params.layers[i].out);
  c->crossed = network_carve(&next, rows, c->cross_count * c->width);
  c->forward_rows = rows;
  return SBAG_OK;
}

static sbag_code_t grow_backward(ctr_t *c, int64_t rows, sbag_status_t *status) {
  network_t *base = &c->base;
  c->backward_rows = 0;
  int64_t vectors = (1 + c->at.project_count) * c->interaction.dim;
  int64_t crossed = c->cross_count > 0 ? c->width : 0;
  SBAG_TRY(network_renew(base->dense, rows, base->pooled_dim + vectors + 1 + 2 * (crossed + c->flow_width),
                         &c->backward_block, status));
  float *next = c->backward_block;
  base->pooled_grad = network_carve(&next, rows, base->pooled_dim);
  c->vector_grad = network_carve(&next, rows, vectors);
  c->flow[0] = network_carve(&next, rows, c->flow_width);
  c->flow[1] = network_carve(&next, rows, c->flow_width);
  c->mixed_grad = network_carve(&next, rows, crossed);
  c->crossed_grad = network_carve(&next, rows, crossed);
  c->logit_grad = network_carve(&next, rows, 1);
  c->backward_rows = rows;
  return SBAG_OK;
}

static sbag_code_t reserve(network_t *network, int64_t rows, int backward, sbag_status_t *status) {
  ctr_t *c = ctr_of(network);
  if (c->forward_block == NULL || rows > c->forward_rows) {
    SBAG_TRY(grow_forward(c, network_grown(c->forward_rows, rows), status));
    place_vectors(c);
  }
  if (backward && (c->backward_block == NULL || rows > c->backward_rows))
    SBAG_TRY(grow_backward(c, network_grown(c->backward_rows, rows), status));
  return SBAG_OK;
}

/* ---- the object ---- */

static void destroy(network_t *network) {
  ctr_t *c = ctr_of(network);
  mem_t *mem = network->mem;
  params_clear(&network->params);
  mem_free(mem, c->sources);
  mem_free(mem, c->vectors);
  mem_free(mem, c->layer_out);
  network_drop(network->dense, &c->forward_block);
  network_drop(network->dense, &c->backward_block);
  mem_free(mem, c);
}

static const network_ops_t ops = {.name = "ctr",
                                  .destroy = destroy,
                                  .reserve = reserve,
                                  .begin = ctr_begin,
                                  .forward = ctr_forward,
                                  .loss = ctr_loss,
                                  .backward_pooled = ctr_backward_pooled,
                                  .backward_rest = ctr_backward_rest};

static sbag_code_t fill(ctr_t *c, const model_config_t *config, const network_features_t *features,
                        sbag_status_t *status) {
  set_shape(c, config, features);
  SBAG_TRY(check_first_order(c, features, status));
  SBAG_TRY(allocate_lists(c, status));
  SBAG_TRY(create_params(c, config, features, status));
  note_sources(c, features);
  note_flow_width(c);
  return SBAG_OK;
}

sbag_code_t ctr_create(dense_t *dense, const model_config_t *config, const network_features_t *features,
                       network_t **network, sbag_status_t *status) {
  mem_t *mem = dense->kernel->mem;
  void *block = NULL;
  SBAG_TRY(check_config(config, features, status));
  SBAG_TRY(mem_calloc(mem, sizeof(ctr_t), "model: network", &block, status));
  ctr_t *made = block;
  made->base = (network_t){.ops = &ops,
                           .mem = mem,
                           .dense = dense,
                           .params = {.dense = dense},
                           .dense_count = config->dense_count,
                           .pooled_dim = features->pooled_dim,
                           .output_count = 1,
                           .class_count = 2};
  sbag_code_t code = fill(made, config, features, status);
  if (code != SBAG_OK) {
    destroy(&made->base);
    return code;
  }
  *network = &made->base;
  return SBAG_OK;
}
