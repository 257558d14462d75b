/* Dense pools: for a table that every rank offers, owners pool every requester's every bag (zeros where they
 * have no row of it), and the parts are added up on their way.
 *
 * A rank offers a table where it takes nothing but pools and each of its bags touches each other owner: dense
 * pools then take no more bytes than sparse ones, and the requester has nothing to combine. The offers travel
 * with the counts, so that the agreement costs no message. Gradients go as those of sparse pools do: there is
 * nothing to add up. */
#include "exchange/route.h"

void dense_agree(route_t *r) {
  const exchange_t *x = r->x;
  r->any_offer = r->any_dense = 0;
  for (int t = 0; t < x->tables; t++) {
    int all = 1;
    for (int p = 0; p < x->ranks; p++) {
      int offers = words_dense(route_words(r, r->in, p), t);
      r->any_offer |= offers;
      all &= offers;
    }
    r->dense[t] = all;
    r->any_dense |= all;
  }
}

/* ---- the owner ---- */

/* A requester's part: the dense features one behind the other, each [bags][dim]. counts[p]: its elements. */
static int64_t count_elements(const route_t *r, int64_t *counts) {
  const exchange_t *x = r->x;
  int64_t columns = 0, total = 0;
  for (int f = 0; f < x->features; f++)
    if (r->dense[x->feature_table[f]]) columns += x->c.features[f].dim;
  for (int p = 0; p < x->ranks; p++) {
    counts[p] = columns * route_words(r, r->in, p)[WORD_BAGS];
    total += counts[p];
  }
  return total;
}

static int64_t dense_tasks(route_t *r, const int64_t *edge_term, void *out, reduce_task_t *tasks) {
  exchange_t *x = r->x;
  int64_t n = 0, at = 0;
  for (int p = 0; p < x->ranks; p++) {
    for (int f = 0; f < x->features; f++) {
      if (!r->dense[x->feature_table[f]]) continue;
      reduce_task_t task = route_pool_task(r, p, f, edge_term);
      task.out = real_at(x, out, at);
      task.out_at = in_i64(r, FORWARD, IN_RUN_BAG);
      if (task.segment_begin < task.segment_end) tasks[n++] = task;
      at += x->c.features[f].dim * route_words(r, r->in, p)[WORD_BAGS];
    }
  }
  return n;
}

sbag_code_t dense_forward_begin(route_t *r, const int64_t *edge_term, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  void *out, *in;
  int64_t *counts = r->block_first, total = count_elements(r, counts); /* lent */
  SBAG_TRY(route_take_real(r, BUF_DENSE_OUT, total, &out, status));
  SBAG_TRY(route_take_real(r, BUF_DENSE_IN, counts[x->rank], &in, status));
  k->ops->fill_real(k, NULL, x->c.store->dtype, out, total, 0);
  k->ops->reduce(k, NULL, x->c.store->dtype, r->tasks, dense_tasks(r, edge_term, out, r->tasks));
  SBAG_TRY(k->ops->stream_check(k, NULL, status));
  r->bytes_sent += (total - counts[x->rank]) * x->real_bytes;
  r->bytes_received += (x->ranks - 1) * counts[x->rank] * x->real_bytes;
  return x->c.comm->ops->reduce_scatter_begin(x->c.comm, out, counts, in,
                                              x->c.store->dtype == SBAG_F64 ? COMM_F64 : COMM_F32,
                                              &r->dense_request, status);
}

/* ---- the requester ---- */

/* What came is whole: it goes to its columns, divided where the bag is a mean. */
sbag_code_t dense_forward_end(route_t *r, void *out, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t *term, n = 0, at = 0;
  SBAG_TRY(comm_wait(x->c.comm, &r->dense_request, "forward: dense pools", status));
  SBAG_TRY(route_take_i64(r, BUF_TERM_F, r->slots, &term, status));
  for (int f = 0; f < x->features; f++) {
    const exchange_feature_t *feature = &x->c.features[f];
    int64_t first = f * r->bag_count;
    if (!r->dense[feature->table]) continue;
    k->ops->fill_i64(k, NULL, term + first, r->bag_count, 0, 1);
    r->tasks[n++] =
        (reduce_task_t){.op = REDUCE_SUM,
                        .dim = feature->dim,
                        .segment_begin = first,
                        .segment_end = first + r->bag_count,
                        .term = term,
                        .stride = feature->dim,
                        .src = real_at(x, real_of(r, BUF_DENSE_IN), at),
                        .count_begin = feature->mode == SBAG_MEAN ? i64_of(r, BUF_SLOT_BEGIN) : NULL,
                        .out = real_at(x, out, feature->column),
                        .out_stride = x->c.columns};
    at += feature->dim * r->bag_count;
  }
  k->ops->reduce(k, NULL, x->c.store->dtype, r->tasks, n);
  return SBAG_OK;
}

int64_t dense_vectors(const route_t *r, int sent) {
  const exchange_t *x = r->x;
  int64_t bags = 0, features = 0;
  for (int f = 0; f < x->features; f++) features += r->dense[x->feature_table[f]] != 0;
  for (int p = 0; p < x->ranks; p++)
    if (p != x->rank) bags += sent ? route_words(r, r->in, p)[WORD_BAGS] : r->bag_count;
  return features * bags;
}
