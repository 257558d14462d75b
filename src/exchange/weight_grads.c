/* The gradient of per_sample_weights: for each edge the dot product of its bag's gradient and its row. Where
 * the row came to the requester it is taken there; where only a pool came, the owner takes it and replies. */
#include "exchange/route.h"

/* Edges for which an owner replies: those of the backward's list, whose bags' gradients it has, where the
 * forward pooled any of its edges. */
static int64_t reply_edges(const route_t *r, const int64_t *counts, int peer) {
  const int64_t *words = counts + (int64_t)peer * r->words;
  int64_t pooled = 0, edges = 0;
  for (int f = 0; f < r->x->features; f++) {
    pooled += words_edges(r, words, FORWARD, f);
    edges += words_edges(r, words, BACKWARD, f);
  }
  return pooled > 0 ? edges : 0;
}

static int64_t reply_bytes(const route_t *r, const int64_t *counts, int peer) {
  return round8(reply_edges(r, counts, peer) * r->x->real_bytes);
}

sbag_code_t route_dot_rows(route_t *r, const row_dots_t *d, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const store_table_t *table = &x->c.store->tables[d->table];
  const void *rows = d->rows;
  const int64_t *row = d->row;
  size_t mark = kernel_arena_mark(&r->arena);
  if (table->storage != SBAG_STORAGE_FULL) { /* widened first, one for each edge */
    void *widened;
    int64_t *at;
    SBAG_TRY(route_take_real(r, BUF_WIDENED, d->count * table->dim, &widened, status));
    SBAG_TRY(route_take_i64(r, BUF_TERM_D, d->count, &at, status));
    k->ops->gather_rows(k, NULL, x->c.store->dtype, table->storage, rows, table->dim, row, d->count, widened);
    k->ops->fill_i64(k, NULL, at, d->count, 0, 1);
    rows = widened;
    row = at;
  }
  k->ops->dot(k, NULL, x->c.store->dtype, table->dim, d->count, d->grad, d->grad_at, rows, row, table->dim,
              d->to);
  kernel_arena_release(k, &r->arena, mark);
  return SBAG_OK;
}

/* One peer's edges, in the order in which they came. Only sums have weights; the others' places stay zero. */
static sbag_code_t reply_peer(route_t *r, int peer, void *reply, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const pool_list_t *list = in_list_at(r, BACKWARD);
  int64_t first = list->edge_block[(int64_t)peer * x->features];
  for (int f = 0; f < x->features; f++) {
    const exchange_feature_t *feature = &x->c.features[f];
    int64_t block = (int64_t)peer * x->features + f;
    const int64_t *run = list->run_block + block, *edge = list->edge_block + block;
    int64_t runs = run[1] - run[0], count = edge[1] - edge[0], *run_at, *at, *row;
    if (feature->mode != SBAG_SUM || count == 0) continue;
    size_t mark = kernel_arena_mark(&r->arena);
    SBAG_TRY(route_take_i64(r, BUF_TERM_A, runs, &run_at, status));
    SBAG_TRY(route_take_i64(r, BUF_TERM_B, count, &at, status));
    SBAG_TRY(route_take_i64(r, BUF_TERM_C, count, &row, status));
    k->ops->fill_i64(k, NULL, run_at, runs, r->layout_in[BACKWARD].pool_at[block], feature->dim);
    k->ops->expand(k, NULL, in_i64(r, BACKWARD, IN_RUN_BEGIN) + run[0], run_at, runs, at);
    k->ops->gather_i64(k, NULL, i64_of(r, BUF_OWN_ROW), in_i64(r, BACKWARD, IN_EDGE) + edge[0], count, 0,
                       row);
    row_dots_t dots = {.table = feature->table,
                       .rows = x->c.store->tables[feature->table].weight,
                       .row = row,
                       .count = count,
                       .grad = real_of(r, BUF_GRADS_IN),
                       .grad_at = at,
                       .to = real_at(x, reply, edge[0] - first)};
    SBAG_TRY(route_dot_rows(r, &dots, status));
    kernel_arena_release(k, &r->arena, mark);
  }
  return SBAG_OK;
}

/* Replies travel; `in` gets them, one peer behind the other. */
static sbag_code_t exchange_replies(route_t *r, void **in, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t out_bytes = 0, in_bytes = 0;
  void *out;
  for (int p = 0; p < x->ranks; p++) {
    out_bytes += reply_bytes(r, r->in, p);
    in_bytes += reply_bytes(r, r->out, p);
  }
  SBAG_TRY(route_take_bytes(r, BUF_REPLY_OUT, out_bytes, &out, status));
  SBAG_TRY(route_take_bytes(r, BUF_REPLY_IN, in_bytes, in, status));
  k->ops->fill_real(k, NULL, x->c.store->dtype, out, out_bytes / x->real_bytes, 0);
  char *to = out, *from = *in;
  for (int p = 0; p < x->ranks; p++) {
    r->send[p] = (comm_part_t){to, reply_bytes(r, r->in, p)};
    r->recv[p] = (comm_part_t){from, reply_bytes(r, r->out, p)};
    if (r->send[p].bytes > 0) SBAG_TRY(reply_peer(r, p, to, status));
    to += r->send[p].bytes;
    from += r->recv[p].bytes;
  }
  SBAG_TRY(route_exchange_begin(r, status));
  return route_wait(r, "backward: weights' gradients", status);
}

/* The list of the edges whose rows came, by (owner, feature): all, or those whose key is no pooled one. */
static sbag_code_t list_row_edges(route_t *r, int *list, sbag_status_t *status) {
  kernel_t *k = r->x->c.kernel;
  int64_t *slot, *keep = NULL, *all;
  int64_t pooled = list_at(r, FORWARD)->edge_block[(int64_t)r->x->ranks * r->x->features];
  *list = pooled == 0 && r->filled[LIST_ALL] ? LIST_ALL : LIST_ROWS;
  if (*list == LIST_ALL) return SBAG_OK;
  SBAG_TRY(route_slots(r, &slot, status));
  if (pooled > 0) {
    SBAG_TRY(route_take_i64(r, BUF_KEEP, r->distinct, &keep, status));
    SBAG_TRY(route_take_i64(r, BUF_SCRATCH, r->distinct, &all, status));
    k->ops->fill_i64(k, NULL, all, r->distinct, 1, 0);
    k->ops->select_i64(k, NULL, i64_of(r, BUF_VECTOR_AT), all, 0, r->distinct, keep);
  }
  return route_list(r, LIST_ROWS, keep, 0, status);
}

/* One (owner, feature)'s edges of a list, whose rows are here: `to` in their order; at: where each edge's bag
 * is in grad_out, in the same order. */
static sbag_code_t local_dots(route_t *r, int list, int64_t block, const void *grad_out, const int64_t *at,
                              void *to, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const exchange_feature_t *feature = &x->c.features[block % x->features];
  const void *mirror = x->c.store->tables[feature->table].mirror;
  const int64_t *edge = r->list[list].edge_block + block;
  const int64_t *order = i64_of(r, BUF_LISTS + list * LIST_BUFFERS + LIST_ORDER) + edge[0];
  int64_t count = edge[1] - edge[0], *vector;
  if (count == 0) return SBAG_OK;
  if (feature->mode != SBAG_SUM) {
    k->ops->fill_real(k, NULL, x->c.store->dtype, real_at(x, to, edge[0]), count, 0);
    return SBAG_OK;
  }
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(route_take_i64(r, BUF_TERM_B, count, &vector, status));
  if (mirror != NULL) {
    row_dots_t dots = {.table = feature->table,
                       .rows = mirror,
                       .row = vector,
                       .count = count,
                       .grad = grad_out,
                       .grad_at = at + edge[0],
                       .to = real_at(x, to, edge[0])};
    k->ops->gather_i64(k, NULL, i64_of(r, BUF_ROW), order, count, 0, vector);
    SBAG_TRY(route_dot_rows(r, &dots, status));
  } else {
    k->ops->gather_i64(k, NULL, i64_of(r, BUF_WHICH), order, count, 0, vector);
    k->ops->gather_i64(k, NULL, i64_of(r, BUF_VECTOR_AT), vector, count, 0, vector);
    k->ops->dot(k, NULL, x->c.store->dtype, feature->dim, count, grad_out, at + edge[0],
                real_of(r, BUF_VECTORS_IN), vector, 1, real_at(x, to, edge[0]));
  }
  kernel_arena_release(k, &r->arena, mark);
  return SBAG_OK;
}

/* Gradients of the edges whose rows are here. */
static sbag_code_t take_local(route_t *r, const void *grad_out, void *edge_grad, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  slot_map_t map = route_slot_map(r);
  int64_t blocks = (int64_t)x->ranks * x->features, *slot;
  void *by_order;
  int list;
  SBAG_TRY(list_row_edges(r, &list, status));
  SBAG_TRY(route_slots(r, &slot, status));
  grad_terms_t terms = {.count = r->list[list].edge_block[blocks],
                        .slot = slot,
                        .order = i64_of(r, BUF_LISTS + list * LIST_BUFFERS + LIST_ORDER),
                        .slot_begin = i64_of(r, BUF_SLOT_BEGIN)};
  SBAG_TRY(route_take_i64(r, BUF_TERM_A, terms.count, &terms.at, status));
  SBAG_TRY(route_take_real(r, BUF_SCALE_A, terms.count, &terms.scale, status));
  SBAG_TRY(route_take_real(r, BUF_SCALE_B, terms.count, &by_order, status));
  k->ops->grad_terms(k, NULL, x->c.store->dtype, &map, &terms);
  for (int64_t b = 0; b < blocks; b++) SBAG_TRY(local_dots(r, list, b, grad_out, terms.at, by_order, status));
  k->ops->scatter_real(k, NULL, x->c.store->dtype, by_order, terms.order, terms.count, edge_grad);
  return SBAG_OK;
}

/* What the owners replied, to the edges of the backward's list. */
static void take_replies(route_t *r, const char *replies, void *edge_grad) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  for (int o = 0; o < x->ranks; o++) {
    int64_t count = reply_edges(r, r->out, o),
            first = list_at(r, BACKWARD)->edge_block[(int64_t)o * x->features];
    k->ops->scatter_real(k, NULL, x->c.store->dtype, replies, list_i64(r, BACKWARD, LIST_ORDER) + first,
                         count, edge_grad);
    replies += reply_bytes(r, r->out, o);
  }
}

/* From edges to one feature's entries; padding and dropped entries get 0. */
static sbag_code_t spread(route_t *r, int f, const void *edge_grad, void *grad, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t range[2] = {0, 0}, *entry;
  const int64_t *slot_begin = i64_of(r, BUF_SLOT_BEGIN) + f * r->bag_count;
  copy_part_t ends[2] = {{&range[0], slot_begin, sizeof range[0]},
                         {&range[1], slot_begin + r->bag_count, sizeof range[1]}};
  k->ops->copy(k, NULL, ends, 2);
  SBAG_TRY(k->ops->stream_sync(k, NULL, status));
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(route_take_i64(r, BUF_TERM_A, range[1] - range[0], &entry, status));
  k->ops->fill_real(k, NULL, x->c.store->dtype, grad, r->bags[f].index_count, 0);
  k->ops->gather_i64(k, NULL, i64_of(r, BUF_ENTRY) + range[0], NULL, range[1] - range[0], -r->first_entry[f],
                     entry);
  k->ops->scatter_real(k, NULL, x->c.store->dtype, real_at(x, edge_grad, range[0]), entry,
                       range[1] - range[0], grad);
  kernel_arena_release(k, &r->arena, mark);
  return SBAG_OK;
}

sbag_code_t route_spread_weight_grads(route_t *r, const void *edge_grad, void *const *weight_grads,
                                      sbag_status_t *status) {
  for (int f = 0; weight_grads != NULL && f < r->x->features; f++)
    if (weight_grads[f] != NULL) SBAG_TRY(spread(r, f, edge_grad, weight_grads[f], status));
  return SBAG_OK;
}

sbag_code_t route_weight_grads(route_t *r, const void *grad_out, void *const *weight_grads,
                               sbag_status_t *status) {
  void *replies, *edge_grad;
  SBAG_TRY(exchange_replies(r, &replies, status));
  SBAG_TRY(route_take_real(r, BUF_EDGE_GRAD, r->info.edge_count, &edge_grad, status));
  SBAG_TRY(take_local(r, grad_out, edge_grad, status));
  take_replies(r, replies, edge_grad);
  return route_spread_weight_grads(r, edge_grad, weight_grads, status);
}
