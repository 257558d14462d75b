/* Gradients home: requesters send bags' gradients or rows' merged gradients, owners merge all of them by row
 * (merge.c).
 *
 * What comes in: grad_out [bags][columns]. What goes out: at the owner, one gradient a distinct row
 * (route_grads). */
#include "exchange/route.h"

/* ---- the requester ---- */

/* The pools' gradients: their bags', divided where the bag is a mean. */
static int64_t pool_tasks(route_t *r, int owner, const grad_terms_t *terms, const void *grad_out,
                          reduce_task_t *tasks) {
  exchange_t *x = r->x;
  const layout_t *layout;
  void *out = layout_target(r, BACKWARD, owner, &layout);
  int64_t n = 0;
  for (int f = 0; f < x->features; f++) {
    const exchange_feature_t *feature = &x->c.features[f];
    int64_t block = (int64_t)owner * x->features + f;
    const int64_t *run = list_at(r, BACKWARD)->run_block + block;
    if (run[0] == run[1] || !route_travels(r, feature->table, BACKWARD)) continue;
    tasks[n++] = (reduce_task_t){.op = REDUCE_SUM,
                                 .dim = feature->dim,
                                 .segment_begin = run[0],
                                 .segment_end = run[1],
                                 .term = terms->at,
                                 .stride = 1,
                                 .src = grad_out,
                                 .scale = terms->scale,
                                 .out = real_at(x, out, layout->pool_at[block]),
                                 .out_stride = feature->dim};
  }
  return n;
}

/* Where each pool's winners are in their runs. */
static void find_places(route_t *r, int owner, const int64_t *at) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const layout_t *layout;
  (void)layout_target(r, BACKWARD, owner, &layout);
  for (int f = 0; f < x->features; f++) {
    if (x->mode[f] != SBAG_MAX || !route_travels(r, x->feature_table[f], BACKWARD)) continue;
    run_places_t runs = route_run_places(r, BACKWARD, owner, f);
    if (runs.first < runs.end)
      k->ops->positions_to_places(k, NULL, &runs, i64_of(r, BUF_WINNER), at,
                                  layout_places(r, owner) +
                                      layout->place_at[(int64_t)owner * x->features + f]);
  }
}

/* Bags' gradients of all pools. */
static sbag_code_t fill_pools(route_t *r, const void *grad_out, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  slot_map_t map = route_slot_map(r);
  int64_t n = 0, runs = list_at(r, BACKWARD)->run_block[(int64_t)x->ranks * x->features];
  if (runs == 0) return SBAG_OK;
  grad_terms_t terms = {
      .count = runs, .slot = list_i64(r, BACKWARD, LIST_RUN_SLOT), .slot_begin = i64_of(r, BUF_SLOT_BEGIN)};
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(route_take_i64(r, BUF_TERM_A, runs, &terms.at, status));
  SBAG_TRY(route_take_real(r, BUF_SCALE_A, runs, &terms.scale, status));
  k->ops->grad_terms(k, NULL, x->c.store->dtype, &map, &terms);
  for (int o = 0; o < x->ranks; o++) {
    n += pool_tasks(r, o, &terms, grad_out, r->tasks + n);
    if (x->any_max) find_places(r, o, terms.at);
  }
  k->ops->reduce(k, NULL, x->c.store->dtype, r->tasks, n);
  kernel_arena_release(k, &r->arena, mark);
  return SBAG_OK;
}

/* Keys that take a merged gradient, of one owner. */
static int64_t row_tasks(route_t *r, int owner, const int64_t *begin, const grad_terms_t *terms,
                         const void *grad_out, reduce_task_t *tasks) {
  exchange_t *x = r->x;
  const layout_t *layout;
  void *out = layout_target(r, BACKWARD, owner, &layout);
  const int64_t *words = route_words(r, r->out, owner);
  int64_t n = 0;
  for (int t = 0; t < x->tables; t++) {
    int64_t block = (int64_t)owner * x->tables + t, first, dim = x->c.store->tables[t].dim;
    int64_t count = words_rows(r, words, t, BACKWARD, &first), key = r->class_begin[block * CLASSES] + first;
    if (count == 0 || !route_travels(r, t, BACKWARD)) continue;
    tasks[n++] = (reduce_task_t){.op = REDUCE_SUM,
                                 .dim = dim,
                                 .segment_begin = key,
                                 .segment_end = key + count,
                                 .begin = begin,
                                 .term = terms->at,
                                 .stride = 1,
                                 .src = grad_out,
                                 .scale = terms->scale,
                                 .select = terms->select,
                                 .select_at = terms->at,
                                 .winner = x->any_max ? i64_of(r, BUF_WINNER) : NULL,
                                 .out = real_at(x, out, layout->row_at[block]),
                                 .out_stride = dim};
  }
  return n;
}

static int any_rows(const route_t *r) {
  const exchange_t *x = r->x;
  for (int o = 0; o < x->ranks; o++)
    for (int t = 0; t < x->tables; t++) {
      int64_t first;
      if (words_rows(r, route_words(r, r->out, o), t, BACKWARD, &first) > 0 && route_travels(r, t, BACKWARD))
        return 1;
    }
  return 0;
}

/* Rows' gradients, merged over this rank's batch. */
static sbag_code_t fill_rows(route_t *r, const void *grad_out, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  slot_map_t map = route_slot_map(r);
  int64_t edges = r->info.edge_count, n = 0, *slot, *begin, *member;
  if (!any_rows(r)) return SBAG_OK;
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(route_slots(r, &slot, status));
  SBAG_TRY(route_take_i64(r, BUF_ROW_BEGIN, r->distinct + 1, &begin, status));
  SBAG_TRY(route_take_i64(r, BUF_ROW_MEMBER, edges, &member, status));
  k->ops->bucket(k, NULL, i64_of(r, BUF_WHICH), edges, r->distinct, begin, member);
  grad_terms_t terms = {.count = edges,
                        .slot = slot,
                        .order = member,
                        .slot_begin = i64_of(r, BUF_SLOT_BEGIN),
                        .weight = r->weighted ? real_of(r, BUF_WEIGHT) : NULL};
  SBAG_TRY(route_take_i64(r, BUF_TERM_A, edges, &terms.at, status));
  SBAG_TRY(route_take_real(r, BUF_SCALE_A, edges, &terms.scale, status));
  if (x->any_max) SBAG_TRY(route_take_i64(r, BUF_TERM_B, edges, &terms.select, status));
  k->ops->grad_terms(k, NULL, x->c.store->dtype, &map, &terms);
  for (int o = 0; o < x->ranks; o++) n += row_tasks(r, o, begin, &terms, grad_out, r->tasks + n);
  k->ops->reduce(k, NULL, x->c.store->dtype, r->tasks, n);
  kernel_arena_release(k, &r->arena, mark);
  return SBAG_OK;
}

static sbag_code_t backward_begin(route_t *r, const void *grad_out, sbag_status_t *status) {
  SBAG_TRY(layout_take(r, BACKWARD, BUF_VECTORS_OUT, BUF_GRADS_IN, status));
  SBAG_TRY(fill_pools(r, grad_out, status));
  SBAG_TRY(fill_rows(r, grad_out, status));
  return layout_send(r, BACKWARD, status);
}

sbag_code_t route_backward_begin(route_t *r, const void *grad_out, sbag_status_t *status) {
  sbag_code_t code = r->x->solo ? SBAG_OK : backward_begin(r, grad_out, status);
  kernel_arena_release(r->x->c.kernel, &r->arena, 0);
  return exchange_give_up(r->x, code, status);
}

static sbag_code_t backward_end(route_t *r, const void *grad_out, void *const *weight_grads,
                                sbag_status_t *status) {
  SBAG_TRY(layout_receive(r, BACKWARD, "backward: gradients", status));
  if (r->flags & SBAG_FORWARD_WEIGHT_GRADS) SBAG_TRY(route_weight_grads(r, grad_out, weight_grads, status));
  kernel_arena_release(r->x->c.kernel, &r->arena, 0);
  return route_merge(r, status);
}

sbag_code_t route_backward_end(route_t *r, const void *grad_out, void *const *weight_grads,
                               sbag_status_t *status) {
  sbag_code_t code = r->x->solo ? solo_backward(r, grad_out, weight_grads, status)
                                : backward_end(r, grad_out, weight_grads, status);
  return exchange_give_up(r->x, code, status);
}
