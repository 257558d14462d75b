/* Vectors back: owners renormalise, pool or gather, and send; requesters combine.
 *
 * What comes in: an open route. What goes out: out [bags][columns], and for max features the winners'
 * positions. */
#include "exchange/route.h"

/* ---- the owner ---- */

/* Whether max_norm applies to the values that are read, and not to the table's rows. */
static int reads_renormed(const route_t *r, int t) {
  const store_table_t *table = &r->x->c.store->tables[t];
  return table->has_max_norm &&
         ((r->flags & SBAG_FORWARD_READ_ONLY) != 0 || kernel_is_quantised(table->storage));
}

/* Rows as they are read: brought up to date, renormalised in place, or (read only) as renormalised copies.
 * `source` gets each owned row's vector index and base[t] where the vectors are. */
static sbag_code_t prepare_table(route_t *r, int t, int64_t *source, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const store_table_t *table = &x->c.store->tables[t];
  int64_t first = r->own_block[t], count = r->own_block[t + 1] - first;
  const int64_t *rows = i64_of(r, BUF_OWN_ROW) + first;
  SBAG_TRY(store_catch_up(x->c.store, t, rows, count, status));
  if (reads_renormed(r, t)) {
    void *to = real_at(x, real_of(r, BUF_RENORMED), r->merged_at[t]);
    k->ops->renorm(k, NULL, x->c.store->dtype, table->storage, table->weight, table->dim, rows, count,
                   table->max_norm, table->norm_type, to);
    k->ops->fill_i64(k, NULL, source + first, count, 0, 1);
    return SBAG_OK;
  }
  if (table->has_max_norm) SBAG_TRY(store_renorm(x->c.store, t, rows, count, status));
  k->ops->gather_i64(k, NULL, rows, NULL, count, 0, source + first);
  return SBAG_OK;
}

static const void *source_base(const route_t *r, int t) {
  const store_table_t *table = &r->x->c.store->tables[t];
  if (reads_renormed(r, t)) return real_at(r->x, real_of(r, BUF_RENORMED), r->merged_at[t]);
  return table->weight;
}

static sbag_storage_t source_storage(const route_t *r, int t) {
  const store_table_t *table = &r->x->c.store->tables[t];
  return source_base(r, t) == table->weight ? table->storage : SBAG_STORAGE_FULL;
}

static sbag_code_t prepare_rows(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  int64_t *source, elements = 0;
  void *copies;
  SBAG_TRY(route_take_i64(r, BUF_OWN_SOURCE, r->own_count, &source, status));
  for (int t = 0; t < x->tables; t++) {
    r->merged_at[t] = elements; /* also where read-only copies stand */
    const store_table_t *table = &x->c.store->tables[t];
    if (reads_renormed(r, t)) elements += (r->own_block[t + 1] - r->own_block[t]) * table->dim;
  }
  SBAG_TRY(route_take_real(r, BUF_RENORMED, elements, &copies, status));
  for (int t = 0; t < x->tables; t++) SBAG_TRY(prepare_table(r, t, source, status));
  return SBAG_OK;
}

reduce_task_t route_pool_task(const route_t *r, int peer, int f, const int64_t *term) {
  const exchange_t *x = r->x;
  const exchange_feature_t *feature = &x->c.features[f];
  const int64_t *run = r->in_list[in_phase(r, FORWARD)].run_block + (int64_t)peer * x->features + f;
  return (reduce_task_t){.op = feature->mode == SBAG_MAX ? REDUCE_MAX : REDUCE_SUM,
                         .dim = feature->dim,
                         .segment_begin = run[0],
                         .segment_end = run[1],
                         .begin = in_i64(r, FORWARD, IN_RUN_BEGIN),
                         .term = term,
                         .stride = feature->dim,
                         .src = source_base(r, feature->table),
                         .storage = source_storage(r, feature->table),
                         .scale = r->in_weighted ? real_of(r, in_buffer(r, FORWARD, IN_WEIGHT)) : NULL,
                         .position = x->any_max ? in_i64(r, FORWARD, IN_PLACE) : NULL,
                         .out_stride = feature->dim};
}

/* One task a block of pools of one peer. */
static int64_t pool_tasks(route_t *r, int peer, const int64_t *term, reduce_task_t *tasks) {
  exchange_t *x = r->x;
  const layout_t *layout;
  void *out = layout_target(r, FORWARD, peer, &layout);
  int64_t n = 0;
  for (int f = 0; f < x->features; f++) {
    const exchange_feature_t *feature = &x->c.features[f];
    int64_t block = (int64_t)peer * x->features + f;
    reduce_task_t task = route_pool_task(r, peer, f, term);
    if (task.segment_begin == task.segment_end || r->dense[feature->table] ||
        !route_travels(r, feature->table, FORWARD))
      continue;
    task.out = real_at(x, out, layout->pool_at[block]);
    if (feature->mode == SBAG_MAX) task.out_position = layout_places(r, peer) + layout->place_at[block];
    tasks[n++] = task;
  }
  return n;
}

static int64_t row_tasks(route_t *r, int peer, const int64_t *term, reduce_task_t *tasks) {
  exchange_t *x = r->x;
  const layout_t *layout;
  void *out = layout_target(r, FORWARD, peer, &layout);
  const int64_t *words = route_words(r, r->in, peer);
  int64_t n = 0;
  for (int t = 0; t < x->tables; t++) {
    int64_t first, count = words_rows(r, words, t, FORWARD, &first), dim = x->c.store->tables[t].dim;
    int64_t block = (int64_t)peer * x->tables + t;
    if (count == 0 || !route_travels(r, t, FORWARD)) continue;
    tasks[n++] = (reduce_task_t){.op = REDUCE_SUM,
                                 .dim = dim,
                                 .segment_begin = r->in_key[block] + first,
                                 .segment_end = r->in_key[block] + first + count,
                                 .term = term,
                                 .stride = dim,
                                 .src = source_base(r, t),
                                 .storage = source_storage(r, t),
                                 .out = real_at(x, out, layout->row_at[block]),
                                 .out_stride = dim};
  }
  return n;
}

static sbag_code_t fill_vectors(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t keys = r->in_key[(int64_t)x->ranks * x->tables], *key_term, *edge_term, n = 0;
  int64_t edges = in_list_at(r, FORWARD)->edge_block[(int64_t)x->ranks * x->features];
  const int64_t *source = i64_of(r, BUF_OWN_SOURCE);
  SBAG_TRY(route_take_i64(r, BUF_TERM_A, keys, &key_term, status));
  SBAG_TRY(route_take_i64(r, BUF_TERM_B, edges, &edge_term, status));
  k->ops->gather_i64(k, NULL, source, i64_of(r, BUF_OWN_WHICH), keys, 0, key_term);
  k->ops->gather_i64(k, NULL, source, in_i64(r, FORWARD, IN_EDGE), edges, 0, edge_term);
  for (int p = 0; p < x->ranks; p++) {
    n += pool_tasks(r, p, edge_term, r->tasks + n);
    n += row_tasks(r, p, key_term, r->tasks + n);
  }
  k->ops->reduce(k, NULL, x->c.store->dtype, r->tasks, n);
  return r->any_dense ? dense_forward_begin(r, edge_term, status) : SBAG_OK;
}

static sbag_code_t forward_begin(route_t *r, sbag_status_t *status) {
  SBAG_TRY(prepare_rows(r, status));
  SBAG_TRY(layout_take(r, FORWARD, BUF_VECTORS_OUT, BUF_VECTORS_IN, status));
  SBAG_TRY(fill_vectors(r, status));
  return layout_send(r, FORWARD, status);
}

sbag_code_t route_forward_begin(route_t *r, sbag_status_t *status) {
  sbag_code_t code = r->x->solo ? SBAG_OK : forward_begin(r, status);
  kernel_arena_release(r->x->c.kernel, &r->arena, 0);
  return exchange_give_up(r->x, code, status);
}

/* ---- the requester ---- */

/* How slots are combined from terms: a term is a row or a partial pool in what came in. */
typedef struct combine_terms {
  const int64_t *begin, *order, *term, *position;
  const void *scale;
} combine_terms_t;

/* Where each distinct key's row came in; -1 for keys whose edges came in pools. */
static sbag_code_t place_key_vectors(route_t *r, int64_t **at, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  SBAG_TRY(route_take_i64(r, BUF_VECTOR_AT, r->distinct, at, status));
  for (int64_t b = 0; b < (int64_t)x->ranks * x->tables; b++) {
    int64_t element = r->layout_in[FORWARD].row_at[b], dim = x->c.store->tables[b % x->tables].dim;
    for (int c = 0; c < CLASSES; c++) {
      int64_t i = b * CLASSES + c;
      int row = c == CLASS_ROW_POOL || c == CLASS_ROW_ROW;
      r->block_first[i] = row ? element : -1;
      r->block_step[i] = row ? dim : 0;
      if (row) element += (r->class_begin[i + 1] - r->class_begin[i]) * dim;
    }
  }
  k->ops->fill_blocks(k, NULL, r->class_begin, r->block_first, r->block_step,
                      (int64_t)x->ranks * x->tables * CLASSES, *at);
  return SBAG_OK;
}

/* Only rows came: each edge is a term, in bag order. */
static sbag_code_t combine_rows(route_t *r, combine_terms_t *c, sbag_status_t *status) {
  kernel_t *k = r->x->c.kernel;
  int64_t *term, *at = i64_of(r, BUF_VECTOR_AT);
  SBAG_TRY(route_take_i64(r, BUF_TERM_A, r->info.edge_count, &term, status));
  if (r->any_rows) /* else mirrors serve all */
    k->ops->gather_i64(k, NULL, at, i64_of(r, BUF_WHICH), r->info.edge_count, 0, term);
  *c = (combine_terms_t){
      .begin = i64_of(r, BUF_SLOT_BEGIN), .term = term, .scale = r->weighted ? real_of(r, BUF_WEIGHT) : NULL};
  return SBAG_OK;
}

/* Items to be dealt to slots: all edges, those that came in pools to a slot behind all; then all runs. */
typedef struct items {
  int64_t count, *slot, *term, *position;
  void *scale;
} items_t;

static sbag_code_t add_row_items(route_t *r, items_t *items, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t edges = r->info.edge_count, *slot, *number;
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(route_slots(r, &slot, status));
  k->ops->gather_i64(k, NULL, i64_of(r, BUF_VECTOR_AT), i64_of(r, BUF_WHICH), edges, 0, items->term);
  k->ops->select_i64(k, NULL, items->term, slot, r->slots, edges, items->slot);
  if (x->any_max) {
    SBAG_TRY(route_take_i64(r, BUF_SCRATCH, edges, &number, status));
    k->ops->fill_i64(k, NULL, number, edges, 0, 1);
    k->ops->edge_positions(k, NULL, number, slot, i64_of(r, BUF_SLOT_BEGIN), edges, items->position);
  }
  if (r->weighted) {
    copy_part_t part = {items->scale, real_of(r, BUF_WEIGHT), edges * x->real_bytes};
    k->ops->copy(k, NULL, &part, 1);
  }
  kernel_arena_release(k, &r->arena, mark);
  items->count = edges;
  return SBAG_OK;
}

/* Runs are by (owner, feature), as their pools are. */
static void add_pool_items(route_t *r, items_t *items) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const int64_t *run = list_at(r, FORWARD)->run_block;
  const layout_t *in = &r->layout_in[FORWARD];
  int64_t blocks = (int64_t)x->ranks * x->features, runs = run[blocks], n = items->count;
  for (int64_t b = 0; b < blocks; b++) {
    r->block_first[b] = in->pool_at[b];
    r->block_step[b] = x->c.features[b % x->features].dim;
  }
  k->ops->gather_i64(k, NULL, list_i64(r, FORWARD, LIST_RUN_SLOT), NULL, runs, 0, items->slot + n);
  k->ops->fill_blocks(k, NULL, run, r->block_first, r->block_step, blocks, items->term + n);
  if (r->weighted) k->ops->fill_real(k, NULL, x->c.store->dtype, real_at(x, items->scale, n), runs, 1);
  if (x->any_max) {
    for (int64_t b = 0; b < blocks; b++) {
      r->block_first[b] = -1 - in->place_at[b];
      r->block_step[b] = -x->c.features[b % x->features].dim;
    }
    k->ops->fill_blocks(k, NULL, run, r->block_first, r->block_step, blocks, items->position + n);
  }
  items->count += runs;
}

/* Places in runs become positions in bags. */
static void find_positions(route_t *r) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  for (int o = 0; o < x->ranks; o++)
    for (int f = 0; f < x->features; f++) {
      if (x->mode[f] != SBAG_MAX || !route_travels(r, x->feature_table[f], FORWARD)) continue;
      run_places_t runs = route_run_places(r, FORWARD, o, f);
      int64_t at = r->layout_in[FORWARD].place_at[(int64_t)o * x->features + f];
      if (runs.first < runs.end) k->ops->places_to_positions(k, NULL, &runs, i64_of(r, BUF_PLACES_IN) + at);
    }
}

static sbag_code_t combine_items(route_t *r, combine_terms_t *c, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  items_t items = {0};
  int64_t most = r->info.edge_count + list_at(r, FORWARD)->run_block[(int64_t)x->ranks * x->features];
  int64_t *begin, *member;
  SBAG_TRY(route_take_i64(r, BUF_TERM_A, most, &items.slot, status));
  SBAG_TRY(route_take_i64(r, BUF_TERM_B, most, &items.term, status));
  SBAG_TRY(route_take_i64(r, BUF_TERM_C, x->any_max ? most : 0, &items.position, status));
  SBAG_TRY(route_take_real(r, BUF_SCALE_A, r->weighted ? most : 0, &items.scale, status));
  if (r->any_rows) SBAG_TRY(add_row_items(r, &items, status));
  add_pool_items(r, &items);
  if (x->any_max) find_positions(r);
  SBAG_TRY(route_take_i64(r, BUF_TERM_D, r->slots + 2, &begin, status));
  SBAG_TRY(route_take_i64(r, BUF_TERM_E, items.count, &member, status));
  k->ops->bucket(k, NULL, items.slot, items.count, r->slots + 1, begin, member);
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
                        .partial = i64_of(r, BUF_PLACES_IN),
                        .out = real_at(x, out, feature->column),
                        .out_stride = x->c.columns,
                        .out_position =
                            feature->mode == SBAG_MAX && winner != NULL ? winner + feature->column : NULL};
  if (mirror == NULL) return task;
  task.begin = i64_of(r, BUF_SLOT_BEGIN);
  task.order = NULL;
  task.term = i64_of(r, BUF_ROW);
  task.stride = feature->dim;
  task.src = mirror;
  task.storage = x->c.store->tables[feature->table].storage;
  task.scale = r->weighted ? real_of(r, BUF_WEIGHT) : NULL;
  task.position = NULL;
  return task;
}

static sbag_code_t forward_end(route_t *r, void *out, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const int wins = route_wants_winners(r);
  int64_t *at, *winner;
  combine_terms_t terms = {0};
  SBAG_TRY(layout_receive(r, FORWARD, "forward: vectors", status));
  if (r->any_rows || (r->flags & SBAG_FORWARD_WEIGHT_GRADS)) SBAG_TRY(place_key_vectors(r, &at, status));
  int pools = list_at(r, FORWARD)->run_block[(int64_t)x->ranks * x->features] > 0;
  SBAG_TRY(pools ? combine_items(r, &terms, status) : combine_rows(r, &terms, status));
  SBAG_TRY(route_take_i64(r, BUF_WINNER, wins ? r->bag_count * x->c.columns : 0, &winner, status));
  int64_t n = 0;
  for (int f = 0; f < x->features; f++)
    if (!r->dense[x->feature_table[f]]) r->tasks[n++] = combine_task(r, f, &terms, out, wins ? winner : NULL);
  k->ops->reduce(k, NULL, x->c.store->dtype, r->tasks, n);
  return r->any_dense ? dense_forward_end(r, out, status) : SBAG_OK;
}

sbag_code_t route_forward_end(route_t *r, void *out, sbag_status_t *status) {
  sbag_code_t code = r->x->solo ? solo_forward(r, out, status) : forward_end(r, out, status);
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
