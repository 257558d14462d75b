/* Creating exchanges and routes: their fixed storage, and the order of a route's opening. */
#include "exchange/route.h"

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

static void take_layout(arena_t *a, const exchange_t *x, layout_t *layout) {
  layout->bytes = take(a, x->ranks, sizeof(int64_t));
  layout->begin = take(a, x->ranks + 1, sizeof(int64_t));
  layout->vector_at = take(a, x->ranks * layout_stride(x), sizeof(int64_t));
  layout->position_at = take(a, (int64_t)x->ranks * x->c.feature_count, sizeof(int64_t));
}

static void free_layout(mem_t *mem, layout_t *layout) {
  mem_free(mem, layout->bytes);
  mem_free(mem, layout->begin);
  mem_free(mem, layout->vector_at);
  mem_free(mem, layout->position_at);
}

sbag_code_t exchange_create(const exchange_config_t *config, exchange_t **exchange, sbag_status_t *status) {
  arena_t a = {.mem = config->kernel->mem, .status = status, .code = SBAG_OK};
  exchange_t *x = take(&a, 1, sizeof *x);
  if (x == NULL) return a.code;
  *x = (exchange_t){.c = *config,
                    .rank = comm_rank(config->comm),
                    .ranks = comm_size(config->comm),
                    .tables = config->plan->table_count,
                    .real_bytes = (int64_t)kernel_dtype_bytes(config->store->dtype)};
  x->column = take(&a, config->feature_count, sizeof *x->column);
  x->mode = take(&a, config->feature_count, sizeof *x->mode);
  x->by_freq = take(&a, config->feature_count, sizeof *x->by_freq);
  x->transfer_counts = take(&a, 4 * (int64_t)(x->ranks + 1) * (x->tables + 2), sizeof(int64_t));
  x->transfer_send = take(&a, x->ranks, sizeof *x->transfer_send);
  x->transfer_recv = take(&a, x->ranks, sizeof *x->transfer_recv);
  x->range_rows.kind = MEMORY_DEVICE;
  for (int b = 0; b < TRANSFER_BUFFERS; b++) x->transfer[b].kind = MEMORY_DEVICE;
  if (a.code != SBAG_OK) {
    exchange_destroy(&x);
    return a.code;
  }
  for (int f = 0; f < config->feature_count; f++) {
    x->column[f] = config->features[f].column;
    x->mode[f] = config->features[f].mode;
    x->by_freq[f] = config->features[f].by_freq;
    x->any_max |= x->mode[f] == SBAG_MAX;
    x->any_freq |= x->by_freq[f];
  }
  *exchange = x;
  return SBAG_OK;
}

void exchange_destroy(exchange_t **exchange) {
  if (exchange == NULL || *exchange == NULL) return;
  exchange_t *x = *exchange;
  mem_t *mem = x->c.kernel->mem;
  mem_free(mem, x->column);
  mem_free(mem, x->mode);
  mem_free(mem, x->by_freq);
  mem_free(mem, x->transfer_counts);
  mem_free(mem, x->transfer_send);
  mem_free(mem, x->transfer_recv);
  kernel_buffer_free(x->c.kernel, &x->range_rows);
  for (int b = 0; b < TRANSFER_BUFFERS; b++) kernel_buffer_free(x->c.kernel, &x->transfer[b]);
  mem_free(mem, x);
  *exchange = NULL;
}

static void take_ranges(arena_t *a, route_t *r) {
  const exchange_t *x = r->x;
  int64_t ranks = x->ranks, features = x->c.feature_count;
  int64_t **by_rank[] = {&r->touch_begin, &r->owner_edge, &r->owner_run, &r->in_key,
                         &r->in_touch,    &r->in_run,     &r->in_edge};
  for (size_t i = 0; i < sizeof by_rank / sizeof *by_rank; i++)
    *by_rank[i] = take(a, ranks + 1, sizeof(int64_t));
  int64_t **by_feature[] = {&r->run_block, &r->edge_block, &r->in_run_block, &r->in_edge_block};
  for (size_t i = 0; i < sizeof by_feature / sizeof *by_feature; i++)
    *by_feature[i] = take(a, ranks * (features + 1), sizeof(int64_t));
  r->key_block = take(a, ranks * x->tables + 1, sizeof(int64_t));
  r->out = take(a, ranks * r->words, sizeof(int64_t));
  r->in = take(a, ranks * r->words, sizeof(int64_t));
  r->in_index = take(a, ranks, sizeof(int64_t));
  r->own_block = take(a, x->tables + 1, sizeof(int64_t));
  r->merged_at = take(a, x->tables + 1, sizeof(int64_t));
}

sbag_code_t route_create(exchange_t *exchange, route_t **route, sbag_status_t *status) {
  arena_t a = {.mem = exchange->c.kernel->mem, .status = status, .code = SBAG_OK};
  route_t *r = take(&a, 1, sizeof *r);
  if (r == NULL) return a.code;
  r->x = exchange;
  r->mem = a.mem;
  r->words = WORD_KEYS + exchange->tables + 2 * exchange->c.feature_count;
  r->features = take(&a, exchange->c.feature_count, sizeof *r->features);
  r->first_entry = take(&a, exchange->c.feature_count + 1, sizeof(int64_t));
  take_ranges(&a, r);
  layout_t *layouts[] = {&r->forward_out, &r->forward_in, &r->backward_out, &r->backward_in};
  for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) take_layout(&a, exchange, layouts[i]);
  r->send = take(&a, exchange->ranks, sizeof *r->send);
  r->recv = take(&a, exchange->ranks, sizeof *r->recv);
  r->tasks =
      take(&a, exchange->ranks * layout_stride(exchange) + exchange->c.feature_count + exchange->tables,
           sizeof *r->tasks);
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
  for (int b = 0; b < BUF_KEPT; b++) kernel_buffer_free(r->x->c.kernel, &r->buffer[b]);
  kernel_arena_free(r->x->c.kernel, &r->arena);
  void *blocks[] = {r->features,   r->first_entry,  r->touch_begin,   r->owner_edge, r->owner_run,
                    r->in_key,     r->in_touch,     r->in_run,        r->in_edge,    r->run_block,
                    r->edge_block, r->in_run_block, r->in_edge_block, r->key_block,  r->out,
                    r->in,         r->own_block,    r->merged_at,     r->send,       r->recv,
                    r->in_index,   r->tasks};
  for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) mem_free(r->mem, blocks[i]);
  layout_t *layouts[] = {&r->forward_out, &r->forward_in, &r->backward_out, &r->backward_in};
  for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) free_layout(r->mem, layouts[i]);
  mem_free(r->mem, r);
  *route = NULL;
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

sbag_code_t route_open(route_t *route, const sbag_bags_t *bags, int64_t bag_count, int flags,
                       sbag_code_t local, sbag_status_t *status) {
  exchange_t *x = route->x;
  route->id = x->next_id++;
  route->flags = flags;
  route->bags = bags;
  route->bag_count = bag_count;
  route->slots = bag_count * x->c.feature_count;
  route->backward_done = 0;
  route->bytes_sent = route->bytes_received = 0;
  if (local == SBAG_OK) local = kernel_arena_begin(x->c.kernel, &route->arena, status);
  if (local == SBAG_OK) local = route_local(route, status);
  int agreed = 0;
  sbag_code_t code = route_wire(route, local, &agreed, status);
  if (code == SBAG_OK) code = route_owner(route, status);
  kernel_arena_release(x->c.kernel, &route->arena, 0);
  return agreed ? code : exchange_give_up(x, code, status);
}

void route_release(route_t *r) {
  /* A step given up between begin and end: its vectors are still on their way into the route's buffers. */
  if (r->request != NULL) (void)comm_wait(r->x->c.comm, &r->request, "forward: vectors", NULL);
}

sbag_step_stats_t route_stats(const route_t *r) {
  return (sbag_step_stats_t){.lookups = r->info.edge_count,
                             .dropped = r->info.dropped,
                             .vectors_sent = r->forward_out.vectors,
                             .vectors_received = r->forward_in.vectors,
                             .bytes_sent = r->bytes_sent,
                             .bytes_received = r->bytes_received};
}
