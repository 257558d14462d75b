/* The owner's side of the backward: gradients that have come in, merged by row, and what they are read as.
 *
 * Terms of a row are added feature by feature, within one by rank and in batch order: the order of the global
 * batch. */
#include "exchange/route.h"

/* What adds to the owned rows: one item an incoming edge (pools) or key (rows). */
typedef struct merge_items {
  int64_t count;
  int64_t *own;       /* owned distinct row */
  int64_t *member;    /* room for the sorted order */
  int64_t *at;        /* vector offset of the gradient */
  int64_t *select;    /* max: the edge's position, else -1 */
  int64_t *select_at; /* max: where the bag's winners are */
  int64_t *feature;
  void *scale; /* NULL: 1 */
} merge_items_t;

int route_merges(const route_t *r, int table) {
  return r->x->c.store->tables[table].trainable;
}

static int64_t count_items(route_t *r, int64_t *most_runs) {
  const exchange_t *x = r->x;
  int64_t count = 0;
  *most_runs = 0;
  for (int p = 0; p < x->ranks; p++) {
    const int64_t *words = route_words(r, r->in, p);
    for (int f = 0; f < x->features; f++) {
      if (!route_merges(r, x->feature_table[f])) continue;
      int64_t runs = words_runs(r, words, BACKWARD, f);
      count += words_edges(r, words, BACKWARD, f);
      if (runs > *most_runs) *most_runs = runs;
    }
    for (int t = 0; t < x->tables; t++) {
      int64_t first;
      if (route_merges(r, t)) count += words_rows(r, words, t, BACKWARD, &first);
    }
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
  items->scale = NULL; /* all 1 */
  if (r->in_weighted || x->any_freq) SBAG_TRY(route_take_real(r, BUF_SCALE_A, count, &items->scale, status));
  SBAG_TRY(route_take_i64(r, BUF_MERGE_MEMBER, count, &items->member, status));
  return route_take_i64(r, BUF_TERM_A, count, &items->own, status);
}

static void add_edges(route_t *r, int peer, int f, int64_t *run_at, merge_items_t *items) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const exchange_feature_t *feature = &x->c.features[f];
  const layout_t *in = &r->layout_in[BACKWARD];
  int64_t block = (int64_t)peer * x->features + f, n = items->count;
  const int64_t *run = in_list_at(r, BACKWARD)->run_block + block;
  const int64_t *edge = in_list_at(r, BACKWARD)->edge_block + block;
  const int64_t *run_begin = in_i64(r, BACKWARD, IN_RUN_BEGIN) + run[0];
  int64_t runs = run[1] - run[0], count = edge[1] - edge[0];
  if (count == 0) return;
  k->ops->gather_i64(k, NULL, in_i64(r, BACKWARD, IN_EDGE) + edge[0], NULL, count, 0, items->own + n);
  k->ops->fill_i64(k, NULL, run_at, runs, in->pool_at[block], feature->dim);
  k->ops->expand(k, NULL, run_begin, run_at, runs, items->at + n);
  if (r->in_weighted) {
    copy_part_t weights = {real_at(x, items->scale, n),
                           real_at(x, real_of(r, in_buffer(r, BACKWARD, IN_WEIGHT)), edge[0]),
                           count * x->real_bytes};
    k->ops->copy(k, NULL, &weights, 1);
  } else if (items->scale != NULL) {
    k->ops->fill_real(k, NULL, x->c.store->dtype, real_at(x, items->scale, n), count, 1);
  }
  if (x->any_freq) k->ops->fill_i64(k, NULL, items->feature + n, count, f, 0);
  if (feature->mode == SBAG_MAX) {
    k->ops->gather_i64(k, NULL, in_i64(r, BACKWARD, IN_PLACE) + edge[0], NULL, count, 0, items->select + n);
    k->ops->fill_i64(k, NULL, run_at, runs, in->place_at[block], feature->dim);
    k->ops->expand(k, NULL, run_begin, run_at, runs, items->select_at + n);
  } else if (x->any_max) {
    k->ops->fill_i64(k, NULL, items->select + n, count, -1, 0);
    k->ops->fill_i64(k, NULL, items->select_at + n, count, 0, 0);
  }
  items->count += count;
}

static void add_keys(route_t *r, int peer, int t, merge_items_t *items) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t block = (int64_t)peer * x->tables + t, n = items->count, first;
  int64_t count = words_rows(r, route_words(r, r->in, peer), t, BACKWARD, &first);
  if (count == 0) return;
  k->ops->gather_i64(k, NULL, i64_of(r, BUF_OWN_WHICH) + r->in_key[block] + first, NULL, count, 0,
                     items->own + n);
  k->ops->fill_i64(k, NULL, items->at + n, count, r->layout_in[BACKWARD].row_at[block],
                   x->c.store->tables[t].dim);
  if (items->scale != NULL)
    k->ops->fill_real(k, NULL, x->c.store->dtype, real_at(x, items->scale, n), count, 1);
  if (x->any_max) {
    k->ops->fill_i64(k, NULL, items->select + n, count, -1, 0);
    k->ops->fill_i64(k, NULL, items->select_at + n, count, 0, 0);
  }
  /* Such a table has no feature that counts frequencies: any of the table's is as good. */
  if (x->any_freq) k->ops->fill_i64(k, NULL, items->feature + n, count, x->table_feature[t], 0);
  items->count += count;
}

static sbag_code_t gather_items(route_t *r, merge_items_t *items, sbag_status_t *status) {
  exchange_t *x = r->x;
  int64_t most_runs, *run_at, count = count_items(r, &most_runs);
  *items = (merge_items_t){0};
  SBAG_TRY(take_items(r, count, items, status));
  SBAG_TRY(route_take_i64(r, BUF_TERM_F, most_runs, &run_at, status));
  for (int f = 0; f < x->features; f++)
    for (int p = 0; route_merges(r, x->feature_table[f]) && p < x->ranks; p++)
      add_edges(r, p, f, run_at, items);
  for (int t = 0; t < x->tables; t++)
    for (int p = 0; route_merges(r, t) && p < x->ranks; p++) add_keys(r, p, t, items);
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
                            x->features, x->by_freq, items->scale);
  return SBAG_OK;
}

/* One task a table: its rows' sums, which are left to whoever wants them. */
static void describe_sums(route_t *r, const merge_items_t *items, const int64_t *begin) {
  const exchange_t *x = r->x;
  for (int t = 0; t < x->tables; t++) {
    r->sums[t] = (reduce_task_t){.op = REDUCE_SUM, .dim = x->c.store->tables[t].dim};
    if (!route_merges(r, t)) continue;
    r->sums[t].segment_end = r->own_block[t + 1] - r->own_block[t];
    r->sums[t].begin = begin + r->own_block[t];
    r->sums[t].order = items->member;
    r->sums[t].term = items->at;
    r->sums[t].stride = 1;
    r->sums[t].src = real_of(r, BUF_GRADS_IN);
    r->sums[t].scale = items->scale;
    r->sums[t].select = x->any_max ? items->select : NULL;
    r->sums[t].select_at = items->select_at;
    r->sums[t].winner = i64_of(r, BUF_PLACES_IN);
    r->sums[t].out_stride = r->sums[t].dim;
  }
}

sbag_code_t route_merge(route_t *r, sbag_status_t *status) {
  merge_items_t items;
  int64_t *begin;
  SBAG_TRY(gather_items(r, &items, status));
  SBAG_TRY(sort_items(r, &items, &begin, status));
  describe_sums(r, &items, begin);
  return SBAG_OK;
}

/* Room for the merged gradients, table by table. */
static sbag_code_t take_room(route_t *r, sbag_status_t *status) {
  const exchange_t *x = r->x;
  int64_t elements = 0;
  void *room;
  for (int t = 0; t < x->tables; t++) {
    r->merged_at[t] = elements;
    elements += r->sums[t].segment_end * r->sums[t].dim;
  }
  r->merged_at[x->tables] = elements;
  SBAG_TRY(route_take_real(r, BUF_MERGED, elements, &room, status));
  for (int t = 0; t < x->tables; t++) r->sums[t].out = real_at(x, room, r->merged_at[t]);
  return SBAG_OK;
}

sbag_code_t route_sums(route_t *r, const reduce_task_t **sums, sbag_status_t *status) {
  if (!r->x->c.kernel->ops->sums_in_registers) SBAG_TRY(take_room(r, status));
  *sums = r->sums;
  return SBAG_OK;
}

sbag_code_t route_take_sums(route_t *r, sbag_status_t *status) {
  const exchange_t *x = r->x;
  if (r->merged) return SBAG_OK;
  SBAG_TRY(take_room(r, status));
  x->c.kernel->ops->reduce(x->c.kernel, NULL, x->c.store->dtype, r->sums, x->tables);
  r->merged = 1;
  return SBAG_OK;
}

int route_sums_taken(const route_t *r) {
  return r->merged;
}

sbag_code_t route_sparse_grad(route_t *r, int table, const int64_t **rows, const void **values,
                              int64_t *count, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  SBAG_TRY(route_take_sums(r, status));
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
  int64_t first = r->own_block[table];
  if (!route_merges(r, table)) return (route_grads_t){0};
  return (route_grads_t){.count = r->own_block[table + 1] - first,
                         .rows = i64_of(r, BUF_OWN_ROW) + first,
                         .touched = i64_of(r, BUF_SEGMENTS) + first,
                         .grad = r->merged ? r->sums[table].out : NULL};
}
