/* Creating exchanges and routes: their fixed storage, and the order of a route's opening. */
#include "exchange/route.h"

#include <math.h>
#include <string.h>

typedef struct arena {
  mem_t *mem;
  sbag_status_t *status;
  sbag_code_t code;
} arena_t;

/* Zeroed storage for count items; after a failure it gives NULL and keeps the first error. */
static void *take(arena_t *a, int64_t count, size_t size) {
  void *p = NULL;
  if (a->code == SBAG_OK)
    a->code = mem_calloc(a->mem, mem_array_bytes(count, size), "exchange", &p, a->status);
  return a->code == SBAG_OK ? p : NULL;
}

static void take_layout(arena_t *a, const exchange_t *x, layout_t *l) {
  int64_t by_feature = (int64_t)x->ranks * x->features;
  l->row_at = take(a, (int64_t)x->ranks * x->tables, sizeof(int64_t));
  l->pool_at = take(a, by_feature, sizeof(int64_t));
  l->place_at = take(a, by_feature, sizeof(int64_t));
  l->begin = take(a, x->ranks + 1, sizeof(int64_t));
  l->elements = take(a, x->ranks, sizeof(int64_t));
  l->message = take(a, x->ranks, sizeof(int64_t));
  l->bytes = take(a, x->ranks, sizeof(int64_t));
}

static void free_layout(mem_t *mem, layout_t *l) {
  int64_t *blocks[] = {l->row_at, l->pool_at, l->place_at, l->begin, l->elements, l->message, l->bytes};
  for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) mem_free(mem, blocks[i]);
}

static void describe(exchange_t *x) {
  for (int t = 0; t < x->tables; t++) {
    x->table_sums[t] = 1;
    x->table_feature[t] = -1;
    x->any_mirror |= x->c.store->tables[t].mirror != NULL;
  }
  for (int f = 0; f < x->features; f++) {
    const exchange_feature_t *feature = &x->c.features[f];
    x->column[f] = feature->column;
    x->mode[f] = feature->mode;
    x->by_freq[f] = feature->by_freq;
    x->feature_table[f] = feature->table;
    x->table_feature[feature->table] = f;
    x->table_freq[feature->table] |= feature->by_freq;
    x->table_sums[feature->table] &= feature->mode != SBAG_MAX;
    x->any_max |= feature->mode == SBAG_MAX;
    x->any_freq |= feature->by_freq;
    x->table_features[feature->table]++;
  }
  for (int t = 0, n = 0; t < x->tables; t++) {
    x->row_limit[t] = x->c.store->tables[t].rows;
    for (int f = 0; f < x->features && x->table_features[t] > 0; f++)
      if (x->feature_table[f] == t) x->by_table[n++] = f;
  }
}

sbag_code_t exchange_create(const exchange_config_t *config, exchange_t **exchange, sbag_status_t *status) {
  arena_t a = {.mem = config->kernel->mem, .status = status, .code = SBAG_OK};
  exchange_t *x = take(&a, 1, sizeof *x);
  if (x == NULL) return a.code;
  *x = (exchange_t){.c = *config,
                    .rank = comm_rank(config->comm),
                    .ranks = comm_size(config->comm),
                    .tables = config->plan->table_count,
                    .features = config->feature_count,
                    .real_bytes = (int64_t)kernel_dtype_bytes(config->store->dtype)};
  x->wire_bytes = config->wire == WIRE_FULL ? x->real_bytes : 2;
  x->column = take(&a, x->features, sizeof *x->column);
  x->mode = take(&a, x->features, sizeof *x->mode);
  x->by_freq = take(&a, x->features, sizeof *x->by_freq);
  x->feature_table = take(&a, x->features, sizeof *x->feature_table);
  x->table_freq = take(&a, x->tables, sizeof *x->table_freq);
  x->table_sums = take(&a, x->tables, sizeof *x->table_sums);
  x->table_feature = take(&a, x->tables, sizeof *x->table_feature);
  x->table_features = take(&a, x->tables, sizeof *x->table_features);
  x->by_table = take(&a, x->features, sizeof *x->by_table);
  x->row_limit = take(&a, x->tables, sizeof *x->row_limit);
  x->transfer_counts = take(&a, 4 * (int64_t)(x->ranks + 1) * (x->tables + 2), sizeof(int64_t));
  x->transfer_send = take(&a, x->ranks, sizeof *x->transfer_send);
  x->transfer_recv = take(&a, x->ranks, sizeof *x->transfer_recv);
  x->range_rows.kind = x->range_values.kind = MEMORY_DEVICE;
  for (int b = 0; b < TRANSFER_BUFFERS; b++) x->transfer[b].kind = MEMORY_DEVICE;
  if (a.code != SBAG_OK) {
    exchange_destroy(&x);
    return a.code;
  }
  describe(x);
  x->solo = solo_possible(x);
  *exchange = x;
  return SBAG_OK;
}

void exchange_destroy(exchange_t **exchange) {
  if (exchange == NULL || *exchange == NULL) return;
  exchange_t *x = *exchange;
  *exchange = NULL;
  if (comm_check(x->c.comm, NULL) != SBAG_OK) return;
  mem_t *mem = x->c.kernel->mem;
  void *blocks[] = {x->table_features,  x->by_table,      x->row_limit,    x->column,     x->mode,
                    x->by_freq,         x->feature_table, x->table_freq,   x->table_sums, x->table_feature,
                    x->transfer_counts, x->transfer_send, x->transfer_recv};
  for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) mem_free(mem, blocks[i]);
  kernel_buffer_free(x->c.kernel, &x->range_rows);
  kernel_buffer_free(x->c.kernel, &x->range_values);
  for (int b = 0; b < TRANSFER_BUFFERS; b++) kernel_buffer_free(x->c.kernel, &x->transfer[b]);
  mem_free(mem, x);
}

/* A route's host arrays: where each pointer is, its count, and the size of an item. */
typedef struct field {
  void **pointer;
  int64_t count;
  size_t size;
} field_t;
enum { FIELDS_MOST = 64 };

static int route_fields(route_t *r, field_t *f) {
  const exchange_t *x = r->x;
  int64_t ranks = x->ranks, tables = ranks * x->tables, features = ranks * x->features;
  int64_t blocks = tables * CLASSES > features ? tables * CLASSES : features,
          segments = route_segments_most(x);
  int n = 0;
#define FIELD(member, many) f[n++] = (field_t){(void **)&r->member, many, sizeof *r->member}
  FIELD(features, x->features);
  FIELD(first_entry, x->features + 1);
  FIELD(key_block, tables + 1);
  FIELD(class_begin, tables * CLASSES + 1);
  FIELD(share[FORWARD], tables);
  FIELD(share[BACKWARD], tables);
  FIELD(wanted, tables);
  FIELD(row_count, tables);
  FIELD(pool_runs, features);
  FIELD(pool_edges, features);
  FIELD(row_cost, x->tables);
  FIELD(pool_cost, x->features);
  FIELD(edge_cost, x->features);
  FIELD(touch_begin, ranks + 1);
  FIELD(owner_key, ranks + 2);
  FIELD(block_first, blocks);
  FIELD(block_step, blocks);
  FIELD(out, ranks * r->words);
  FIELD(in, ranks * r->words);
  FIELD(in_key, tables + 1);
  FIELD(in_touch, ranks + 1);
  FIELD(ids_out, ranks + 1);
  FIELD(ids_in, ranks + 1);
  FIELD(own_block, x->tables + 1);
  FIELD(merged_at, x->tables + 1);
  FIELD(sums, x->tables);
  FIELD(offers, x->tables);
  FIELD(dense, x->tables);
  FIELD(send, ranks);
  FIELD(recv, ranks);
  FIELD(pieces, x->features);
  FIELD(tasks, tables + features + x->tables + x->features);
  FIELD(packs, segments);
  FIELD(unpacks, segments);
  for (int l = 0; l < LISTS; l++) {
    FIELD(list[l].run_block, features + 1);
    FIELD(list[l].edge_block, features + 1);
  }
  for (int p = 0; p < PHASES; p++) {
    FIELD(in_list[p].run_block, features + 1);
    FIELD(in_list[p].edge_block, features + 1);
  }
#undef FIELD
  return n;
}

sbag_code_t route_create(exchange_t *exchange, route_t **route, sbag_status_t *status) {
  arena_t a = {.mem = exchange->c.kernel->mem, .status = status, .code = SBAG_OK};
  route_t *r = take(&a, 1, sizeof *r);
  if (r == NULL) return a.code;
  r->x = exchange;
  r->mem = a.mem;
  r->key_words = CLASSES;
  r->words = words_list_at(r, PHASES);
  field_t fields[FIELDS_MOST];
  int count = route_fields(r, fields);
  for (int i = 0; i < count; i++) *fields[i].pointer = take(&a, fields[i].count, fields[i].size);
  for (int p = 0; p < PHASES; p++) {
    take_layout(&a, exchange, &r->layout_out[p]);
    take_layout(&a, exchange, &r->layout_in[p]);
  }
  for (int b = 0; b < BUF_KEPT; b++) r->buffer[b].kind = MEMORY_DEVICE;
  r->arena.block.kind = MEMORY_DEVICE;
  if (a.code != SBAG_OK) {
    route_destroy(&r);
    return a.code;
  }
  *route = r;
  return SBAG_OK;
}

void route_destroy(route_t **route) {
  if (route == NULL || *route == NULL) return;
  route_t *r = *route;
  *route = NULL;
  if (comm_check(r->x->c.comm, NULL) != SBAG_OK) return;
  field_t fields[FIELDS_MOST];
  int count = route_fields(r, fields);
  (void)r->x->c.kernel->ops->stream_sync(r->x->c.kernel, NULL, NULL); /* numbers may be on their way to it */
  for (int b = 0; b < BUF_KEPT; b++) kernel_buffer_free(r->x->c.kernel, &r->buffer[b]);
  kernel_arena_free(r->x->c.kernel, &r->arena);
  for (int i = 0; i < count; i++) mem_free(r->mem, *fields[i].pointer);
  for (int p = 0; p < PHASES; p++) {
    free_layout(r->mem, &r->layout_out[p]);
    free_layout(r->mem, &r->layout_in[p]);
  }
  mem_free(r->mem, r);
}

sbag_code_t route_take_bytes(route_t *r, int buffer, int64_t bytes, void **data, sbag_status_t *status) {
  kernel_t *k = r->x->c.kernel;
  if (buffer >= BUF_KEPT) {
    SBAG_TRY(kernel_arena_take(k, &r->arena, (size_t)bytes, &r->data[buffer], status));
  } else {
    SBAG_TRY(kernel_buffer_reserve(k, &r->buffer[buffer], (size_t)bytes, "exchange: step buffer", status));
    r->data[buffer] = r->buffer[buffer].data;
  }
  *data = r->data[buffer];
  return SBAG_OK;
}

sbag_code_t route_take_i64(route_t *r, int buffer, int64_t count, int64_t **data, sbag_status_t *status) {
  void *p = NULL;
  SBAG_TRY(route_take_bytes(r, buffer, count * (int64_t)sizeof(int64_t), &p, status));
  *data = p;
  return SBAG_OK;
}

sbag_code_t route_take_real(route_t *r, int buffer, int64_t count, void **data, sbag_status_t *status) {
  return route_take_bytes(r, buffer, count * r->x->real_bytes, data, status);
}

/* A failure after the ranks have begun to exchange can't be agreed upon any more: the peers are told. */
sbag_code_t exchange_give_up(exchange_t *x, sbag_code_t code, sbag_status_t *status) {
  sbag_status_t cause = {.code = code};
  if (code != SBAG_OK && x->c.comm->broken.code == SBAG_OK)
    comm_fail(x->c.comm, status != NULL ? status : &cause);
  return code;
}

sbag_code_t route_exchange_begin(route_t *r, sbag_status_t *status) {
  comm_t *comm = r->x->c.comm;
  SBAG_TRY(r->x->c.kernel->ops->stream_check(r->x->c.kernel, NULL, status));
  for (int p = 0; p < r->x->ranks; p++) {
    if (p == r->x->rank) continue;
    r->bytes_sent += r->send[p].bytes;
    r->bytes_received += r->recv[p].bytes;
  }
  return comm->ops->exchange_begin(comm, r->send, r->recv, &r->request, status);
}

sbag_code_t route_wait(route_t *r, const char *what, sbag_status_t *status) {
  return comm_wait(r->x->c.comm, &r->request, what, status);
}

static sbag_code_t prepare(route_t *r, sbag_status_t *status) {
  SBAG_TRY(kernel_arena_begin(r->x->c.kernel, &r->arena, status));
  SBAG_TRY(route_edges(r, status));
  SBAG_TRY(route_share(r, status));
  r->error = (wire_error_t){0}; /* only now has the device told the last batch's */
  return SBAG_OK;
}

/* What the last batch left behind and route_stats reads. */
static void forget(route_t *r) {
  const exchange_t *x = r->x;
  size_t blocks = (size_t)x->ranks * (size_t)x->tables;
  memset(r->key_block, 0, (blocks + 1) * sizeof *r->key_block);
  memset(r->own_block, 0, ((size_t)x->tables + 1) * sizeof *r->own_block);
  memset(r->dense, 0, (size_t)x->tables * sizeof *r->dense);
  r->merged = 0;
  for (int p = 0; p < PHASES; p++) r->layout_out[p].vectors = r->layout_in[p].vectors = 0;
  r->info = (edges_info_t){0};
  r->bytes_sent = r->bytes_received = r->ids_sent = 0;
}

static void start(route_t *r, const sbag_bags_t *bags, int64_t bag_count, int flags) {
  forget(r);
  r->flags = flags;
  r->bags = bags;
  r->bag_count = bag_count;
  r->slots = bag_count * r->x->features;
  route_set_lists(r); /* also where this rank fails: the counts' size goes by it */
}

static void predict_owner(const route_t *r, int owner, exchange_need_t *need) {
  const exchange_t *x = r->x;
  const int64_t *words = r->out + (int64_t)owner * r->words;
  const pool_list_t *list = list_at(r, FORWARD);
  int64_t first;
  *need =
      (exchange_need_t){.id_bytes = r->ids_out[owner + 1] - r->ids_out[owner] + 8 * (int64_t)r->words_used,
                        .forward_bytes = r->layout_in[FORWARD].bytes[owner],
                        .backward_bytes = r->layout_out[BACKWARD].bytes[owner]};
  for (int t = 0; t < x->tables; t++) {
    int64_t block = (int64_t)owner * x->tables + t;
    need->keys += r->key_block[block + 1] - r->key_block[block];
    if (route_travels(r, t, FORWARD)) need->rows += words_rows(r, words, t, FORWARD, &first);
  }
  for (int f = 0; f < x->features; f++)
    if (route_travels(r, x->feature_table[f], FORWARD)) need->pools += words_runs(r, words, FORWARD, f);
  if (r->filled[LIST_ALL]) list = &r->list[LIST_ALL];
  int64_t block = (int64_t)owner * x->features;
  need->runs = list->run_block[block + x->features] - list->run_block[block];
  need->edges = list->edge_block[block + x->features] - list->edge_block[block];
}

sbag_code_t route_predict(route_t *r, const sbag_bags_t *bags, int64_t bag_count, int flags,
                          exchange_need_t *need, sbag_status_t *status) {
  start(r, bags, bag_count, flags);
  sbag_code_t code = prepare(r, status);
  if (code == SBAG_OK) code = route_pack_ids(r, status);
  kernel_arena_release(r->x->c.kernel, &r->arena, 0);
  SBAG_TRY(code);
  layout_make(r, r->out, FORWARD, &r->layout_in[FORWARD]);
  layout_make(r, r->out, BACKWARD, &r->layout_out[BACKWARD]);
  for (int o = 0; o < r->x->ranks; o++) predict_owner(r, o, &need[o]);
  return SBAG_OK;
}

sbag_code_t route_begin(route_t *r, const sbag_bags_t *bags, int64_t bag_count, int flags, sbag_code_t local,
                        const sbag_status_t *cause, sbag_status_t *status) {
  exchange_t *x = r->x;
  SBAG_TRY(comm_check(x->c.comm, status)); /* a broken comm may still hold the last batch's buffers */
  r->id = x->next_id++;
  start(r, bags, bag_count, flags);
  r->local = local;
  status_clear(&r->local_status);
  if (local != SBAG_OK && cause != NULL) r->local_status = *cause;
  if (local == SBAG_OK) r->local = x->solo ? solo_begin(r, &r->local_status) : prepare(r, &r->local_status);
  sbag_code_t code = x->solo ? SBAG_OK : route_send_counts(r, status);
  kernel_arena_release(x->c.kernel, &r->arena, 0);
  r->stage = code == SBAG_OK ? STAGE_COUNTS : STAGE_IDLE;
  return exchange_give_up(x, code, status);
}

sbag_code_t route_advance(route_t *r, sbag_status_t *status) {
  int agreed = 0;
  sbag_code_t code = SBAG_OK;
  if (r->x->solo && r->stage == STAGE_COUNTS) {
    agreed = 1;
    code = route_agree(r, status);
    r->stage = STAGE_OPEN;
  } else if (r->stage == STAGE_COUNTS) {
    code = route_send_ids(r, &agreed, status);
    r->stage = STAGE_IDS;
  } else if (r->stage == STAGE_IDS) {
    code = route_take_ids(r, status);
    if (code == SBAG_OK) code = route_owner(r, status);
    kernel_arena_release(r->x->c.kernel, &r->arena, 0);
    r->stage = STAGE_OPEN;
  }
  if (code != SBAG_OK) r->stage = STAGE_IDLE;
  return agreed ? code : exchange_give_up(r->x, code, status);
}

sbag_code_t route_open(route_t *r, sbag_status_t *status) {
  while (r->stage == STAGE_COUNTS || r->stage == STAGE_IDS) SBAG_TRY(route_advance(r, status));
  return SBAG_OK;
}

void route_release(route_t *r) {
  /* A step given up half-way: what is under way goes into the route's buffers. */
  if (r->request != NULL) (void)route_wait(r, "a step given up", NULL);
  if (r->dense_request != NULL) (void)comm_wait(r->x->c.comm, &r->dense_request, "a step given up", NULL);
  r->stage = STAGE_IDLE;
}

static void count_parts(const route_t *r, sbag_step_stats_t *stats) {
  const exchange_t *x = r->x;
  for (int64_t b = 0; b < (int64_t)x->ranks * x->tables; b++) {
    int t = (int)(b % x->tables);
    if (b / x->tables == x->rank || r->key_block[b] == r->key_block[b + 1] || r->dense[t]) continue;
    stats->row_parts += r->share[FORWARD][b] == SHARE_ROWS;
    stats->pool_parts += r->share[FORWARD][b] == SHARE_POOLS;
    stats->mixed_parts += r->share[FORWARD][b] == SHARE_MIXED;
  }
  for (int t = 0; t < x->tables; t++) stats->dense_tables += r->dense[t];
}

void route_settle(route_t *r) {
  exchange_t *x = r->x;
  sbag_status_t cause;
  status_clear(&cause);
  if (x->c.wire == WIRE_FULL) return;
  (void)exchange_give_up(x, x->c.kernel->ops->stream_sync(x->c.kernel, NULL, &cause), &cause);
}

sbag_step_stats_t route_stats(const route_t *r) {
  sbag_step_stats_t stats = {.lookups = r->info.edge_count,
                             .dropped = r->info.dropped,
                             .vectors_sent = r->layout_out[FORWARD].vectors + dense_vectors(r, 1),
                             .vectors_received = r->layout_in[FORWARD].vectors + dense_vectors(r, 0),
                             .bytes_sent = r->bytes_sent,
                             .bytes_received = r->bytes_received,
                             .id_bytes_sent = r->ids_sent};
  if (r->error.squares > 0) stats.wire_error = sqrt(r->error.lost / r->error.squares);
  count_parts(r, &stats);
  return stats;
}
