/* Tables that start from a file: the ranks read disjoint blocks of rows and send each to its owner, so that
 * no rank holds more than its shard and one block, whatever the layout. */
#include "checkpoint/checkpoint.h"
#include "collection/collection.h"

#include <stdio.h>

typedef struct load {
  sbag_collection_h collection;
  int table;
} load_t;

static sbag_code_t take_block(void *user, int64_t first_row, int64_t rows, const void *data,
                              sbag_status_t *status) {
  const load_t *load = user;
  return sbag_collection_write_range(load->collection, load->table, -1, first_row, rows, data, status);
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
  for (int t = 0; t < collection->table_count; t++) {
    load_t load = {.collection = collection, .table = t};
    if (tables[t].init_file != NULL) SBAG_TRY(load_table(&load, &tables[t], status));
  }
  return SBAG_OK;
}
