/* The backward on one rank where a bag gives one gradient to all its rows: a sum's, or a mean's divided by
 * its length. A table's terms are its bags then, and nothing has to be kept of an edge but its bag. The
 * batch's offsets and rows are those that the forward has checked. */
#include "exchange/route.h"

static int bits_below(int64_t limit) {
  int bits = 0;
  while (bits < 63 && (limit - 1) >> bits > 0) bits++;
  return bits;
}

int solo_sums_possible(const route_t *r) {
  const exchange_t *x = r->x;
  int row_bits = 0;
  for (int t = 0; t < x->tables; t++)
    row_bits = bits_below(x->row_limit[t]) > row_bits ? bits_below(x->row_limit[t]) : row_bits;
  return x->c.kernel->ops->sort_rows != NULL && !r->weighted && !x->any_max && !x->any_freq &&
         !(r->flags & SBAG_FORWARD_WEIGHT_GRADS) && row_bits + bits_below(r->slots) <= 64;
}

/* The features of trained tables, by table. A term is a bag, counted over the features of its table. */
static int64_t list_pieces(route_t *r) {
  const exchange_t *x = r->x;
  int64_t pieces = 0, term = 0;
  for (int i = 0; i < x->features; i++) {
    const int f = x->by_table[i], t = x->feature_table[f];
    if (!route_merges(r, t)) continue;
    term = pieces > 0 && r->pieces[pieces - 1].table == t ? term + r->bag_count : 0;
    r->pieces[pieces++] = (row_piece_t){.table = t,
                                        .begin = i64_of(r, BUF_SLOT_BEGIN) + f * r->bag_count,
                                        .row = solo_rows_of(r, f),
                                        .first_term = term};
  }
  return pieces;
}

static sbag_code_t sort_terms(route_t *r, const int64_t **term, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const int64_t edges = r->info.edge_count;
  row_sort_t sort = {.pieces = r->pieces,
                     .piece_count = list_pieces(r),
                     .bag_count = r->bag_count,
                     .tables = x->tables,
                     .row_limit = x->row_limit,
                     .term_limit = r->slots,
                     .table_row = r->own_block};
  SBAG_TRY(route_take_i64(r, BUF_OWN_ROW, edges, &sort.row, status));
  SBAG_TRY(route_take_i64(r, BUF_ROW_BEGIN, edges + 1, &sort.begin, status));
  SBAG_TRY(route_take_i64(r, BUF_MERGE_MEMBER, edges, &sort.term, status));
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(route_take_i64(r, BUF_SCRATCH, 2 * edges, &sort.scratch, status));
  k->ops->sort_rows(k, NULL, &sort);
  kernel_arena_release(k, &r->arena, mark);
  r->own_count = r->own_block[x->tables];
  r->data[BUF_SEGMENTS] = sort.begin;
  *term = sort.term;
  return SBAG_OK;
}

/* Whether a table's gradients are copied together: because they are of several features or divided, or
 * because they are read so often that it pays, for they lie far apart. */
static int is_gathered(const route_t *r, int t) {
  enum { READ_OFTEN = 3 };
  const exchange_t *x = r->x;
  const int f = x->table_feature[t];
  return x->table_features[t] > 1 || x->mode[f] == SBAG_MEAN ||
         r->bags[f].index_count >= READ_OFTEN * r->bag_count;
}

static int64_t gathered_values(const route_t *r) {
  const exchange_t *x = r->x;
  int64_t values = 0;
  for (int t = 0; t < x->tables; t++)
    if (route_merges(r, t) && x->table_features[t] > 0 && is_gathered(r, t))
      values += x->table_features[t] * r->bag_count * x->c.store->tables[t].dim;
  return values;
}

/* One reduce of a term a bag; the sums get their sources. */
static void gather_tables(route_t *r, const grad_terms_t *terms, const void *grad_out, void *room) {
  exchange_t *x = r->x;
  int64_t at = 0, n = 0;
  for (int i = 0; i < x->features; i++) {
    const int f = x->by_table[i], t = x->feature_table[f];
    const int64_t dim = x->c.store->tables[t].dim;
    if (!route_merges(r, t) || !is_gathered(r, t)) continue;
    if (r->sums[t].src == NULL) r->sums[t].src = real_at(x, room, at);
    r->tasks[n++] = (reduce_task_t){.op = REDUCE_SUM,
                                    .dim = dim,
                                    .segment_begin = f * r->bag_count,
                                    .segment_end = (f + 1) * r->bag_count,
                                    .term = terms->at,
                                    .stride = 1,
                                    .src = grad_out,
                                    .scale = x->mode[f] == SBAG_MEAN ? terms->scale : NULL,
                                    .out = real_at(x, room, at),
                                    .out_stride = dim};
    at += r->bag_count * dim;
  }
  x->c.kernel->ops->reduce(x->c.kernel, NULL, x->c.store->dtype, r->tasks, n);
}

/* By table, feature and bag; a mean's are divided by its length. */
static sbag_code_t gather_gradients(route_t *r, const void *grad_out, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const slot_map_t map = route_slot_map(r);
  const int64_t values = gathered_values(r);
  int64_t *slot;
  void *room;
  grad_terms_t terms = {.count = r->slots, .slot_begin = i64_of(r, BUF_SLOT_BEGIN)};
  if (values == 0) return SBAG_OK;
  SBAG_TRY(route_take_real(r, BUF_GRADS_IN, values, &room, status));
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(route_take_i64(r, BUF_TERM_A, r->slots, &terms.at, status));
  SBAG_TRY(route_take_real(r, BUF_SCALE_A, r->slots, &terms.scale, status));
  SBAG_TRY(route_take_i64(r, BUF_SLOT_NUMBER, r->slots, &slot, status));
  k->ops->fill_i64(k, NULL, slot, r->slots, 0, 1);
  terms.slot = slot;
  k->ops->grad_terms(k, NULL, x->c.store->dtype, &map, &terms);
  gather_tables(r, &terms, grad_out, room);
  kernel_arena_release(k, &r->arena, mark);
  return SBAG_OK;
}

sbag_code_t solo_sums(route_t *r, const void *grad_out, sbag_status_t *status) {
  const exchange_t *x = r->x;
  const int64_t *term, *begin;
  SBAG_TRY(sort_terms(r, &term, status));
  begin = i64_of(r, BUF_SEGMENTS);
  for (int t = 0; t < x->tables; t++) {
    const int64_t dim = x->c.store->tables[t].dim;
    r->sums[t] = (reduce_task_t){.op = REDUCE_SUM, .dim = dim, .out_stride = dim};
    if (!route_merges(r, t) || x->table_features[t] == 0) continue;
    const int gathered = is_gathered(r, t);
    r->sums[t].segment_end = r->own_block[t + 1] - r->own_block[t];
    r->sums[t].begin = begin + r->own_block[t];
    r->sums[t].term = term;
    r->sums[t].stride = gathered ? dim : x->c.columns;
    r->sums[t].src = gathered ? NULL : real_at(x, grad_out, x->column[x->table_feature[t]]);
  }
  return gather_gradients(r, grad_out, status);
}
