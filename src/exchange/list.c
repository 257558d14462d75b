/* Pool lists: the edges of some keys by (owner, feature), in batch order within one, and the runs of one bag
 * among them. A run is what an owner pools into one vector. */
#include "exchange/route.h"

#include <string.h>

/* A run is one bag's edges at one owner. */
int64_t route_most_runs(const route_t *r) {
  int64_t pairs = r->slots < INT64_MAX / r->x->ranks ? r->slots * r->x->ranks : INT64_MAX;
  return pairs < r->edges ? pairs : r->edges;
}

/* Edges by (owner, feature), those left out last; buffer `begin` gets where each group's begin in the order.
 * owner_key: the first of each of so many owners among the edges' numbers. */
static sbag_code_t sort_edges(route_t *r, int list, const int64_t *number, int owners, const int64_t *keep,
                              int begin_buffer, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t groups = (int64_t)x->ranks * x->features, *group, *begin, *order;
  SBAG_TRY(route_take_i64(r, BUF_LISTS + list * LIST_BUFFERS + LIST_ORDER, r->edges, &order, status));
  SBAG_TRY(route_take_i64(r, begin_buffer, groups + 2, &begin, status));
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(route_take_i64(r, BUF_GROUP, r->edges, &group, status));
  edge_groups_t request = {.count = r->edges,
                           .which = number,
                           .slot = i64_of(r, BUF_SLOT),
                           .keep = keep,
                           .ranks = owners,
                           .features = x->features,
                           .owner_key = r->owner_key,
                           .bag_count = r->bag_count,
                           .group = group};
  k->ops->edge_groups(k, NULL, &request);
  k->ops->bucket(k, NULL, group, r->edges, groups + 1, begin, order);
  kernel_arena_release(k, &r->arena, mark);
  return SBAG_OK;
}

/* The numbers of edges by group, from where sort_edges left them. */
static void copy_edge_block(route_t *r, int list, const int64_t *begin) {
  kernel_t *k = r->x->c.kernel;
  int64_t groups = (int64_t)r->x->ranks * r->x->features;
  copy_part_t part = {r->list[list].edge_block, begin, (groups + 1) * (int64_t)sizeof(int64_t)};
  k->ops->copy(k, NULL, &part, 1);
}

/* block, block_at: where the numbers of runs by group go, on the host and for ops; NULL: nowhere. */
static sbag_code_t find_runs(route_t *r, int list, const int64_t *begin, int64_t *block, int64_t *block_at,
                             sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int base = BUF_LISTS + list * LIST_BUFFERS;
  run_list_t request = {.slot = i64_of(r, BUF_SLOT),
                        .order = i64_of(r, base + LIST_ORDER),
                        .group_begin = begin,
                        .groups = (int64_t)x->ranks * x->features,
                        .most = r->edges,
                        .group_run = block,
                        .group_run_at = block_at};
  SBAG_TRY(route_take_i64(r, base + LIST_RUN_BEGIN, route_most_runs(r) + 1, &request.run_begin, status));
  SBAG_TRY(route_take_i64(r, base + LIST_RUN_SLOT, route_most_runs(r), &request.run_slot, status));
  k->ops->runs(k, NULL, &request);
  r->filled[list] = 1;
  return SBAG_OK;
}

/* Max features' runs need them; the list's numbers are there. */
static sbag_code_t find_shifts(route_t *r, int list, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int base = BUF_LISTS + list * LIST_BUFFERS;
  int64_t runs = r->list[list].run_block[(int64_t)x->ranks * x->features], *shift;
  if (!x->any_max) return SBAG_OK;
  SBAG_TRY(route_take_i64(r, base + LIST_SHIFT, runs, &shift, status));
  run_places_t places = {.end = runs,
                         .run_begin = i64_of(r, base + LIST_RUN_BEGIN),
                         .run_slot = i64_of(r, base + LIST_RUN_SLOT),
                         .order = i64_of(r, base + LIST_ORDER),
                         .slot_begin = i64_of(r, BUF_SLOT_BEGIN)};
  k->ops->run_shifts(k, NULL, &places, shift);
  return SBAG_OK;
}

/* Keys of padding are behind those of all owners, and so in the group of those left out: its slot is 0. */
sbag_code_t route_order_all(route_t *r, sbag_status_t *status) {
  const exchange_t *x = r->x;
  int owners = x->ranks + (r->ahead != 0);
  for (int o = 0; o <= owners; o++) r->owner_key[o] = plan_rank_key(x->c.plan, o < x->ranks ? o : x->ranks);
  SBAG_TRY(sort_edges(r, LIST_ALL, i64_of(r, BUF_DISTINCT), owners, NULL, BUF_ALL_BEGIN, status));
  copy_edge_block(r, LIST_ALL, i64_of(r, BUF_ALL_BEGIN));
  r->ordered = 1;
  return SBAG_OK;
}

/* The same by the places of distinct keys. */
static sbag_code_t order_some(route_t *r, int list, const int64_t *keep, int begin_buffer,
                              sbag_status_t *status) {
  const exchange_t *x = r->x;
  for (int o = 0; o <= x->ranks; o++) r->owner_key[o] = r->key_block[(int64_t)o * x->tables];
  return sort_edges(r, list, i64_of(r, BUF_WHICH), x->ranks, keep, begin_buffer, status);
}

sbag_code_t route_list_all(route_t *r, sbag_status_t *status) {
  const exchange_t *x = r->x;
  int64_t *block_at;
  if (!r->ordered) { /* a guess was wrong */
    SBAG_TRY(order_some(r, LIST_ALL, NULL, BUF_ALL_BEGIN, status));
    copy_edge_block(r, LIST_ALL, i64_of(r, BUF_ALL_BEGIN));
  }
  SBAG_TRY(route_take_i64(r, BUF_RUN_BLOCK, (int64_t)x->ranks * x->features + 1, &block_at, status));
  SBAG_TRY(find_runs(r, LIST_ALL, i64_of(r, BUF_ALL_BEGIN), r->list[LIST_ALL].run_block, block_at, status));
  if (x->any_max || !r->ahead) SBAG_TRY(route_told(r, status));
  return find_shifts(r, LIST_ALL, status);
}

sbag_code_t route_list(route_t *r, int which, const int64_t *keep, int known, sbag_status_t *status) {
  kernel_t *k = r->x->c.kernel;
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(order_some(r, which, keep, BUF_GROUP_BEGIN, status));
  const int64_t *begin = i64_of(r, BUF_GROUP_BEGIN);
  if (!known) copy_edge_block(r, which, begin);
  SBAG_TRY(find_runs(r, which, begin, known ? NULL : r->list[which].run_block, NULL, status));
  kernel_arena_release(k, &r->arena, mark);
  if (!known) SBAG_TRY(k->ops->stream_sync(k, NULL, status));
  return find_shifts(r, which, status);
}

void route_list_empty(route_t *r, int which) {
  int64_t groups = (int64_t)r->x->ranks * r->x->features;
  memset(r->list[which].run_block, 0, (size_t)(groups + 1) * sizeof(int64_t));
  memset(r->list[which].edge_block, 0, (size_t)(groups + 1) * sizeof(int64_t));
  r->filled[which] = 1;
}

run_places_t route_run_places(const route_t *r, phase_t phase, int owner, int feature) {
  const exchange_t *x = r->x;
  const int64_t *block = list_at(r, phase)->run_block + (int64_t)owner * x->features + feature;
  return (run_places_t){.first = block[0],
                        .end = block[1],
                        .dim = x->c.features[feature].dim,
                        .run_begin = list_i64(r, phase, LIST_RUN_BEGIN),
                        .run_slot = list_i64(r, phase, LIST_RUN_SLOT),
                        .order = list_i64(r, phase, LIST_ORDER),
                        .slot_begin = i64_of(r, BUF_SLOT_BEGIN),
                        .shift = list_i64(r, phase, LIST_SHIFT)};
}
