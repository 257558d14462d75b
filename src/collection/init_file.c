/* Tables that start from a file: the ranks read disjoint blocks of rows and send each to its owner, so that
 * no rank holds more than its shard and one block, whatever the layout. */
#include "checkpoint/checkpoint.h"
#include "collection/collection.h"

#include <stdio.h>

/* A block's row numbers and keys take more than its values where rows are narrow: so many rows at a time. */
enum { BLOCK_ROWS = 1 << 18 };

typedef struct load {
  sbag_collection_h collection;
  int table;
  int64_t *rows; /* [capacity] numbers of a block's rows */
  int64_t capacity;
} load_t;

static sbag_code_t take_block(void *user, int64_t first_row, int64_t rows, const void *data,
                              sbag_status_t *status) {
  load_t *load = user;
  kernel_t *k = load->collection->context->kernel;
  if (rows > load->capacity)
    return status_set(status, SBAG_ERR_STATE, "init_file: a block of %lld rows, %lld expected at most",
                      (long long)rows, (long long)load->capacity);
  k->ops->fill_i64(k, NULL, load->rows, rows, first_row, 1);
  return sbag_collection_write_rows(load->collection, load->table, load->rows, rows, data, status);
}

static int64_t block_bytes(const struct sbag_collection *c, const store_table_t *table) {
  int64_t row_bytes = table->dim * (int64_t)kernel_dtype_bytes(c->options.dtype);
  int64_t most = (int64_t)16 << 20;
  return row_bytes > most / BLOCK_ROWS ? most : row_bytes * BLOCK_ROWS;
}

static sbag_code_t read_table(load_t *load, const sbag_table_options_t *options, checkpoint_reader_t *reader,
                              sbag_status_t *status) {
  sbag_collection_h c = load->collection;
  const store_table_t *table = &c->store->tables[load->table];
  char standard[512];
  snprintf(standard, sizeof standard, "tables/%s/weight", table->name);
  const char *dataset = options->init_dataset != NULL ? options->init_dataset : standard;
  const int64_t shape[2] = {table->rows, table->dim};
  SBAG_TRY(checkpoint_expect(reader, dataset, c->options.dtype == SBAG_F64 ? CHECKPOINT_F64 : CHECKPOINT_F32,
                             2, shape, status));
  checkpoint_reader_set_chunk(reader, block_bytes(c, table));
  return checkpoint_read_array(reader, dataset, take_block, load, status);
}

static sbag_code_t load_table(load_t *load, const sbag_table_options_t *options, sbag_status_t *status) {
  sbag_context_h context = load->collection->context;
  checkpoint_reader_t *reader = NULL;
  sbag_code_t code =
      checkpoint_open_trusted(context->comm, context->mem, options->init_file, &reader, status);
  if (code == SBAG_OK) code = read_table(load, options, reader, status);
  checkpoint_close(&reader);
  if (code != SBAG_OK) (void)status_prefix(status, "table '%s'", options->name);
  return code;
}

sbag_code_t collection_init_files(sbag_collection_h collection, const sbag_table_options_t *tables,
                                  sbag_status_t *status) {
  mem_t *mem = collection->context->mem;
  load_t load = {.collection = collection, .capacity = BLOCK_ROWS};
  sbag_code_t code = SBAG_OK;
  for (int t = 0; t < collection->table_count && code == SBAG_OK; t++) {
    if (tables[t].init_file == NULL) continue;
    void *rows = NULL;
    load.table = t;
    code = mem_alloc(mem, BLOCK_ROWS * sizeof *load.rows, "init_file: row numbers", &rows, status);
    code = comm_agree(collection->context->comm, code, status);
    load.rows = rows;
    if (code == SBAG_OK) code = load_table(&load, &tables[t], status);
    mem_free(mem, rows);
  }
  return code;
}
