/* A training step in its three parts, and a prediction. What a step does is read in begin(), compute() and
 * finish().
 *
 * With one thread, nothing moves between ranks unless somebody looks: so between() is called before every
 * layer. Where the next step was begun, each message has work to travel behind:
 *
 *   vectors of this batch          the next one's routing (begin), bottom MLP
 *   counts of the next one's ids   bottom MLP
 *   ids                            top MLP, loss, their backward
 *   gradients of this batch        bottom MLP's backward, owners' part of the next one's routing
 *   sums of dense gradients        all that is behind the layer that they are of */
#include "collection/collection.h"
#include "model/model_impl.h"

#include <math.h>

/* ---- a batch ---- */

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
  if (batch->samples > 0 && m->network->dense_count > 0 && batch->dense == NULL)
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

static sbag_code_t take_batch(model_t *m, const model_batch_t *batch, int training, sbag_status_t *status) {
  sbag_status_t cause;
  status_clear(&cause);
  return comm_fail_by(m->comm, check_batch(m, batch, training, &cause), &cause, status);
}

static sbag_code_t make_room(model_t *m, const model_batch_t *batch, int training, sbag_status_t *status) {
  sbag_status_t cause;
  status_clear(&cause);
  return comm_fail_by(m->comm, m->network->ops->reserve(m->network, batch->samples, training, &cause), &cause,
                      status);
}

/* What a sample's weight is with that of its class, in memory of the host that stays while the step lasts. */
static sbag_code_t weigh(const model_t *m, const model_batch_t *batch, model_input_t *input,
                         sbag_status_t *status) {
  input->told = batch->weights;
  if (m->class_count == 0 || batch->labels == NULL) return SBAG_OK;
  if (batch->samples > input->host_room) {
    void *block = input->host_weights;
    SBAG_TRY(mem_realloc(m->mem, mem_array_bytes(batch->samples, sizeof(float)), "model: samples' weights",
                         &block, status));
    input->host_weights = block;
    input->host_room = batch->samples;
  }
  for (int64_t i = 0; i < batch->samples; i++) {
    double label = batch->labels[i], own = batch->weights != NULL ? batch->weights[i] : 1.0;
    if (!(label >= 0.0 && label < (double)m->class_count))
      return status_set(status, SBAG_ERR_ARGUMENT, "model: label %g of sample %lld; there are %d classes",
                        label, (long long)i, m->class_count);
    input->host_weights[i] = (float)(own * m->class_weights[(int)label]);
  }
  input->told = input->host_weights;
  return SBAG_OK;
}

/* Where the layers read the batch. The copy goes beside what the device does; the batch may change after it.
 */
static sbag_code_t copy_input(model_t *m, const model_batch_t *batch, model_input_t *input,
                              sbag_status_t *status) {
  SBAG_TRY(weigh(m, batch, input, status));
  int64_t values = batch->dense != NULL ? batch->samples * m->network->dense_count : 0;
  int64_t labels = batch->labels != NULL ? batch->samples : 0, size = (int64_t)sizeof(float);
  int64_t weights = input->told != NULL ? batch->samples : 0;
  input->values = batch->dense;
  input->labels = batch->labels;
  input->weights = input->told;
  if (m->dense->on_host) return SBAG_OK;
  SBAG_TRY(kernel_buffer_reserve(m->dense->kernel, &input->block,
                                 (size_t)((values + labels + weights) * size),
                                 "model: a batch's dense values and labels", status));
  float *to = input->block.data;
  const copy_part_t parts[3] = {{to, batch->dense, values * size},
                                {to + values, batch->labels, labels * size},
                                {to + values + labels, input->told, weights * size}};
  m->dense->ops->input(m->dense, parts, 3);
  input->values = to;
  input->labels = to + values;
  input->weights = weights > 0 ? to + values + labels : NULL;
  return SBAG_OK;
}

/* Of samples [first, first + rows) of the batch. */
static double weight_of(const model_input_t *input, int64_t first, int64_t rows) {
  if (input->told == NULL) return (double)rows;
  double sum = 0.0;
  for (int64_t i = first; i < first + rows; i++) sum += (double)input->told[i];
  return sum;
}

static sbag_code_t take_input(model_t *m, const model_batch_t *batch, model_input_t *input,
                              sbag_status_t *status) {
  sbag_status_t cause;
  status_clear(&cause);
  return comm_fail_by(m->comm, copy_input(m, batch, input, &cause), &cause, status);
}

/* A rank without samples may come without dense values: any address does then. */
static const float *dense_values(const model_t *m, const model_input_t *input) {
  return input->values != NULL ? input->values : m->network->pooled;
}

/* What ops were to tell the host is there then. */
static sbag_code_t wait_for_device(model_t *m, sbag_status_t *status) {
  sbag_status_t cause;
  status_clear(&cause);
  return comm_fail_by(m->comm, dense_sync(m->dense, &cause), &cause, status);
}

/* Between two layers, what is under way moves on. A comm that breaks here says so at its next use. */
static void between(void *user, const char *part) {
  comm_t *comm = user;
  (void)comm_progress(comm, NULL);
  comm_trace_phase(&comm->trace, part);
}

static sbag_code_t bucket_ready(void *user, int64_t end, sbag_status_t *status) {
  return reduce_ready(user, end, status);
}

/* Loss and dense backward of the whole batch; gradients and reductions begin as their parts are done. */
static sbag_code_t backward_in_buckets(model_t *m, const model_batch_t *batch, const model_input_t *input,
                                       const network_pass_t *pass, sbag_status_t *status) {
  network_t *n = m->network;
  const network_targets_t targets = {.rows = pass->rows,
                                     .labels = input->labels,
                                     .weights = input->weights,
                                     .grad_scale = 1.0 / (double)batch->global_samples};
  const network_backward_t backward = {
      .pass = pass, .rows = pass->rows, .ready = bucket_ready, .user = &m->reduce};
  between(m->comm, "loss");
  n->ops->loss(n, pass, &targets, &m->loss);
  SBAG_TRY(n->ops->backward_pooled(n, &backward, status));
  SBAG_TRY(sbag_step_backward_begin(m->slots[0].step, n->pooled_grad, status));
  SBAG_TRY(n->ops->backward_rest(n, &backward, status));
  SBAG_TRY(wait_for_device(m, status));
  return reduce_loss(&m->reduce, m->loss, weight_of(input, 0, pass->rows), status);
}

/* The same by slices of the global batch, each with gradients of its own. */
static sbag_code_t backward_in_slices(model_t *m, const model_batch_t *batch, const model_input_t *input,
                                      const network_pass_t *pass, sbag_status_t *status) {
  network_t *n = m->network;
  for (int64_t first = 0; first < pass->rows; first += MODEL_SLICE) {
    int64_t left = pass->rows - first, rows = left < MODEL_SLICE ? left : MODEL_SLICE;
    const network_targets_t targets = {.first_row = first,
                                       .rows = rows,
                                       .labels = input->labels,
                                       .weights = input->weights,
                                       .grad_scale = 1.0 / (double)batch->global_samples};
    const network_backward_t backward = {.pass = pass, .first_row = first, .rows = rows};
    between(m->comm, "loss");
    n->ops->loss(n, pass, &targets, reduce_slice_loss(&m->reduce, first / MODEL_SLICE));
    SBAG_TRY(n->ops->backward_pooled(n, &backward, status));
    SBAG_TRY(n->ops->backward_rest(n, &backward, status));
    reduce_slice(&m->reduce, first / MODEL_SLICE, weight_of(input, first, rows));
  }
  SBAG_TRY(sbag_step_backward_begin(m->slots[0].step, n->pooled_grad, status));
  return reduce_slices_done(&m->reduce, status);
}

/* What all gradients, dense and sparse, are multiplied by: they were divided by the number of samples, which
 * `scale` mends where that is not the weight; and clipping as torch's clip_grad_norm_. Every rank comes to
 * the same number. */
static sbag_code_t grad_factor(model_t *m, sbag_step_h step, double scale, double *factor,
                               sbag_status_t *status) {
  *factor = scale;
  if (m->clip_norm == 0.0) return SBAG_OK;
  double sparse = 0.0, dense = 0.0;
  m->dense->ops->norm_squared(m->dense, m->network->params.grad, m->network->params.count, &dense);
  SBAG_TRY(wait_for_device(m, status));
  SBAG_TRY(sbag_step_grad_norm_squared(step, &sparse, status));
  double norm = scale * sqrt(sparse + dense);
  if (!isfinite(norm))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "the gradients' norm is %g: nothing was updated; a lower learning rate may help", norm);
  double wanted = m->clip_norm / (norm + 1e-6);
  if (wanted < 1.0) *factor = scale * wanted;
  return SBAG_OK;
}

static void update_dense(model_t *m, int64_t step, double lr_factor, double grad_scale) {
  params_t *params = &m->network->params;
  dense_optimizer_step_t update = {.options = &m->optimizer,
                                   .step = step,
                                   .lr = m->optimizer.lr * lr_factor,
                                   .grad_scale = grad_scale,
                                   .count = params->count,
                                   .grad = params->grad,
                                   .weight = params->weight,
                                   .states = params->states};
  m->dense->ops->update(m->dense, &update);
}

/* ---- a training step ---- */

static void add_traffic(model_t *m, sbag_step_h step) {
  sbag_step_stats_t stats = sbag_step_stats(step);
  m->traffic.steps++;
  m->traffic.bytes_sent += stats.bytes_sent;
  m->traffic.lookups += stats.lookups;
  m->traffic.owned_rows += stats.owned_rows;
  m->traffic.wire_error += stats.wire_error;
}

static void drop(model_slot_t *slot) {
  sbag_step_release(&slot->step);
  *slot = (model_slot_t){.taken = 0};
}

/* The older step has ended, one way or the other. */
static void drop_first(model_t *m) {
  drop(&m->slots[0]);
  m->slots[0] = m->slots[1];
  m->slots[1] = (model_slot_t){.taken = 0};
}

static sbag_code_t check_order(const model_t *m, int computed, const char *call, sbag_status_t *status) {
  if (m->slots[0].taken && m->slots[0].computed == computed) return SBAG_OK;
  return status_set(status, SBAG_ERR_STATE,
                    "model: %s: steps are begun, computed and finished in this order, the older one first",
                    call);
}

static sbag_code_t begin(model_t *m, const model_batch_t *batch, int64_t step, sbag_status_t *status) {
  if (batch->global_samples < 1)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "model: a training step on %lld samples; the global batch needs one at least",
                      (long long)batch->global_samples);
  model_slot_t *slot = &m->slots[m->slots[0].taken];
  if (slot->taken)
    return status_set(status, SBAG_ERR_STATE, "model: %d steps are under way already; finish one first",
                      (int)MODEL_STEPS_MAX);
  SBAG_TRY(take_batch(m, batch, 1, status));
  *slot = (model_slot_t){.batch = *batch, .number = step};
  slot->input = m->slots[0].taken ? 1 - m->slots[0].input : 0;
  SBAG_TRY(take_input(m, batch, &m->inputs[slot->input], status));
  SBAG_TRY(sbag_collection_prefetch(m->collection, batch->features, 0, &slot->step, status));
  slot->taken = 1;
  return SBAG_OK;
}

/* Brings the next batch's ids on their way, or home. What all ranks refuse in it is the next step's error,
 * not this one's; a comm that broke is told by whoever uses it next. */
static void push_next(model_t *m, sbag_code_t (*push)(sbag_step_h step, sbag_status_t *status)) {
  model_slot_t *next = &m->slots[1];
  if (!next->taken || next->open || next->step == NULL) return;
  status_clear(&next->refused);
  if (push(next->step, &next->refused) == SBAG_OK)
    next->open = push == sbag_step_forward_begin;
  else
    sbag_step_release(&next->step);
}

/* The first step of a run, or one whose begin nothing has followed. */
static sbag_code_t open_first(model_t *m, sbag_status_t *status) {
  model_slot_t *slot = &m->slots[0];
  if (slot->step == NULL) {
    if (status != NULL) *status = slot->refused;
    return slot->refused.code;
  }
  if (slot->open) return SBAG_OK;
  slot->open = 1;
  return sbag_step_forward_begin(slot->step, status);
}

static sbag_code_t compute(model_t *m, model_slot_t *slot, sbag_status_t *status) {
  const model_batch_t *batch = &slot->batch;
  const model_input_t *input = &m->inputs[slot->input];
  network_pass_t pass = {.rows = batch->samples,
                         .first_sample = batch->first_sample,
                         .step = slot->number,
                         .training = 1,
                         .between = between,
                         .between_user = m->comm};
  const reduce_deal_t deal = {.samples = batch->samples,
                              .first_sample = batch->first_sample,
                              .global_samples = batch->global_samples};
  SBAG_TRY(open_first(m, status));
  SBAG_TRY(make_room(m, batch, 1, status));
  SBAG_TRY(reduce_begin(&m->reduce, &deal, status));
  pass.values = dense_values(m, input);
  m->dense->ops->input_ready(m->dense);
  m->network->ops->begin(m->network, &pass); /* while vectors are on their way */
  SBAG_TRY(collection_forward_end(slot->step, m->network->pooled, status));
  push_next(m, sbag_step_advance);
  m->network->ops->forward(m->network, &pass);
  SBAG_TRY(m->reproducible ? backward_in_slices(m, batch, input, &pass, status)
                           : backward_in_buckets(m, batch, input, &pass, status));
  between(m->comm, "step"); /* what it began moves once more */
  push_next(m, sbag_step_forward_begin);
  slot->computed = 1;
  return SBAG_OK;
}

static sbag_code_t finish(model_t *m, const model_slot_t *slot, double lr_factor, double *loss,
                          sbag_status_t *status) {
  double loss_sum = 0.0, weight = 0.0, factor = 1.0, samples = (double)slot->batch.global_samples;
  push_next(m, sbag_step_forward_begin); /* if it was begun only now */
  SBAG_TRY(sbag_step_backward_end(slot->step, NULL, status));
  SBAG_TRY(reduce_end(&m->reduce, &loss_sum, &weight, status));
  if (!isfinite(loss_sum))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "the loss is %g: nothing was updated; look for values in the data that are not finite, "
                      "or lower the learning rate",
                      loss_sum);
  between(m->comm, "clipping");
  SBAG_TRY(grad_factor(m, slot->step, weight > 0.0 ? samples / weight : 1.0, &factor, status));
  SBAG_TRY(sbag_step_update(slot->step, lr_factor, factor, status)); /* the next batch's vectors start */
  between(m->comm, "update: dense");
  update_dense(m, slot->number, lr_factor, factor);
  between(m->comm, "step");
  add_traffic(m, slot->step);
  *loss = weight > 0.0 ? loss_sum / weight : 0.0;
  return SBAG_OK;
}

/* What a step calls is charged to its phases, the rest of it to "step". */
sbag_code_t model_train_begin(model_t *model, const model_batch_t *batch, int64_t step,
                              sbag_status_t *status) {
  const char *phase = comm_trace_phase(&model->comm->trace, "step");
  sbag_code_t code = begin(model, batch, step, status);
  comm_trace_phase(&model->comm->trace, phase);
  return code;
}

static void fail_first(model_t *m) {
  reduce_abandon(&m->reduce);
  drop_first(m);
}

sbag_code_t model_train_compute(model_t *model, sbag_status_t *status) {
  SBAG_TRY(check_order(model, 0, "compute", status));
  const char *phase = comm_trace_phase(&model->comm->trace, "step");
  sbag_code_t code = compute(model, &model->slots[0], status);
  if (code != SBAG_OK) fail_first(model);
  comm_trace_phase(&model->comm->trace, phase);
  return code;
}

sbag_code_t model_train_finish(model_t *model, double lr_factor, double *loss, sbag_status_t *status) {
  SBAG_TRY(check_order(model, 1, "finish", status));
  const char *phase = comm_trace_phase(&model->comm->trace, "step");
  sbag_code_t code = finish(model, &model->slots[0], lr_factor, loss, status);
  if (code == SBAG_OK)
    drop_first(model);
  else
    fail_first(model);
  comm_trace_phase(&model->comm->trace, phase);
  return code;
}

void model_train_cancel(model_t *model) {
  drop(&model->slots[model->slots[1].taken]);
}

sbag_code_t model_train_step(model_t *model, const model_batch_t *batch, int64_t step, double lr_factor,
                             double *loss, sbag_status_t *status) {
  if (model->slots[0].taken)
    return status_set(status, SBAG_ERR_STATE, "model: a step is under way already; finish it first");
  SBAG_TRY(model_train_begin(model, batch, step, status));
  SBAG_TRY(model_train_compute(model, status));
  return model_train_finish(model, lr_factor, loss, status);
}

/* ---- the dense part by itself ---- */

/* The gradients, which may be of anything, are forgotten before the update: it takes as long with zeros. */
static sbag_code_t dense_alone(model_t *m, const model_batch_t *batch, sbag_status_t *status) {
  network_t *n = m->network;
  model_input_t *input = &m->inputs[MODEL_STEPS_MAX];
  network_pass_t pass = {.rows = batch->samples, .step = 1, .training = 1};
  double sum = 0.0;
  SBAG_TRY(n->ops->reserve(n, batch->samples, 1, status));
  SBAG_TRY(copy_input(m, batch, input, status));
  const network_targets_t targets = {.rows = pass.rows,
                                     .labels = input->labels,
                                     .weights = input->weights,
                                     .grad_scale = 1.0 / (double)batch->global_samples};
  const network_backward_t backward = {.pass = &pass, .rows = pass.rows};
  pass.values = dense_values(m, input);
  m->dense->ops->input_ready(m->dense);
  n->ops->begin(n, &pass);
  (void)n->ops->forward(n, &pass);
  n->ops->loss(n, &pass, &targets, &sum);
  SBAG_TRY(n->ops->backward_pooled(n, &backward, status));
  SBAG_TRY(n->ops->backward_rest(n, &backward, status));
  m->dense->kernel->ops->clear(m->dense->kernel, NULL, n->params.grad,
                               n->params.count * (int64_t)sizeof *n->params.grad);
  update_dense(m, 1, 0.0, 1.0);
  return dense_sync(m->dense, status);
}

sbag_code_t model_dense_step(model_t *model, const model_batch_t *batch, sbag_status_t *status) {
  if (model->slots[0].taken)
    return status_set(status, SBAG_ERR_STATE, "model: a step is under way already; finish it first");
  return dense_alone(model, batch, status);
}

int model_layer_count(const model_t *model) {
  return model->network->params.layer_count;
}

model_layer_t model_layer(const model_t *model, int layer) {
  const params_layer_t *l = &model->network->params.layers[layer];
  return (model_layer_t){.in = l->in, .out = l->out};
}

int64_t model_dense_count(const model_t *model) {
  return model->network->dense_count;
}

int model_dense_on_host(const model_t *model) {
  return model->dense->on_host;
}

/* ---- prediction ---- */

static network_pass_t prediction_pass(model_t *m, const model_batch_t *batch) {
  return (network_pass_t){.rows = batch->samples,
                          .first_sample = batch->first_sample,
                          .between = between,
                          .between_user = m->comm,
                          .values = dense_values(m, &m->inputs[MODEL_STEPS_MAX])};
}

static sbag_code_t predict_begin(model_t *m, const model_batch_t *batch, sbag_step_h *step,
                                 sbag_status_t *status) {
  if (m->slots[0].computed)
    return status_set(status, SBAG_ERR_STATE,
                      "model: a prediction within a training step; finish that first");
  SBAG_TRY(take_batch(m, batch, 0, status));
  return sbag_collection_prefetch(m->collection, batch->features,
                                  SBAG_FORWARD_READ_ONLY | SBAG_FORWARD_NO_INDICES, step, status);
}

static sbag_code_t predict_gather(model_t *m, const model_batch_t *batch, sbag_step_h step,
                                  sbag_status_t *status) {
  SBAG_TRY(take_input(m, batch, &m->inputs[MODEL_STEPS_MAX], status));
  SBAG_TRY(make_room(m, batch, 0, status));
  const network_pass_t pass = prediction_pass(m, batch);
  m->dense->ops->input_ready(m->dense);
  m->network->ops->begin(m->network, &pass); /* while vectors are on their way */
  return collection_forward_end(step, m->network->pooled, status);
}

static sbag_code_t predict_finish(model_t *m, const model_batch_t *batch, float *outputs,
                                  sbag_status_t *status) {
  const network_pass_t pass = prediction_pass(m, batch);
  const float *made = m->network->ops->forward(m->network, &pass);
  int64_t width = m->network->output_count * (int64_t)sizeof *outputs;
  const copy_part_t part = {outputs, made, batch->samples * width};
  m->dense->kernel->ops->copy(m->dense->kernel, NULL, &part, 1);
  return wait_for_device(m, status);
}

sbag_code_t model_predict_begin(model_t *model, const model_batch_t *batch, sbag_step_h *step,
                                sbag_status_t *status) {
  const char *phase = comm_trace_phase(&model->comm->trace, "step");
  sbag_code_t code = predict_begin(model, batch, step, status);
  comm_trace_phase(&model->comm->trace, phase);
  return code;
}

sbag_code_t model_predict_gather(model_t *model, const model_batch_t *batch, sbag_step_h step,
                                 sbag_status_t *status) {
  const char *phase = comm_trace_phase(&model->comm->trace, "step");
  sbag_code_t code = predict_gather(model, batch, step, status);
  comm_trace_phase(&model->comm->trace, phase);
  return code;
}

sbag_code_t model_predict_finish(model_t *model, const model_batch_t *batch, float *outputs,
                                 sbag_status_t *status) {
  const char *phase = comm_trace_phase(&model->comm->trace, "step");
  sbag_code_t code = predict_finish(model, batch, outputs, status);
  comm_trace_phase(&model->comm->trace, phase);
  return code;
}

sbag_code_t model_predict(model_t *model, const model_batch_t *batch, float *outputs, sbag_status_t *status) {
  sbag_step_h step = NULL;
  sbag_code_t code = model_predict_begin(model, batch, &step, status);
  if (code == SBAG_OK) code = sbag_step_forward_begin(step, status);
  if (code == SBAG_OK) code = model_predict_gather(model, batch, step, status);
  if (code == SBAG_OK) code = model_predict_finish(model, batch, outputs, status);
  sbag_step_release(&step);
  return code;
}
