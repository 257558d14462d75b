/* Exchanges that never send, one for the chosen way and one for each pure way, on descriptions of shards that
 * are not there: see exchange_count.h. */
#include "bench/exchange_count.h"

#include "base/sort.h"
#include "bench/exchange_cover.h"
#include "collection/collection.h"
#include "exchange/exchange.h"
#include <stdlib.h>
#include <string.h>

typedef enum way { WAY_CHOSEN, WAY_POOLS, WAY_ROWS, WAYS } way_t;

/* A looked-up row, by its key over all ranks and tables, and the bag that looks it up. */
typedef struct edge {
  int64_t key, bag;
} edge_t;

struct bench_counter {
  bench_counter_config_t c;
  kernel_t *kernel;
  comm_t *comm;
  bench_exchange_tables_t made;
  plan_t *plan;
  int *owners;
  store_table_t *tables;
  exchange_feature_t *features;
  store_t store;
  int64_t columns;
  exchange_t *exchange[WAYS];
  route_t *route[WAYS];
  exchange_need_t *need; /* [ranks] */
  sbag_bags_t *bags;     /* [tables] */
  edge_t *edges;         /* of one table; grows */
  int64_t *scratch;      /* likewise */
  int64_t edges_most;
};

/* ---- a comm that only knows its rank ---- */

static sbag_code_t refuse(sbag_status_t *status) {
  return status_set(status, SBAG_ERR_STATE, "bench: a rank that is only counted cannot send");
}
static sbag_code_t refuse_exchange(comm_t *comm, const comm_part_t *send, const comm_part_t *recv,
                                   comm_request_t **request, sbag_status_t *status) {
  (void)comm, (void)send, (void)recv, (void)request;
  return refuse(status);
}
static sbag_code_t refuse_allreduce(comm_t *comm, void *data, int64_t count, comm_type_t type,
                                    comm_reduce_t op, comm_request_t **request, sbag_status_t *status) {
  (void)comm, (void)data, (void)count, (void)type, (void)op, (void)request;
  return refuse(status);
}
static sbag_code_t refuse_broadcast(comm_t *comm, void *data, int64_t bytes, int root,
                                    comm_request_t **request, sbag_status_t *status) {
  (void)comm, (void)data, (void)bytes, (void)root, (void)request;
  return refuse(status);
}
static sbag_code_t refuse_test(comm_t *comm, comm_request_t *request, int *done, sbag_status_t *status) {
  (void)comm, (void)request, (void)done;
  return refuse(status);
}
static sbag_code_t refuse_progress(comm_t *comm, sbag_status_t *status) {
  (void)comm;
  return refuse(status);
}
static sbag_code_t refuse_wait(comm_t *comm, comm_request_t **request, const char *what,
                               sbag_status_t *status) {
  (void)comm, (void)request, (void)what;
  return refuse(status);
}
static void no_fail(comm_t *comm, const sbag_status_t *cause) {
  (void)comm, (void)cause;
}
static void virtual_destroy(comm_t **comm) {
  mem_t *mem = (*comm)->mem;
  comm_clear(*comm);
  mem_free(mem, *comm);
  *comm = NULL;
}

static const comm_ops_t virtual_ops = {.name = "counted only",
                                       .exchange_begin = refuse_exchange,
                                       .allreduce_begin = refuse_allreduce,
                                       .broadcast_begin = refuse_broadcast,
                                       .test = refuse_test,
                                       .progress = refuse_progress,
                                       .wait = refuse_wait,
                                       .fail = no_fail,
                                       .destroy = virtual_destroy};

static sbag_code_t virtual_create(mem_t *mem, int rank, int ranks, comm_t **comm, sbag_status_t *status) {
  comm_options_t options = {0};
  void *block = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof(comm_t), "bench: comm", &block, status));
  *comm = block;
  sbag_code_t code = comm_init(*comm, &virtual_ops, rank, ranks, mem, &options, status);
  if (code != SBAG_OK) virtual_destroy(comm);
  return code;
}

/* ---- exchanges ---- */

static void describe_store(bench_counter_t *c) {
  const bench_exchange_settings_t *s = c->c.settings;
  for (int t = 0; t < c->made.count; t++)
    c->tables[t] = (store_table_t){.name = (char *)(uintptr_t)c->made.tables[t].name,
                                   .rows = s->rows,
                                   .dim = s->dim,
                                   .local_rows = plan_rank_rows(c->plan, c->c.rank, t),
                                   .shard = plan_shard_of_rank(&c->plan->tables[t], c->c.rank),
                                   .trainable = 1};
  c->store = (store_t){.kernel = c->kernel,
                       .dtype = (sbag_dtype_t)s->dtype,
                       .plan = c->plan,
                       .rank = c->c.rank,
                       .table_count = c->made.count,
                       .tables = c->tables};
}

static sbag_code_t create_way(bench_counter_t *c, way_t way, sbag_status_t *status) {
  static const wire_t wires[] = {
      [SBAG_WIRE_FULL] = WIRE_FULL, [SBAG_WIRE_F16] = WIRE_F16, [SBAG_WIRE_BF16] = WIRE_BF16};
  const bench_exchange_settings_t *s = c->c.settings;
  sbag_exchange_t kind = (sbag_exchange_t)s->kind;
  if (way != WAY_CHOSEN) kind = way == WAY_POOLS ? SBAG_EXCHANGE_POOLS : SBAG_EXCHANGE_ROWS;
  exchange_config_t config = {.kernel = c->kernel,
                              .comm = c->comm,
                              .plan = c->plan,
                              .store = &c->store,
                              .features = c->features,
                              .feature_count = c->made.count,
                              .columns = c->columns,
                              .kind = kind,
                              .wire = wires[s->wire]};
  SBAG_TRY(exchange_create(&config, &c->exchange[way], status));
  return route_create(c->exchange[way], &c->route[way], status);
}

static sbag_code_t allocate(bench_counter_t *c, void *field, int64_t count, size_t size,
                            sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(c->c.mem, mem_array_bytes(count, size), "bench: counter", &block, status));
  memcpy(field, &block, sizeof block);
  return SBAG_OK;
}

static sbag_code_t create_parts(bench_counter_t *c, sbag_status_t *status) {
  const bench_exchange_settings_t *s = c->c.settings;
  mem_t *mem = c->c.mem;
  SBAG_TRY(allocate(c, &c->owners, c->c.owners, sizeof *c->owners, status));
  for (int o = 0; o < c->c.owners; o++) c->owners[o] = o;
  SBAG_TRY(allocate(c, &c->need, c->c.ranks, sizeof *c->need, status));
  SBAG_TRY(allocate(c, &c->bags, s->tables, sizeof *c->bags, status));
  SBAG_TRY(allocate(c, &c->tables, s->tables, sizeof *c->tables, status));
  SBAG_TRY(allocate(c, &c->features, s->tables, sizeof *c->features, status));
  const kernel_cpu_options_t cpu = {.threads = 1};
  SBAG_TRY(kernel_cpu_create(mem, &cpu, &c->kernel, status));
  SBAG_TRY(virtual_create(mem, c->c.rank, c->c.ranks, &c->comm, status));
  SBAG_TRY(bench_exchange_describe(s, c->owners, c->c.owners, mem, &c->made, status));
  SBAG_TRY(plan_create(mem, c->c.ranks, c->made.tables, c->made.count, &c->plan, status));
  c->columns = collection_features(c->made.tables, c->made.features, c->made.count, c->features);
  describe_store(c);
  for (int way = 0; way < WAYS; way++) SBAG_TRY(create_way(c, (way_t)way, status));
  return SBAG_OK;
}

sbag_code_t bench_counter_create(const bench_counter_config_t *config, bench_counter_t **counter,
                                 sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(config->mem, sizeof(bench_counter_t), "bench: counter", &block, status));
  bench_counter_t *c = block;
  c->c = *config;
  sbag_code_t code = create_parts(c, status);
  if (code == SBAG_OK)
    *counter = c;
  else
    bench_counter_destroy(&c);
  return code;
}

void bench_counter_destroy(bench_counter_t **counter) {
  bench_counter_t *c = *counter;
  if (c == NULL) return;
  mem_t *mem = c->c.mem;
  for (int way = 0; way < WAYS; way++) {
    route_destroy(&c->route[way]);
    exchange_destroy(&c->exchange[way]);
  }
  plan_destroy(&c->plan);
  comm_destroy(&c->comm);
  kernel_destroy(&c->kernel);
  void *const blocks[] = {c->made.block, c->owners,   c->need,  c->bags,
                          c->tables,     c->features, c->edges, c->scratch};
  for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) mem_free(mem, blocks[i]);
  mem_free(mem, c);
  *counter = NULL;
}

/* ---- yardsticks ---- */

static int by_key_and_bag(const void *a, const void *b) {
  const edge_t *left = a, *right = b;
  if (left->key != right->key) return left->key < right->key ? -1 : 1;
  return (left->bag > right->bag) - (left->bag < right->bag);
}

/* The edges [first, end) of one owner: `begin` and `bag` of its graph are filled. */
static bench_graph_t graph_of(const bench_counter_t *c, int64_t first, int64_t end, int64_t *begin,
                              int64_t *bag) {
  bench_graph_t graph = {.bags = c->c.settings->batch, .begin = begin, .bag = bag};
  for (int64_t e = first; e < end; e++) {
    bag[e - first] = c->edges[e].bag;
    if (e == first || c->edges[e].key != c->edges[e - 1].key) begin[graph.rows++] = e - first;
  }
  begin[graph.rows] = end - first;
  return graph;
}

static int64_t count_touched(const bench_graph_t *graph, int64_t *seen) {
  int64_t touched = 0;
  memset(seen, 0, (size_t)graph->bags * sizeof *seen);
  for (int64_t e = 0; e < graph->begin[graph->rows]; e++) {
    touched += !seen[graph->bag[e]];
    seen[graph->bag[e]] = 1;
  }
  return touched;
}

static sbag_code_t reserve(bench_counter_t *c, int64_t edges, sbag_status_t *status) {
  if (edges <= c->edges_most) return SBAG_OK;
  void *block = c->edges;
  SBAG_TRY(mem_realloc(c->c.mem, mem_array_bytes(edges, sizeof *c->edges), "bench: edges", &block, status));
  c->edges = block;
  bench_graph_t largest = {.rows = edges, .bags = c->c.settings->batch};
  int64_t words = 2 * edges + 1 + bench_cover_scratch(&largest);
  block = c->scratch;
  SBAG_TRY(mem_realloc(c->c.mem, mem_array_bytes(words, sizeof *c->scratch), "bench: graph", &block, status));
  c->scratch = block;
  c->edges_most = edges;
  return SBAG_OK;
}

/* Owners' keys are neighbours. */
static void measure_table(bench_counter_t *c, int table, int64_t edges, bench_count_t *count) {
  int64_t *begin = c->scratch, *bag = begin + c->edges_most + 1, *rest = bag + c->edges_most;
  int64_t first = 0;
  for (int o = 0; o < c->c.ranks; o++) {
    int64_t end = first, last_key = plan_block_key(c->plan, o, table) + plan_rank_rows(c->plan, o, table);
    while (end < edges && c->edges[end].key < last_key) end++;
    if (o != c->c.rank && plan_rank_rows(c->plan, o, table) > 0) {
      bench_graph_t graph = graph_of(c, first, end, begin, bag);
      int64_t touched = count_touched(&graph, rest);
      count->n[COUNT_DENSE] += graph.bags;
      count->n[COUNT_SPARSE] += touched;
      count->n[COUNT_DISTINCT] += graph.rows;
      count->n[COUNT_BETTER] += touched < graph.rows ? touched : graph.rows;
      if (c->c.cover) count->n[COUNT_COVER] += bench_cover(&graph, rest);
    }
    first = end;
  }
}

static sbag_code_t measure(bench_counter_t *c, const bench_shape_t *of, const int64_t *indices,
                           bench_count_t *count, sbag_status_t *status) {
  int64_t edges = c->c.settings->batch * of->length;
  SBAG_TRY(reserve(c, edges, status));
  for (int t = 0; t < c->made.count; t++) {
    for (int64_t e = 0; e < edges; e++)
      c->edges[e] = (edge_t){plan_key(&c->plan->tables[t], *indices++), e / of->length};
    sort_items(c->edges, edges, sizeof *c->edges, by_key_and_bag);
    measure_table(c, t, edges, count);
  }
  return SBAG_OK;
}

/* ---- bytes ---- */

typedef struct total {
  int64_t vectors, ids, forward, backward;
} total_t;

static sbag_code_t predict(bench_counter_t *c, way_t way, total_t *total, sbag_status_t *status) {
  SBAG_TRY(route_predict(c->route[way], c->bags, c->c.settings->batch, 0, c->need, status));
  *total = (total_t){0};
  for (int o = 0; o < c->c.owners; o++) {
    const exchange_need_t *need = &c->need[o];
    if (o == c->c.rank) continue;
    total->vectors += need->rows + need->pools;
    total->ids += need->id_bytes;
    total->forward += need->forward_bytes;
    total->backward += need->backward_bytes;
  }
  return SBAG_OK;
}

/* Dense pools: the forward has a vector for every bag and other owner; ids and gradients are those of pools.
 * A max is never dense: it would have to carry places. */
static int64_t dense_bytes(const bench_counter_t *c, const total_t *pools) {
  const bench_exchange_settings_t *s = c->c.settings;
  if (s->mode == SBAG_MAX) return pools->ids + pools->forward + pools->backward;
  int64_t value = s->wire == SBAG_WIRE_FULL ? (int64_t)kernel_dtype_bytes((sbag_dtype_t)s->dtype) : 2;
  int64_t others = c->c.owners - (c->c.rank < c->c.owners);
  return pools->ids + others * s->batch * c->columns * value + pools->backward;
}

static int64_t total_bytes(const total_t *total) {
  return total->ids + total->forward + total->backward;
}

sbag_code_t bench_counter_add(bench_counter_t *c, const bench_shape_t *of, const int64_t *indices,
                              bench_count_t *count, int64_t *owner_bytes, sbag_status_t *status) {
  total_t total[WAYS];
  bench_batch_bags(c->c.settings, of, indices, c->bags);
  SBAG_TRY(measure(c, of, indices, count, status));
  for (int way = WAYS - 1; way >= 0; way--) SBAG_TRY(predict(c, (way_t)way, &total[way], status));
  for (int o = 0; owner_bytes != NULL && o < c->c.owners; o++)
    if (o != c->c.rank)
      owner_bytes[o] += c->need[o].id_bytes + c->need[o].forward_bytes + c->need[o].backward_bytes;
  int64_t pools = total_bytes(&total[WAY_POOLS]), rows = total_bytes(&total[WAY_ROWS]);
  int64_t dense = dense_bytes(c, &total[WAY_POOLS]), chosen = total_bytes(&total[WAY_CHOSEN]);
  count->n[COUNT_BATCHES]++;
  count->n[COUNT_CHOSEN] += total[WAY_CHOSEN].vectors;
  count->n[COUNT_IDS] += total[WAY_CHOSEN].ids;
  count->n[COUNT_FORWARD] += total[WAY_CHOSEN].forward;
  count->n[COUNT_BACKWARD] += total[WAY_CHOSEN].backward;
  count->n[COUNT_POOLS_BYTES] += pools;
  count->n[COUNT_ROWS_BYTES] += rows;
  count->n[COUNT_DENSE_BYTES] += dense;
  count->n[COUNT_OVER] += chosen > pools || chosen > rows || chosen > dense;
  return SBAG_OK;
}
