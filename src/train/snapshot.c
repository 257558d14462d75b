/* Saving: every array of the model is declared with a callback that reads its rows, every number by its name.
 */
#include "train/snapshot_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static sbag_code_t fill_rows(void *user, int64_t first_row, int64_t rows, void *out, sbag_status_t *status) {
  const snapshot_array_t *a = user;
  return sbag_collection_read_range(a->collection, a->table, a->state, first_row, rows, out, status);
}

static int64_t columns_of(const model_array_t *array) {
  return array->rank == 2 ? array->shape[1] : 1;
}

static sbag_code_t fill_dense(void *user, int64_t first_row, int64_t rows, void *out, sbag_status_t *status) {
  (void)status;
  const model_array_t *array = user;
  int64_t columns = columns_of(array);
  memcpy(out, array->data + first_row * columns, (size_t)(rows * columns) * sizeof(float));
  return SBAG_OK;
}

typedef struct saving {
  session_t *session;
  checkpoint_writer_t *writer;
  snapshot_array_t *arrays;
  int array_count;
} saving_t;

static sbag_code_t add_table_array(saving_t *saving, int table, int state, sbag_status_t *status) {
  session_t *s = saving->session;
  char name[SNAPSHOT_NAME_BYTES];
  snapshot_array_name(s, table, state, name);
  snapshot_array_t *array = &saving->arrays[saving->array_count++];
  *array = snapshot_array(s, table, state);
  int64_t shape[2] = {s->assembly.tables[table].num_embeddings, array->width};
  return checkpoint_add_array(saving->writer, name, CHECKPOINT_F32, snapshot_array_rank(array), shape,
                              fill_rows, array, status);
}

static sbag_code_t add_table(saving_t *saving, int table, sbag_status_t *status) {
  session_t *s = saving->session;
  const sbag_table_options_t *options = &s->assembly.tables[table];
  sbag_collection_h collection = model_collection(s->model);
  char group[SNAPSHOT_NAME_BYTES];
  for (int state = -1; state < sbag_collection_state_count(collection, table); state++)
    SBAG_TRY(add_table_array(saving, table, state, status));
  snprintf(group, sizeof group, "tables/%s", options->name);
  SBAG_TRY(checkpoint_add_text(saving->writer, group, "optimizer",
                               sbag_optimizer_name(options->optimizer.kind), status));
  return checkpoint_add_int(saving->writer, group, "steps", sbag_collection_step_count(collection, table),
                            status);
}

static sbag_code_t add_tables(saving_t *saving, sbag_status_t *status) {
  session_t *s = saving->session;
  sbag_collection_h collection = model_collection(s->model);
  int count = 0;
  for (int t = 0; t < s->assembly.model.table_count; t++)
    count += 1 + sbag_collection_state_count(collection, t);
  void *block = NULL;
  SBAG_TRY(mem_calloc(s->mem, mem_array_bytes(count, sizeof *saving->arrays), "checkpoint", &block, status));
  saving->arrays = block;
  for (int t = 0; t < s->assembly.model.table_count; t++) SBAG_TRY(add_table(saving, t, status));
  return SBAG_OK;
}

static sbag_code_t add_dense(saving_t *saving, sbag_status_t *status) {
  const model_t *model = saving->session->model;
  for (int i = 0; i < model_array_count(model); i++) {
    const model_array_t *array = model_array(model, i);
    char name[SNAPSHOT_NAME_BYTES];
    snprintf(name, sizeof name, "dense/%s", array->name);
    SBAG_TRY(checkpoint_add_array(saving->writer, name, CHECKPOINT_F32, array->rank, array->shape, fill_dense,
                                  (void *)(uintptr_t)array, status)); /* only read */
  }
  const sbag_optimizer_options_t *optimizer = &saving->session->assembly.model.dense_optimizer;
  return checkpoint_add_text(saving->writer, "dense", "optimizer", sbag_optimizer_name(optimizer->kind),
                             status);
}

static sbag_code_t add_progress(checkpoint_writer_t *writer, const progress_t *progress,
                                sbag_status_t *status) {
  for (int i = 0; i < SNAPSHOT_NUMBERS; i++) {
    int64_t value;
    memcpy(&value, (const char *)progress + snapshot_numbers[i].offset, sizeof value);
    SBAG_TRY(checkpoint_add_int(writer, "", snapshot_numbers[i].key, value, status));
  }
  SBAG_TRY(checkpoint_add_real(writer, "", "best_auc", progress->best_auc, status));
  return checkpoint_add_real(writer, "", "loss_sum", progress->loss_sum, status);
}

static sbag_code_t add_order(saving_t *saving, sbag_status_t *status) {
  snapshot_order_t numbers[SNAPSHOT_ORDER];
  snapshot_order(saving->session, numbers);
  for (int i = 0; i < SNAPSHOT_ORDER; i++)
    SBAG_TRY(checkpoint_add_int(saving->writer, "", numbers[i].key, numbers[i].value, status));
  return SBAG_OK;
}

static sbag_code_t add_rest(saving_t *saving, const progress_t *progress, sbag_status_t *status) {
  const session_t *s = saving->session;
  const reader_t *reader = session_reader(s);
  for (int i = 0; i < reader_blob_count(reader); i++) {
    const reader_blob_t *blob = reader_blob(reader, i);
    char name[SNAPSHOT_NAME_BYTES];
    snprintf(name, sizeof name, "%s%s", snapshot_reader_prefix, blob->name);
    SBAG_TRY(checkpoint_add_blob(saving->writer, name, blob->data, blob->bytes, status));
  }
  const char *text = config_tree_text(s->settings->tree);
  SBAG_TRY(checkpoint_add_blob(saving->writer, "config", text, (int64_t)strlen(text), status));
  SBAG_TRY(checkpoint_add_int(saving->writer, "", "format", SNAPSHOT_FORMAT, status));
  SBAG_TRY(checkpoint_add_text(saving->writer, "", "version", sbag_version(), status));
  SBAG_TRY(checkpoint_add_text(saving->writer, "", "name", s->settings->name, status));
  SBAG_TRY(add_progress(saving->writer, progress, status));
  return add_order(saving, status);
}

static sbag_code_t declare(saving_t *saving, const char *path, const progress_t *progress,
                           sbag_status_t *status) {
  session_t *s = saving->session;
  SBAG_TRY(checkpoint_writer_create(s->comm, s->mem, path, &saving->writer, status));
  SBAG_TRY(add_tables(saving, status));
  SBAG_TRY(add_dense(saving, status));
  return add_rest(saving, progress, status);
}

sbag_code_t snapshot_save(session_t *session, const char *path, const progress_t *progress,
                          sbag_status_t *status) {
  saving_t saving = {.session = session};
  sbag_code_t code = declare(&saving, path, progress, status);
  code = comm_agree(session->comm, code, status);
  if (code == SBAG_OK)
    code = checkpoint_commit(&saving.writer, status);
  else
    checkpoint_abort(&saving.writer);
  mem_free(session->mem, saving.arrays);
  return code;
}
