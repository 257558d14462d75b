/* A model on a collection: creation, one training step, prediction. The step is train() below. */
#include "model/model.h"

#include "collection/context.h"
#include "model/dense_optimizer.h"
#include "model/dlrm.h"
#include "model/loss.h"
#include "model/reduce.h"
#include <math.h>
#include <string.h>
#include <time.h>

struct model {
  mem_t *mem;
  comm_t *comm; /* the context's */
  sbag_collection_h collection;
  dlrm_t *dlrm;
  reduce_t reduce;
  sbag_optimizer_options_t optimizer; /* of the dense layers, with the model's clip_value */
  double clip_norm;
  int feature_count, reproducible;
  sbag_step_h step; /* the batch under way */
  model_phases_t phases;
};

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
  int64_t digest = (int64_t)(config_digest(config, &m->dlrm->params) >> 1);
  int64_t largest[2] = {digest, -digest};
  SBAG_TRY(comm_allreduce(m->comm, largest, 2, COMM_I64, COMM_MAX, "model: config", status));
  if (largest[0] == -largest[1]) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "model: the ranks' configs differ in seed, layers, dense optimizer, clipping, dropout, "
                    "bucket_bytes or reproducible; they must be the same");
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

static sbag_code_t create_dlrm(model_t *m, const model_config_t *config, sbag_status_t *status) {
  size_t features = (size_t)config->feature_count;
  void *names = NULL, *places = NULL;
  sbag_code_t code = mem_alloc(m->mem, features * sizeof(char *), "model: features", &names, status);
  if (code == SBAG_OK)
    code = mem_alloc(m->mem, 2 * features * sizeof(int64_t), "model: features", &places, status);
  if (code == SBAG_OK) {
    int64_t *dims = places, *columns = dims + features;
    find_features(m, config, names, dims, columns);
    const dlrm_features_t at = {.count = config->feature_count,
                                .name = names,
                                .dim = dims,
                                .column = columns,
                                .pooled_dim = sbag_collection_output_dim(m->collection)};
    code = dlrm_create(m->mem, config, &at, &m->dlrm, status);
  }
  mem_free(m->mem, names);
  mem_free(m->mem, places);
  return code;
}

static sbag_code_t create_dense(model_t *m, const model_config_t *config, sbag_status_t *status) {
  SBAG_TRY(create_dlrm(m, config, status));
  if (m->dlrm->flow_width > INT32_MAX || m->dlrm->pooled_dim > INT32_MAX)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "model: a layer has %lld inputs and the pooled vectors %lld values; both must be below "
                      "2^31",
                      (long long)m->dlrm->flow_width, (long long)m->dlrm->pooled_dim);
  params_t *params = &m->dlrm->params;
  return reduce_create(m->comm, m->mem, params->grad, params->count, config->bucket_bytes,
                       config->reproducible != 0, &m->reduce, status);
}

static sbag_code_t create_parts(model_t *m, sbag_context_h context, const model_config_t *config,
                                sbag_status_t *status) {
  sbag_collection_options_t options = sbag_collection_options_default();
  options.dtype = SBAG_F32;
  SBAG_TRY(sbag_collection_create(context, &options, config->tables, config->table_count, config->features,
                                  config->feature_count, &m->collection, status));
  SBAG_TRY(comm_agree(m->comm, create_dense(m, config, status), status));
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
  sbag_step_release(&m->step);
  sbag_collection_destroy(&m->collection);
  if (m->reduce.stranded) return;
  reduce_clear(&m->reduce);
  dlrm_destroy(&m->dlrm);
  mem_free(m->mem, m);
}

sbag_collection_h model_collection(const model_t *model) {
  return model->collection;
}

int model_array_count(const model_t *model) {
  return model->dlrm->params.array_count;
}

const model_array_t *model_array(const model_t *model, int array) {
  return &model->dlrm->params.arrays[array];
}

model_phases_t model_phases(const model_t *model) {
  return model->phases;
}

/* ---- a batch ---- */

/* Adds the time since *mark to a phase, and marks the next one's start. */
static void lap(double *mark, double *phase_s) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  double now_s = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
  if (phase_s != NULL) *phase_s += now_s - *mark;
  *mark = now_s;
}

/* -1: the collection has to say it (2-D bags of length 0 could be any number). */
static int64_t bag_count(const sbag_bags_t *bags) {
  if (bags->offsets != NULL) return bags->offset_count - (bags->include_last_offset != 0);
  return bags->bag_length > 0 ? bags->index_count / bags->bag_length : -1;
}

static sbag_code_t check_batch(const model_t *m, const model_batch_t *batch, int training,
                               sbag_status_t *status) {
  if (batch->samples < 0 || batch->samples > INT32_MAX)
    return status_set(status, SBAG_ERR_ARGUMENT, "model: a batch of %lld samples; it must be 0 to 2^31 - 1",
                      (long long)batch->samples);
  if (batch->samples > 0 && training && batch->labels == NULL)
    return status_set(status, SBAG_ERR_ARGUMENT, "model: a batch of %lld samples without labels",
                      (long long)batch->samples);
  if (batch->samples > 0 && m->dlrm->dense_count > 0 && batch->dense == NULL)
    return status_set(status, SBAG_ERR_ARGUMENT, "model: a batch of %lld samples without dense values",
                      (long long)batch->samples);
  for (int f = 0; f < m->feature_count; f++) {
    int64_t bags = bag_count(&batch->features[f]);
    if (bags >= 0 && bags != batch->samples)
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "model: a batch of %lld samples, but feature %d has %lld bags; they must be as many",
                        (long long)batch->samples, f, (long long)bags);
  }
  return SBAG_OK;
}

/* Checks the batch and makes room. What fails here fails on this rank alone, and a vote in every step would
 * cost all of them a round trip: so the peers are told by the comm, which is broken for good. */
static sbag_code_t prepare(model_t *m, const model_batch_t *batch, int training, sbag_status_t *status) {
  sbag_status_t cause;
  status_clear(&cause);
  sbag_code_t code = check_batch(m, batch, training, &cause);
  if (code == SBAG_OK) code = dlrm_reserve(m->dlrm, batch->samples, training, &cause);
  if (code == SBAG_OK) return SBAG_OK;
  comm_fail(m->comm, &cause);
  return comm_check(m->comm, status);
}

/* A rank without samples may come without dense values: any address does then. */
static const float *dense_values(const model_t *m, const model_batch_t *batch) {
  return batch->dense != NULL ? batch->dense : m->dlrm->pooled;
}

static sbag_code_t bucket_ready(void *user, int64_t end, sbag_status_t *status) {
  return reduce_ready(user, end, status);
}

/* Loss and dense backward of the whole batch; the reductions begin as its parts are done. */
static sbag_code_t backward_in_buckets(model_t *m, const model_batch_t *batch, const dlrm_pass_t *pass,
                                       const float *logits, sbag_status_t *status) {
  double loss = loss_bce_logits(pass->rows, logits, batch->labels, 1.0 / (double)batch->global_samples,
                                m->dlrm->flow[0]);
  SBAG_TRY(reduce_loss(&m->reduce, loss, status));
  return dlrm_backward(m->dlrm, pass, 0, pass->rows, dense_values(m, batch), bucket_ready, &m->reduce,
                       status);
}

/* The same by slices of the global batch, each with gradients of its own. */
static sbag_code_t backward_in_slices(model_t *m, const model_batch_t *batch, const dlrm_pass_t *pass,
                                      const float *logits, sbag_status_t *status) {
  for (int64_t first = 0; first < pass->rows; first += MODEL_SLICE) {
    int64_t left = pass->rows - first, rows = left < MODEL_SLICE ? left : MODEL_SLICE;
    double loss = loss_bce_logits(rows, logits + first, batch->labels + first,
                                  1.0 / (double)batch->global_samples, m->dlrm->flow[0]);
    SBAG_TRY(dlrm_backward(m->dlrm, pass, first, rows, dense_values(m, batch), NULL, NULL, status));
    reduce_slice(&m->reduce, first / MODEL_SLICE, loss);
  }
  return reduce_slices_done(&m->reduce, status);
}

/* In four chains of a fixed order, so that the bits are the same everywhere. */
static double squared_norm(const float *values, int64_t count) {
  double chain[4] = {0};
  for (int64_t i = 0; i < count; i++) chain[i % 4] += (double)values[i] * (double)values[i];
  return (chain[0] + chain[1]) + (chain[2] + chain[3]);
}

/* What all gradients, dense and sparse, are multiplied by, as torch's clip_grad_norm_. Every rank comes to
 * the same number. */
static sbag_code_t clip_factor(model_t *m, double *factor, sbag_status_t *status) {
  *factor = 1.0;
  if (m->clip_norm == 0.0) return SBAG_OK;
  double sparse = 0.0;
  SBAG_TRY(sbag_step_grad_norm_squared(m->step, &sparse, status));
  double norm = sqrt(sparse + squared_norm(m->dlrm->params.grad, m->dlrm->params.count));
  if (!isfinite(norm))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "the gradients' norm is %g: nothing was updated; a lower learning rate may help", norm);
  double wanted = m->clip_norm / (norm + 1e-6);
  if (wanted < 1.0) *factor = wanted;
  return SBAG_OK;
}

static void update_dense(model_t *m, int64_t step, double lr_factor, double grad_scale) {
  params_t *params = &m->dlrm->params;
  dense_optimizer_step_t update = {.options = &m->optimizer,
                                   .step = step,
                                   .lr = m->optimizer.lr * lr_factor,
                                   .grad_scale = grad_scale,
                                   .count = params->count,
                                   .grad = params->grad,
                                   .weight = params->weight,
                                   .states = params->states};
  dense_optimizer_update(&update);
}

/* Phases are added up where they end; what an error cuts short is not counted. */
static sbag_code_t train(model_t *m, const model_batch_t *batch, int64_t step, double lr_factor, double *loss,
                         sbag_status_t *status) {
  const dlrm_pass_t pass = {
      .rows = batch->samples, .first_sample = batch->first_sample, .step = step, .training = 1};
  const reduce_deal_t deal = {.samples = batch->samples,
                              .first_sample = batch->first_sample,
                              .global_samples = batch->global_samples};
  dlrm_t *dlrm = m->dlrm;
  double mark, loss_sum = 0.0, clip = 1.0;
  lap(&mark, NULL);
  SBAG_TRY(prepare(m, batch, 1, status));
  SBAG_TRY(reduce_begin(&m->reduce, &deal, status));

  SBAG_TRY(sbag_collection_forward_begin(m->collection, batch->features, 0, &m->step, status));
  lap(&mark, &m->phases.embedding_forward_s);
  dlrm_bottom_forward(dlrm, &pass, dense_values(m, batch)); /* while vectors are on their way */
  lap(&mark, &m->phases.dense_s);
  SBAG_TRY(sbag_step_forward_end(m->step, dlrm->pooled, status));
  lap(&mark, &m->phases.embedding_forward_s);

  const float *logits = dlrm_top_forward(dlrm, &pass);
  SBAG_TRY(m->reproducible ? backward_in_slices(m, batch, &pass, logits, status)
                           : backward_in_buckets(m, batch, &pass, logits, status));
  lap(&mark, &m->phases.dense_s);
  SBAG_TRY(sbag_step_backward(m->step, dlrm->pooled_grad, NULL, status)); /* while gradients are summed */
  lap(&mark, &m->phases.embedding_backward_s);

  SBAG_TRY(reduce_end(&m->reduce, &loss_sum, status));
  lap(&mark, &m->phases.reduce_wait_s);
  if (!isfinite(loss_sum))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "the loss is %g: nothing was updated; look for values in the data that are not finite, "
                      "or lower the learning rate",
                      loss_sum);
  SBAG_TRY(clip_factor(m, &clip, status));
  SBAG_TRY(sbag_step_update(m->step, lr_factor, clip, status));
  update_dense(m, step, lr_factor, clip);
  lap(&mark, &m->phases.update_s);
  *loss = loss_sum / (double)batch->global_samples;
  return SBAG_OK;
}

sbag_code_t model_train_step(model_t *model, const model_batch_t *batch, int64_t step, double lr_factor,
                             double *loss, sbag_status_t *status) {
  if (batch->global_samples < 1)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "model: a training step on %lld samples; the global batch needs one at least",
                      (long long)batch->global_samples);
  sbag_code_t code = train(model, batch, step, lr_factor, loss, status);
  if (code != SBAG_OK) reduce_abandon(&model->reduce);
  sbag_step_release(&model->step);
  return code;
}

static sbag_code_t predict(model_t *m, const model_batch_t *batch, float *logits, sbag_status_t *status) {
  const dlrm_pass_t pass = {.rows = batch->samples, .first_sample = batch->first_sample};
  SBAG_TRY(prepare(m, batch, 0, status));
  SBAG_TRY(sbag_collection_forward_begin(
      m->collection, batch->features, SBAG_FORWARD_READ_ONLY | SBAG_FORWARD_NO_BACKWARD, &m->step, status));
  dlrm_bottom_forward(m->dlrm, &pass, dense_values(m, batch));
  SBAG_TRY(sbag_step_forward_end(m->step, m->dlrm->pooled, status));
  const float *made = dlrm_top_forward(m->dlrm, &pass);
  if (batch->samples > 0) memcpy(logits, made, (size_t)batch->samples * sizeof *logits);
  return SBAG_OK;
}

sbag_code_t model_predict(model_t *model, const model_batch_t *batch, float *logits, sbag_status_t *status) {
  sbag_code_t code = predict(model, batch, logits, status);
  sbag_step_release(&model->step);
  return code;
}
