/* Consecutive rows of one table between any rank and their owners: what checkpoints and imports read and
 * write.
 *
 * Where the plan keeps consecutive rows together (blocks) they travel straight between the caller's memory
 * and the shard, without row numbers; where it deals them out in turn (cyclic) likewise, through one buffer
 * at the asker's; otherwise, and where the shard has fewer bits than they travel with, as lists of rows. Both
 * of these move so many at a time that buffers stay small.
 */
#include "exchange/route.h"

enum { RANGE_LIST_ROWS = 1 << 17, RANGE_WORDS = 5 };

typedef struct range {
  exchange_t *x;
  int table, write;
  exchange_rows_t array;
  char *base; /* of the array */
  int64_t width, first, count;
  char *values;   /* [count][width]: the caller's, or where they are staged */
  char *callers;  /* NULL, or the caller's [count][width], which is the host's memory and not the device's */
  int64_t *asked; /* [ranks][RANGE_WORDS]: outcome, table, width, first and count of each rank */
} range_t;

enum { ASKED_OUTCOME, ASKED_TABLE, ASKED_WIDTH, ASKED_FIRST, ASKED_COUNT };

static sbag_code_t check_range(const range_t *r, sbag_status_t *status) {
  const store_table_t *table = &r->x->c.store->tables[r->table];
  if (r->count >= 0 && r->first >= 0 && r->first <= table->rows - r->count) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "table '%s': rows %lld and %lld more are not within its %lld",
                    table->name, (long long)r->first, (long long)r->count, (long long)table->rows);
}

/* Every rank learns what all want; an error on one is returned by all. */
static sbag_code_t agree_ranges(range_t *r, sbag_code_t local, const sbag_status_t *cause,
                                sbag_status_t *status) {
  exchange_t *x = r->x;
  int64_t *mine = x->transfer_counts;
  r->asked = mine + RANGE_WORDS;
  sbag_status_t own = *cause;
  mine[ASKED_OUTCOME] = local;
  mine[ASKED_TABLE] = r->table;
  mine[ASKED_WIDTH] = r->width;
  mine[ASKED_FIRST] = r->first;
  mine[ASKED_COUNT] = r->count;
  sbag_code_t code = comm_allgather(x->c.comm, mine, RANGE_WORDS * 8, r->asked, "range: wishes", status);
  if (code != SBAG_OK) return code;
  int any = 0, differ = 0;
  for (int p = 0; p < x->ranks; p++) {
    const int64_t *theirs = r->asked + p * RANGE_WORDS;
    any |= theirs[ASKED_OUTCOME] != SBAG_OK;
    differ |= theirs[ASKED_TABLE] != r->table || theirs[ASKED_WIDTH] != r->width;
  }
  if (any) code = comm_agree(x->c.comm, local, &own);
  if (!any && differ)
    code = status_set(&own, SBAG_ERR_STATE,
                      "ranks ask for ranges of different tables or states at the same time");
  if (code != SBAG_OK && status != NULL) *status = own;
  return code;
}

static int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}
static int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/* ---- plans that keep consecutive rows together ---- */

/* Rows [begin, end) of the table that a shard has, in a plan of blocks. */
static void shard_rows(const plan_table_t *plan, int shard, int64_t *begin, int64_t *end) {
  *begin = shard < 0 || plan_shard_rows(plan, shard) == 0 ? 0 : plan_row(plan, shard, 0);
  *end = shard < 0 ? 0 : *begin + plan_shard_rows(plan, shard);
}

static comm_part_t part_of(const range_t *r, char *at, int64_t at_row, int64_t begin, int64_t end) {
  int64_t row_bytes = r->width * r->x->real_bytes;
  if (begin >= end) return (comm_part_t){NULL, 0};
  return (comm_part_t){at + (begin - at_row) * row_bytes, (end - begin) * row_bytes};
}

/* Local rows of this shard that some rank wants: brought to the present, or announced as about to change. */
static sbag_code_t prepare_rows(const range_t *r, int64_t first, int64_t count, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const store_table_t *table = &x->c.store->tables[r->table];
  if (table->last_step == NULL && !(r->write && table->mirror != NULL)) return SBAG_OK;
  for (int64_t done = 0; done < count; done += RANGE_LIST_ROWS) {
    int64_t now = smaller(count - done, RANGE_LIST_ROWS);
    SBAG_TRY(kernel_buffer_reserve(k, &x->transfer[0], RANGE_LIST_ROWS * 8, "rows in transfer", status));
    k->ops->fill_i64(k, NULL, x->transfer[0].data, now, first + done, 1);
    SBAG_TRY(store_catch_up(x->c.store, r->table, x->transfer[0].data, now, status));
    if (r->write) SBAG_TRY(store_will_write(x->c.store, r->table, x->transfer[0].data, now, status));
  }
  return SBAG_OK;
}

static sbag_code_t move_blocks(range_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  const plan_table_t *plan = &x->c.plan->tables[r->table];
  int64_t own_begin, own_end;
  shard_rows(plan, plan_shard_of_rank(plan, x->rank), &own_begin, &own_end);
  for (int p = 0; p < x->ranks; p++) {
    const int64_t *theirs = r->asked + p * RANGE_WORDS;
    int64_t their_end = theirs[ASKED_FIRST] + theirs[ASKED_COUNT], begin, end;
    begin = larger(own_begin, theirs[ASKED_FIRST]);
    end = smaller(own_end, their_end);
    comm_part_t owner = part_of(r, r->base, own_begin, begin, end);
    if (begin < end) SBAG_TRY(prepare_rows(r, begin - own_begin, end - begin, status));
    shard_rows(plan, plan_shard_of_rank(plan, p), &begin, &end);
    comm_part_t asker =
        part_of(r, r->values, r->first, larger(begin, r->first), smaller(end, r->first + r->count));
    x->transfer_send[p] = r->write ? asker : owner;
    x->transfer_recv[p] = r->write ? owner : asker;
  }
  SBAG_TRY(x->c.kernel->ops->stream_sync(x->c.kernel, NULL, status));
  return comm_exchange(x->c.comm, x->transfer_send, x->transfer_recv, "range: rows", status);
}

/* ---- plans that deal rows out in turn ---- */

/* A shard's rows among [first, first + count): how many, the first of them and its local row. The local rows
 * stand together. */
static int64_t dealt_rows(const plan_table_t *plan, int shard, int64_t first, int64_t count, int64_t *row,
                          int64_t *local) {
  int64_t shards = plan->shard_count, end = first + count;
  if (shard < 0) return 0;
  *row = first + (shard - first % shards + shards) % shards;
  *local = *row / shards;
  return *row < end ? (end - *row + shards - 1) / shards : 0;
}

/* `count` rows of the caller's values, from `row` on and one shard's each, into `dealt` or back out of it. */
static void deal(const range_t *r, int64_t row, int64_t count, int64_t step, char *dealt, int back) {
  enum { PARTS = 64 };
  kernel_t *k = r->x->c.kernel;
  copy_part_t parts[PARTS];
  int64_t bytes = r->width * r->x->real_bytes;
  for (int64_t begin = 0; begin < count; begin += PARTS) {
    int64_t n = smaller(PARTS, count - begin);
    for (int64_t i = 0; i < n; i++) {
      char *there = dealt + (begin + i) * bytes,
           *here = r->values + (row - r->first + (begin + i) * step) * bytes;
      parts[i] = (copy_part_t){.to = back ? here : there, .from = back ? there : here, .bytes = bytes};
    }
    k->ops->copy(k, NULL, parts, n);
  }
}

/* Every rank's rows from the done-th on, at most RANGE_LIST_ROWS. */
static sbag_code_t move_dealt_part(range_t *r, int64_t done, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const plan_table_t *plan = &x->c.plan->tables[r->table];
  int own = plan_shard_of_rank(plan, x->rank);
  int64_t row_bytes = r->width * x->real_bytes, now = larger(0, smaller(r->count - done, RANGE_LIST_ROWS));
  SBAG_TRY(kernel_buffer_reserve(k, &x->transfer[1], (size_t)(larger(now, 1) * row_bytes), "rows in transfer",
                                 status));
  char *dealt = x->transfer[1].data;
  for (int p = 0; p < x->ranks; p++) {
    const int64_t *theirs = r->asked + p * RANGE_WORDS;
    int64_t their_count = larger(0, smaller(theirs[ASKED_COUNT] - done, RANGE_LIST_ROWS)), row = 0, local = 0;
    int64_t count = dealt_rows(plan, own, theirs[ASKED_FIRST] + done, their_count, &row, &local);
    if (count > 0) SBAG_TRY(prepare_rows(r, local, count, status));
    comm_part_t owner = {count > 0 ? r->base + local * row_bytes : NULL, count * row_bytes};
    count = dealt_rows(plan, plan_shard_of_rank(plan, p), r->first + done, now, &row, &local);
    if (r->write) deal(r, row, count, plan->shard_count, dealt, 0);
    comm_part_t asker = {dealt, count * row_bytes};
    dealt += count * row_bytes;
    x->transfer_send[p] = r->write ? asker : owner;
    x->transfer_recv[p] = r->write ? owner : asker;
  }
  SBAG_TRY(k->ops->stream_sync(k, NULL, status));
  SBAG_TRY(comm_exchange(x->c.comm, x->transfer_send, x->transfer_recv, "range: rows", status));
  for (int p = 0; p < x->ranks && !r->write; p++) {
    int64_t row = 0, local = 0, count = x->transfer_recv[p].bytes / row_bytes;
    (void)dealt_rows(plan, plan_shard_of_rank(plan, p), r->first + done, now, &row, &local);
    deal(r, row, count, plan->shard_count, x->transfer_recv[p].data, 1);
  }
  return SBAG_OK;
}

static sbag_code_t move_dealt(range_t *r, int64_t longest, sbag_status_t *status) {
  for (int64_t done = 0; done < longest; done += RANGE_LIST_ROWS) SBAG_TRY(move_dealt_part(r, done, status));
  return SBAG_OK;
}

/* ---- other plans ---- */

static sbag_code_t move_lists(range_t *r, int64_t longest, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  for (int64_t done = 0; done < longest; done += RANGE_LIST_ROWS) {
    int64_t now = larger(0, smaller(r->count - done, RANGE_LIST_ROWS));
    char *values = now > 0 ? r->values + done * r->width * x->real_bytes : NULL;
    SBAG_TRY(exchange_give_up(
        x, kernel_buffer_reserve(k, &x->range_rows, RANGE_LIST_ROWS * 8, "rows in transfer", status),
        status));
    k->ops->fill_i64(k, NULL, x->range_rows.data, now, r->first + done, 1);
    SBAG_TRY(r->write ? exchange_write_rows(x, &r->array, x->range_rows.data, now, values, status)
                      : exchange_read_rows(x, &r->array, x->range_rows.data, now, values, status));
  }
  return SBAG_OK;
}

/* Between the caller's memory and the device's, where ops do not reach it. */
static void copy_values(const range_t *r, int back) {
  kernel_t *k = r->x->c.kernel;
  int64_t bytes = r->count * r->width * r->x->real_bytes;
  copy_part_t part = {back ? r->callers : r->values, back ? r->values : r->callers, bytes};
  if (r->callers != NULL) k->ops->copy(k, NULL, &part, 1);
}

static sbag_code_t stage_values(range_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  if (r->count == 0 || k->ops->reaches(k, r->values)) return SBAG_OK;
  SBAG_TRY(kernel_buffer_reserve(k, &x->range_values, (size_t)(r->count * r->width * x->real_bytes),
                                 "rows in transfer", status));
  r->callers = r->values;
  r->values = x->range_values.data;
  if (r->write) copy_values(r, 0);
  return SBAG_OK;
}

static sbag_code_t give_values(const range_t *r, sbag_status_t *status) {
  if (r->callers == NULL || r->write) return SBAG_OK;
  copy_values(r, 1);
  return r->x->c.kernel->ops->stream_sync(r->x->c.kernel, NULL, status);
}

static sbag_code_t move(range_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  sbag_status_t own;
  status_clear(&own);
  sbag_code_t local = check_range(r, &own);
  if (local == SBAG_OK) local = stage_values(r, &own);
  SBAG_TRY(agree_ranges(r, local, &own, status));
  int64_t longest = 0;
  for (int p = 0; p < x->ranks; p++) longest = larger(longest, r->asked[p * RANGE_WORDS + ASKED_COUNT]);
  if (longest == 0) return SBAG_OK;
  sbag_layout_t layout = x->c.plan->tables[r->table].layout;
  if (layout == SBAG_LAYOUT_SCRAMBLE || r->array.storage != SBAG_STORAGE_FULL) {
    SBAG_TRY(move_lists(r, longest, status));
    return exchange_give_up(x, give_values(r, status), status);
  }
  SBAG_TRY(exchange_give_up(
      x, layout == SBAG_LAYOUT_CYCLIC ? move_dealt(r, longest, status) : move_blocks(r, status), status));
  SBAG_TRY(exchange_give_up(x, give_values(r, status), status));
  return r->write ? exchange_refresh_mirrors(x, status) : SBAG_OK;
}

sbag_code_t exchange_decline_range(exchange_t *exchange, sbag_code_t local, sbag_status_t *status) {
  range_t r = {.x = exchange, .table = -1};
  sbag_status_t own = {.code = local, .rank = -1};
  if (status != NULL) own = *status;
  return agree_ranges(&r, local, &own, status);
}

static range_t range_of(exchange_t *x, const exchange_rows_t *array, int64_t first, int64_t count) {
  return (range_t){.x = x,
                   .table = array->table,
                   .array = *array,
                   .base = array->base,
                   .width = array->width,
                   .first = first,
                   .count = count};
}

sbag_code_t exchange_read_range(exchange_t *exchange, const exchange_rows_t *array, int64_t first,
                                int64_t count, void *values, sbag_status_t *status) {
  range_t r = range_of(exchange, array, first, count);
  r.values = values;
  return move(&r, status);
}

sbag_code_t exchange_write_range(exchange_t *exchange, const exchange_rows_t *array, int64_t first,
                                 int64_t count, const void *values, sbag_status_t *status) {
  range_t r = range_of(exchange, array, first, count);
  r.write = 1;
  r.values = (char *)(uintptr_t)values;
  return move(&r, status);
}
