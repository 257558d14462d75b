/* The owner's view of a route: the distinct rows that all peers together ask for, by table, and each incoming
 * edge in terms of them. */
#include "exchange/route.h"

/* A GPU's second wait of a step, see route_told for the first: how many rows the peers' keys come to is known
 * only when these are here, and the rows' buffers and all launches on them are of that size. In training it is
 * waited for while the device is at the step before. */
static sbag_code_t find_owned(route_t *r, sbag_status_t *status) {
  const exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t count = r->in_key[(int64_t)x->ranks * x->tables] + r->in_touch[x->ranks];
  unique_request_t u = {.count = count,
                        .key = i64_of(r, BUF_IN_KEY),
                        .bound = x->c.plan->block_key + (int64_t)x->rank * x->tables,
                        .bounds = x->tables + 1,
                        .place = r->own_block};
  SBAG_TRY(route_unique(r, x->rank, &u, BUF_OWN_WHICH, &r->own_count, status));
  return k->ops->stream_sync(k, NULL, status);
}

static sbag_code_t find_rows(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t *row;
  SBAG_TRY(route_take_i64(r, BUF_OWN_ROW, r->own_count, &row, status));
  for (int t = 0; t < x->tables; t++) {
    int64_t first = r->own_block[t];
    k->ops->gather_i64(k, NULL, i64_of(r, BUF_IN_KEY) + first, NULL, r->own_block[t + 1] - first,
                       -plan_block_key(x->c.plan, x->rank, t), row + first);
  }
  return SBAG_OK;
}

/* From places among all incoming keys to owned rows. */
static void find_edges(route_t *r) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  for (int l = 0; l < r->lists; l++) {
    int64_t *edge = in_i64(r, (phase_t)l, IN_EDGE);
    int64_t count = in_list_at(r, (phase_t)l)->edge_block[(int64_t)x->ranks * x->features];
    k->ops->gather_i64(k, NULL, i64_of(r, BUF_OWN_WHICH), edge, count, 0, edge);
  }
}

sbag_code_t route_owner(route_t *r, sbag_status_t *status) {
  SBAG_TRY(find_owned(r, status));
  SBAG_TRY(find_rows(r, status));
  find_edges(r);
  return SBAG_OK;
}
