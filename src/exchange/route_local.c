/* The requester's own part of a route: from bags to distinct keys by owner, runs of bags by owner, and the
 * kinds in which vectors will travel. Nothing here communicates. */
#include "exchange/route.h"

#include <string.h>

static void describe_features(route_t *r) {
  const exchange_t *x = r->x;
  r->weighted = 0;
  r->first_entry[0] = 0;
  for (int f = 0; f < x->c.feature_count; f++) {
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
  r->entries = r->first_entry[x->c.feature_count];
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

static int any_mirror(const exchange_t *x) {
  for (int t = 0; t < x->tables; t++)
    if (x->c.store->tables[t].mirror != NULL) return 1;
  return 0;
}

/* Entries that could be padding rows which max_norm must see. */
static int64_t touchable_entries(const route_t *r) {
  int64_t entries = 0;
  for (int f = 0; f < r->x->c.feature_count; f++)
    if (r->features[f].touch_padding && r->features[f].padding_idx >= 0) entries += r->bags[f].index_count;
  return entries;
}

static sbag_code_t build_edges(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  edges_request_t request = {.features = r->features,
                             .feature_count = x->c.feature_count,
                             .bag_count = r->bag_count,
                             .drop = x->c.drop};
  SBAG_TRY(route_take_i64(r, BUF_SLOT_BEGIN, r->slots + 1, &request.slot_begin, status));
  request.key = i64_of(r, BUF_DISTINCT);
  SBAG_TRY(route_take_i64(r, BUF_SLOT, r->entries, &request.slot, status));
  if (r->weighted || x->any_max || (r->flags & SBAG_FORWARD_WEIGHT_GRADS))
    SBAG_TRY(route_take_i64(r, BUF_ENTRY, r->entries, &request.entry, status));
  request.touch = i64_of(r, BUF_TOUCH_DISTINCT);
  if (any_mirror(x)) SBAG_TRY(route_take_i64(r, BUF_ROW, r->entries, &request.row, status));
  k->ops->edges_build(k, NULL, &request, &r->info);
  SBAG_TRY(k->ops->stream_sync(k, NULL, status));
  if (r->info.fault != EDGES_FINE) return fault_status(r, status);
  if (!r->weighted) return SBAG_OK;
  void *weight = NULL;
  SBAG_TRY(route_take_real(r, BUF_WEIGHT, r->info.edge_count, &weight, status));
  k->ops->edge_weights(k, NULL, x->c.store->dtype, r->features, x->c.feature_count, r->first_entry,
                       request.entry, r->info.edge_count, weight);
  return SBAG_OK;
}

static sbag_code_t find_distinct(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t blocks = (int64_t)x->ranks * x->tables, edges = r->info.edge_count, *keys = i64_of(r, BUF_DISTINCT);
  unique_request_t u = {
      .count = edges, .key = keys, .key_limit = x->c.plan->block_key[blocks], .distinct = keys};
  SBAG_TRY(route_take_i64(r, BUF_WHICH, edges, &u.which, status));
  SBAG_TRY(route_take_i64(r, BUF_MEMBER, edges, &u.member, status));
  SBAG_TRY(route_take_i64(r, BUF_SCRATCH, 2 * edges + 1, &u.scratch, status));
  u.begin = u.scratch;
  k->ops->unique(k, NULL, &u, &r->distinct);
  SBAG_TRY(k->ops->stream_sync(k, NULL, status));
  k->ops->lower_bounds(k, NULL, u.distinct, r->distinct, x->c.plan->block_key, blocks + 1, r->key_block);
  return SBAG_OK;
}

/* Padding rows that max_norm must see; few, so they travel beside the keys. */
static sbag_code_t find_touched(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t count = r->info.touch_count, distinct = 0, *keys = i64_of(r, BUF_TOUCH_DISTINCT);
  unique_request_t u = {.count = count,
                        .key = keys,
                        .key_limit = x->c.plan->block_key[(int64_t)x->ranks * x->tables],
                        .distinct = keys};
  SBAG_TRY(route_take_i64(r, BUF_TOUCH_MEMBER, count, &u.member, status));
  SBAG_TRY(route_take_i64(r, BUF_TOUCH_WHICH, count, &u.which, status));
  SBAG_TRY(route_take_i64(r, BUF_SCRATCH, 2 * count + 1, &u.scratch, status));
  u.begin = u.scratch;
  k->ops->unique(k, NULL, &u, &distinct);
  SBAG_TRY(k->ops->stream_sync(k, NULL, status));
  for (int o = 0; o <= x->ranks; o++) {
    int64_t bound = o < x->ranks ? plan_rank_key(x->c.plan, o) : u.key_limit;
    k->ops->lower_bounds(k, NULL, u.distinct, distinct, &bound, 1, &r->touch_begin[o]);
  }
  return SBAG_OK;
}

static int64_t first_key_of(const route_t *r, int owner) {
  return r->key_block[(int64_t)owner * r->x->tables];
}

/* A run is one bag's edges at one owner. */
static int64_t most_runs(const route_t *r) {
  int64_t pairs = r->slots < INT64_MAX / r->x->ranks ? r->slots * r->x->ranks : INT64_MAX;
  return pairs < r->entries ? pairs : r->entries;
}

/* Edges by owner, in batch order within one; then the runs of one bag among them. */
static sbag_code_t order_by_owner(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t edges = r->info.edge_count, *owner, *begin, *order, *run_begin, *run_slot;
  int64_t *first = r->owner_run; /* lent: filled by `runs` below */
  SBAG_TRY(route_take_i64(r, BUF_OWNER, edges, &owner, status));
  SBAG_TRY(route_take_i64(r, BUF_OWNER_BEGIN, x->ranks + 1, &begin, status));
  SBAG_TRY(route_take_i64(r, BUF_ORDER, edges, &order, status));
  run_begin = i64_of(r, BUF_RUN_BEGIN);
  SBAG_TRY(route_take_i64(r, BUF_RUN_SLOT, most_runs(r), &run_slot, status));
  for (int o = 0; o <= x->ranks; o++) first[o] = o < x->ranks ? first_key_of(r, o) : r->distinct;
  k->ops->interval(k, NULL, i64_of(r, BUF_WHICH), edges, first, x->ranks, owner);
  k->ops->bucket(k, NULL, owner, edges, x->ranks, begin, order);
  copy_part_t part = {r->owner_edge, begin, (x->ranks + 1) * (int64_t)sizeof(int64_t)};
  k->ops->copy(k, NULL, &part, 1);
  SBAG_TRY(k->ops->stream_sync(k, NULL, status));
  k->ops->runs(k, NULL, i64_of(r, BUF_SLOT), order, r->owner_edge, x->ranks, run_begin, run_slot,
               r->owner_run);
  SBAG_TRY(k->ops->stream_sync(k, NULL, status));
  r->runs = r->owner_run[x->ranks];
  return SBAG_OK;
}

/* Ranges of runs and edges of each (owner, feature), for the counts. */
static sbag_code_t find_blocks(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int features = x->c.feature_count;
  for (int o = 0; o < x->ranks; o++) {
    int64_t *block = r->run_block + (int64_t)o * (features + 1), first = r->owner_run[o];
    int64_t *edge = r->edge_block + (int64_t)o * (features + 1);
    for (int f = 0; f <= features; f++) {
      int64_t bound = f * r->bag_count;
      k->ops->lower_bounds(k, NULL, i64_of(r, BUF_RUN_SLOT) + first, r->owner_run[o + 1] - first, &bound, 1,
                           &block[f]);
      block[f] += first;
      copy_part_t part = {&edge[f], i64_of(r, BUF_RUN_BEGIN) + block[f], sizeof(int64_t)};
      k->ops->copy(k, NULL, &part, 1);
    }
    edge[features] = r->owner_edge[o + 1]; /* an owner's last run ends where the next owner's first begins */
  }
  return k->ops->stream_sync(k, NULL, status);
}

static void count_words(route_t *r) {
  exchange_t *x = r->x;
  int features = x->c.feature_count;
  for (int o = 0; o < x->ranks; o++) {
    int64_t *words = route_words(r, r->out, o);
    const int64_t *keys = r->key_block + (int64_t)o * x->tables;
    words[WORD_TOUCH] = r->touch_begin[o + 1] - r->touch_begin[o];
    for (int t = 0; t < x->tables; t++) words[WORD_KEYS + t] = keys[t + 1] - keys[t];
    const int64_t *runs = r->run_block + (int64_t)o * (features + 1);
    const int64_t *edges = r->edge_block + (int64_t)o * (features + 1);
    for (int f = 0; f < features; f++) {
      words[WORD_KEYS + x->tables + f] = runs[f + 1] - runs[f];
      words[WORD_KEYS + x->tables + features + f] = edges[f + 1] - edges[f];
    }
  }
}

/* Bytes of vectors between this requester and one owner in one phase and kind. */
static int64_t vector_bytes(const route_t *r, const int64_t *words, int phase, int pools) {
  const exchange_t *x = r->x;
  int64_t bytes = 0;
  if (!pools) {
    for (int t = 0; t < x->tables; t++)
      if (layout_travels(r, t, phase))
        bytes += words_keys(words, t) * x->c.store->tables[t].dim * x->real_bytes;
    return bytes;
  }
  for (int f = 0; f < x->c.feature_count; f++) {
    const exchange_feature_t *feature = &x->c.features[f];
    int64_t width = x->real_bytes + (feature->mode == SBAG_MAX ? 8 : 0);
    if (layout_travels(r, feature->table, phase)) bytes += words_runs(r, words, f) * feature->dim * width;
  }
  return bytes;
}

static int64_t edge_bytes(const route_t *r, const int64_t *words) {
  const exchange_t *x = r->x;
  int64_t bytes = 0, each = 8 + (x->any_max ? 8 : 0) + (r->weighted ? x->real_bytes : 0);
  for (int f = 0; f < x->c.feature_count; f++)
    bytes += words_runs(r, words, f) * 8 + words_edges(r, words, f) * each;
  return bytes;
}

/* What comes back for per_sample_weights where only pools were sent. */
static int64_t reply_bytes(const route_t *r, const int64_t *words) {
  int64_t edges = 0;
  if (!(r->flags & SBAG_FORWARD_WEIGHT_GRADS)) return 0;
  for (int f = 0; f < r->x->c.feature_count; f++) edges += words_edges(r, words, f);
  return edges * r->x->real_bytes;
}

/* What the semantics demand: a row's frequency in the global batch is known only where all its edges are; the
 * owner can give per_sample_weights' gradient only if it has the bag's gradient; and the reproducible order
 * is the batch's. */
static int allowed(const route_t *r, int forward_pools, int backward_pools) {
  const exchange_t *x = r->x;
  if (x->c.reproducible && forward_pools) return 0;
  if (r->flags & SBAG_FORWARD_NO_BACKWARD) return !backward_pools;
  if (x->c.reproducible) return backward_pools;
  if (x->any_freq && !backward_pools) return 0;
  return !((r->flags & SBAG_FORWARD_WEIGHT_GRADS) && forward_pools && !backward_pools);
}

static int wanted(sbag_exchange_t kind, int pools) {
  return kind == SBAG_EXCHANGE_AUTO || (kind == SBAG_EXCHANGE_POOLS) == (pools != 0);
}

/* The allowed pair of kinds that is wanted in most directions, and takes the fewest bytes of those. */
static int64_t choose_kinds(const route_t *r, const int64_t *words) {
  sbag_exchange_t kind = r->x->c.kind;
  int64_t best_flags = 0, best_bytes = INT64_MAX;
  int best_wanted = -1;
  for (int pair = 0; pair < 4; pair++) {
    int forward = pair & 1, backward = pair >> 1;
    if (!allowed(r, forward, backward)) continue;
    int64_t bytes = vector_bytes(r, words, PHASE_FORWARD, forward);
    if (!(r->flags & SBAG_FORWARD_NO_BACKWARD)) bytes += vector_bytes(r, words, PHASE_BACKWARD, backward);
    if (forward || backward) bytes += edge_bytes(r, words);
    if (forward) bytes += reply_bytes(r, words);
    int met = wanted(kind, forward) + wanted(kind, backward);
    if (met < best_wanted || (met == best_wanted && bytes >= best_bytes)) continue;
    best_wanted = met;
    best_bytes = bytes;
    best_flags = (forward ? PEER_FORWARD_POOLS : 0) | (backward ? PEER_BACKWARD_POOLS : 0) |
                 (forward || backward ? PEER_EDGES : 0);
  }
  return best_flags;
}

static void set_flags(route_t *r) {
  exchange_t *x = r->x;
  for (int o = 0; o < x->ranks; o++) {
    int64_t *words = route_words(r, r->out, o), flags = choose_kinds(r, words);
    if (r->weighted && (flags & PEER_EDGES)) flags |= PEER_WEIGHTS;
    /* Also without weights, which are ones then: only the owner has the rows. */
    if ((r->flags & SBAG_FORWARD_WEIGHT_GRADS) && (flags & PEER_FORWARD_POOLS)) flags |= PEER_REPLY;
    words[WORD_FLAGS] = flags | (int64_t)r->flags << PEER_STEP_SHIFT;
    if (flags & PEER_EDGES) continue;
    for (int i = 0; i < 2 * x->c.feature_count; i++) words[WORD_KEYS + x->tables + i] = 0;
  }
}

/* Distinct keys and the order by owner; everything else that this takes from the arena is given back. */
static sbag_code_t sort_edges(route_t *r, sbag_status_t *status) {
  kernel_t *k = r->x->c.kernel;
  SBAG_TRY(build_edges(r, status));
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(find_distinct(r, status));
  kernel_arena_release(k, &r->arena, mark);
  SBAG_TRY(find_touched(r, status));
  kernel_arena_release(k, &r->arena, mark);
  return order_by_owner(r, status);
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

sbag_code_t route_local(route_t *r, sbag_status_t *status) {
  int64_t *p;
  describe_features(r);
  SBAG_TRY(route_take_i64(r, BUF_DISTINCT, r->entries, &p, status));
  SBAG_TRY(route_take_i64(r, BUF_RUN_BEGIN, most_runs(r) + 1, &p, status));
  SBAG_TRY(route_take_i64(r, BUF_TOUCH_DISTINCT, touchable_entries(r), &p, status));
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(sort_edges(r, status));
  kernel_arena_release(r->x->c.kernel, &r->arena, mark);
  SBAG_TRY(find_blocks(r, status));
  count_words(r);
  set_flags(r);
  return SBAG_OK;
}
