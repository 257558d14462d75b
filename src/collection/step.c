/* One step of a collection: forward, backward, update. */
#include "collection/collection.h"
#include "collection/stage.h"

#include <math.h>
#include <string.h>

static struct sbag_step *free_step(sbag_collection_h c) {
  for (int s = 0; s < COLLECTION_STEPS; s++)
    if (c->steps[s].state == STEP_FREE) return &c->steps[s];
  return NULL;
}

static sbag_code_t check_flags(int flags, sbag_status_t *status) {
  const int no_backward = SBAG_FORWARD_READ_ONLY | SBAG_FORWARD_NO_BACKWARD;
  const int known = no_backward | SBAG_FORWARD_WEIGHT_GRADS | SBAG_FORWARD_NO_INDICES;
  if (flags & ~known)
    return status_set(status, SBAG_ERR_ARGUMENT, "forward: flags %d have bits beyond %d", flags, known);
  if ((flags & SBAG_FORWARD_WEIGHT_GRADS) && (flags & no_backward))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "forward: SBAG_FORWARD_WEIGHT_GRADS needs a backward, which the other flags exclude");
  if ((flags & SBAG_FORWARD_NO_INDICES) && !(flags & no_backward))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "forward: SBAG_FORWARD_NO_INDICES needs SBAG_FORWARD_READ_ONLY or "
                      "SBAG_FORWARD_NO_BACKWARD: a backward reads them");
  return SBAG_OK;
}

/* A read-only step has no backward: its update would write. */
static int effective_flags(const struct sbag_collection *c, int flags) {
  if ((flags & SBAG_FORWARD_READ_ONLY) || !c->options.weight_grad) flags |= SBAG_FORWARD_NO_BACKWARD;
  return flags;
}

/* Ids may run ahead of the previous step's update, vectors may not: what a step reads would depend on the
 * plan and the exchange, and not be what one step after the other computes. */
static int update_pending(const struct sbag_collection *c) {
  for (int i = 0; i < COLLECTION_STEPS; i++) {
    const struct sbag_step *s = &c->steps[i];
    if (s->state > STEP_PREFETCHED && s->state != STEP_UPDATED && !(s->flags & SBAG_FORWARD_NO_BACKWARD))
      return 1;
  }
  return 0;
}

/* Whose time it is from here on; returns whose it was. */
static const char *enter(const struct sbag_collection *c, const char *phase) {
  return comm_trace_phase(&c->context->comm->trace, phase);
}

static sbag_code_t start_vectors(struct sbag_step *s, sbag_status_t *status) {
  const char *phase = enter(s->collection, "exchange: pool and send vectors");
  sbag_code_t code = route_forward_begin(s->route, status);
  enter(s->collection, phase);
  return code;
}

static sbag_code_t begin_held(struct sbag_step *s, sbag_status_t *status) {
  if (s->state != STEP_BEGUN || !s->held) return SBAG_OK;
  s->held = 0;
  return start_vectors(s, status);
}

static void warn_dropped(sbag_collection_h c, const struct sbag_step *step) {
  int64_t dropped = route_stats(step->route).dropped;
  if (dropped > 0 && c->options.bounds_check == SBAG_BOUNDS_WARNING)
    context_log(c->context, SBAG_LOG_WARNING,
                "rank %d: %lld indices out of range were left out of their bags", comm_rank(c->context->comm),
                (long long)dropped);
}

static sbag_code_t check_state(const struct sbag_step *step, step_state_t wanted, const char *call,
                               const char *before, sbag_status_t *status) {
  if (step->state == wanted) return SBAG_OK;
  return status_set(status, SBAG_ERR_STATE, "%s: the step is not where it must be, right after %s", call,
                    before);
}

/* A failure that this rank alone knows of is kept in the route and told by the counts. */
sbag_code_t sbag_collection_prefetch(sbag_collection_h collection, const sbag_bags_t *batch, int flags,
                                     sbag_step_h *step, sbag_status_t *status) {
  sbag_collection_h c = collection;
  sbag_status_t own;
  status_clear(&own);
  int64_t bag_count = 0;
  struct sbag_step *s = free_step(c);
  sbag_code_t local = check_flags(flags, &own);
  if (local == SBAG_OK && s == NULL)
    local = status_set(&own, SBAG_ERR_STATE, "forward: %d steps are under way already; release one first",
                       COLLECTION_STEPS);
  if (s == NULL) s = &c->steps[COLLECTION_STEPS]; /* only to tell the others */
  if (s->state != STEP_FREE) /* and that one is held too: its counts may still be on their way */
    return status_set(status, SBAG_ERR_STATE, "forward: a refused step is held already; release it first");
  if (local == SBAG_OK) local = batch_check(c->features, c->feature_count, batch, &bag_count, &own);
  int effective = effective_flags(c, flags);
  const char *phase = enter(c, "exchange: route and send ids");
  sbag_code_t code = route_begin(s->route, batch, bag_count, effective, local, &own, status);
  enter(c, phase);
  SBAG_TRY(code);
  s->state = STEP_PREFETCHED;
  s->flags = effective;
  s->bag_count = bag_count;
  s->batch = batch;
  s->held = 0;
  *step = s;
  return SBAG_OK;
}

sbag_code_t sbag_step_advance(sbag_step_h step, sbag_status_t *status) {
  SBAG_TRY(check_state(step, STEP_PREFETCHED, "advance", "prefetch", status));
  const char *phase = enter(step->collection, "exchange: route and send ids");
  sbag_code_t code = route_advance(step->route, status);
  enter(step->collection, phase);
  if (code != SBAG_OK) step->state = STEP_REFUSED;
  return code;
}

sbag_code_t sbag_step_forward_begin(sbag_step_h step, sbag_status_t *status) {
  sbag_collection_h c = step->collection;
  SBAG_TRY(check_state(step, STEP_PREFETCHED, "forward_begin", "prefetch", status));
  const char *phase = enter(c, "exchange: route and send ids");
  sbag_code_t code = route_open(step->route, status);
  enter(c, phase);
  if (code != SBAG_OK) step->state = STEP_REFUSED;
  SBAG_TRY(code);
  step->held = update_pending(c);
  step->state = STEP_BEGUN;
  if (!step->held) SBAG_TRY(start_vectors(step, status));
  warn_dropped(c, step);
  return SBAG_OK;
}

sbag_code_t sbag_collection_forward_begin(sbag_collection_h collection, const sbag_bags_t *batch, int flags,
                                          sbag_step_h *step, sbag_status_t *status) {
  sbag_step_h made = NULL;
  SBAG_TRY(sbag_collection_prefetch(collection, batch, flags, &made, status));
  sbag_code_t code = sbag_step_forward_begin(made, status);
  if (code == SBAG_OK)
    *step = made;
  else
    sbag_step_release(&made);
  return code;
}

/* Bytes of the output, and of its gradient. */
static size_t output_bytes(const struct sbag_step *step) {
  const struct sbag_collection *c = step->collection;
  size_t value_bytes = kernel_dtype_bytes(c->options.dtype);
  return mem_array_bytes(step->bag_count, mem_array_bytes(c->output_dim, value_bytes));
}

static sbag_code_t forward_end(struct sbag_step *step, void *out, sbag_status_t *status) {
  sbag_collection_h c = step->collection;
  kernel_t *k = c->context->kernel;
  size_t bytes = output_bytes(step);
  void *there = NULL;
  SBAG_TRY(exchange_give_up(c->exchange, stage_out(k, &c->out_staged, out, bytes, &there, status), status));
  SBAG_TRY(route_forward_end(step->route, there, status));
  stage_give(k, out, there, bytes);
  return SBAG_OK;
}

sbag_code_t collection_forward_end(sbag_step_h step, void *out, sbag_status_t *status) {
  SBAG_TRY(check_state(step, STEP_BEGUN, "forward_end", "forward_begin", status));
  SBAG_TRY(begin_held(step, status)); /* the other step was given up, or its update comes later */
  const char *phase = enter(step->collection, "exchange: combine vectors");
  sbag_code_t code = forward_end(step, out, status);
  enter(step->collection, phase);
  SBAG_TRY(code);
  step->state = STEP_FORWARD_DONE;
  return SBAG_OK;
}

sbag_code_t sbag_step_forward_end(sbag_step_h step, void *out, sbag_status_t *status) {
  sbag_collection_h c = step->collection;
  kernel_t *k = c->context->kernel;
  SBAG_TRY(collection_forward_end(step, out, status));
  const char *phase = enter(c, "exchange: combine vectors"); /* the caller may read it at once */
  sbag_code_t code = exchange_give_up(c->exchange, k->ops->stream_sync(k, NULL, status), status);
  enter(c, phase);
  return code;
}

sbag_code_t sbag_step_max_indices(sbag_step_h step, int feature, int64_t *max_indices,
                                  sbag_status_t *status) {
  sbag_collection_h c = step->collection;
  if (step->state < STEP_FORWARD_DONE)
    return status_set(status, SBAG_ERR_STATE, "max_indices: forward_end comes first");
  if (feature < 0 || feature >= c->feature_count)
    return status_set(status, SBAG_ERR_ARGUMENT, "max_indices: feature %d is not in 0 to %d", feature,
                      c->feature_count - 1);
  if (c->features[feature].mode != SBAG_MAX)
    return status_set(status, SBAG_ERR_ARGUMENT, "max_indices: feature '%s' does not pool by max",
                      c->features[feature].name);
  if (step->flags & SBAG_FORWARD_NO_INDICES)
    return status_set(status, SBAG_ERR_STATE, "max_indices: the step was begun with SBAG_FORWARD_NO_INDICES");
  route_max_rows(step->route, feature, max_indices);
  return c->context->kernel->ops->stream_sync(c->context->kernel, NULL, status);
}

static sbag_code_t check_weight_grads(const struct sbag_step *step, void *const *weight_grads,
                                      sbag_status_t *status) {
  if (weight_grads == NULL || (step->flags & SBAG_FORWARD_WEIGHT_GRADS)) return SBAG_OK;
  return status_set(status, SBAG_ERR_STATE,
                    "backward: weight_grads needs SBAG_FORWARD_WEIGHT_GRADS in forward_begin");
}

sbag_code_t sbag_step_backward_begin(sbag_step_h step, const void *grad_out, sbag_status_t *status) {
  SBAG_TRY(check_state(step, STEP_FORWARD_DONE, "backward", "forward_end", status));
  if (step->flags & SBAG_FORWARD_NO_BACKWARD)
    return status_set(status, SBAG_ERR_STATE,
                      "backward: the step was begun without one (read-only or no-backward flag, "
                      "or a collection without weight_grad)");
  sbag_collection_h c = step->collection;
  const char *phase = enter(c, "exchange: send gradients");
  sbag_code_t code = exchange_give_up(
      c->exchange,
      stage_in(c->context->kernel, &step->grad_staged, grad_out, output_bytes(step), &step->grad_out, status),
      status);
  if (code == SBAG_OK) code = route_backward_begin(step->route, step->grad_out, status);
  enter(c, phase);
  SBAG_TRY(code);
  step->state = STEP_BACKWARD_BEGUN;
  return SBAG_OK;
}

/* Room for the gradients of one feature's weights. */
static size_t weight_bytes(const struct sbag_step *step, int feature) {
  return mem_array_bytes(step->batch[feature].index_count,
                         kernel_dtype_bytes(step->collection->options.dtype));
}

/* Where ops write the weights' gradients: all of those that they do not reach share one buffer. */
static sbag_code_t stage_weight_grads(struct sbag_step *step, void *const *weight_grads,
                                      sbag_status_t *status) {
  sbag_collection_h c = step->collection;
  kernel_t *k = c->context->kernel;
  size_t bytes = 0;
  for (int f = 0; f < c->feature_count; f++) {
    c->weight_grads[f] = weight_grads[f];
    if (weight_grads[f] != NULL && !k->ops->reaches(k, weight_grads[f])) bytes += weight_bytes(step, f);
  }
  if (bytes == 0) return SBAG_OK;
  SBAG_TRY(kernel_buffer_reserve(k, &c->out_staged, bytes, "the weights' gradients", status));
  char *room = c->out_staged.data;
  for (int f = 0; f < c->feature_count; f++) {
    if (weight_grads[f] == NULL || k->ops->reaches(k, weight_grads[f])) continue;
    c->weight_grads[f] = room;
    room += weight_bytes(step, f);
  }
  return SBAG_OK;
}

static sbag_code_t backward_end(struct sbag_step *step, void *const *weight_grads, sbag_status_t *status) {
  sbag_collection_h c = step->collection;
  kernel_t *k = c->context->kernel;
  if (weight_grads == NULL) return route_backward_end(step->route, step->grad_out, NULL, status);
  SBAG_TRY(exchange_give_up(c->exchange, stage_weight_grads(step, weight_grads, status), status));
  SBAG_TRY(route_backward_end(step->route, step->grad_out, c->weight_grads, status));
  for (int f = 0; f < c->feature_count; f++)
    stage_give(k, weight_grads[f], c->weight_grads[f], weight_bytes(step, f));
  /* the caller may read them at once */
  return exchange_give_up(c->exchange, k->ops->stream_sync(k, NULL, status), status);
}

sbag_code_t sbag_step_backward_end(sbag_step_h step, void *const *weight_grads, sbag_status_t *status) {
  SBAG_TRY(check_state(step, STEP_BACKWARD_BEGUN, "backward_end", "backward_begin", status));
  SBAG_TRY(check_weight_grads(step, weight_grads, status));
  const char *phase = enter(step->collection, "exchange: merge gradients");
  sbag_code_t code = backward_end(step, weight_grads, status);
  enter(step->collection, phase);
  SBAG_TRY(code);
  step->state = STEP_BACKWARD_DONE;
  return SBAG_OK;
}

sbag_code_t sbag_step_backward(sbag_step_h step, const void *grad_out, void *const *weight_grads,
                               sbag_status_t *status) {
  SBAG_TRY(check_weight_grads(step, weight_grads, status));
  SBAG_TRY(sbag_step_backward_begin(step, grad_out, status));
  return sbag_step_backward_end(step, weight_grads, status);
}

sbag_code_t sbag_step_sparse_grad(sbag_step_h step, int table, const int64_t **rows, const void **values,
                                  int64_t *count, sbag_status_t *status) {
  sbag_collection_h c = step->collection;
  if (step->state < STEP_BACKWARD_DONE)
    return status_set(status, SBAG_ERR_STATE, "sparse_grad: backward comes first");
  if (table < 0 || table >= c->table_count)
    return status_set(status, SBAG_ERR_ARGUMENT, "sparse_grad: table %d is not in 0 to %d", table,
                      c->table_count - 1);
  if (!c->store->tables[table].trainable)
    return status_set(status, SBAG_ERR_STATE, "sparse_grad: table '%s' is frozen and has no gradient",
                      c->store->tables[table].name);
  return route_sparse_grad(step->route, table, rows, values, count, status);
}

sbag_code_t sbag_step_grad_norm_squared(sbag_step_h step, double *norm_squared, sbag_status_t *status) {
  sbag_collection_h c = step->collection;
  if (step->state < STEP_BACKWARD_DONE)
    return status_set(status, SBAG_ERR_STATE, "grad_norm_squared: backward comes first");
  kernel_t *k = c->context->kernel;
  exact_sum_t sum;
  int64_t *numbers = c->norm, *non_finite = &numbers[EXACT_SUM_DIGITS];
  *non_finite = 0;
  exact_sum_clear(&sum);
  SBAG_TRY(exchange_give_up(c->exchange, route_take_sums(step->route, status), status));
  for (int t = 0; t < c->table_count; t++) {
    route_grads_t grads = route_grads(step->route, t);
    k->ops->norm_squared(k, NULL, c->options.dtype, grads.grad, grads.count, c->store->tables[t].dim, &sum,
                         non_finite);
  }
  SBAG_TRY(k->ops->stream_sync(k, NULL, status));
  exact_sum_carry(&sum);
  memcpy(numbers, sum.digit, sizeof sum.digit);
  SBAG_TRY(comm_allreduce(c->context->comm, numbers, EXACT_SUM_DIGITS + 1, COMM_I64, COMM_SUM,
                          "gradient's norm", status));
  memcpy(sum.digit, numbers, sizeof sum.digit);
  *norm_squared = *non_finite > 0 ? (double)NAN : exact_sum_value(&sum);
  return SBAG_OK;
}

/* With gradients that have been merged already, as somebody asked for them, or else as the rows are visited.
 */
static sbag_code_t update_tables(struct sbag_step *step, double lr_factor, double grad_scale,
                                 sbag_status_t *status) {
  sbag_collection_h c = step->collection;
  const kernel_ops_t *ops = c->context->kernel->ops;
  const reduce_task_t *sums = NULL;
  int taken = route_sums_taken(step->route), n = 0;
  if (!taken) SBAG_TRY(route_sums(step->route, &sums, status));
  for (int t = 0; t < c->table_count; t++) {
    const store_table_t *table = &c->store->tables[t];
    if (!table->trainable) continue;
    route_grads_t grads = route_grads(step->route, t);
    optimizer_update_t *update = &c->updates[n];
    SBAG_TRY(store_begin_update(c->store, t, table->optimizer.lr * lr_factor, grad_scale, grads.rows,
                                grads.count, update, status));
    update->touched = grads.touched;
    update->grad = grads.grad;
    if (taken)
      ops->update(c->context->kernel, NULL, update);
    else
      c->sums[n++] = sums[t];
  }
  if (!taken) ops->update_sums(c->context->kernel, NULL, c->updates, c->sums, n);
  return SBAG_OK;
}

static sbag_code_t update(struct sbag_step *step, double lr_factor, double grad_scale,
                          sbag_status_t *status) {
  sbag_collection_h c = step->collection;
  SBAG_TRY(exchange_give_up(c->exchange, update_tables(step, lr_factor, grad_scale, status), status));
  return exchange_refresh_mirrors(c->exchange, status);
}

sbag_code_t sbag_step_update(sbag_step_h step, double lr_factor, double grad_scale, sbag_status_t *status) {
  sbag_collection_h c = step->collection;
  SBAG_TRY(check_state(step, STEP_BACKWARD_DONE, "update", "backward", status));
  const char *phase = enter(c, "update: tables");
  sbag_code_t code = update(step, lr_factor, grad_scale, status);
  enter(c, phase);
  SBAG_TRY(code);
  step->state = STEP_UPDATED;
  for (int i = 0; i < COLLECTION_STEPS; i++) SBAG_TRY(begin_held(&c->steps[i], status));
  return SBAG_OK;
}

void sbag_step_release(sbag_step_h *step) {
  if (step == NULL || *step == NULL) return;
  route_release((*step)->route);
  (*step)->state = STEP_FREE;
  *step = NULL;
}

sbag_step_stats_t sbag_step_stats(sbag_step_h step) {
  const struct sbag_collection *c = step->collection;
  route_settle(step->route);
  sbag_step_stats_t stats = route_stats(step->route);
  for (int t = 0; t < c->table_count; t++) stats.owned_rows += route_grads(step->route, t).count;
  return stats;
}
