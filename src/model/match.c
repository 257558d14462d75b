/* Buffers, forward and backward pass of queries and items. */
#include "model/match.h"

typedef struct match {
  network_t base;
  match_shape_t shape;
  int64_t *columns; /* the shape's lists */
  match_targets_t targets;
  int64_t forward_rows, backward_rows;
  float *forward_block, *backward_block;
  float *out;             /* [rows][output_count] */
  float *score_grads;     /* [rows][items] */
  kernel_buffer_t losses; /* [backward_rows] doubles */
} match_t;

static match_t *match_of(network_t *network) {
  return (match_t *)network;
}

static void begin(network_t *network, const network_pass_t *pass) {
  (void)network;
  (void)pass;
}

static const float *forward(network_t *network, const network_pass_t *pass) {
  match_t *m = match_of(network);
  network_between(pass, "scores");
  network->dense->ops->match_forward(network->dense, &m->shape, pass->rows, network->pooled, m->out);
  return m->out;
}

/* The targets of the rows from `first` on. */
static match_targets_t targets_of(const match_t *m, const network_targets_t *targets) {
  match_targets_t made = m->targets;
  made.grad_scale = targets->grad_scale;
  made.weights = targets->weights != NULL ? targets->weights + targets->first_row : NULL;
  return made;
}

static void loss(network_t *network, const network_pass_t *pass, const network_targets_t *targets,
                 double *sum) {
  match_t *m = match_of(network);
  int64_t first = targets->first_row;
  (void)pass;
  m->targets = targets_of(m, targets); /* backward needs them too */
  network->dense->ops->match_loss(
      network->dense, &m->shape, &m->targets, targets->rows, network->pooled + first * network->pooled_dim,
      m->out + first * network->output_count, m->losses.data, m->score_grads, sum);
}

static sbag_code_t backward_pooled(network_t *network, const network_backward_t *b, sbag_status_t *status) {
  match_t *m = match_of(network);
  int64_t at = b->first_row * network->pooled_dim;
  (void)status;
  network_between(b->pass, "scores: backward");
  network->dense->ops->match_backward(network->dense, &m->shape, &m->targets, b->rows, network->pooled + at,
                                      m->out + b->first_row * network->output_count, m->score_grads,
                                      network->pooled_grad + at);
  return SBAG_OK;
}

static sbag_code_t backward_rest(network_t *network, const network_backward_t *b, sbag_status_t *status) {
  (void)network;
  (void)b;
  (void)status;
  return SBAG_OK;
}

/* ---- buffers ---- */

static sbag_code_t grow_forward(match_t *m, int64_t rows, sbag_status_t *status) {
  network_t *base = &m->base;
  m->forward_rows = 0;
  SBAG_TRY(
      network_renew(base->dense, rows, base->pooled_dim + base->output_count, &m->forward_block, status));
  float *next = m->forward_block;
  base->pooled = network_carve(&next, rows, base->pooled_dim);
  m->out = network_carve(&next, rows, base->output_count);
  m->forward_rows = rows;
  return SBAG_OK;
}

static sbag_code_t grow_backward(match_t *m, int64_t rows, sbag_status_t *status) {
  network_t *base = &m->base;
  m->backward_rows = 0;
  SBAG_TRY(
      network_renew(base->dense, rows, base->pooled_dim + m->shape.item_count, &m->backward_block, status));
  float *next = m->backward_block;
  base->pooled_grad = network_carve(&next, rows, base->pooled_dim);
  m->score_grads = network_carve(&next, rows, m->shape.item_count);
  SBAG_TRY(kernel_buffer_reserve(base->dense->kernel, &m->losses, mem_array_bytes(rows, sizeof(double)),
                                 "model: losses", status));
  m->backward_rows = rows;
  return SBAG_OK;
}

static sbag_code_t reserve(network_t *network, int64_t rows, int backward, sbag_status_t *status) {
  match_t *m = match_of(network);
  if (m->forward_block == NULL || rows > m->forward_rows)
    SBAG_TRY(grow_forward(m, network_grown(m->forward_rows, rows), status));
  if (backward && (m->backward_block == NULL || rows > m->backward_rows))
    SBAG_TRY(grow_backward(m, network_grown(m->backward_rows, rows), status));
  return SBAG_OK;
}

/* ---- the object ---- */

static void destroy(network_t *network) {
  match_t *m = match_of(network);
  mem_t *mem = network->mem;
  params_clear(&network->params);
  network_drop(network->dense, &m->forward_block);
  network_drop(network->dense, &m->backward_block);
  mem_free(mem, m->columns);
  kernel_buffer_free(network->dense->kernel, &m->losses);
  mem_free(mem, m);
}

static const network_ops_t ops = {.name = "match",
                                  .destroy = destroy,
                                  .reserve = reserve,
                                  .begin = begin,
                                  .forward = forward,
                                  .loss = loss,
                                  .backward_pooled = backward_pooled,
                                  .backward_rest = backward_rest};

/* The columns of all features of a role, behind those that there are already. */
static int list_role(const model_config_t *config, const network_features_t *features, model_role_t role,
                     int64_t *columns) {
  int count = 0;
  for (int f = 0; f < features->count; f++)
    if (config->roles[f] == role) columns[count++] = features->column[f];
  return count;
}

static sbag_code_t set_shape(match_t *m, const model_config_t *config, const network_features_t *features,
                             sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(
      mem_calloc(m->base.mem, (size_t)features->count * sizeof(int64_t), "model: features", &block, status));
  m->columns = block;
  int64_t *next = m->columns;
  match_shape_t *s = &m->shape;
  s->dim = features->dim[0];
  s->pooled_dim = features->pooled_dim;
  s->queries = next;
  next += s->query_count = list_role(config, features, MODEL_QUERY, next);
  s->items = next;
  next += s->item_count = list_role(config, features, MODEL_POSITIVE, next);
  s->item_count += list_role(config, features, MODEL_NEGATIVE, next);
  m->base.output_count = (int)s->dim + s->item_count;
  m->base.widest = s->pooled_dim > m->base.output_count ? s->pooled_dim : m->base.output_count;
  return SBAG_OK;
}

static sbag_code_t check(const model_config_t *config, const network_features_t *features,
                         sbag_status_t *status) {
  int roles[MODEL_ROLES] = {0};
  for (int f = 0; f < features->count && config->roles != NULL; f++) roles[config->roles[f]]++;
  if (roles[MODEL_QUERY] < 1 || roles[MODEL_POSITIVE] != 1 || roles[MODEL_NEGATIVE] < 1 ||
      roles[MODEL_INPUT] > 0 || roles[MODEL_NEGATIVE] >= MATCH_ITEMS_MAX)
    return status_set(
        status, SBAG_ERR_ARGUMENT,
        "model: kind match needs queries, one item that goes with them and 1 to %d that do not, as "
        "the data of kind ranking and corpus have; here are %d, %d and %d, and %d other features",
        MATCH_ITEMS_MAX - 1, roles[MODEL_QUERY], roles[MODEL_POSITIVE], roles[MODEL_NEGATIVE],
        roles[MODEL_INPUT]);
  for (int f = 1; f < features->count; f++)
    if (features->dim[f] != features->dim[0])
      return status_set(
          status, SBAG_ERR_ARGUMENT,
          "model: features '%s' and '%s' have dim %lld and %lld; what is matched must have the same",
          features->name[0], features->name[f], (long long)features->dim[0], (long long)features->dim[f]);
  if ((int)config->match_loss < 0 || config->match_loss >= MATCH_LOSSES || !(config->temperature > 0.0) ||
      !(config->l2 >= 0.0))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "model: loss %d, temperature %g, l2 %g: no such loss, or a number below 0",
                      (int)config->match_loss, config->temperature, config->l2);
  return SBAG_OK;
}

sbag_code_t match_create(dense_t *dense, const model_config_t *config, const network_features_t *features,
                         network_t **network, sbag_status_t *status) {
  mem_t *mem = dense->kernel->mem;
  void *block = NULL;
  SBAG_TRY(check(config, features, status));
  SBAG_TRY(mem_calloc(mem, sizeof(match_t), "model: network", &block, status));
  match_t *made = block;
  made->losses.kind = MEMORY_DEVICE;
  made->base = (network_t){.ops = &ops,
                           .mem = mem,
                           .dense = dense,
                           .params = {.dense = dense},
                           .pooled_dim = features->pooled_dim};
  made->targets =
      (match_targets_t){.kind = config->match_loss, .temperature = config->temperature, .l2 = config->l2};
  sbag_code_t code = set_shape(made, config, features, status);
  const params_layer_t none = {.in = 0};
  if (code == SBAG_OK)
    code = params_create(dense, &none, 0, config->seed, &config->dense_optimizer, &made->base.params, status);
  if (code != SBAG_OK) {
    destroy(&made->base);
    return code;
  }
  *network = &made->base;
  return SBAG_OK;
}
