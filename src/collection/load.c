/* Loading: see load.h. First every rank reads what it owns of the tables that are dealt in blocks, without
 * the others; then all read the rest together and send each row to its owner. Saving is the checkpoint's
 * work, which asks here for what a rank owns. */
#include "collection/load.h"

#include "collection/collection.h"
#include "kernel/narrow.h"

/* What a rank reads between two agreements: so much that waiting for each other does not count, so little
 * that a rank without rows of its own does not run into its deadline. */
static const int64_t round_bytes = (int64_t)512 << 20;
/* The same where others wait for their turn in between. */
static const int64_t paused_bytes = (int64_t)1 << 20;
static const int64_t mirrored_bytes = (int64_t)16 << 20;
/* Of f32 that stand beside a shard whose rows are of another type. */
static const int64_t converted_bytes = (int64_t)4 << 20;

enum { VALUES, CODES, PLACES, BUFFERS };

/* The walk over this rank's own rows. */
typedef struct walk {
  sbag_collection_h c;
  checkpoint_reader_t *reader;
  const collection_load_t *loads;
  int count, at;
  int64_t done; /* rows of loads[at] */
  kernel_buffer_t buffers[BUFFERS];
} walk_t;

checkpoint_type_t collection_kept_type(sbag_collection_h collection, int table, int state) {
  const sbag_storage_t storage = collection->store->tables[table].storage;
  if (collection->options.dtype == SBAG_F64) return CHECKPOINT_F64;
  if (state >= 0 || storage == SBAG_STORAGE_FULL || kernel_is_quantised(storage)) return CHECKPOINT_F32;
  return storage == SBAG_STORAGE_F16 ? CHECKPOINT_F16 : CHECKPOINT_BF16;
}

static int is_narrow(checkpoint_type_t type) {
  return type == CHECKPOINT_F16 || type == CHECKPOINT_BF16;
}

/* Of two dimensions, or one where a row has one value; both are right for a weight of one column. Weights of
 * f32 collections are taken from f32, f16 and bf16. */
static sbag_code_t check_load(const walk_t *w, const collection_load_t *load, sbag_status_t *status) {
  checkpoint_type_t type = w->c->options.dtype == SBAG_F64 ? CHECKPOINT_F64 : CHECKPOINT_F32;
  checkpoint_array_t found;
  exchange_rows_t array;
  SBAG_TRY(collection_array(w->c, load->table, load->state, &array, status));
  SBAG_TRY(checkpoint_array_info(w->reader, load->name, &found, status));
  if (type == CHECKPOINT_F32 && load->state == -1 && is_narrow(found.type)) type = found.type;
  const int64_t shape[2] = {w->c->store->tables[load->table].rows, array.width};
  int rank = shape[1] == 1 && found.rank == 1 ? 1 : 2;
  return checkpoint_expect(w->reader, load->name, type, rank, shape, status);
}

static sbag_code_t check_loads(const walk_t *w, sbag_status_t *status) {
  for (int i = 0; i < w->count; i++) SBAG_TRY(check_load(w, &w->loads[i], status));
  return SBAG_OK;
}

/* Whether consecutive rows of the table stand together in memory that a file call takes; the same on all
 * ranks. */
static int is_together(sbag_collection_h c, int table) {
  return c->context->options.device == SBAG_DEVICE_CPU && c->plan->tables[table].layout == SBAG_LAYOUT_BLOCK;
}

static checkpoint_type_t file_type(const walk_t *w, const collection_load_t *load) {
  checkpoint_array_t found = {.type = CHECKPOINT_OTHER};
  (void)checkpoint_array_info(w->reader, load->name, &found, NULL); /* checked before */
  return found.type;
}

/* A rank reads what it owns of it; a mirrored table, which is small, is written through the exchange, which
 * tells the mirrors. */
static int is_own(const walk_t *w, const collection_load_t *load) {
  return is_together(w->c, load->table) && w->c->store->tables[load->table].mirror == NULL;
}

/* Straight into the shard, which has its rows as the file has them. */
static int is_direct(const walk_t *w, const collection_load_t *load) {
  const sbag_storage_t storage =
      load->state < 0 ? w->c->store->tables[load->table].storage : SBAG_STORAGE_FULL;
  return !kernel_is_quantised(storage) &&
         file_type(w, load) == collection_kept_type(w->c, load->table, load->state);
}

/* ---- a rank's own rows ---- */

/* `rows` values of the file, as f32 in buffers[VALUES]. */
static sbag_code_t read_values(walk_t *w, const collection_load_t *load, int64_t width, int64_t first,
                               int64_t rows, sbag_status_t *status) {
  kernel_t *k = w->c->context->kernel;
  const checkpoint_type_t type = file_type(w, load);
  const int64_t count = rows * width;
  kernel_buffer_t *values = &w->buffers[VALUES], *codes = &w->buffers[CODES];
  SBAG_TRY(kernel_buffer_reserve(k, values, mem_array_bytes(count, sizeof(float)), "rows in f32", status));
  if (!is_narrow(type)) return checkpoint_read_rows(w->reader, load->name, first, rows, values->data, status);
  SBAG_TRY(
      kernel_buffer_reserve(k, codes, mem_array_bytes(count, sizeof(uint16_t)), "rows in 16 bits", status));
  SBAG_TRY(checkpoint_read_rows(w->reader, load->name, first, rows, codes->data, status));
  k->ops->widen_real(k, NULL, type == CHECKPOINT_F16 ? WIRE_F16 : WIRE_BF16, codes->data, count,
                     values->data);
  return SBAG_OK;
}

/* Rows that the file has in another type than the shard: a piece at a time stands beside it. */
static sbag_code_t convert_rows(walk_t *w, const collection_load_t *load, const exchange_rows_t *array,
                                int64_t first, int64_t rows, sbag_status_t *status) {
  kernel_t *k = w->c->context->kernel;
  kernel_buffer_t *places = &w->buffers[PLACES];
  SBAG_TRY(kernel_buffer_reserve(k, places, mem_array_bytes(rows, sizeof(int64_t)), "rows' numbers", status));
  SBAG_TRY(read_values(w, load, array->width, first, rows, status));
  k->ops->fill_i64(k, NULL, places->data, rows, w->done, 1);
  k->ops->scatter_rows(k, NULL, SBAG_F32, array->storage, w->buffers[VALUES].data, array->width, places->data,
                       rows, array->base);
  return SBAG_OK;
}

/* Reads rows of loads[at], at most `room` bytes or one row, which it takes from *room. */
static sbag_code_t read_some(walk_t *w, int64_t *room, sbag_status_t *status) {
  const collection_load_t *load = &w->loads[w->at];
  const store_table_t *table = &w->c->store->tables[load->table];
  const int direct = is_direct(w, load);
  exchange_rows_t array;
  int64_t left = table->local_rows - w->done;
  SBAG_TRY(collection_array(w->c, load->table, load->state, &array, status));
  if (left == 0) return SBAG_OK;
  if (w->done == 0) SBAG_TRY(store_catch_up(w->c->store, load->table, NULL, 0, status));
  int64_t row_bytes = (int64_t)kernel_row_bytes(w->c->options.dtype, array.storage, array.width);
  int64_t read_bytes = direct ? row_bytes : array.width * (int64_t)sizeof(float);
  int64_t most = direct || *room < converted_bytes ? *room : converted_bytes;
  int64_t rows = most / read_bytes > 0 ? most / read_bytes : 1;
  if (rows > left) rows = left;
  int64_t first = plan_row(&w->c->plan->tables[load->table], table->shard, w->done);
  if (direct)
    SBAG_TRY(checkpoint_read_rows(w->reader, load->name, first, rows,
                                  (char *)array.base + w->done * row_bytes, status));
  else
    SBAG_TRY(convert_rows(w, load, &array, first, rows, status));
  w->done += rows;
  *room -= rows * read_bytes;
  return SBAG_OK;
}

static sbag_code_t read_round(walk_t *w, sbag_status_t *status) {
  const int pauses = checkpoint_reader_pauses(w->reader);
  for (int64_t room = pauses ? paused_bytes : round_bytes; w->at < w->count && room > 0;) {
    const collection_load_t *load = &w->loads[w->at];
    int64_t rows = is_own(w, load) ? w->c->store->tables[load->table].local_rows : 0;
    if (rows > 0) SBAG_TRY(read_some(w, &room, status));
    if (w->done < rows) continue;
    w->at++;
    w->done = 0;
  }
  return SBAG_OK;
}

static sbag_code_t read_own(walk_t *w, sbag_status_t *status) {
  comm_t *comm = w->c->context->comm;
  int64_t *left = w->c->norm;
  do {
    SBAG_TRY(comm_agree(comm, read_round(w, status), status));
    *left = w->at < w->count;
    SBAG_TRY(comm_allreduce(comm, left, 1, COMM_I64, COMM_MAX, "load: rows left", status));
    SBAG_TRY(checkpoint_reader_pause(w->reader, status));
  } while (*left > 0);
  SBAG_TRY(w->c->context->kernel->ops->stream_sync(w->c->context->kernel, NULL, status));
  return SBAG_OK;
}

/* ---- everybody's rows ---- */

typedef struct target {
  sbag_collection_h collection;
  const collection_load_t *load;
  checkpoint_type_t type; /* of the file's rows */
} target_t;

/* f32 of rows that a file has, or will have, in 16 bits. *values is to be freed; where there is no memory for
 * them, the other ranks, which are in the same call, are told. */
static sbag_code_t take_values(sbag_collection_h c, int table, int state, int64_t rows, void **values,
                               int64_t *count, sbag_status_t *status) {
  exchange_rows_t array = {0};
  sbag_code_t code = collection_array(c, table, state, &array, status);
  *count = rows * array.width;
  if (code == SBAG_OK)
    code = mem_alloc(c->context->mem, mem_array_bytes(rows, mem_array_bytes(array.width, sizeof(float))),
                     "rows in f32", values, status);
  return code == SBAG_OK ? SBAG_OK : exchange_decline_range(c->exchange, code, status);
}

static sbag_code_t take_narrow(const target_t *target, int64_t first_row, int64_t rows, const uint16_t *data,
                               sbag_status_t *status) {
  const collection_load_t *load = target->load;
  sbag_collection_h c = target->collection;
  void *values = NULL;
  int64_t count = 0;
  SBAG_TRY(take_values(c, load->table, load->state, rows, &values, &count, status));
  float *to = values;
  for (int64_t i = 0; i < count; i++)
    to[i] = target->type == CHECKPOINT_F16 ? narrow_f16_value(data[i]) : narrow_bf16_value(data[i]);
  sbag_code_t code =
      sbag_collection_write_range(c, load->table, load->state, first_row, rows, values, status);
  mem_free(c->context->mem, values);
  return code;
}

static sbag_code_t take_block(void *user, int64_t first_row, int64_t rows, const void *data,
                              sbag_status_t *status) {
  const target_t *target = user;
  if (is_narrow(target->type)) return take_narrow(target, first_row, rows, data, status);
  return sbag_collection_write_range(target->collection, target->load->table, target->load->state, first_row,
                                     rows, data, status);
}

/* What all ranks read in one go reaches every mirror: together they read no more then than one does else. Of
 * rows that are rounded it stands several times beside the shard, in f32. */
static sbag_code_t read_together(const walk_t *w, const collection_load_t *load, sbag_status_t *status) {
  target_t target = {w->c, load, file_type(w, load)};
  const store_table_t *table = &w->c->store->tables[load->table];
  const int rounds = load->state < 0 && table->storage != SBAG_STORAGE_FULL;
  int64_t bytes = rounds ? converted_bytes : table->mirror != NULL ? mirrored_bytes : 0;
  if (checkpoint_reader_pauses(w->reader)) bytes = paused_bytes;
  if (bytes > 0) checkpoint_reader_set_chunk(w->reader, bytes / comm_size(w->c->context->comm));
  sbag_code_t code = checkpoint_read_array(w->reader, load->name, take_block, &target, status);
  if (bytes > 0) checkpoint_reader_set_chunk(w->reader, 0);
  return code;
}

sbag_code_t collection_load(sbag_collection_h collection, checkpoint_reader_t *reader,
                            const collection_load_t *loads, int count, sbag_status_t *status) {
  sbag_status_t own; /* agreement needs the message even where the caller wants none */
  status_clear(&own);
  walk_t walk = {.c = collection, .reader = reader, .loads = loads, .count = count};
  for (int i = 0; i < BUFFERS; i++) walk.buffers[i].kind = MEMORY_HOST;
  sbag_code_t code = comm_agree(collection->context->comm, check_loads(&walk, &own), &own);
  if (code == SBAG_OK) code = read_own(&walk, &own);
  for (int i = 0; i < BUFFERS; i++) kernel_buffer_free(collection->context->kernel, &walk.buffers[i]);
  for (int i = 0; i < count && code == SBAG_OK; i++) {
    if (!is_own(&walk, &loads[i])) code = read_together(&walk, &loads[i], &own);
  }
  if (code != SBAG_OK && status != NULL) *status = own;
  return code;
}

/* ---- mapping ---- */

static sbag_code_t check_map(const walk_t *w, const collection_load_t *load, sbag_status_t *status) {
  const store_table_t *table = &w->c->store->tables[load->table];
  const plan_table_t *plan = &w->c->plan->tables[load->table];
  const int alone = plan->shard_count == 1 && plan->layout == SBAG_LAYOUT_CYCLIC;
  SBAG_TRY(check_load(w, load, status));
  if (w->c->context->options.device != SBAG_DEVICE_CPU)
    return status_set(status, SBAG_ERR_ARGUMENT, "a file is mapped for the CPU alone");
  if (plan->layout != SBAG_LAYOUT_BLOCK && !alone)
    return status_set(
        status, SBAG_ERR_ARGUMENT,
        "table '%s': its rows are not dealt to ranks in blocks, in which a file is mapped: give "
        "it layout block, or load it",
        table->name);
  if (is_direct(w, load)) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "table '%s': is kept in another type than the file's %s, in which it is mapped: load it",
                    table->name, checkpoint_type_name(file_type(w, load)));
}

static sbag_code_t map_own(const walk_t *w, const collection_load_t *load, int64_t *piece_rows,
                           sbag_status_t *status) {
  const store_table_t *table = &w->c->store->tables[load->table];
  const void *rows = NULL;
  SBAG_TRY(check_map(w, load, status));
  SBAG_TRY(checkpoint_map_array(w->reader, load->name, &rows, piece_rows, status));
  if (table->local_rows == 0) return SBAG_OK;
  const int64_t first = plan_row(&w->c->plan->tables[load->table], table->shard, 0);
  store_lend(w->c->store, load->table,
             (const char *)rows + first * store_row_bytes(w->c->store, load->table));
  return SBAG_OK;
}

void collection_mapped_rows(sbag_collection_h collection, int table, int64_t *first, int64_t *rows) {
  const store_table_t *of = &collection->store->tables[table];
  *rows = of->local_rows;
  *first = *rows > 0 ? plan_row(&collection->plan->tables[table], of->shard, 0) : 0;
}

sbag_code_t collection_map(sbag_collection_h collection, checkpoint_reader_t *reader,
                           const collection_load_t *load, int64_t *piece_rows, sbag_status_t *status) {
  *piece_rows = 0;
  if (collection->store->tables[load->table].mirror != NULL)
    return collection_load(collection, reader, load, 1, status);
  sbag_status_t own; /* agreement needs the message even where the caller wants none */
  status_clear(&own);
  const walk_t walk = {.c = collection, .reader = reader, .loads = load, .count = 1};
  sbag_code_t code = comm_agree(collection->context->comm, map_own(&walk, load, piece_rows, &own), &own);
  if (code != SBAG_OK && status != NULL) *status = own;
  return code;
}

/* ---- saving ---- */

sbag_code_t collection_own_rows(sbag_collection_h collection, int table, int state, checkpoint_rows_t *own,
                                sbag_status_t *status) {
  exchange_rows_t array;
  SBAG_TRY(collection_array(collection, table, state, &array, status));
  const store_table_t *of = &collection->store->tables[table];
  *own = (checkpoint_rows_t){NULL, 0, 0};
  if (!is_together(collection, table) || of->local_rows == 0 || kernel_is_quantised(array.storage))
    return SBAG_OK;
  kernel_t *kernel = collection->context->kernel;
  SBAG_TRY(store_catch_up(collection->store, table, NULL, 0, status));
  SBAG_TRY(kernel->ops->stream_sync(kernel, NULL, status));
  *own = (checkpoint_rows_t){array.base, plan_row(&collection->plan->tables[table], of->shard, 0),
                             of->local_rows};
  return SBAG_OK;
}

sbag_code_t collection_read_kept(sbag_collection_h collection, int table, int state, int64_t first_row,
                                 int64_t rows, void *out, sbag_status_t *status) {
  const checkpoint_type_t type = collection_kept_type(collection, table, state);
  if (!is_narrow(type))
    return sbag_collection_read_range(collection, table, state, first_row, rows, out, status);
  void *values = NULL;
  int64_t count = 0;
  SBAG_TRY(take_values(collection, table, state, rows, &values, &count, status));
  sbag_code_t code = sbag_collection_read_range(collection, table, state, first_row, rows, values, status);
  const float *from = values;
  uint16_t *to = out;
  for (int64_t i = 0; code == SBAG_OK && i < count; i++)
    to[i] = type == CHECKPOINT_F16 ? narrow_f16_of(from[i]) : narrow_bf16_of(from[i]);
  mem_free(collection->context->mem, values);
  return code;
}
