/* Tables that start from a file. */
#include "collection/collection.h"
#include "collection/load.h"

#include <stdio.h>

static sbag_code_t load_table(sbag_collection_h c, int table, const sbag_table_options_t *options,
                              sbag_status_t *status) {
  checkpoint_reader_t *reader = NULL;
  char standard[512];
  snprintf(standard, sizeof standard, "tables/%s/weight", options->name);
  const collection_load_t load = {table, -1,
                                  options->init_dataset != NULL ? options->init_dataset : standard};
  sbag_code_t code =
      checkpoint_open_trusted(c->context->comm, c->context->mem, options->init_file, &reader, status);
  if (code == SBAG_OK) code = collection_load(c, reader, &load, 1, status);
  checkpoint_close(&reader);
  if (code != SBAG_OK) (void)status_prefix(status, "table '%s'", options->name);
  return code;
}

sbag_code_t collection_init_files(sbag_collection_h collection, const sbag_table_options_t *tables,
                                  sbag_status_t *status) {
  for (int t = 0; t < collection->table_count; t++)
    if (tables[t].init_file != NULL) SBAG_TRY(load_table(collection, t, &tables[t], status));
  return SBAG_OK;
}
