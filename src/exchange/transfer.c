/* Rows of one table between any rank and their owners, as they are stored: for reading and writing tables and
 * optimizer state outside of steps. Distinct rows travel once. */
#include "exchange/route.h"

enum {
  T_SLOT_BEGIN,
  T_KEY,
  T_SLOT,
  T_DISTINCT,
  T_BEGIN,
  T_MEMBER,
  T_WHICH,
  T_SCRATCH,
  T_IN,
  T_OUT_VALUES,
  T_IN_VALUES,
  T_VALUES
};

/* At the owner, once the keys have come, of what nobody needs any more: the rows that come, each once. */
enum { T_OWN = T_KEY, T_OWN_BEGIN = T_SLOT_BEGIN, T_OWN_MEMBER = T_SLOT, T_OWN_LAST = T_DISTINCT };

/* The message of counts: words of int64. */
enum { WORD_OUTCOME, WORD_COUNT, WORD_TABLE, WORD_WIDTH, WORDS };

typedef struct transfer {
  exchange_t *x;
  int table;
  sbag_storage_t
      storage; /* of the owners' rows; they travel, and the caller has them, in the store's dtype */
  int64_t width, distinct, in_count;
  int write;
  int64_t own_count;             /* distinct rows of those that come in: several ranks may ask for one */
  int64_t *own;                  /* their local rows */
  int64_t *out_begin, *in_begin; /* [ranks + 1] distinct keys by owner; incoming keys by peer */
  int64_t *out_words, *in_words; /* [ranks][WORDS] */
} transfer_t;

static sbag_code_t take(exchange_t *x, int buffer, int64_t bytes, void **data, sbag_status_t *status) {
  SBAG_TRY(
      kernel_buffer_reserve(x->c.kernel, &x->transfer[buffer], (size_t)bytes, "rows in transfer", status));
  *data = x->transfer[buffer].data;
  return SBAG_OK;
}

static sbag_code_t take_i64(exchange_t *x, int buffer, int64_t count, int64_t **data, sbag_status_t *status) {
  void *p = NULL;
  SBAG_TRY(take(x, buffer, count * 8, &p, status));
  *data = p;
  return SBAG_OK;
}

static int64_t *i64(const transfer_t *t, int buffer) {
  return t->x->transfer[buffer].data;
}

/* A list of rows is a batch of bags of one index. */
static sbag_code_t find_keys(transfer_t *t, const int64_t *rows, int64_t count, sbag_status_t *status) {
  exchange_t *x = t->x;
  kernel_t *k = x->c.kernel;
  const store_table_t *table = &x->c.store->tables[t->table];
  edges_feature_t feature = {.bags = sbag_bags_2d(rows, count, 1),
                             .num_embeddings = table->rows,
                             .padding_idx = -1,
                             .plan = &x->c.plan->tables[t->table]};
  edges_request_t request = {.features = &feature, .feature_count = 1, .bag_count = count};
  edges_info_t info;
  SBAG_TRY(take_i64(x, T_SLOT_BEGIN, count + 1, &request.slot_begin, status));
  SBAG_TRY(take_i64(x, T_KEY, count, &request.key, status));
  SBAG_TRY(take_i64(x, T_SLOT, count, &request.slot, status));
  k->ops->edges_build(k, NULL, &request, &info);
  SBAG_TRY(k->ops->stream_sync(k, NULL, status));
  if (info.fault != EDGES_FINE)
    return status_set(status, SBAG_ERR_ARGUMENT, "table '%s': row %lld at position %lld is not in 0 to %lld",
                      table->name, (long long)info.fault_value, (long long)info.fault_position,
                      (long long)table->rows - 1);
  return SBAG_OK;
}

static sbag_code_t find_owners(transfer_t *t, int64_t count, sbag_status_t *status) {
  exchange_t *x = t->x;
  kernel_t *k = x->c.kernel;
  unique_request_t u = {
      .count = count, .key = i64(t, T_KEY), .key_limit = plan_rank_key(x->c.plan, x->ranks)};
  SBAG_TRY(take_i64(x, T_DISTINCT, count, &u.distinct, status));
  SBAG_TRY(take_i64(x, T_BEGIN, count + 1, &u.begin, status));
  SBAG_TRY(take_i64(x, T_MEMBER, count, &u.member, status));
  SBAG_TRY(take_i64(x, T_WHICH, count, &u.which, status));
  SBAG_TRY(take_i64(x, T_SCRATCH, 2 * count, &u.scratch, status));
  for (int o = 0; o <= x->ranks; o++) /* each becomes what was found with it */
    t->out_begin[o] = plan_rank_key(x->c.plan, o);
  u.bound = u.place = t->out_begin;
  u.bounds = x->ranks + 1;
  k->ops->unique(k, NULL, &u, &t->distinct);
  return k->ops->stream_sync(k, NULL, status);
}

static sbag_code_t exchange_parts(exchange_t *x, const char *what, sbag_status_t *status) {
  return comm_exchange(x->c.comm, x->transfer_send, x->transfer_recv, what, status);
}

/* Counts with each rank's outcome: an error on one is returned by all (*agreed). */
static sbag_code_t exchange_counts(transfer_t *t, sbag_code_t local, int *agreed, sbag_status_t *status) {
  exchange_t *x = t->x;
  for (int p = 0; p < x->ranks; p++) {
    int64_t *words = t->out_words + (int64_t)p * WORDS;
    words[WORD_OUTCOME] = local;
    words[WORD_COUNT] = local == SBAG_OK ? t->out_begin[p + 1] - t->out_begin[p] : 0;
    words[WORD_TABLE] = t->table;
    words[WORD_WIDTH] = t->width;
    x->transfer_send[p] = (comm_part_t){words, WORDS * 8};
    x->transfer_recv[p] = (comm_part_t){t->in_words + (int64_t)p * WORDS, WORDS * 8};
  }
  sbag_status_t cause;
  status_clear(&cause);
  sbag_code_t code = exchange_parts(x, "rows: counts", &cause);
  if (code != SBAG_OK) {
    if (status != NULL) *status = cause;
    return code;
  }
  int any = 0, differ = 0;
  t->in_begin[0] = 0;
  for (int p = 0; p < x->ranks; p++) {
    const int64_t *words = t->in_words + (int64_t)p * WORDS;
    any |= words[WORD_OUTCOME] != SBAG_OK;
    differ |= words[WORD_TABLE] != t->table || words[WORD_WIDTH] != t->width;
    t->in_begin[p + 1] = t->in_begin[p] + words[WORD_COUNT];
  }
  t->in_count = t->in_begin[x->ranks];
  if (!any && !differ) return SBAG_OK;
  *agreed = 1;
  if (!any) /* all ranks see it; a row's key would be another table's there */
    local = status_set(status, SBAG_ERR_STATE, "rows of table '%s' here, of another table or state on a peer",
                       x->c.store->tables[t->table].name);
  return comm_agree(x->c.comm, local, status);
}

/* Ops take rows beside each other: what changes rows must have each once. */
static sbag_code_t find_own(transfer_t *t, int64_t *in, sbag_status_t *status) {
  exchange_t *x = t->x;
  kernel_t *k = x->c.kernel;
  const store_table_t *table = &x->c.store->tables[t->table];
  unique_request_t u = {.count = t->in_count, .key = in, .key_limit = table->local_rows};
  t->own = in;
  t->own_count = t->in_count;
  if (x->ranks == 1 || (!t->write && table->last_step == NULL)) return SBAG_OK;
  SBAG_TRY(take_i64(x, T_OWN, t->in_count, &u.distinct, status));
  SBAG_TRY(take_i64(x, T_OWN_BEGIN, t->in_count + 1, &u.begin, status));
  SBAG_TRY(take_i64(x, T_OWN_MEMBER, t->in_count, &u.member, status));
  SBAG_TRY(take_i64(x, T_SCRATCH, unique_scratch(t->in_count, u.key_first, u.key_limit), &u.scratch, status));
  k->ops->unique(k, NULL, &u, &t->own_count);
  SBAG_TRY(k->ops->stream_sync(k, NULL, status));
  if (t->own_count < t->in_count) t->own = u.distinct; /* else as they came, and so their values */
  return SBAG_OK;
}

/* Keys to owners, who turn them into local rows (T_IN). */
static sbag_code_t exchange_keys(transfer_t *t, sbag_status_t *status) {
  exchange_t *x = t->x;
  kernel_t *k = x->c.kernel;
  int64_t *in;
  SBAG_TRY(take_i64(x, T_IN, t->in_count, &in, status));
  for (int p = 0; p < x->ranks; p++) {
    int64_t out_count = t->out_begin[p + 1] - t->out_begin[p];
    x->transfer_send[p] = (comm_part_t){i64(t, T_DISTINCT) + t->out_begin[p], 8 * out_count};
    x->transfer_recv[p] = (comm_part_t){in + t->in_begin[p], 8 * (t->in_begin[p + 1] - t->in_begin[p])};
  }
  SBAG_TRY(exchange_parts(x, "rows: keys", status));
  k->ops->gather_i64(k, NULL, in, NULL, t->in_count, -plan_block_key(x->c.plan, x->rank, t->table), in);
  SBAG_TRY(find_own(t, in, status));
  return store_catch_up(x->c.store, t->table, t->own, t->own_count, status);
}

static void place_counts(transfer_t *t) {
  exchange_t *x = t->x;
  int64_t *host = x->transfer_counts;
  t->out_begin = host;
  t->in_begin = host + x->ranks + 1;
  t->out_words = host + 2 * (x->ranks + 1);
  t->in_words = t->out_words + (int64_t)WORDS * x->ranks;
}

static sbag_code_t open(transfer_t *t, const int64_t *rows, int64_t count, sbag_status_t *status) {
  exchange_t *x = t->x;
  int agreed = 0;
  place_counts(t);
  sbag_code_t code = find_keys(t, rows, count, status);
  if (code == SBAG_OK) code = find_owners(t, count, status);
  code = exchange_counts(t, code, &agreed, status);
  if (code == SBAG_OK) code = exchange_keys(t, status);
  return agreed ? code : exchange_give_up(x, code, status);
}

/* Values between owners (`owner_side`, by peer) and requesters (by owner). */
static sbag_code_t exchange_values(transfer_t *t, void *requester_side, void *owner_side, int to_owner,
                                   sbag_status_t *status) {
  exchange_t *x = t->x;
  for (int p = 0; p < x->ranks; p++) {
    int64_t out_count = t->out_begin[p + 1] - t->out_begin[p], in_count = t->in_begin[p + 1] - t->in_begin[p];
    comm_part_t requester = {real_at(x, requester_side, t->out_begin[p] * t->width),
                             out_count * t->width * x->real_bytes};
    comm_part_t owner = {real_at(x, owner_side, t->in_begin[p] * t->width),
                         in_count * t->width * x->real_bytes};
    x->transfer_send[p] = to_owner ? requester : owner;
    x->transfer_recv[p] = to_owner ? owner : requester;
  }
  SBAG_TRY(x->c.kernel->ops->stream_check(x->c.kernel, NULL, status));
  return exchange_parts(x, "rows: values", status);
}

static sbag_code_t take_values(transfer_t *t, void **requester_side, void **owner_side,
                               sbag_status_t *status) {
  exchange_t *x = t->x;
  SBAG_TRY(take(x, T_IN_VALUES, t->distinct * t->width * x->real_bytes, requester_side, status));
  return take(x, T_OUT_VALUES, t->in_count * t->width * x->real_bytes, owner_side, status);
}

/* Whether the caller's values are where only `copy` can reach them. */
static int is_apart(const transfer_t *t, int64_t count, const void *values) {
  kernel_t *k = t->x->c.kernel;
  return count > 0 && !k->ops->reaches(k, values);
}

static int64_t values_bytes(const transfer_t *t, int64_t count) {
  return count * t->width * t->x->real_bytes;
}

static void copy_values(const transfer_t *t, int64_t count, void *to, const void *from) {
  kernel_t *k = t->x->c.kernel;
  copy_part_t part = {to, from, values_bytes(t, count)};
  k->ops->copy(k, NULL, &part, 1);
}

static sbag_code_t read_rows(transfer_t *t, const void *base, int64_t count, void *values,
                             sbag_status_t *status) {
  kernel_t *k = t->x->c.kernel;
  sbag_dtype_t dtype = t->x->c.store->dtype;
  void *mine, *theirs, *read = values;
  SBAG_TRY(take_values(t, &mine, &theirs, status));
  k->ops->gather_rows(k, NULL, dtype, t->storage, base, t->width, i64(t, T_IN), t->in_count, theirs);
  SBAG_TRY(exchange_values(t, mine, theirs, 0, status));
  if (is_apart(t, count, values)) SBAG_TRY(take(t->x, T_VALUES, values_bytes(t, count), &read, status));
  k->ops->gather_rows(k, NULL, dtype, SBAG_STORAGE_FULL, mine, t->width, i64(t, T_WHICH), count, read);
  if (read != values) copy_values(t, count, values, read);
  return k->ops->stream_sync(k, NULL, status);
}

/* Of a row that several ranks write, the values of the last of them. */
static sbag_code_t choose_values(transfer_t *t, void **values, sbag_status_t *status) {
  exchange_t *x = t->x;
  kernel_t *k = x->c.kernel;
  int64_t *last;
  void *chosen;
  if (t->own == i64(t, T_IN)) return SBAG_OK;
  SBAG_TRY(take_i64(x, T_OWN_LAST, t->own_count, &last, status));
  SBAG_TRY(take(x, T_VALUES, values_bytes(t, t->own_count), &chosen, status));
  k->ops->gather_i64(k, NULL, i64(t, T_OWN_BEGIN) + 1, NULL, t->own_count, -1, last);
  k->ops->gather_i64(k, NULL, i64(t, T_OWN_MEMBER), last, t->own_count, 0, last);
  k->ops->gather_rows(k, NULL, x->c.store->dtype, SBAG_STORAGE_FULL, *values, t->width, last, t->own_count,
                      chosen);
  *values = chosen;
  return SBAG_OK;
}

static sbag_code_t write_rows(transfer_t *t, void *base, int64_t count, const void *values,
                              sbag_status_t *status) {
  exchange_t *x = t->x;
  kernel_t *k = x->c.kernel;
  void *mine, *theirs, *given;
  int64_t *last = i64(t, T_SCRATCH);
  SBAG_TRY(take_values(t, &mine, &theirs, status));
  k->ops->gather_i64(k, NULL, i64(t, T_BEGIN) + 1, NULL, t->distinct, -1, last);
  k->ops->gather_i64(k, NULL, i64(t, T_MEMBER), last, t->distinct, 0, last);
  if (is_apart(t, count, values)) {
    SBAG_TRY(take(x, T_VALUES, values_bytes(t, count), &given, status));
    copy_values(t, count, given, values);
    values = given;
  }
  k->ops->gather_rows(k, NULL, x->c.store->dtype, SBAG_STORAGE_FULL, values, t->width, last, t->distinct,
                      mine);
  SBAG_TRY(exchange_values(t, mine, theirs, 1, status));
  SBAG_TRY(store_will_write(x->c.store, t->table, t->own, t->own_count, status));
  SBAG_TRY(choose_values(t, &theirs, status));
  k->ops->scatter_rows(k, NULL, x->c.store->dtype, t->storage, theirs, t->width, t->own, t->own_count, base);
  return SBAG_OK;
}

sbag_code_t exchange_decline_rows(exchange_t *exchange, sbag_code_t local, sbag_status_t *status) {
  transfer_t t = {.x = exchange, .table = -1};
  int agreed = 0;
  place_counts(&t);
  return exchange_counts(&t, local, &agreed, status);
}

sbag_code_t exchange_read_rows(exchange_t *exchange, const exchange_rows_t *array, const int64_t *rows,
                               int64_t count, void *values, sbag_status_t *status) {
  transfer_t t = {.x = exchange, .table = array->table, .storage = array->storage, .width = array->width};
  SBAG_TRY(open(&t, rows, count, status));
  return exchange_give_up(exchange, read_rows(&t, array->base, count, values, status), status);
}

sbag_code_t exchange_write_rows(exchange_t *exchange, const exchange_rows_t *array, const int64_t *rows,
                                int64_t count, const void *values, sbag_status_t *status) {
  transfer_t t = {
      .x = exchange, .table = array->table, .storage = array->storage, .width = array->width, .write = 1};
  SBAG_TRY(open(&t, rows, count, status));
  SBAG_TRY(exchange_give_up(exchange, write_rows(&t, array->base, count, values, status), status));
  return exchange_refresh_mirrors(exchange, status);
}
