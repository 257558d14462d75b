/* A classifier's layers, buffers, forward and backward pass. */
#include "model/classify.h"

#include "base/random.h"
#include <stdio.h>

typedef struct classify {
  network_t base;
  uint64_t seed;
  double dropout;
  int layers;
  int64_t flow_width, forward_rows, backward_rows;
  float *forward_block, *backward_block;
  float *layer_out[MODEL_LAYERS_MAX + 1]; /* [rows][out] */
  float *flow[2];                         /* gradients between layers */
  kernel_buffer_t losses;                 /* [backward_rows] doubles */
} classify_t;

static classify_t *classify_of(network_t *network) {
  return (classify_t *)network;
}

/* ---- forward ---- */

static dropout_t layer_dropout(const classify_t *c, const network_pass_t *pass, int layer) {
  if (!pass->training || c->dropout <= 0.0 || layer == c->layers - 1) return dropout_make(0.0, 0, 0, 0);
  char name[32];
  snprintf(name, sizeof name, "dropout/top/%d", layer);
  return dropout_make(c->dropout, random_key(c->seed, name), pass->step, pass->first_sample);
}

/* There are no dense values. */
static void begin(network_t *network, const network_pass_t *pass) {
  (void)network;
  (void)pass;
}

static const float *forward(network_t *network, const network_pass_t *pass) {
  classify_t *c = classify_of(network);
  dense_t *dense = network->dense;
  const float *x = network->pooled;
  for (int i = 0; i < c->layers; i++) {
    network_between(pass, "classifier");
    linear_t layer = params_linear(&network->params, i);
    dropout_t dropout = layer_dropout(c, pass, i);
    layer.to_loss = pass->training;
    dense->ops->linear_forward(dense, &layer, &dropout, pass->rows, x, layer.in, c->layer_out[i]);
    x = c->layer_out[i];
  }
  return x;
}

static void loss(network_t *network, const network_pass_t *pass, const network_targets_t *targets,
                 double *sum) {
  classify_t *c = classify_of(network);
  int64_t classes = network->output_count, first = targets->first_row;
  (void)pass;
  network->dense->ops->softmax_loss(network->dense, targets->rows, classes,
                                    c->layer_out[c->layers - 1] + first * classes, targets->labels + first,
                                    targets->weights != NULL ? targets->weights + first : NULL,
                                    targets->grad_scale, c->losses.data, c->flow[0], sum);
}

/* ---- backward ---- */

static sbag_code_t backward_pooled(network_t *network, const network_backward_t *b, sbag_status_t *status) {
  classify_t *c = classify_of(network);
  dense_t *dense = network->dense;
  float *dy = c->flow[0];
  for (int i = c->layers - 1; i >= 0; i--) {
    network_between(b->pass, "classifier: backward");
    linear_t layer = params_linear(&network->params, i);
    dropout_t dropout = layer_dropout(c, b->pass, i);
    const float *x = (i == 0 ? network->pooled : c->layer_out[i - 1]) + b->first_row * layer.in;
    float *dx = i == 0 ? network->pooled_grad + b->first_row * layer.in : c->flow[dy == c->flow[0]];
    dense->ops->linear_backward(dense, &layer, &dropout, b->rows, x, layer.in,
                                c->layer_out[i] + b->first_row * layer.out, dy, dx, layer.in);
    if (b->ready != NULL) SBAG_TRY(b->ready(b->user, params_layer_end(&network->params, i), status));
    dy = dx;
  }
  return SBAG_OK;
}

static sbag_code_t backward_rest(network_t *network, const network_backward_t *b, sbag_status_t *status) {
  (void)network;
  (void)b;
  (void)status;
  return SBAG_OK;
}

/* ---- buffers ---- */

static sbag_code_t grow_forward(classify_t *c, int64_t rows, sbag_status_t *status) {
  network_t *base = &c->base;
  int64_t width = base->pooled_dim;
  c->forward_rows = 0;
  for (int i = 0; i < c->layers; i++) width += base->params.layers[i].out;
  SBAG_TRY(network_renew(base->dense, rows, width, &c->forward_block, status));
  float *next = c->forward_block;
  base->pooled = network_carve(&next, rows, base->pooled_dim);
  for (int i = 0; i < c->layers; i++)
    c->layer_out[i] = network_carve(&next, rows, base->params.layers[i].out);
  c->forward_rows = rows;
  return SBAG_OK;
}

static sbag_code_t grow_backward(classify_t *c, int64_t rows, sbag_status_t *status) {
  network_t *base = &c->base;
  c->backward_rows = 0;
  SBAG_TRY(
      network_renew(base->dense, rows, base->pooled_dim + 2 * c->flow_width, &c->backward_block, status));
  float *next = c->backward_block;
  base->pooled_grad = network_carve(&next, rows, base->pooled_dim);
  c->flow[0] = network_carve(&next, rows, c->flow_width);
  c->flow[1] = network_carve(&next, rows, c->flow_width);
  SBAG_TRY(kernel_buffer_reserve(base->dense->kernel, &c->losses, mem_array_bytes(rows, sizeof(double)),
                                 "model: losses", status));
  c->backward_rows = rows;
  return SBAG_OK;
}

static sbag_code_t reserve(network_t *network, int64_t rows, int backward, sbag_status_t *status) {
  classify_t *c = classify_of(network);
  if (c->forward_block == NULL || rows > c->forward_rows)
    SBAG_TRY(grow_forward(c, network_grown(c->forward_rows, rows), status));
  if (backward && (c->backward_block == NULL || rows > c->backward_rows))
    SBAG_TRY(grow_backward(c, network_grown(c->backward_rows, rows), status));
  return SBAG_OK;
}

/* ---- the object ---- */

static void destroy(network_t *network) {
  classify_t *c = classify_of(network);
  mem_t *mem = network->mem;
  params_clear(&network->params);
  network_drop(network->dense, &c->forward_block);
  network_drop(network->dense, &c->backward_block);
  kernel_buffer_free(network->dense->kernel, &c->losses);
  mem_free(mem, c);
}

static const network_ops_t ops = {.name = "classifier",
                                  .destroy = destroy,
                                  .reserve = reserve,
                                  .begin = begin,
                                  .forward = forward,
                                  .loss = loss,
                                  .backward_pooled = backward_pooled,
                                  .backward_rest = backward_rest};

static sbag_code_t create_layers(classify_t *c, const model_config_t *config, sbag_status_t *status) {
  params_layer_t layers[MODEL_LAYERS_MAX + 1];
  network_t *base = &c->base;
  int64_t in = base->pooled_dim;
  c->layers = config->top_count + 1;
  for (int i = 0; i < c->layers; i++) {
    int64_t out = i < config->top_count ? config->top[i] : config->classes;
    layers[i] = (params_layer_t){.in = in, .out = out, .has_bias = 1, .relu = i < config->top_count};
    snprintf(layers[i].name, sizeof layers[i].name, "top/%d", i);
    if (out > c->flow_width) c->flow_width = out;
    in = out;
  }
  base->widest = c->flow_width > base->pooled_dim ? c->flow_width : base->pooled_dim;
  return params_create(base->dense, layers, c->layers, config->seed, &config->dense_optimizer, &base->params,
                       status);
}

static sbag_code_t check(const model_config_t *config, sbag_status_t *status) {
  if (config->classes < 2 || config->classes > 1 << 24)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "model: a classifier of %lld classes; the data must have 2 to 2^24, as kind text has",
                      (long long)config->classes);
  if (config->dense_count > 0)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "model: a classifier takes no dense values; the data have %d", config->dense_count);
  return SBAG_OK;
}

sbag_code_t classify_create(dense_t *dense, const model_config_t *config, const network_features_t *features,
                            network_t **network, sbag_status_t *status) {
  mem_t *mem = dense->kernel->mem;
  void *block = NULL;
  SBAG_TRY(check(config, status));
  SBAG_TRY(mem_calloc(mem, sizeof(classify_t), "model: network", &block, status));
  classify_t *made = block;
  made->losses.kind = MEMORY_DEVICE;
  made->seed = config->seed;
  made->dropout = config->dropout;
  made->base = (network_t){.ops = &ops,
                           .mem = mem,
                           .dense = dense,
                           .params = {.dense = dense},
                           .pooled_dim = features->pooled_dim,
                           .output_count = (int)config->classes,
                           .class_count = (int)config->classes};
  sbag_code_t code = create_layers(made, config, status);
  if (code != SBAG_OK) {
    destroy(&made->base);
    return code;
  }
  *network = &made->base;
  return SBAG_OK;
}
