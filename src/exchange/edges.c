/* The requester's own part of a route, first half: from bags to edges, and to distinct keys by owner and
 * table. Nothing here communicates. */
#include "exchange/route.h"

#include <string.h>

void route_describe(route_t *r) {
  const exchange_t *x = r->x;
  r->weighted = 0;
  r->first_entry[0] = 0;
  for (int f = 0; f < x->features; f++) {
    const exchange_feature_t *feature = &x->c.features[f];
    const store_table_t *table = &x->c.store->tables[feature->table];
    r->features[f] = (edges_feature_t){.bags = r->bags[f],
                                       .num_embeddings = table->rows,
                                       .padding_idx = feature->padding_idx,
                                       .touch_padding = table->has_max_norm,
                                       .plan = &x->c.plan->tables[feature->table]};
    r->first_entry[f + 1] = r->first_entry[f] + r->bags[f].index_count;
    r->weighted |= r->bags[f].per_sample_weights != NULL;
  }
  r->entries = r->first_entry[x->features];
}

static sbag_code_t fault_status(const route_t *r, sbag_status_t *status) {
  const edges_info_t *i = &r->info;
  const char *name = r->x->c.features[i->fault_feature].name;
  const sbag_bags_t *bags = &r->bags[i->fault_feature];
  long long value = (long long)i->fault_value, position = (long long)i->fault_position;
  long long entries = (long long)bags->index_count;
  switch (i->fault) {
  case EDGES_OUT_OF_RANGE:
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "feature '%s': index %lld at position %lld is not in 0 to %lld", name, value, position,
                      (long long)r->features[i->fault_feature].num_embeddings - 1);
  case EDGES_FIRST_OFFSET:
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "feature '%s': offsets[0] is %lld; the first bag must begin at 0", name, value);
  case EDGES_OFFSET_FALLS:
    return status_set(
        status, SBAG_ERR_ARGUMENT,
        "feature '%s': offsets[%lld] is %lld, below offsets[%lld] = %lld; offsets must not fall", name,
        position, value, position - 1, (long long)i->fault_before);
  case EDGES_OFFSET_TOO_BIG:
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "feature '%s': offsets[%lld] is %lld, beyond the %lld indices", name, position, value,
                      entries);
  case EDGES_LAST_OFFSET:
    return status_set(
        status, SBAG_ERR_ARGUMENT,
        "feature '%s': the last offset, offsets[%lld], is %lld; with include_last_offset it must be "
        "the number of indices, %lld",
        name, position, value, entries);
  case EDGES_FINE:
    break;
  }
  return SBAG_OK;
}

/* Entries that could be padding rows which max_norm must see. */
static int64_t touchable_entries(const route_t *r) {
  int64_t entries = 0;
  for (int f = 0; f < r->x->features; f++)
    if (r->features[f].touch_padding && r->features[f].padding_idx >= 0) entries += r->bags[f].index_count;
  return entries;
}

static sbag_code_t take_weights(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  void *weight = NULL;
  if (!r->weighted) return SBAG_OK;
  SBAG_TRY(route_take_real(r, BUF_WEIGHT, r->info.edge_count, &weight, status));
  k->ops->edge_weights(k, NULL, x->c.store->dtype, r->features, x->features, r->first_entry,
                       i64_of(r, BUF_ENTRY), r->info.edge_count, weight);
  return SBAG_OK;
}

sbag_code_t route_build_edges(route_t *r, int wanted, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  edges_request_t request = {
      .features = r->features, .feature_count = x->features, .bag_count = r->bag_count, .drop = x->c.drop};
  if (r->weighted && (wanted & EDGE_WEIGHTS)) wanted |= EDGE_ENTRIES;
  SBAG_TRY(route_take_i64(r, BUF_SLOT_BEGIN, r->slots + 1, &request.slot_begin, status));
  SBAG_TRY(route_take_i64(r, BUF_TOUCH_DISTINCT, touchable_entries(r), &request.touch, status));
  if (wanted & EDGE_KEYS) SBAG_TRY(route_take_i64(r, BUF_DISTINCT, r->entries, &request.key, status));
  if (wanted & EDGE_SLOTS) SBAG_TRY(route_take_i64(r, BUF_SLOT, r->entries, &request.slot, status));
  if (wanted & EDGE_ENTRIES) SBAG_TRY(route_take_i64(r, BUF_ENTRY, r->entries, &request.entry, status));
  if (wanted & EDGE_ROWS) SBAG_TRY(route_take_i64(r, BUF_ROW, r->entries, &request.row, status));
  if (wanted & EDGE_AHEAD) request.pad = plan_rank_key(x->c.plan, x->ranks);
  k->ops->edges_build(k, NULL, &request, &r->info);
  if (wanted & EDGE_AHEAD) return SBAG_OK;
  if (!(wanted & EDGE_AGAIN)) SBAG_TRY(k->ops->stream_sync(k, NULL, status));
  if (r->info.fault != EDGES_FINE) return fault_status(r, status);
  return wanted & EDGE_WEIGHTS ? take_weights(r, status) : SBAG_OK;
}

sbag_code_t route_unique(route_t *r, int owner, const unique_request_t *of, int which, int64_t *distinct,
                         sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  unique_request_t u = *of;
  u.key_first = owner < 0 ? 0 : plan_rank_key(x->c.plan, owner);
  u.key_limit =
      owner < 0 ? plan_rank_key(x->c.plan, x->ranks) + r->ahead : plan_rank_key(x->c.plan, owner + 1);
  u.distinct = (int64_t *)(uintptr_t)u.key; /* in place */
  SBAG_TRY(route_take_i64(r, which, u.count, &u.which, status));
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(
      route_take_i64(r, BUF_SCRATCH, unique_scratch(u.count, u.key_first, u.key_limit), &u.scratch, status));
  k->ops->unique(k, NULL, &u, distinct);
  kernel_arena_release(k, &r->arena, mark);
  return SBAG_OK;
}

static sbag_code_t find_distinct(route_t *r, sbag_status_t *status) {
  const exchange_t *x = r->x;
  unique_request_t u = {.count = r->edges,
                        .key = i64_of(r, BUF_DISTINCT),
                        .bound = x->c.plan->block_key,
                        .bounds = (int64_t)x->ranks * x->tables + 1,
                        .place = r->key_block};
  SBAG_TRY(route_take_i64(r, BUF_KEY_BLOCK, u.bounds, &u.place_at, status));
  return route_unique(r, -1, &u, BUF_WHICH, &r->distinct, status);
}

/* Padding rows that max_norm must see; few, so they travel beside the keys. */
static sbag_code_t find_touched(route_t *r, sbag_status_t *status) {
  const exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t distinct = 0, *bound = r->block_first; /* lent */
  memset(r->touch_begin, 0, ((size_t)x->ranks + 1) * sizeof *r->touch_begin);
  if (r->info.touch_count == 0) return SBAG_OK;
  for (int o = 0; o <= x->ranks; o++) bound[o] = plan_rank_key(x->c.plan, o);
  unique_request_t u = {.count = r->info.touch_count,
                        .key = i64_of(r, BUF_TOUCH_DISTINCT),
                        .bound = bound,
                        .bounds = x->ranks + 1,
                        .place = r->touch_begin};
  SBAG_TRY(route_unique(r, -1, &u, BUF_TOUCH_WHICH, &distinct, status));
  return k->ops->stream_sync(k, NULL, status);
}

sbag_code_t route_edges(route_t *r, sbag_status_t *status) {
  const exchange_t *x = r->x;
  int wanted = EDGE_KEYS | EDGE_SLOTS | EDGE_WEIGHTS;
  if (route_wants_winners(r) || (r->flags & SBAG_FORWARD_WEIGHT_GRADS)) wanted |= EDGE_ENTRIES;
  if (x->any_mirror) wanted |= EDGE_ROWS;
  route_describe(r);
  r->told = 0;
  r->ahead = !x->c.kernel->ops->eager;
  SBAG_TRY(route_build_edges(r, wanted | (r->ahead ? EDGE_AHEAD : 0), status));
  r->edges = r->ahead ? (r->bag_count > 0 ? r->entries : 0) : r->info.edge_count;
  r->ordered = 0;
  if (route_may_pool(r)) SBAG_TRY(route_order_all(r, status));
  return find_distinct(r, status);
}

/* A GPU is not waited for before it has done all that the choice needs: a batch's counts come to the host in
 * one copy. What was launched until then is of the sizes that the host knows, the batch's, and counts on the
 * device; padding makes up for edges that are not there. */
sbag_code_t route_told(route_t *r, sbag_status_t *status) {
  const exchange_t *x = r->x;
  int ahead = r->ahead;
  SBAG_TRY(x->c.kernel->ops->stream_sync(x->c.kernel, NULL, status));
  if (r->told) return SBAG_OK;
  r->told = 1;
  r->ahead = 0;
  if (r->info.fault != EDGES_FINE) return fault_status(r, status);
  r->edges = r->info.edge_count;
  r->distinct = r->key_block[(int64_t)x->ranks * x->tables]; /* without the padding */
  if (ahead) SBAG_TRY(take_weights(r, status));
  return find_touched(r, status);
}

sbag_code_t route_slots(route_t *r, int64_t **slot, sbag_status_t *status) {
  kernel_t *k = r->x->c.kernel;
  int64_t *number;
  SBAG_TRY(route_take_i64(r, BUF_SLOT, r->info.edge_count, slot, status));
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(route_take_i64(r, BUF_SLOT_NUMBER, r->slots, &number, status));
  k->ops->fill_i64(k, NULL, number, r->slots, 0, 1);
  k->ops->expand(k, NULL, i64_of(r, BUF_SLOT_BEGIN), number, r->slots, *slot);
  kernel_arena_release(k, &r->arena, mark);
  return SBAG_OK;
}
