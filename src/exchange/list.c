/* Pool lists: the edges of some keys by (owner, feature), in batch order within one, and the runs of one bag
 * among them. A run is what an owner pools into one vector. */
#include "exchange/route.h"

#include <string.h>

/* A run is one bag's edges at one owner. */
static int64_t most_runs(const route_t *r) {
  int64_t pairs = r->slots < INT64_MAX / r->x->ranks ? r->slots * r->x->ranks : INT64_MAX;
  return pairs < r->info.edge_count ? pairs : r->info.edge_count;
}

/* Edges by (owner, feature), those left out last. */
static sbag_code_t sort_edges(route_t *r, int which, const int64_t *keep, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t edges = r->info.edge_count, groups = (int64_t)x->ranks * x->features, *group, *begin, *order;
  SBAG_TRY(route_take_i64(r, BUF_LISTS + which * LIST_BUFFERS + LIST_ORDER, edges, &order, status));
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(route_take_i64(r, BUF_GROUP, edges, &group, status));
  SBAG_TRY(route_take_i64(r, BUF_GROUP_BEGIN, groups + 2, &begin, status));
  for (int o = 0; o <= x->ranks; o++) r->owner_key[o] = r->key_block[(int64_t)o * x->tables];
  edge_groups_t request = {.count = edges,
                           .which = i64_of(r, BUF_WHICH),
                           .slot = i64_of(r, BUF_SLOT),
                           .keep = keep,
                           .ranks = x->ranks,
                           .features = x->features,
                           .owner_key = r->owner_key,
                           .bag_count = r->bag_count,
                           .group = group};
  k->ops->edge_groups(k, NULL, &request);
  k->ops->bucket(k, NULL, group, edges, groups + 1, begin, order);
  copy_part_t part = {r->list[which].edge_block, begin, (groups + 1) * (int64_t)sizeof(int64_t)};
  k->ops->copy(k, NULL, &part, 1);
  SBAG_TRY(k->ops->stream_sync(k, NULL, status));
  kernel_arena_release(k, &r->arena, mark);
  return SBAG_OK;
}

sbag_code_t route_list(route_t *r, int which, const int64_t *keep, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  pool_list_t *list = &r->list[which];
  int base = BUF_LISTS + which * LIST_BUFFERS;
  int64_t *run_begin, *run_slot, *shift, groups = (int64_t)x->ranks * x->features;
  SBAG_TRY(sort_edges(r, which, keep, status));
  SBAG_TRY(route_take_i64(r, base + LIST_RUN_BEGIN, most_runs(r) + 1, &run_begin, status));
  SBAG_TRY(route_take_i64(r, base + LIST_RUN_SLOT, most_runs(r), &run_slot, status));
  k->ops->runs(k, NULL, i64_of(r, BUF_SLOT), i64_of(r, base + LIST_ORDER), list->edge_block, (int)groups,
               run_begin, run_slot, list->run_block);
  SBAG_TRY(k->ops->stream_sync(k, NULL, status));
  r->filled[which] = 1;
  if (!x->any_max) return SBAG_OK;
  SBAG_TRY(route_take_i64(r, base + LIST_SHIFT, list->run_block[groups], &shift, status));
  run_places_t runs = {.end = list->run_block[groups],
                       .run_begin = run_begin,
                       .run_slot = run_slot,
                       .order = i64_of(r, base + LIST_ORDER),
                       .slot_begin = i64_of(r, BUF_SLOT_BEGIN)};
  k->ops->run_shifts(k, NULL, &runs, shift);
  return SBAG_OK;
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
