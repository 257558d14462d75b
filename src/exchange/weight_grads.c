/* The gradient of per_sample_weights: for each edge the dot product of its bag's gradient and its row. Where
 * the row came to the requester it is taken there; where only a pool came, the owner takes it and replies. */
#include "exchange/route.h"

static int64_t reply_bytes(const route_t *r, const int64_t *counts, int peer) {
  const int64_t *words = counts + (int64_t)peer * r->words;
  int64_t edges = 0;
  if (!(words[WORD_FLAGS] & PEER_REPLY)) return 0;
  for (int f = 0; f < r->x->c.feature_count; f++) edges += words_edges(r, words, f);
  return round8(edges * r->x->real_bytes);
}

/* One peer's edges, in the order in which they came. Only sums have weights; the others' places stay zero. */
static sbag_code_t reply_peer(route_t *r, int peer, void *reply, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int features = x->c.feature_count;
  for (int f = 0; f < features; f++) {
    const exchange_feature_t *feature = &x->c.features[f];
    const int64_t *run = r->in_run_block + (int64_t)peer * (features + 1) + f;
    const int64_t *edge = r->in_edge_block + (int64_t)peer * (features + 1) + f;
    int64_t runs = run[1] - run[0], count = edge[1] - edge[0], *run_at, *at, *row;
    if (feature->mode != SBAG_SUM || count == 0) continue;
    size_t mark = kernel_arena_mark(&r->arena);
    SBAG_TRY(route_take_i64(r, BUF_TERM_A, runs, &run_at, status));
    SBAG_TRY(route_take_i64(r, BUF_TERM_B, count, &at, status));
    SBAG_TRY(route_take_i64(r, BUF_TERM_C, count, &row, status));
    k->ops->fill_i64(k, NULL, run_at, runs, r->backward_in.vector_at[peer * layout_stride(x) + f],
                     feature->dim);
    k->ops->expand(k, NULL, i64_of(r, BUF_IN_RUN_BEGIN) + run[0], run_at, runs, at);
    k->ops->gather_i64(k, NULL, i64_of(r, BUF_OWN_ROW), i64_of(r, BUF_IN_EDGE_OWN) + edge[0], count, 0, row);
    k->ops->dot(k, NULL, x->c.store->dtype, feature->dim, count, real_of(r, BUF_GRADS_IN), at,
                x->c.store->tables[feature->table].weight, row, feature->dim,
                real_at(x, reply, edge[0] - r->in_edge[peer]));
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
  return comm_wait(x->c.comm, &r->request, "backward: weights' gradients", status);
}

/* Edges of an owner that sent rows: `to` in their order; at: where each edge's bag is in grad_out, in the
 * same order. */
static sbag_code_t local_dots(route_t *r, int owner, const void *grad_out, const int64_t *at, void *to,
                              sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int features = x->c.feature_count;
  const int64_t *edge = r->edge_block + (int64_t)owner * (features + 1);
  for (int f = 0; f < features; f++) {
    const exchange_feature_t *feature = &x->c.features[f];
    const void *mirror = x->c.store->tables[feature->table].mirror;
    int64_t count = edge[f + 1] - edge[f], *vector;
    if (count == 0) continue;
    if (feature->mode != SBAG_SUM) {
      k->ops->fill_real(k, NULL, x->c.store->dtype, real_at(x, to, edge[f]), count, 0);
      continue;
    }
    size_t mark = kernel_arena_mark(&r->arena);
    const int64_t *order = i64_of(r, BUF_ORDER) + edge[f];
    SBAG_TRY(route_take_i64(r, BUF_TERM_B, count, &vector, status));
    if (mirror != NULL) {
      k->ops->gather_i64(k, NULL, i64_of(r, BUF_ROW), order, count, 0, vector);
    } else {
      k->ops->gather_i64(k, NULL, i64_of(r, BUF_WHICH), order, count, 0, vector);
      k->ops->gather_i64(k, NULL, i64_of(r, BUF_VECTOR_AT), vector, count, 0, vector);
    }
    k->ops->dot(k, NULL, x->c.store->dtype, feature->dim, count, grad_out, at + edge[f],
                mirror != NULL ? mirror : real_of(r, BUF_VECTORS_IN), vector,
                mirror != NULL ? feature->dim : 1, real_at(x, to, edge[f]));
    kernel_arena_release(k, &r->arena, mark);
  }
  return SBAG_OK;
}

static sbag_code_t collect_dots(route_t *r, const void *grad_out, const char *replies, void *by_order,
                                sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  slot_map_t map = route_slot_map(r);
  int64_t *slot;
  SBAG_TRY(route_slots(r, &slot, status));
  grad_terms_t terms = {.count = r->info.edge_count,
                        .slot = slot,
                        .order = i64_of(r, BUF_ORDER),
                        .slot_begin = i64_of(r, BUF_SLOT_BEGIN)};
  SBAG_TRY(route_take_i64(r, BUF_TERM_A, terms.count, &terms.at, status));
  SBAG_TRY(route_take_real(r, BUF_SCALE_A, terms.count, &terms.scale, status));
  k->ops->grad_terms(k, NULL, x->c.store->dtype, &map, &terms);
  for (int o = 0; o < x->ranks; o++) {
    int64_t bytes = reply_bytes(r, r->out, o), first = r->owner_edge[o];
    if (route_words(r, r->out, o)[WORD_FLAGS] & PEER_REPLY) {
      copy_part_t part = {real_at(x, by_order, first), replies,
                          (r->owner_edge[o + 1] - first) * x->real_bytes};
      k->ops->copy(k, NULL, &part, 1);
    } else {
      SBAG_TRY(local_dots(r, o, grad_out, terms.at, by_order, status));
    }
    replies += bytes;
  }
  return SBAG_OK;
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

sbag_code_t route_weight_grads(route_t *r, const void *grad_out, void *const *weight_grads,
                               sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t edges = r->info.edge_count;
  void *replies, *by_order, *edge_grad;
  SBAG_TRY(exchange_replies(r, &replies, status));
  SBAG_TRY(route_take_real(r, BUF_SCALE_B, edges, &by_order, status));
  SBAG_TRY(route_take_real(r, BUF_EDGE_GRAD, edges, &edge_grad, status));
  SBAG_TRY(collect_dots(r, grad_out, replies, by_order, status));
  k->ops->scatter_real(k, NULL, x->c.store->dtype, by_order, i64_of(r, BUF_ORDER), edges, edge_grad);
  for (int f = 0; weight_grads != NULL && f < x->c.feature_count; f++)
    if (weight_grads[f] != NULL) SBAG_TRY(spread(r, f, edge_grad, weight_grads[f], status));
  return SBAG_OK;
}
