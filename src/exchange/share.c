/* How each owner's part of each table travels: as distinct rows, as pools, or as a mixture of the two, in
 * either direction.
 *
 * What comes in: edges and distinct keys by (owner, table). What goes out: share[phase], keys grouped by the
 * classes of kernel.h (BUF_KEY, BUF_WHICH, class_begin), and the lists of pooled edges.
 *
 * A table at an owner is decided by itself: no edge leads from one to another. What it takes is known exactly
 * from counts, ids included, so the choice is by bytes. A mixture is work on either side, keys and edges
 * sorted once more and pools dealt to their bags, so it is taken only where it beats both pure ways by
 * 1 / MIXED_GAIN; and where no bag has more than one edge, rows are as good as anything, nor are runs needed
 * to know that. */
#include "exchange/route.h"

enum { MIXED_GAIN = 32 };

int route_travels(const route_t *r, int table, phase_t phase) {
  const store_table_t *t = &r->x->c.store->tables[table];
  if (phase == FORWARD) return t->mirror == NULL;
  if (r->flags & SBAG_FORWARD_NO_BACKWARD) return 0;
  return t->trainable || (r->flags & SBAG_FORWARD_WEIGHT_GRADS);
}

int route_place_width(int64_t longest) {
  int64_t most = longest; /* the largest place; one more code says "none" */
  return most < UINT8_MAX ? 1 : most < UINT16_MAX ? 2 : most < UINT32_MAX ? 4 : 8;
}

/* ---- what each choice would take ---- */

static int64_t all_runs(const route_t *r, int owner, int f) {
  const int64_t *block = r->list[LIST_ALL].run_block + (int64_t)owner * r->x->features + f;
  return block[1] - block[0];
}

static int64_t all_edges(const route_t *r, int owner, int f) {
  const int64_t *block = r->list[LIST_ALL].edge_block + (int64_t)owner * r->x->features + f;
  return block[1] - block[0];
}

/* One (owner, table) under one share. */
typedef struct part {
  int64_t rows;        /* vectors of rows */
  const int64_t *runs; /* [features] pools, NULL: none */
  const int64_t *edges;
} part_t;

static part_t part_of(const route_t *r, int owner, int table, share_t share, const int64_t *runs,
                      const int64_t *edges) {
  int64_t block = (int64_t)owner * r->x->tables + table, first = (int64_t)owner * r->x->features;
  int64_t keys = r->key_block[block + 1] - r->key_block[block];
  if (share == SHARE_ROWS) return (part_t){.rows = keys};
  if (share == SHARE_POOLS) return (part_t){0, runs, edges};
  if (share == SHARE_MIXED) return (part_t){r->row_count[block], r->pool_runs + first, r->pool_edges + first};
  return (part_t){0};
}

static int64_t vectors_bytes(const route_t *r, int table, const part_t *part) {
  const exchange_t *x = r->x;
  int64_t dim = x->c.store->tables[table].dim, bytes = part->rows * dim * x->wire_bytes;
  for (int f = 0; part->runs != NULL && f < x->features; f++) {
    if (x->feature_table[f] != table) continue;
    bytes += part->runs[f] * dim * x->wire_bytes;
    if (x->mode[f] == SBAG_MAX) bytes += round8(part->runs[f] * dim * route_place_width(r->info.longest));
  }
  return bytes;
}

static int64_t list_bytes(const route_t *r, int table, int64_t keys, const part_t *part) {
  const exchange_t *x = r->x;
  int64_t bytes = 0;
  for (int f = 0; part->runs != NULL && f < x->features; f++) {
    if (x->feature_table[f] != table) continue;
    bytes += pack_bytes(part->runs[f], part->edges[f], 1) + pack_bytes(part->edges[f], keys, 0);
    if (x->mode[f] == SBAG_MAX) bytes += pack_bytes(part->runs[f], 2, 0);
    if (r->weighted) bytes += round8(part->edges[f] * x->real_bytes);
    if (r->flags & SBAG_FORWARD_WEIGHT_GRADS) bytes += part->edges[f] * x->real_bytes;
  }
  return bytes;
}

/* Both directions of an owner's part of a table, ids included. */
static int64_t share_bytes(const route_t *r, int owner, int table, const share_t *share) {
  const exchange_t *x = r->x;
  int64_t block = (int64_t)owner * x->tables + table, bytes = 0;
  int64_t keys = r->key_block[block + 1] - r->key_block[block],
          range = plan_rank_rows(x->c.plan, owner, table);
  int64_t *runs = r->block_first, *edges = r->block_step; /* lent */
  for (int f = 0; f < x->features; f++) {
    runs[f] = all_runs(r, owner, f);
    edges[f] = all_edges(r, owner, f);
  }
  for (int p = 0; p < PHASES; p++) {
    part_t part = part_of(r, owner, table, share[p], runs, edges);
    if (route_travels(r, table, (phase_t)p)) bytes += vectors_bytes(r, table, &part);
    if (p < r->lists) bytes += list_bytes(r, table, keys, &part);
  }
  if (share[FORWARD] != SHARE_MIXED) return bytes + pack_bytes(keys, range, 1);
  return bytes + pack_bytes(r->row_count[block], range, 1) + pack_bytes(keys - r->row_count[block], range, 1);
}

/* ---- what may be chosen ---- */

/* Neither direction needs the owner. */
static int serves_itself(const route_t *r, int table) {
  return !route_travels(r, table, FORWARD) && !route_travels(r, table, BACKWARD);
}

/* What the semantics demand of the gradients: a row's frequency in the global batch is known only where all
 * its edges are, and the reproducible order is the batch's. */
static int gradients_pool(const route_t *r, int table) {
  return r->lists == 2 && (r->x->c.reproducible || r->x->table_freq[table]);
}

static int may_mix(const route_t *r, int owner, int table) {
  const exchange_t *x = r->x;
  return x->c.kind == SBAG_EXCHANGE_AUTO && owner != x->rank && !x->c.reproducible &&
         !serves_itself(r, table);
}

/* No bag has more than one edge. While ahead, a guess: with no more entries than bags. */
static int all_single(const route_t *r) {
  int single = r->ahead ? r->entries <= r->slots : r->info.longest <= 1;
  return r->lists == 1 && r->x->c.kind == SBAG_EXCHANGE_AUTO && single;
}

/* The forward's share with the fewest bytes. Where both directions can travel alike they do, with one list.
 */
static void choose(route_t *r, int owner, int table) {
  const exchange_t *x = r->x;
  int64_t block = (int64_t)owner * x->tables + table, best = INT64_MAX;
  share_t from = SHARE_ROWS, to = SHARE_POOLS;
  if (x->c.reproducible || x->c.kind == SBAG_EXCHANGE_ROWS || all_single(r))
    to = SHARE_ROWS;
  else if (x->c.kind != SBAG_EXCHANGE_AUTO || owner == x->rank)
    from = SHARE_POOLS;
  else if (r->wanted[block])
    to = SHARE_MIXED;
  if (serves_itself(r, table)) from = to = SHARE_NONE;
  for (share_t share = from; share <= to; share = (share_t)(share + 1)) {
    share_t pair[PHASES] = {share, gradients_pool(r, table) ? SHARE_POOLS : share};
    if (share == SHARE_NONE) pair[BACKWARD] = share;
    int64_t bytes = from == to ? 0 : share_bytes(r, owner, table, pair);
    if (bytes >= (share == SHARE_MIXED ? best - best / MIXED_GAIN : best)) continue;
    best = bytes;
    r->share[FORWARD][block] = pair[FORWARD];
    r->share[BACKWARD][block] = pair[BACKWARD];
  }
}

/* ---- dense pools ---- */

/* Whether each of this rank's bags touches each other owner of the table: then dense pools take no more
 * bytes. */
static int touches_all(const route_t *r, int table) {
  const exchange_t *x = r->x;
  for (int o = 0; o < x->ranks; o++)
    for (int f = 0; f < x->features; f++)
      if (x->feature_table[f] == table && o != x->rank && all_runs(r, o, f) < r->bag_count) return 0;
  return 1;
}

/* A table is offered where this rank takes nothing but pools from the others, and by nature sums. */
static void offer_dense(route_t *r) {
  const exchange_t *x = r->x;
  for (int t = 0; t < x->tables; t++) {
    int pools = x->table_sums[t] && !x->c.reproducible && x->ranks > 1 && route_travels(r, t, FORWARD);
    for (int o = 0; pools && o < x->ranks; o++)
      pools = r->share[FORWARD][(int64_t)o * x->tables + t] == SHARE_POOLS;
    r->offers[t] =
        pools && (x->c.kind == SBAG_EXCHANGE_DENSE ||
                  (x->c.kind == SBAG_EXCHANGE_AUTO && x->c.wire == WIRE_FULL && touches_all(r, t)));
  }
}

/* ---- mixtures ---- */

/* Where every bag has at most one edge at an owner, rows are at least as good as anything. */
static int worth_mixing(const route_t *r, int owner, int table) {
  const exchange_t *x = r->x;
  for (int f = 0; f < x->features; f++)
    if (x->feature_table[f] == table && all_edges(r, owner, f) > all_runs(r, owner, f)) return 1;
  return 0;
}

/* The directions in which the mixture's vectors travel. */
static int64_t journeys(const route_t *r, int table) {
  return route_travels(r, table, FORWARD) + (route_travels(r, table, BACKWARD) && !gradients_pool(r, table));
}

/* Costs in bits, about what share_bytes counts. */
static void fill_costs(route_t *r) {
  const exchange_t *x = r->x;
  int64_t width = route_place_width(r->info.longest);
  for (int t = 0; t < x->tables; t++)
    r->row_cost[t] = 8 * journeys(r, t) * x->c.store->tables[t].dim * x->wire_bytes;
  for (int f = 0; f < x->features; f++) {
    int t = x->feature_table[f];
    int64_t dim = x->c.store->tables[t].dim, value = x->wire_bytes + (x->mode[f] == SBAG_MAX ? width : 0);
    r->pool_cost[f] = 8 * journeys(r, t) * dim * value + 3;
    r->edge_cost[f] = 12 + (r->weighted ? 8 * x->real_bytes : 0) +
                      (r->flags & SBAG_FORWARD_WEIGHT_GRADS ? 8 * x->real_bytes : 0);
  }
}

/* Of which (owner, table) a mixture is looked for. While ahead, the op finds out which are worth it. */
static int find_wanted(route_t *r) {
  const exchange_t *x = r->x;
  int any = 0;
  for (int o = 0; o < x->ranks; o++)
    for (int t = 0; t < x->tables; t++)
      any |= r->wanted[(int64_t)o * x->tables + t] = may_mix(r, o, t) && (r->ahead || worth_mixing(r, o, t));
  return any;
}

static sbag_code_t cover(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t keys = r->ahead ? r->edges : r->distinct;
  if (!find_wanted(r)) return SBAG_OK;
  fill_costs(r);
  int base = BUF_LISTS + LIST_ALL * LIST_BUFFERS;
  cover_request_t request = {.ranks = x->ranks,
                             .tables = x->tables,
                             .features = x->features,
                             .feature_table = x->feature_table,
                             .wanted = r->wanted,
                             .only_worth = r->ahead,
                             .key_block = i64_of(r, BUF_KEY_BLOCK),
                             .run_block = i64_of(r, BUF_RUN_BLOCK),
                             .run_begin = i64_of(r, base + LIST_RUN_BEGIN),
                             .order = i64_of(r, base + LIST_ORDER),
                             .which = i64_of(r, BUF_WHICH),
                             .key_count = keys,
                             .run_count = route_most_runs(r),
                             .row_cost = r->row_cost,
                             .pool_cost = r->pool_cost,
                             .edge_cost = r->edge_cost,
                             .row = i64_of(r, BUF_ROW_FLAG),
                             .row_count = r->row_count,
                             .pool_runs = r->pool_runs,
                             .pool_edges = r->pool_edges};
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(route_take_i64(r, BUF_SCRATCH, 2 * keys, &request.scratch, status));
  k->ops->cover(k, NULL, &request);
  kernel_arena_release(k, &r->arena, mark);
  return SBAG_OK;
}

/* ---- classes ---- */

/* Sizes of the classes of one (owner, table). */
static void count_classes(const route_t *r, int64_t block, int64_t *count) {
  share_t forward = r->share[FORWARD][block], backward = r->share[BACKWARD][block];
  int64_t keys = r->key_block[block + 1] - r->key_block[block], rows = r->row_count[block];
  for (int c = 0; c < CLASSES; c++) count[c] = 0;
  if (forward == SHARE_NONE) {
    count[CLASS_POOL_POOL] = keys;
    return;
  }
  /* With one list the directions are alike, or the backward does not happen. */
  int class = r->lists == 2 && backward == SHARE_POOLS ? CLASS_ROW_POOL : CLASS_ROW_ROW;
  count[class] = forward == SHARE_MIXED ? rows : forward == SHARE_ROWS ? keys : 0;
  count[CLASS_POOL_POOL] = keys - count[class];
}

static int place_classes(route_t *r) {
  int64_t blocks = (int64_t)r->x->ranks * r->x->tables, at = 0;
  int mixed = 0;
  for (int64_t b = 0; b < blocks; b++) {
    int64_t count[CLASSES];
    count_classes(r, b, count);
    for (int c = 0; c < CLASSES; c++) {
      r->class_begin[b * CLASSES + c] = at;
      at += count[c];
    }
    mixed |= r->share[FORWARD][b] == SHARE_MIXED;
  }
  r->class_begin[blocks * CLASSES] = at;
  return mixed;
}

/* Keys by class within their block, and each edge's key by its new place. */
static sbag_code_t sort_keys(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t blocks = (int64_t)x->ranks * x->tables, *key, *bucket, *begin, *member, *place;
  SBAG_TRY(route_take_i64(r, BUF_KEY, r->distinct, &key, status));
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(route_take_i64(r, BUF_GROUP, r->distinct, &bucket, status));
  SBAG_TRY(route_take_i64(r, BUF_GROUP_BEGIN, blocks * CLASSES + 1, &begin, status));
  SBAG_TRY(route_take_i64(r, BUF_MEMBER, r->distinct, &member, status));
  SBAG_TRY(route_take_i64(r, BUF_SCRATCH, r->distinct, &place, status));
  k->ops->key_classes(k, NULL, r->key_block, blocks, r->share[FORWARD],
                      r->lists == 2 ? r->share[BACKWARD] : r->share[FORWARD], i64_of(r, BUF_ROW_FLAG),
                      bucket);
  k->ops->bucket(k, NULL, bucket, r->distinct, blocks * CLASSES, begin, member);
  k->ops->gather_i64(k, NULL, i64_of(r, BUF_DISTINCT), member, r->distinct, 0, key);
  k->ops->invert(k, NULL, member, r->distinct, place);
  k->ops->gather_i64(k, NULL, place, i64_of(r, BUF_WHICH), r->info.edge_count, 0, i64_of(r, BUF_WHICH));
  kernel_arena_release(k, &r->arena, mark);
  return SBAG_OK;
}

/* ---- lists ---- */

static int class_pools(int class, phase_t phase) {
  return class == CLASS_POOL_POOL || class == (phase == FORWARD ? CLASS_POOL_ROW : CLASS_ROW_POOL);
}

/* The numbers of a phase's list follow from the shares: nobody has to wait for them. */
static void fill_list_blocks(const route_t *r, phase_t phase, const pool_list_t *list) {
  const exchange_t *x = r->x;
  int64_t blocks = (int64_t)x->ranks * x->features, runs = 0, edges = 0;
  for (int64_t b = 0; b <= blocks; b++) {
    list->run_block[b] = runs;
    list->edge_block[b] = edges;
    if (b == blocks) break;
    int owner = (int)(b / x->features), f = (int)(b % x->features);
    share_t share = r->share[phase][(int64_t)owner * x->tables + x->feature_table[f]];
    if (share == SHARE_MIXED) runs += r->pool_runs[b], edges += r->pool_edges[b];
    if (share == SHARE_POOLS) runs += all_runs(r, owner, f), edges += all_edges(r, owner, f);
  }
}

/* The list of a phase's pooled edges: none, LIST_ALL, or one of its own. */
static sbag_code_t make_list(route_t *r, phase_t phase, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t blocks = (int64_t)x->ranks * x->tables, pooled = 0, sent = 0, *keep = NULL;
  for (int64_t b = 0; b < blocks; b++) {
    for (int c = 0; c < CLASSES; c++) {
      int64_t i = b * CLASSES + c, keys = r->class_begin[i + 1] - r->class_begin[i];
      int pools = class_pools(c, phase) && r->share[phase][b] != SHARE_NONE;
      r->block_first[i] = pools;
      r->block_step[i] = 0;
      pooled += pools ? keys : 0;
      sent += keys;
    }
  }
  int own = phase == FORWARD ? LIST_FORWARD : LIST_BACKWARD;
  r->of[phase] = pooled == sent && r->filled[LIST_ALL] ? LIST_ALL : own;
  if (r->of[phase] == LIST_ALL) return SBAG_OK;
  if (pooled == 0) {
    route_list_empty(r, own);
    return SBAG_OK;
  }
  size_t mark = kernel_arena_mark(&r->arena);
  SBAG_TRY(route_take_i64(r, BUF_KEEP, r->distinct, &keep, status));
  k->ops->fill_blocks(k, NULL, r->class_begin, r->block_first, r->block_step, blocks * CLASSES, keep);
  fill_list_blocks(r, phase, &r->list[own]);
  SBAG_TRY(route_list(r, own, keep, 1, status));
  kernel_arena_release(k, &r->arena, mark);
  return SBAG_OK;
}

void route_set_lists(route_t *r) {
  const exchange_t *x = r->x;
  int differ = x->c.reproducible || x->any_freq;
  r->lists = differ && !(r->flags & SBAG_FORWARD_NO_BACKWARD) ? 2 : 1;
  r->key_words = r->lists == 2 ? CLASSES : 2;
  r->words_used = words_list_at(r, r->lists);
}

int route_may_pool(const route_t *r) {
  const exchange_t *x = r->x;
  if (r->lists == 2) return 1;
  return !all_single(r) && x->c.kind != SBAG_EXCHANGE_ROWS && !x->c.reproducible;
}

/* Runs, and mixtures of rows and their pools. */
static sbag_code_t look_at_pools(route_t *r, sbag_status_t *status) {
  SBAG_TRY(route_list_all(r, status));
  int ahead = r->ahead;
  SBAG_TRY(cover(r, status));
  SBAG_TRY(route_told(r, status));
  if (ahead) (void)find_wanted(r); /* as the op has found out */
  return SBAG_OK;
}

/* All that the choice needs. */
static sbag_code_t find_choices(route_t *r, sbag_status_t *status) {
  const exchange_t *x = r->x;
  int64_t *flag;
  for (int l = 0; l < LISTS; l++) r->filled[l] = 0;
  for (int64_t b = 0; b < (int64_t)x->ranks * x->tables; b++) r->wanted[b] = 0;
  SBAG_TRY(route_take_i64(r, BUF_ROW_FLAG, r->ahead ? r->edges : r->distinct, &flag, status));
  if (route_may_pool(r)) return look_at_pools(r, status);
  SBAG_TRY(route_told(r, status));
  return route_may_pool(r) ? look_at_pools(r, status) : SBAG_OK; /* if the guess was wrong */
}

sbag_code_t route_share(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  SBAG_TRY(find_choices(r, status));
  for (int o = 0; o < x->ranks; o++)
    for (int t = 0; t < x->tables; t++) choose(r, o, t);
  offer_dense(r);
  r->any_rows = 0;
  for (int64_t b = 0; b < (int64_t)x->ranks * x->tables; b++)
    r->any_rows |= r->share[FORWARD][b] == SHARE_ROWS || r->share[FORWARD][b] == SHARE_MIXED;
  if (place_classes(r))
    SBAG_TRY(sort_keys(r, status));
  else
    r->data[BUF_KEY] = r->data[BUF_DISTINCT];
  SBAG_TRY(make_list(r, FORWARD, status));
  r->of[BACKWARD] = r->of[FORWARD];
  return r->lists == 1 ? SBAG_OK : make_list(r, BACKWARD, status);
}
