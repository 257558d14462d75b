/* Gradients home: requesters send bags' gradients or rows' merged gradients, owners merge all of them by row.
 *
 * What comes in: grad_out [bags][columns]. What goes out: at the owner, one gradient a distinct row
 * (route_grads). Terms of a row are added feature by feature, within one by rank and in batch order: the
 * order of the global batch. */
#include "exchange/route.h"

/* ---- the requester ---- */

static int backward_pools(const route_t *r, const int64_t *counts, int peer) {
  return (counts[(int64_t)peer * r->words + WORD_FLAGS] & PEER_BACKWARD_POOLS) != 0;
}

/* Bags' gradients of all owners that take pools. */
static sbag_code_t send_pools(route_t *r, const void *grad_out, void *out, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  slot_map_t map = route_slot_map(r);
  int features = x->c.feature_count;
  int64_t n = 0;
  grad_terms_t terms = {
      .count = r->runs, .slot = i64_of(r, BUF_RUN_SLOT), .slot_begin = i64_of(r, BUF_SLOT_BEGIN)};
  SBAG_TRY(route_take_i64(r, BUF_TERM_A, r->runs, &terms.at, status));
  SBAG_TRY(route_take_real(r, BUF_SCALE_A, r->runs, &terms.scale, status));
  k->ops->grad_terms(k, NULL, x->c.store->dtype, &map, &terms);
  for (int o = 0; o < x->ranks; o++) {
    if (!backward_pools(r, r->out, o)) continue;
    const int64_t *run = r->run_block + (int64_t)o * (features + 1);
    for (int f = 0; f < features; f++) {
      const exchange_feature_t *feature = &x->c.features[f];
      if (run[f] == run[f + 1] || !layout_travels(r, feature->table, PHASE_BACKWARD)) continue;
      r->tasks[n++] =
          (reduce_task_t){.op = REDUCE_SUM,
                          .dim = feature->dim,
                          .segment_begin = run[f],
                          .segment_end = run[f + 1],
                          .term = terms.at,
                          .stride = 1,
                          .src = grad_out,
                          .scale = terms.scale,
                          .out = real_at(x, out, r->backward_out.vector_at[o * layout_stride(x) + f]),
                          .out_stride = feature->dim};
      if (feature->mode == SBAG_MAX)
        k->ops->gather_vectors_i64(k, NULL, i64_of(r, BUF_WINNER), terms.at + run[f], run[f + 1] - run[f],
                                   feature->dim,
                                   (int64_t *)out + r->backward_out.position_at[(int64_t)o * features + f]);
    }
  }
  k->ops->reduce(k, NULL, x->c.store->dtype, r->tasks, n);
  return SBAG_OK;
}

/* Rows' gradients, merged over this rank's batch, of all owners that take rows. */
static sbag_code_t send_rows(route_t *r, const void *grad_out, void *out, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  slot_map_t map = route_slot_map(r);
  int64_t edges = r->info.edge_count, n = 0;
  int64_t *slot, *begin, *member;
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
  for (int o = 0; o < x->ranks; o++) {
    if (backward_pools(r, r->out, o)) continue;
    for (int t = 0; t < x->tables; t++) {
      const int64_t *block = r->key_block + (int64_t)o * x->tables + t;
      if (block[0] == block[1] || !layout_travels(r, t, PHASE_BACKWARD)) continue;
      int64_t dim = x->c.store->tables[t].dim;
      r->tasks[n++] =
          (reduce_task_t){.op = REDUCE_SUM,
                          .dim = dim,
                          .segment_begin = block[0],
                          .segment_end = block[1],
                          .begin = begin,
                          .term = terms.at,
                          .stride = 1,
                          .src = grad_out,
                          .scale = terms.scale,
                          .select = terms.select,
                          .select_at = terms.at,
                          .winner = x->any_max ? i64_of(r, BUF_WINNER) : NULL,
                          .out = real_at(x, out, r->backward_out.vector_at[o * layout_stride(x) + t]),
                          .out_stride = dim};
    }
  }
  k->ops->reduce(k, NULL, x->c.store->dtype, r->tasks, n);
  return SBAG_OK;
}

static sbag_code_t send_grads(route_t *r, const void *grad_out, sbag_status_t *status) {
  exchange_t *x = r->x;
  void *out, *in;
  int pools = 0;
  layout_make(r, r->out, PHASE_BACKWARD, &r->backward_out);
  layout_make(r, r->in, PHASE_BACKWARD, &r->backward_in);
  SBAG_TRY(route_take_bytes(r, BUF_VECTORS_OUT, r->backward_out.begin[x->ranks], &out, status));
  SBAG_TRY(route_take_bytes(r, BUF_GRADS_IN, r->backward_in.begin[x->ranks], &in, status));
  for (int o = 0; o < x->ranks; o++) pools += backward_pools(r, r->out, o);
  if (pools > 0) SBAG_TRY(send_pools(r, grad_out, out, status));
  kernel_arena_release(x->c.kernel, &r->arena, 0);
  if (pools < x->ranks) SBAG_TRY(send_rows(r, grad_out, out, status));
  SBAG_TRY(layout_exchange_begin(r, &r->backward_out, out, &r->backward_in, in, status));
  return comm_wait(x->c.comm, &r->request, "backward: gradients", status);
}

/* ---- the owner ---- */

/* What adds to the owned rows: one item an incoming edge (pools) or key (rows). */
typedef struct merge_items {
  int64_t count;
  int64_t *own; /* owned distinct row; given back (mark) once the items are sorted */
  size_t mark;
  int64_t *member;    /* room for the sorted order */
  int64_t *at;        /* vector offset of the gradient */
  int64_t *select;    /* max: the edge's position, else -1 */
  int64_t *select_at; /* max: where the bag's winners are */
  int64_t *feature;
  void *scale;
} merge_items_t;

static int merges(const route_t *r, int table) {
  return r->x->c.store->tables[table].trainable;
}

static int64_t count_items(const route_t *r, int64_t *most_runs) {
  const exchange_t *x = r->x;
  int64_t count = 0;
  *most_runs = 0;
  for (int p = 0; p < x->ranks; p++) {
    const int64_t *words = r->in + (int64_t)p * r->words;
    int pools = backward_pools(r, r->in, p);
    for (int f = 0; pools && f < x->c.feature_count; f++) {
      if (!merges(r, x->c.features[f].table)) continue;
      count += words_edges(r, words, f);
      int64_t runs = words_runs(r, words, f);
      if (runs > *most_runs) *most_runs = runs;
    }
    for (int t = 0; !pools && t < x->tables; t++)
      if (merges(r, t)) count += words_keys(words, t);
  }
  return count;
}

static sbag_code_t take_items(route_t *r, int64_t count, merge_items_t *items, sbag_status_t *status) {
  const exchange_t *x = r->x;
  int64_t max_count = x->any_max ? count : 0;
  SBAG_TRY(route_take_i64(r, BUF_TERM_B, count, &items->at, status));
  SBAG_TRY(route_take_i64(r, BUF_TERM_C, max_count, &items->select, status));
  SBAG_TRY(route_take_i64(r, BUF_TERM_D, max_count, &items->select_at, status));
  SBAG_TRY(route_take_i64(r, BUF_TERM_E, x->any_freq ? count : 0, &items->feature, status));
  SBAG_TRY(route_take_real(r, BUF_SCALE_A, count, &items->scale, status));
  SBAG_TRY(route_take_i64(r, BUF_MERGE_MEMBER, count, &items->member, status));
  return route_take_i64(r, BUF_TERM_A, count, &items->own, status);
}

static void add_edges(route_t *r, int peer, int f, int64_t *run_at, merge_items_t *items) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int features = x->c.feature_count;
  const exchange_feature_t *feature = &x->c.features[f];
  const int64_t *run = r->in_run_block + (int64_t)peer * (features + 1) + f;
  const int64_t *edge = r->in_edge_block + (int64_t)peer * (features + 1) + f;
  const int64_t *run_begin = i64_of(r, BUF_IN_RUN_BEGIN) + run[0];
  int64_t runs = run[1] - run[0], count = edge[1] - edge[0], n = items->count;
  k->ops->gather_i64(k, NULL, i64_of(r, BUF_IN_EDGE_OWN) + edge[0], NULL, count, 0, items->own + n);
  k->ops->fill_i64(k, NULL, run_at, runs, r->backward_in.vector_at[peer * layout_stride(x) + f],
                   feature->dim);
  k->ops->expand(k, NULL, run_begin, run_at, runs, items->at + n);
  if (route_words(r, r->in, peer)[WORD_FLAGS] & PEER_WEIGHTS) {
    copy_part_t weights = {real_at(x, items->scale, n), real_at(x, real_of(r, BUF_IN_WEIGHT), edge[0]),
                           count * x->real_bytes};
    k->ops->copy(k, NULL, &weights, 1);
  } else {
    k->ops->fill_real(k, NULL, x->c.store->dtype, real_at(x, items->scale, n), count, 1);
  }
  if (x->any_freq) k->ops->fill_i64(k, NULL, items->feature + n, count, f, 0);
  if (feature->mode == SBAG_MAX) {
    int64_t position_at = r->backward_in.position_at[(int64_t)peer * features + f];
    k->ops->gather_i64(k, NULL, i64_of(r, BUF_IN_POSITION) + edge[0], NULL, count, 0, items->select + n);
    k->ops->fill_i64(k, NULL, run_at, runs, position_at, feature->dim);
    k->ops->expand(k, NULL, run_begin, run_at, runs, items->select_at + n);
  } else if (x->any_max) {
    k->ops->fill_i64(k, NULL, items->select + n, count, -1, 0);
    k->ops->fill_i64(k, NULL, items->select_at + n, count, 0, 0);
  }
  items->count += count;
}

static void add_keys(route_t *r, int peer, merge_items_t *items) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const int64_t *words = route_words(r, r->in, peer);
  int64_t key = r->in_key[peer];
  for (int t = 0; t < x->tables; t++) {
    int64_t count = words_keys(words, t), n = items->count;
    if (merges(r, t)) {
      k->ops->gather_i64(k, NULL, i64_of(r, BUF_OWN_WHICH) + key, NULL, count, 0, items->own + n);
      k->ops->fill_i64(k, NULL, items->at + n, count, r->backward_in.vector_at[peer * layout_stride(x) + t],
                       x->c.store->tables[t].dim);
      k->ops->fill_real(k, NULL, x->c.store->dtype, real_at(x, items->scale, n), count, 1);
      if (x->any_max) {
        k->ops->fill_i64(k, NULL, items->select + n, count, -1, 0);
        k->ops->fill_i64(k, NULL, items->select_at + n, count, 0, 0);
      }
      items->count += count; /* no features: frequencies exclude this kind */
    }
    key += count;
  }
}

static sbag_code_t gather_items(route_t *r, merge_items_t *items, sbag_status_t *status) {
  exchange_t *x = r->x;
  int64_t most_runs, *run_at, count = count_items(r, &most_runs);
  *items = (merge_items_t){0};
  SBAG_TRY(take_items(r, count, items, status));
  SBAG_TRY(route_take_i64(r, BUF_TERM_F, most_runs, &run_at, status));
  for (int f = 0; f < x->c.feature_count; f++) {
    if (!merges(r, x->c.features[f].table)) continue;
    for (int p = 0; p < x->ranks; p++)
      if (backward_pools(r, r->in, p)) add_edges(r, p, f, run_at, items);
  }
  for (int p = 0; p < x->ranks; p++)
    if (!backward_pools(r, r->in, p)) add_keys(r, p, items);
  return SBAG_OK;
}

/* Items by owned row: begin [own_count + 1] where each row's are among items->member. */
static sbag_code_t sort_items(route_t *r, const merge_items_t *items, int64_t **begin,
                              sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  SBAG_TRY(route_take_i64(r, BUF_SEGMENTS, r->own_count + 1, begin, status));
  k->ops->bucket(k, NULL, items->own, items->count, r->own_count, *begin, items->member);
  if (x->any_freq)
    k->ops->frequency_scale(k, NULL, x->c.store->dtype, *begin, r->own_count, items->member, items->feature,
                            x->by_freq, items->scale);
  return SBAG_OK;
}

static sbag_code_t merge_grads(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  merge_items_t items;
  int64_t *begin, elements = 0, n = 0;
  void *merged;
  SBAG_TRY(gather_items(r, &items, status));
  SBAG_TRY(sort_items(r, &items, &begin, status));
  for (int t = 0; t < x->tables; t++) {
    r->merged_at[t] = elements;
    if (merges(r, t)) elements += (r->own_block[t + 1] - r->own_block[t]) * x->c.store->tables[t].dim;
  }
  r->merged_at[x->tables] = elements;
  SBAG_TRY(route_take_real(r, BUF_MERGED, elements, &merged, status));
  for (int t = 0; t < x->tables; t++) {
    if (!merges(r, t) || r->own_block[t] == r->own_block[t + 1]) continue;
    int64_t dim = x->c.store->tables[t].dim;
    r->tasks[n++] = (reduce_task_t){.op = REDUCE_SUM,
                                    .dim = dim,
                                    .segment_begin = r->own_block[t],
                                    .segment_end = r->own_block[t + 1],
                                    .begin = begin,
                                    .order = items.member,
                                    .term = items.at,
                                    .stride = 1,
                                    .src = real_of(r, BUF_GRADS_IN),
                                    .scale = items.scale,
                                    .select = x->any_max ? items.select : NULL,
                                    .select_at = items.select_at,
                                    .winner = real_of(r, BUF_GRADS_IN),
                                    .out = real_at(x, merged, r->merged_at[t]),
                                    .out_stride = dim};
  }
  k->ops->reduce(k, NULL, x->c.store->dtype, r->tasks, n);
  return SBAG_OK;
}

static sbag_code_t backward(route_t *r, const void *grad_out, void *const *weight_grads,
                            sbag_status_t *status) {
  SBAG_TRY(send_grads(r, grad_out, status));
  if (r->flags & SBAG_FORWARD_WEIGHT_GRADS) SBAG_TRY(route_weight_grads(r, grad_out, weight_grads, status));
  SBAG_TRY(merge_grads(r, status));
  r->backward_done = 1;
  return SBAG_OK;
}

sbag_code_t route_backward(route_t *r, const void *grad_out, void *const *weight_grads,
                           sbag_status_t *status) {
  sbag_code_t code = backward(r, grad_out, weight_grads, status);
  kernel_arena_release(r->x->c.kernel, &r->arena, 0);
  return exchange_give_up(r->x, code, status);
}

sbag_code_t route_sparse_grad(route_t *r, int table, const int64_t **rows, const void **values,
                              int64_t *count, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  route_grads_t grads = route_grads(r, table);
  int64_t first = r->own_block[table], dim = x->c.store->tables[table].dim, *which, *row;
  void *value;
  SBAG_TRY(route_take_i64(r, BUF_SPARSE_WHICH, r->own_count, &which, status));
  SBAG_TRY(route_take_i64(r, BUF_SPARSE_ROW, r->own_count, &row, status));
  SBAG_TRY(route_take_real(r, BUF_SPARSE_VALUE, r->merged_at[x->tables], &value, status));
  k->ops->nonempty(k, NULL, grads.touched, grads.count, which + first, count);
  SBAG_TRY(k->ops->stream_sync(k, NULL, status));
  *rows = row + first;
  *values = real_at(x, value, r->merged_at[table]);
  k->ops->gather_i64(k, NULL, grads.rows, which + first, *count, 0, row + first);
  k->ops->global_rows(k, NULL, &x->c.plan->tables[table], x->c.store->tables[table].shard, row + first,
                      *count, row + first);
  reduce_task_t task = {.op = REDUCE_SUM,
                        .dim = dim,
                        .segment_end = *count,
                        .term = which + first,
                        .stride = dim,
                        .src = grads.grad,
                        .out = real_at(x, value, r->merged_at[table]),
                        .out_stride = dim};
  k->ops->reduce(k, NULL, x->c.store->dtype, &task, 1);
  return k->ops->stream_sync(k, NULL, status);
}

route_grads_t route_grads(const route_t *r, int table) {
  const exchange_t *x = r->x;
  int64_t first = r->own_block[table];
  if (!merges(r, table)) return (route_grads_t){0};
  return (route_grads_t){.count = r->own_block[table + 1] - first,
                         .rows = i64_of(r, BUF_OWN_ROW) + first,
                         .touched = i64_of(r, BUF_SEGMENTS) + first,
                         .grad = real_at(x, real_of(r, BUF_MERGED), r->merged_at[table])};
}
