/* Replicated tables: owners update, and the rows they changed go to every rank's mirror. One message a rank
 * holds, table by table, the changed rows' global numbers and then their values. */
#include "exchange/route.h"

enum { M_MINE, M_ALL };

static int64_t table_bytes(const exchange_t *x, int t, int64_t changed) {
  return changed * 8 + round8(changed * x->c.store->tables[t].dim * x->real_bytes);
}

static sbag_code_t take(exchange_t *x, int buffer, int64_t bytes, void **data, sbag_status_t *status) {
  SBAG_TRY(kernel_buffer_reserve(x->c.kernel, &x->transfer[buffer], (size_t)bytes, "changed rows", status));
  *data = x->transfer[buffer].data;
  return SBAG_OK;
}

static sbag_code_t pack(exchange_t *x, char *to, sbag_status_t *status) {
  kernel_t *k = x->c.kernel;
  for (int t = 0; t < x->tables; t++) {
    store_table_t *table = &x->c.store->tables[t];
    int64_t count = table->changed_count;
    if (count == 0) continue;
    k->ops->global_rows(k, NULL, &x->c.plan->tables[t], table->shard, table->changed.data, count,
                        (int64_t *)(void *)to);
    reduce_task_t task = {.op = REDUCE_SUM,
                          .dim = table->dim,
                          .segment_end = count,
                          .term = table->changed.data,
                          .stride = table->dim,
                          .src = table->weight,
                          .storage = table->storage,
                          .out = to + 8 * count,
                          .out_stride = table->dim};
    k->ops->reduce(k, NULL, x->c.store->dtype, &task, 1);
    to += table_bytes(x, t, count);
    table->changed_count = 0;
  }
  return k->ops->stream_check(k, NULL, status);
}

static void unpack(exchange_t *x, const int64_t *changed, const char *from) {
  kernel_t *k = x->c.kernel;
  for (int p = 0; p < x->ranks; p++) {
    for (int t = 0; t < x->tables; t++) {
      int64_t count = changed[(int64_t)p * x->tables + t];
      const store_table_t *table = &x->c.store->tables[t];
      if (count == 0) continue;
      k->ops->scatter_rows(k, NULL, x->c.store->dtype, table->storage, from + 8 * count, table->dim,
                           (const int64_t *)(const void *)from, count, table->mirror);
      from += table_bytes(x, t, count);
    }
  }
}

static sbag_code_t refresh(exchange_t *x, sbag_status_t *status) {
  int64_t *mine = x->transfer_counts, *all = mine + x->tables, *bytes = all + (int64_t)x->ranks * x->tables;
  int64_t total = 0;
  for (int t = 0; t < x->tables; t++) mine[t] = x->c.store->tables[t].changed_count;
  SBAG_TRY(comm_allgather(x->c.comm, mine, x->tables * 8, all, "mirrors: counts", status));
  for (int p = 0; p < x->ranks; p++) {
    bytes[p] = 0;
    for (int t = 0; t < x->tables; t++) bytes[p] += table_bytes(x, t, all[(int64_t)p * x->tables + t]);
    total += bytes[p];
  }
  if (total == 0) return SBAG_OK;
  void *out, *in;
  SBAG_TRY(take(x, M_MINE, bytes[x->rank], &out, status));
  SBAG_TRY(take(x, M_ALL, total, &in, status));
  SBAG_TRY(pack(x, out, status));
  SBAG_TRY(comm_allgatherv(x->c.comm, out, bytes, in, "mirrors: rows", status));
  unpack(x, all, in);
  return x->c.kernel->ops->stream_check(x->c.kernel, NULL, status);
}

sbag_code_t exchange_refresh_mirrors(exchange_t *exchange, sbag_status_t *status) {
  for (int t = 0; t < exchange->tables; t++)
    if (exchange->c.store->tables[t].mirror != NULL)
      return exchange_give_up(exchange, refresh(exchange, status), status);
  return SBAG_OK;
}
