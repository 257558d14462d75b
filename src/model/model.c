/* A model on a collection: creation and what it is asked outside of a step, which is in model_step.c. */
#include "model/model_impl.h"

#include "collection/context.h"
#include <math.h>
#include <string.h>

/* ---- creation ---- */

static sbag_code_t check_layers(const char *name, int count, const int64_t *sizes, sbag_status_t *status) {
  if (count < 0 || count > MODEL_LAYERS_MAX)
    return status_set(status, SBAG_ERR_ARGUMENT, "model: %s has %d hidden layers; it may have 0 to %d", name,
                      count, (int)MODEL_LAYERS_MAX);
  for (int i = 0; i < count; i++)
    if (sizes[i] < 1 || sizes[i] > INT32_MAX)
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "model: %s's hidden layer %d has %lld units; it must have 1 to 2^31 - 1", name, i,
                        (long long)sizes[i]);
  return SBAG_OK;
}

static sbag_code_t check_range(const char *name, double value, double below, sbag_status_t *status) {
  if (value >= 0.0 && value < below) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "model: %s is %g; it must be 0 or more and below %g", name,
                    value, below);
}

static sbag_code_t check_config(sbag_context_h context, const model_config_t *config, sbag_status_t *status) {
  if (config->dense_count < 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "model: dense_count is %d; it must be 0 or more",
                      config->dense_count);
  if (config->interaction_dim < 1 || config->interaction_dim > INT32_MAX)
    return status_set(status, SBAG_ERR_ARGUMENT, "model: interaction_dim is %lld; it must be 1 to 2^31 - 1",
                      (long long)config->interaction_dim);
  if (config->feature_count < 1)
    return status_set(status, SBAG_ERR_ARGUMENT, "model: %d features; it must have one at least",
                      config->feature_count);
  if (config->bucket_bytes < 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "model: bucket_bytes is %lld; it must be 0 or more",
                      (long long)config->bucket_bytes);
  if (config->reproducible && !context->options.reproducible)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "model: reproducible needs a context that is reproducible too, or the tables are not");
  SBAG_TRY(check_layers("the bottom MLP", config->bottom_count, config->bottom, status));
  SBAG_TRY(check_layers("the top MLP", config->top_count, config->top, status));
  SBAG_TRY(check_range("dropout", config->dropout, 1.0, status));
  SBAG_TRY(check_range("clip_norm", config->clip_norm, INFINITY, status));
  SBAG_TRY(check_range("clip_value", config->clip_value, INFINITY, status));
  return dense_optimizer_check(&config->dense_optimizer, status);
}

static uint64_t mix(uint64_t hash, const void *bytes, size_t count) {
  for (const unsigned char *p = bytes; count > 0; p++, count--) hash = (hash ^ *p) * 0x100000001b3u;
  return hash;
}

/* Of everything that ranks must have in common; field by field, because a struct has padding. */
static uint64_t config_digest(const model_config_t *config, const params_t *params) {
  const sbag_optimizer_options_t *o = &config->dense_optimizer;
  const double numbers[] = {config->dropout,
                            config->clip_norm,
                            config->clip_value,
                            (double)config->bucket_bytes,
                            config->reproducible != 0,
                            (double)config->kind,
                            (double)config->interaction,
                            config->cross_parallel != 0,
                            (double)config->first_order,
                            (double)config->match_loss,
                            config->temperature,
                            config->l2,
                            (double)config->interaction_dim,
                            (double)o->kind,
                            o->lr,
                            o->momentum,
                            o->dampening,
                            o->nesterov,
                            o->maximize,
                            o->weight_decay,
                            o->eps,
                            o->lr_decay,
                            o->initial_accumulator_value,
                            o->beta1,
                            o->beta2,
                            o->amsgrad,
                            o->clip_value};
  uint64_t hash = mix(0xcbf29ce484222325u, &config->seed, sizeof config->seed);
  hash = mix(hash, numbers, sizeof numbers);
  hash = mix(hash, config->class_weights, (size_t)config->class_count * sizeof(double));
  for (int i = 0; i < params->layer_count; i++) {
    const params_layer_t *layer = &params->layers[i];
    hash = mix(hash, layer->name, strlen(layer->name));
    hash = mix(hash, &layer->in, sizeof layer->in);
    hash = mix(hash, &layer->out, sizeof layer->out);
  }
  return hash;
}

/* Ranks whose buckets or layers differ would add up unlike things, or wait for ever. */
static sbag_code_t check_same(const model_t *m, const model_config_t *config, sbag_status_t *status) {
  int64_t digest = (int64_t)(config_digest(config, &m->network->params) >> 1);
  int64_t largest[2] = {digest, -digest};
  SBAG_TRY(comm_allreduce(m->comm, largest, 2, COMM_I64, COMM_MAX, "model: config", status));
  if (largest[0] == -largest[1]) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "model: the ranks' configs differ in seed, layers, dense optimizer, clipping, dropout, "
                    "class weights, bucket_bytes or reproducible; they must be the same");
}

/* Where the collection puts each feature's vector. */
static void find_features(const model_t *m, const model_config_t *config, const char **names, int64_t *dims,
                          int64_t *columns) {
  for (int f = 0; f < config->feature_count; f++) {
    names[f] = config->features[f].name;
    dims[f] = config->tables[config->features[f].table].embedding_dim;
    columns[f] = sbag_collection_output_offset(m->collection, f);
  }
}

static sbag_code_t create_network(model_t *m, const model_config_t *config, sbag_status_t *status) {
  size_t features = (size_t)config->feature_count;
  void *names = NULL, *places = NULL;
  sbag_code_t code = mem_alloc(m->mem, features * sizeof(char *), "model: features", &names, status);
  if (code == SBAG_OK)
    code = mem_alloc(m->mem, 2 * features * sizeof(int64_t), "model: features", &places, status);
  if (code == SBAG_OK) {
    int64_t *dims = places, *columns = dims + features;
    find_features(m, config, names, dims, columns);
    const network_features_t at = {.count = config->feature_count,
                                   .name = names,
                                   .dim = dims,
                                   .column = columns,
                                   .pooled_dim = sbag_collection_output_dim(m->collection)};
    code = network_create(m->dense, config, &at, &m->network, status);
  }
  mem_free(m->mem, names);
  mem_free(m->mem, places);
  return code;
}

static sbag_code_t take_class_weights(model_t *m, const model_config_t *config, sbag_status_t *status) {
  void *block = NULL;
  if (config->class_count == 0) return SBAG_OK;
  if (config->class_count != m->network->class_count)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "model: %d class weights, but there are %d classes; it must be one for each",
                      config->class_count, m->network->class_count);
  for (int i = 0; i < config->class_count; i++)
    SBAG_TRY(check_range("a class's weight", config->class_weights[i], INFINITY, status));
  size_t bytes = (size_t)config->class_count * sizeof(double);
  SBAG_TRY(mem_alloc(m->mem, bytes, "model: weights of classes", &block, status));
  memcpy(block, config->class_weights, bytes);
  m->class_weights = block;
  m->class_count = config->class_count;
  return SBAG_OK;
}

static sbag_code_t create_dense(model_t *m, kernel_t *kernel, const model_config_t *config,
                                sbag_status_t *status) {
  SBAG_TRY(dense_create(kernel, config->reproducible, &m->dense, status));
  SBAG_TRY(create_network(m, config, status));
  SBAG_TRY(take_class_weights(m, config, status));
  if (m->network->widest > INT32_MAX || m->network->pooled_dim > INT32_MAX)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "model: a layer has %lld inputs and the pooled vectors %lld values; both must be below "
                      "2^31",
                      (long long)m->network->widest, (long long)m->network->pooled_dim);
  params_t *params = &m->network->params;
  return reduce_create(m->comm, m->dense, params->grad, params->count, config->bucket_bytes,
                       config->reproducible != 0, &m->reduce, status);
}

static sbag_code_t create_parts(model_t *m, sbag_context_h context, const model_config_t *config,
                                sbag_status_t *status) {
  sbag_collection_options_t options = sbag_collection_options_default();
  options.dtype = SBAG_F32;
  options.weight_grad = !config->inference;
  SBAG_TRY(sbag_collection_create(context, &options, config->tables, config->table_count, config->features,
                                  config->feature_count, &m->collection, status));
  SBAG_TRY(comm_agree(m->comm, create_dense(m, context->kernel, config, status), status));
  return check_same(m, config, status);
}

sbag_code_t model_create(sbag_context_h context, const model_config_t *config, mem_t *mem, model_t **model,
                         sbag_status_t *status) {
  comm_t *comm = context_comm(context);
  void *block = NULL;
  sbag_code_t code = check_config(context, config, status);
  if (code == SBAG_OK) code = mem_calloc(mem, sizeof(model_t), "model", &block, status);
  code = comm_agree(comm, code, status);
  if (code != SBAG_OK) {
    mem_free(mem, block);
    return code;
  }
  model_t *made = block;
  *made = (model_t){.mem = mem,
                    .comm = comm,
                    .optimizer = config->dense_optimizer,
                    .clip_norm = config->clip_norm,
                    .feature_count = config->feature_count,
                    .reproducible = config->reproducible};
  made->reduce.mem = mem;
  for (int i = 0; i <= MODEL_STEPS_MAX; i++) made->inputs[i].block.kind = MEMORY_DEVICE;
  if (config->clip_value > 0.0) made->optimizer.clip_value = config->clip_value;
  code = create_parts(made, context, config, status);
  if (code != SBAG_OK) {
    model_destroy(&made);
    return code;
  }
  *model = made;
  return SBAG_OK;
}

/* A comm that broke while gradients were under way may still write into them, and the model outlives it then:
 * losing memory at the end of a failed run is better than writing to what another object got. */
void model_destroy(model_t **model) {
  if (model == NULL || *model == NULL) return;
  model_t *m = *model;
  *model = NULL;
  reduce_abandon(&m->reduce); /* of a step computed and not finished */
  for (int i = 0; i < MODEL_STEPS_MAX; i++) sbag_step_release(&m->slots[i].step);
  sbag_collection_destroy(&m->collection);
  if (m->reduce.stranded) return;
  reduce_clear(&m->reduce);
  network_destroy(&m->network);
  for (int i = 0; i <= MODEL_STEPS_MAX && m->dense != NULL; i++)
    kernel_buffer_free(m->dense->kernel, &m->inputs[i].block);
  for (int i = 0; i <= MODEL_STEPS_MAX; i++) mem_free(m->mem, m->inputs[i].host_weights);
  mem_free(m->mem, m->class_weights);
  dense_destroy(&m->dense);
  mem_free(m->mem, m);
}

sbag_collection_h model_collection(const model_t *model) {
  return model->collection;
}

int model_output_count(const model_t *model) {
  return model->network->output_count;
}

int model_array_count(const model_t *model) {
  return model->network->params.array_count;
}

const model_array_t *model_array(const model_t *model, int array) {
  return &model->network->params.arrays[array];
}

sbag_code_t model_arrays_fetch(const model_t *model, sbag_status_t *status) {
  return params_fetch(&model->network->params, status);
}

sbag_code_t model_arrays_send(const model_t *model, sbag_status_t *status) {
  return params_send(&model->network->params, status);
}

model_traffic_t model_traffic(const model_t *model) {
  return model->traffic;
}
