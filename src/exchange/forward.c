/* Vectors back: owners renormalise, pool or gather, and send; requesters combine.
 *
 * What comes in: an open route. What goes out: out [bags][columns], and for max features the winners'
 * positions. */
#include "exchange/route.h"

/* ---- the owner ---- */

/* Rows as they are read: brought up to date, renormalised in place, or (read only) as renormalised copies.
 * `source` gets each owned row's vector index and base[t] where the vectors are. */
static sbag_code_t prepare_table(route_t *r, int t, int64_t *source, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const store_table_t *table = &x->c.store->tables[t];
  int64_t first = r->own_block[t], count = r->own_block[t + 1] - first;
  const int64_t *rows = i64_of(r, BUF_OWN_ROW) + first;
  SBAG_TRY(store_catch_up(x->c.store, t, rows, count, status));
  if (table->has_max_norm && (r->flags & SBAG_FORWARD_READ_ONLY)) {
    void *to = real_at(x, real_of(r, BUF_RENORMED), r->merged_at[t]);
    k->ops->renorm(k, NULL, x->c.store->dtype, table->weight, table->dim, rows, count, table->max_norm,
                   table->norm_type, to);
    k->ops->fill_i64(k, NULL, source + first, count, 0, 1);
    return SBAG_OK;
  }
  if (table->has_max_norm) SBAG_TRY(store_renorm(x->c.store, t, rows, count, status));
  k->ops->gather_i64(k, NULL, rows, NULL, count, 0, source + first);
  return SBAG_OK;
}

static const void *source_base(const route_t *r, int t) {
  const store_table_t *table = &r->x->c.store->tables[t];
  if (table->has_max_norm && (r->flags & SBAG_FORWARD_READ_ONLY))
    return real_at(r->x, real_of(r, BUF_RENORMED), r->merged_at[t]);
  return table->weight;
}

static sbag_code_t prepare_rows(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  int64_t *source, elements = 0;
  void *copies;
  SBAG_TRY(route_take_i64(r, BUF_OWN_SOURCE, r->own_count, &source, status));
  for (int t = 0; t < x->tables; t++) {
    r->merged_at[t] = elements; /* also where read-only copies stand */
    const store_table_t *table = &x->c.store->tables[t];
    if (table->has_max_norm && (r->flags & SBAG_FORWARD_READ_ONLY))
      elements += (r->own_block[t + 1] - r->own_block[t]) * table->dim;
  }
  SBAG_TRY(route_take_real(r, BUF_RENORMED, elements, &copies, status));
  for (int t = 0; t < x->tables; t++) SBAG_TRY(prepare_table(r, t, source, status));
  return SBAG_OK;
}

static int64_t pool_tasks(route_t *r, int peer, const int64_t *term, void *out, reduce_task_t *tasks) {
  exchange_t *x = r->x;
  int64_t n = 0;
  const int64_t *runs = r->in_run_block + (int64_t)peer * (x->c.feature_count + 1);
  for (int f = 0; f < x->c.feature_count; f++) {
    const exchange_feature_t *feature = &x->c.features[f];
    if (runs[f] == runs[f + 1] || !layout_travels(r, feature->table, PHASE_FORWARD)) continue;
    int64_t at = r->forward_out.vector_at[peer * layout_stride(x) + f];
    int64_t position_at = r->forward_out.position_at[(int64_t)peer * x->c.feature_count + f];
    int weighted = (route_words(r, r->in, peer)[WORD_FLAGS] & PEER_WEIGHTS) != 0;
    tasks[n++] =
        (reduce_task_t){.op = feature->mode == SBAG_MAX ? REDUCE_MAX : REDUCE_SUM,
                        .dim = feature->dim,
                        .segment_begin = runs[f],
                        .segment_end = runs[f + 1],
                        .begin = i64_of(r, BUF_IN_RUN_BEGIN),
                        .term = term,
                        .stride = feature->dim,
                        .src = source_base(r, feature->table),
                        .scale = weighted ? real_of(r, BUF_IN_WEIGHT) : NULL,
                        .position = x->any_max ? i64_of(r, BUF_IN_POSITION) : NULL,
                        .out = real_at(x, out, at),
                        .out_stride = feature->dim,
                        .out_position = feature->mode == SBAG_MAX ? (int64_t *)out + position_at : NULL};
  }
  return n;
}

static int64_t row_tasks(route_t *r, int peer, const int64_t *term, void *out, reduce_task_t *tasks) {
  exchange_t *x = r->x;
  int64_t n = 0, key = r->in_key[peer];
  const int64_t *words = route_words(r, r->in, peer);
  for (int t = 0; t < x->tables; t++) {
    int64_t count = words_keys(words, t), dim = x->c.store->tables[t].dim;
    if (count > 0 && layout_travels(r, t, PHASE_FORWARD))
      tasks[n++] =
          (reduce_task_t){.op = REDUCE_SUM,
                          .dim = dim,
                          .segment_begin = key,
                          .segment_end = key + count,
                          .term = term,
                          .stride = dim,
                          .src = source_base(r, t),
                          .out = real_at(x, out, r->forward_out.vector_at[peer * layout_stride(x) + t]),
                          .out_stride = dim};
    key += count;
  }
  return n;
}

static sbag_code_t fill_vectors(route_t *r, void *out, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t keys = r->in_key[x->ranks], edges = r->in_edge[x->ranks], *key_term, *edge_term, n = 0;
  const int64_t *source = i64_of(r, BUF_OWN_SOURCE);
  SBAG_TRY(route_take_i64(r, BUF_TERM_A, keys, &key_term, status));
  SBAG_TRY(route_take_i64(r, BUF_TERM_B, edges, &edge_term, status));
  k->ops->gather_i64(k, NULL, source, i64_of(r, BUF_OWN_WHICH), keys, 0, key_term);
  k->ops->gather_i64(k, NULL, source, i64_of(r, BUF_IN_EDGE_OWN), edges, 0, edge_term);
  for (int p = 0; p < x->ranks; p++) {
    if (route_words(r, r->in, p)[WORD_FLAGS] & PEER_FORWARD_POOLS)
      n += pool_tasks(r, p, edge_term, out, r->tasks + n);
    else
      n += row_tasks(r, p, key_term, out, r->tasks + n);
  }
  k->ops->reduce(k, NULL, x->c.store->dtype, r->tasks, n);
  return SBAG_OK;
}

static sbag_code_t forward_begin(route_t *r, sbag_status_t *status) {
  void *out, *in;
  layout_make(r, r->in, PHASE_FORWARD, &r->forward_out);
  layout_make(r, r->out, PHASE_FORWARD, &r->forward_in);
  SBAG_TRY(prepare_rows(r, status));
  SBAG_TRY(route_take_bytes(r, BUF_VECTORS_OUT, r->forward_out.begin[r->x->ranks], &out, status));
  SBAG_TRY(route_take_bytes(r, BUF_VECTORS_IN, r->forward_in.begin[r->x->ranks], &in, status));
  SBAG_TRY(fill_vectors(r, out, status));
  return layout_exchange_begin(r, &r->forward_out, out, &r->forward_in, in, status);
}

sbag_code_t route_forward_begin(route_t *r, sbag_status_t *status) {
  sbag_code_t code = forward_begin(r, status);
  kernel_arena_release(r->x->c.kernel, &r->arena, 0);
  return exchange_give_up(r->x, code, status);
}

/* ---- the requester ---- */

/* How slots are combined from terms: a term is a row or a partial pool in what came in. */
typedef struct combine_terms {
  const int64_t *begin, *order, *term, *position;
  const void *scale;
} combine_terms_t;

static int forward_pools(const route_t *r, int owner) {
  return (r->out[(int64_t)owner * r->words + WORD_FLAGS] & PEER_FORWARD_POOLS) != 0;
}

/* Where each distinct key's row came in. */
static sbag_code_t place_key_vectors(route_t *r, int64_t **at, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  SBAG_TRY(route_take_i64(r, BUF_VECTOR_AT, r->distinct, at, status));
  for (int o = 0; o < x->ranks; o++) {
    for (int t = 0; t < x->tables; t++) {
      const int64_t *block = r->key_block + (int64_t)o * x->tables + t;
      k->ops->fill_i64(k, NULL, *at + block[0], block[1] - block[0],
                       r->forward_in.vector_at[o * layout_stride(x) + t], x->c.store->tables[t].dim);
    }
  }
  return SBAG_OK;
}

/* Only rows came: each edge is a term, in bag order. */
static sbag_code_t combine_rows(route_t *r, combine_terms_t *c, sbag_status_t *status) {
  kernel_t *k = r->x->c.kernel;
  int64_t *term, *at = i64_of(r, BUF_VECTOR_AT);
  SBAG_TRY(route_take_i64(r, BUF_TERM_A, r->info.edge_count, &term, status));
  k->ops->gather_i64(k, NULL, at, i64_of(r, BUF_WHICH), r->info.edge_count, 0, term);
  *c = (combine_terms_t){
      .begin = i64_of(r, BUF_SLOT_BEGIN), .term = term, .scale = r->weighted ? real_of(r, BUF_WEIGHT) : NULL};
  return SBAG_OK;
}

/* Items to be dealt to slots: the edges of owners that sent rows, the runs of those that sent pools. */
typedef struct items {
  int64_t count, *slot, *term, *position;
  void *scale;
} items_t;

static void add_row_items(route_t *r, int owner, items_t *items) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t first = r->owner_edge[owner], count = r->owner_edge[owner + 1] - first, n = items->count;
  const int64_t *order = i64_of(r, BUF_ORDER) + first;
  k->ops->gather_i64(k, NULL, i64_of(r, BUF_SLOT), order, count, 0, items->slot + n);
  k->ops->gather_i64(k, NULL, i64_of(r, BUF_WHICH), order, count, 0, items->term + n);
  k->ops->gather_i64(k, NULL, i64_of(r, BUF_VECTOR_AT), items->term + n, count, 0, items->term + n);
  if (x->any_max)
    k->ops->edge_positions(k, NULL, order, i64_of(r, BUF_SLOT), i64_of(r, BUF_SLOT_BEGIN), count,
                           items->position + n);
  if (r->weighted)
    k->ops->gather_real(k, NULL, x->c.store->dtype, real_of(r, BUF_WEIGHT), order, count,
                        real_at(x, items->scale, n));
  items->count += count;
}

static void add_pool_items(route_t *r, int owner, items_t *items) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int features = x->c.feature_count;
  const int64_t *runs = r->run_block + (int64_t)owner * (features + 1);
  int64_t n = items->count, total = runs[features] - runs[0];
  k->ops->gather_i64(k, NULL, i64_of(r, BUF_RUN_SLOT) + runs[0], NULL, total, 0, items->slot + n);
  if (r->weighted) k->ops->fill_real(k, NULL, x->c.store->dtype, real_at(x, items->scale, n), total, 1);
  for (int f = 0; f < features; f++) {
    int64_t count = runs[f + 1] - runs[f], dim = x->c.features[f].dim;
    k->ops->fill_i64(k, NULL, items->term + n, count, r->forward_in.vector_at[owner * layout_stride(x) + f],
                     dim);
    if (x->any_max)
      k->ops->fill_i64(k, NULL, items->position + n, count,
                       -1 - r->forward_in.position_at[(int64_t)owner * features + f], -dim);
    n += count;
  }
  items->count += total;
}

static sbag_code_t take_items(route_t *r, items_t *items, sbag_status_t *status) {
  int64_t most = 0;
  for (int o = 0; o < r->x->ranks; o++)
    most +=
        forward_pools(r, o) ? r->owner_run[o + 1] - r->owner_run[o] : r->owner_edge[o + 1] - r->owner_edge[o];
  SBAG_TRY(route_take_i64(r, BUF_TERM_A, most, &items->slot, status));
  SBAG_TRY(route_take_i64(r, BUF_TERM_B, most, &items->term, status));
  SBAG_TRY(route_take_i64(r, BUF_TERM_C, r->x->any_max ? most : 0, &items->position, status));
  return route_take_real(r, BUF_SCALE_A, r->weighted ? most : 0, &items->scale, status);
}

static sbag_code_t combine_items(route_t *r, combine_terms_t *c, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  items_t items = {0};
  int64_t *slot;
  SBAG_TRY(route_slots(r, &slot, status));
  SBAG_TRY(take_items(r, &items, status));
  for (int o = 0; o < x->ranks; o++) {
    if (forward_pools(r, o))
      add_pool_items(r, o, &items);
    else
      add_row_items(r, o, &items);
  }
  int64_t *begin, *member;
  SBAG_TRY(route_take_i64(r, BUF_TERM_D, r->slots + 1, &begin, status));
  SBAG_TRY(route_take_i64(r, BUF_TERM_E, items.count, &member, status));
  k->ops->bucket(k, NULL, items.slot, items.count, r->slots, begin, member);
  *c = (combine_terms_t){.begin = begin,
                         .order = member,
                         .term = items.term,
                         .position = x->any_max ? items.position : NULL,
                         .scale = r->weighted ? items.scale : NULL};
  return SBAG_OK;
}

/* One task a feature: from what came in, or from the mirror by the rows themselves. */
static reduce_task_t combine_task(route_t *r, int f, const combine_terms_t *c, void *out, int64_t *winner) {
  exchange_t *x = r->x;
  const exchange_feature_t *feature = &x->c.features[f];
  const void *mirror = x->c.store->tables[feature->table].mirror;
  reduce_task_t task = {.op = feature->mode == SBAG_MAX ? REDUCE_MAX : REDUCE_SUM,
                        .dim = feature->dim,
                        .segment_begin = f * r->bag_count,
                        .segment_end = (f + 1) * r->bag_count,
                        .begin = c->begin,
                        .order = c->order,
                        .term = c->term,
                        .stride = 1,
                        .src = real_of(r, BUF_VECTORS_IN),
                        .scale = c->scale,
                        .count_begin = feature->mode == SBAG_MEAN ? i64_of(r, BUF_SLOT_BEGIN) : NULL,
                        .position = c->position,
                        .partial = real_of(r, BUF_VECTORS_IN),
                        .out = real_at(x, out, feature->column),
                        .out_stride = x->c.columns,
                        .out_position = feature->mode == SBAG_MAX ? winner + feature->column : NULL};
  if (mirror == NULL) return task;
  task.begin = i64_of(r, BUF_SLOT_BEGIN);
  task.order = NULL;
  task.term = i64_of(r, BUF_ROW);
  task.stride = feature->dim;
  task.src = mirror;
  task.scale = r->weighted ? real_of(r, BUF_WEIGHT) : NULL;
  task.position = NULL;
  return task;
}

static sbag_code_t forward_end(route_t *r, void *out, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t *at, *winner;
  combine_terms_t terms = {0};
  int pools = 0;
  SBAG_TRY(comm_wait(x->c.comm, &r->request, "forward: vectors", status));
  for (int o = 0; o < x->ranks; o++) pools |= forward_pools(r, o);
  SBAG_TRY(place_key_vectors(r, &at, status));
  SBAG_TRY(pools ? combine_items(r, &terms, status) : combine_rows(r, &terms, status));
  SBAG_TRY(route_take_i64(r, BUF_WINNER, x->any_max ? r->bag_count * x->c.columns : 0, &winner, status));
  for (int f = 0; f < x->c.feature_count; f++) r->tasks[f] = combine_task(r, f, &terms, out, winner);
  k->ops->reduce(k, NULL, x->c.store->dtype, r->tasks, x->c.feature_count);
  return k->ops->stream_sync(k, NULL, status);
}

sbag_code_t route_forward_end(route_t *r, void *out, sbag_status_t *status) {
  sbag_code_t code = forward_end(r, out, status);
  kernel_arena_release(r->x->c.kernel, &r->arena, 0);
  return exchange_give_up(r->x, code, status);
}

void route_max_rows(const route_t *r, int feature, int64_t *rows) {
  const exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const exchange_feature_t *f = &x->c.features[feature];
  k->ops->winner_rows(k, NULL, &r->bags[feature], r->first_entry[feature],
                      i64_of(r, BUF_SLOT_BEGIN) + feature * r->bag_count, r->bag_count, f->dim,
                      i64_of(r, BUF_ENTRY), i64_of(r, BUF_WINNER) + f->column, x->c.columns, rows);
}
