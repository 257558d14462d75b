/* A step on one rank, which owns all that it asks for: bags are pooled straight from the shard, and a row's
 * gradient is summed straight from the caller's, when the row is updated. Only the backward sorts.
 *
 * Left to the general way: tables whose rows change as they are read (max_norm, rows that lag), rows that do
 * not stand in the table's order, and frequencies in reproducible mode, where a division more would round
 * otherwise than on several ranks. */
#include "exchange/route.h"

int solo_possible(const exchange_t *x) {
  if (x->ranks > 1 || (x->c.reproducible && x->any_freq)) return 0;
  for (int t = 0; t < x->tables; t++) {
    const store_table_t *table = &x->c.store->tables[t];
    if (table->has_max_norm || table->last_step != NULL) return 0;
    if (x->c.plan->tables[t].layout == SBAG_LAYOUT_SCRAMBLE) return 0;
  }
  return 1;
}

/* Whether the caller's arrays can be read as they are, if each index counts. */
static int can_be_direct(const route_t *r) {
  kernel_t *k = r->x->c.kernel;
  for (int f = 0; f < r->x->features; f++) {
    const sbag_bags_t *bags = &r->bags[f];
    if (bags->index_type != SBAG_I64) return 0;
    if (bags->index_count > 0 && !k->ops->reaches(k, bags->indices)) return 0;
    if (bags->per_sample_weights != NULL && !k->ops->reaches(k, bags->per_sample_weights)) return 0;
  }
  return 1;
}

sbag_code_t solo_begin(route_t *r, sbag_status_t *status) {
  int wanted = route_wants_winners(r) ? EDGE_ENTRIES : 0;
  SBAG_TRY(kernel_arena_begin(r->x->c.kernel, &r->arena, status));
  route_describe(r);
  int in_place = can_be_direct(r);
  if (!in_place) wanted |= EDGE_ROWS | EDGE_WEIGHTS;
  SBAG_TRY(route_build_edges(r, wanted, status));
  r->direct = in_place && r->info.plain;
  return r->direct || !in_place
             ? SBAG_OK
             : route_build_edges(r, wanted | EDGE_ROWS | EDGE_WEIGHTS | EDGE_AGAIN, status);
}

/* Arrays of one feature's entries as one of all edges, of which only the feature's own are there. */
static const void *from_entry(const void *array, int64_t first_entry, int64_t bytes) {
  return (const void *)((uintptr_t)array - (uintptr_t)(first_entry * bytes));
}

const int64_t *solo_rows_of(const route_t *r, int f) {
  return r->direct ? from_entry(r->bags[f].indices, r->first_entry[f], sizeof(int64_t)) : i64_of(r, BUF_ROW);
}

static const void *weights_of(const route_t *r, int f) {
  const void *given = r->bags[f].per_sample_weights;
  if (given == NULL) return NULL;
  return r->direct ? from_entry(given, r->first_entry[f], r->x->real_bytes) : real_of(r, BUF_WEIGHT);
}

sbag_code_t solo_forward(route_t *r, void *out, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const int64_t *slot_begin = i64_of(r, BUF_SLOT_BEGIN);
  const int wins = route_wants_winners(r);
  int64_t *winner;
  SBAG_TRY(route_take_i64(r, BUF_WINNER, wins ? r->bag_count * x->c.columns : 0, &winner, status));
  for (int f = 0; f < x->features; f++) {
    const exchange_feature_t *feature = &x->c.features[f];
    int is_max = feature->mode == SBAG_MAX;
    r->tasks[f] = (reduce_task_t){.op = is_max ? REDUCE_MAX : REDUCE_SUM,
                                  .dim = feature->dim,
                                  .segment_begin = f * r->bag_count,
                                  .segment_end = (f + 1) * r->bag_count,
                                  .begin = slot_begin,
                                  .term = solo_rows_of(r, f),
                                  .stride = feature->dim,
                                  .src = x->c.store->tables[feature->table].weight,
                                  .storage = x->c.store->tables[feature->table].storage,
                                  .scale = weights_of(r, f),
                                  .count_begin = feature->mode == SBAG_MEAN ? slot_begin : NULL,
                                  .out = real_at(x, out, feature->column),
                                  .out_stride = x->c.columns,
                                  .out_position = wins && is_max ? winner + feature->column : NULL};
  }
  k->ops->reduce(k, NULL, x->c.store->dtype, r->tasks, x->features);
  return SBAG_OK;
}

/* ---- backward ---- */

/* Rows in the order of keys: own_block, BUF_OWN_ROW; begin and member: which edges are a row's. */
static sbag_code_t sort_rows(route_t *r, const int64_t **begin, const int64_t **member,
                             sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t edges = r->info.edge_count, *row;
  unique_request_t u = {.count = edges,
                        .key = i64_of(r, BUF_DISTINCT),
                        .key_limit = plan_rank_key(x->c.plan, 1),
                        .distinct = i64_of(r, BUF_DISTINCT),
                        .bound = x->c.plan->block_key,
                        .bounds = x->tables + 1,
                        .place = r->own_block};
  SBAG_TRY(route_take_i64(r, BUF_ROW_BEGIN, edges + 1, &u.begin, status));
  SBAG_TRY(route_take_i64(r, BUF_MERGE_MEMBER, edges, &u.member, status));
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(route_take_i64(r, BUF_SCRATCH, unique_scratch(edges, 0, u.key_limit), &u.scratch, status));
  k->ops->unique(k, NULL, &u, &r->own_count);
  SBAG_TRY(k->ops->stream_sync(k, NULL, status));
  kernel_arena_release(k, &r->arena, mark);
  SBAG_TRY(route_take_i64(r, BUF_OWN_ROW, r->own_count, &row, status));
  for (int t = 0; t < x->tables; t++)
    k->ops->gather_i64(k, NULL, u.distinct + r->own_block[t], NULL, r->own_block[t + 1] - r->own_block[t],
                       -x->c.plan->block_key[t], row + r->own_block[t]);
  *begin = r->data[BUF_SEGMENTS] = u.begin;
  *member = u.member;
  return SBAG_OK;
}

/* An edge's gradient is a part of its row's by 1 over the row's edges in the feature. */
static sbag_code_t divide_by_frequency(route_t *r, const int64_t *begin, const int64_t *member, void *scale,
                                       sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t *of_slot, *feature;
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(route_take_i64(r, BUF_SLOT_NUMBER, r->slots, &of_slot, status));
  SBAG_TRY(route_take_i64(r, BUF_TERM_E, r->info.edge_count, &feature, status));
  for (int f = 0; f < x->features; f++)
    k->ops->fill_i64(k, NULL, of_slot + f * r->bag_count, r->bag_count, f, 0);
  k->ops->expand(k, NULL, i64_of(r, BUF_SLOT_BEGIN), of_slot, r->slots, feature);
  k->ops->frequency_scale(k, NULL, x->c.store->dtype, begin, r->own_count, member, feature, x->features,
                          x->by_freq, scale);
  kernel_arena_release(k, &r->arena, mark);
  return SBAG_OK;
}

/* Where each edge's gradient is in grad_out, and what it is multiplied by. */
static sbag_code_t make_terms(route_t *r, grad_terms_t *terms, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t edges = r->info.edge_count, *slot;
  slot_map_t map = route_slot_map(r);
  *terms = (grad_terms_t){.count = edges,
                          .slot_begin = i64_of(r, BUF_SLOT_BEGIN),
                          .weight = r->weighted ? real_of(r, BUF_WEIGHT) : NULL};
  SBAG_TRY(route_take_i64(r, BUF_TERM_A, edges, &terms->at, status));
  SBAG_TRY(route_take_real(r, BUF_SCALE_A, edges, &terms->scale, status));
  if (x->any_max) SBAG_TRY(route_take_i64(r, BUF_TERM_B, edges, &terms->select, status));
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(route_slots(r, &slot, status));
  terms->slot = slot;
  k->ops->grad_terms(k, NULL, x->c.store->dtype, &map, terms);
  kernel_arena_release(k, &r->arena, mark);
  return SBAG_OK;
}

static void describe_sums(route_t *r, const int64_t *begin, const int64_t *member, const grad_terms_t *terms,
                          const void *grad_out) {
  const exchange_t *x = r->x;
  for (int t = 0; t < x->tables; t++) {
    int64_t dim = x->c.store->tables[t].dim;
    r->sums[t] = (reduce_task_t){.op = REDUCE_SUM, .dim = dim, .out_stride = dim};
    if (!route_merges(r, t)) continue;
    r->sums[t].segment_end = r->own_block[t + 1] - r->own_block[t];
    r->sums[t].begin = begin + r->own_block[t];
    r->sums[t].order = member;
    r->sums[t].term = terms->at;
    r->sums[t].stride = 1;
    r->sums[t].src = grad_out;
    r->sums[t].scale = terms->scale;
    r->sums[t].select = terms->select;
    r->sums[t].select_at = terms->at;
    r->sums[t].winner = i64_of(r, BUF_WINNER);
  }
}

/* Each edge's dot product of its bag's gradient and its row; only sums have weights. */
static sbag_code_t weight_grads_of(route_t *r, const grad_terms_t *terms, const void *grad_out,
                                   void *const *weight_grads, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  void *edge_grad;
  const int64_t *slot_begin = i64_of(r, BUF_SLOT_BEGIN);
  SBAG_TRY(route_take_real(r, BUF_EDGE_GRAD, r->info.edge_count, &edge_grad, status));
  for (int f = 0; f < x->features; f++) {
    const exchange_feature_t *feature = &x->c.features[f];
    int64_t range[2] = {0, 0};
    copy_part_t ends[2] = {{&range[0], slot_begin + f * r->bag_count, sizeof range[0]},
                           {&range[1], slot_begin + (f + 1) * r->bag_count, sizeof range[1]}};
    if (weight_grads == NULL || weight_grads[f] == NULL) continue;
    k->ops->copy(k, NULL, ends, 2);
    SBAG_TRY(k->ops->stream_sync(k, NULL, status));
    if (feature->mode != SBAG_SUM) {
      k->ops->fill_real(k, NULL, x->c.store->dtype, real_at(x, edge_grad, range[0]), range[1] - range[0], 0);
      continue;
    }
    row_dots_t dots = {.table = feature->table,
                       .rows = x->c.store->tables[feature->table].weight,
                       .row = solo_rows_of(r, f) + range[0],
                       .count = range[1] - range[0],
                       .grad = grad_out,
                       .grad_at = terms->at + range[0],
                       .to = real_at(x, edge_grad, range[0])};
    SBAG_TRY(route_dot_rows(r, &dots, status));
  }
  return route_spread_weight_grads(r, edge_grad, weight_grads, status);
}

sbag_code_t solo_backward(route_t *r, const void *grad_out, void *const *weight_grads,
                          sbag_status_t *status) {
  const exchange_t *x = r->x;
  const int64_t *begin, *member;
  grad_terms_t terms;
  int wanted = EDGE_KEYS | EDGE_WEIGHTS | EDGE_AGAIN;
  if (r->flags & SBAG_FORWARD_WEIGHT_GRADS) wanted |= EDGE_ENTRIES;
  kernel_arena_release(x->c.kernel, &r->arena, 0);
  if (solo_sums_possible(r)) return solo_sums(r, grad_out, status);
  SBAG_TRY(route_build_edges(r, wanted, status));
  SBAG_TRY(sort_rows(r, &begin, &member, status));
  SBAG_TRY(make_terms(r, &terms, status));
  if (r->flags & SBAG_FORWARD_WEIGHT_GRADS)
    SBAG_TRY(weight_grads_of(r, &terms, grad_out, weight_grads, status));
  if (x->any_freq) SBAG_TRY(divide_by_frequency(r, begin, member, terms.scale, status));
  describe_sums(r, begin, member, &terms, grad_out);
  return SBAG_OK;
}
