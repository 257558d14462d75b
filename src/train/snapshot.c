/* Saving: every array of the model is declared with callbacks that tell where its rows are or read them,
 * every number by its name. */
#include "collection/load.h"
#include "train/snapshot_describe.h"
#include "train/snapshot_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static sbag_code_t fill_rows(void *user, int64_t first_row, int64_t rows, void *out, sbag_status_t *status) {
  const snapshot_array_t *a = user;
  return collection_read_kept(a->collection, a->table, a->state, first_row, rows, out, status);
}

static sbag_code_t own_rows(void *user, checkpoint_rows_t *own, sbag_status_t *status) {
  const snapshot_array_t *a = user;
  return collection_own_rows(a->collection, a->table, a->state, own, status);
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
  char *inputs;
} saving_t;

static sbag_code_t add_table_array(saving_t *saving, int table, int state, sbag_status_t *status) {
  session_t *s = saving->session;
  char name[SNAPSHOT_NAME_BYTES];
  snapshot_array_name(s, table, state, name);
  snapshot_array_t *array = &saving->arrays[saving->array_count++];
  *array = snapshot_array(s, table, state);
  const sbag_table_options_t *options = &s->assembly.tables[table];
  int64_t shape[2] = {options->num_embeddings, array->width};
  SBAG_TRY(checkpoint_add_own_array(saving->writer, name,
                                    collection_kept_type(array->collection, table, state),
                                    snapshot_array_rank(array), shape, fill_rows, own_rows, array, status));
  if (state < 0)
    return snapshot_describe(saving->writer, name, "the table's vectors, [row][dim]", "1", status);
  return snapshot_describe_state(
      saving->writer, name, sbag_collection_state_name(array->collection, table, state),
      sbag_optimizer_name(options->optimizer.kind),
      snapshot_array_rank(array) == 1 ? "one value a row" : "one value a weight, [row][dim]", status);
}

/* The plan that the table had: the ranks that owned its rows. A list that is too long ends in dots. */
static void list_ranks(const sbag_table_options_t *options, char *out, size_t room) {
  size_t used = 0;
  if (options->ranks == NULL) snprintf(out, room, "all");
  for (int i = 0; options->ranks != NULL && i < options->rank_count; i++) {
    if (used + 32 > room) {
      snprintf(out + used, room - used, " ...");
      return;
    }
    used += (size_t)snprintf(out + used, room - used, "%s%d", i > 0 ? " " : "", options->ranks[i]);
  }
}

static sbag_code_t add_table_group(saving_t *saving, int table, sbag_status_t *status) {
  static const char *const layouts[] = {"block", "cyclic", "scramble"};
  session_t *s = saving->session;
  const sbag_table_options_t *options = &s->assembly.tables[table];
  char name[SNAPSHOT_NAME_BYTES], ranks[1024];
  snapshot_group_t group;
  snprintf(name, sizeof name, "tables/%s", options->name);
  list_ranks(options, ranks, sizeof ranks);
  SBAG_TRY(snapshot_group_begin(saving->writer, name,
                                "a table: weights, optimizer state, and the plan by which the rows lay on "
                                "the ranks that wrote this file; any other can load it",
                                &group, status));
  SBAG_TRY(snapshot_group_text(&group, "optimizer", sbag_optimizer_name(options->optimizer.kind), status));
  SBAG_TRY(snapshot_group_text(&group, "layout", layouts[options->layout], status));
  SBAG_TRY(snapshot_group_text(&group, "ranks", ranks, status));
  SBAG_TRY(snapshot_group_int(&group, "replicated", "1 (0: no, 1: yes)", options->replicated, status));
  SBAG_TRY(snapshot_group_real(&group, "lr", "1 (learning rate before the schedule's factor)",
                               options->optimizer.lr, status));
  SBAG_TRY(snapshot_group_int(&group, "steps", "steps (updates that the table has made)",
                              sbag_collection_step_count(model_collection(s->model), table), status));
  return snapshot_group_end(&group, status);
}

static sbag_code_t add_table(saving_t *saving, int table, sbag_status_t *status) {
  sbag_collection_h collection = model_collection(saving->session->model);
  for (int state = -1; state < sbag_collection_state_count(collection, table); state++)
    SBAG_TRY(add_table_array(saving, table, state, status));
  return add_table_group(saving, table, status);
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
  snapshot_group_t group;
  return snapshot_group_begin(saving->writer, "tables", "the embedding tables by name", &group, status);
}

static sbag_code_t add_dense_array(saving_t *saving, const model_array_t *array, sbag_status_t *status) {
  char name[SNAPSHOT_NAME_BYTES];
  const char *last = strrchr(array->name, '/') + 1;
  sbag_optimizer_t kind = saving->session->assembly.model.dense_optimizer.kind;
  snprintf(name, sizeof name, "dense/%s", array->name);
  SBAG_TRY(checkpoint_add_array(saving->writer, name, CHECKPOINT_F32, array->rank, array->shape, fill_dense,
                                (void *)(uintptr_t)array, status)); /* only read */
  if (strncmp(array->name, "state/", strlen("state/")) == 0)
    return snapshot_describe_state(saving->writer, name, last, sbag_optimizer_name(kind),
                                   "one value a weight", status);
  return snapshot_describe(
      saving->writer, name,
      array->rank == 2 ? "a dense layer's weights, [out][in]" : "a dense layer's biases, [out]", "1", status);
}

static sbag_code_t add_dense(saving_t *saving, sbag_status_t *status) {
  const session_t *s = saving->session;
  SBAG_TRY(model_arrays_fetch(s->model, status));
  for (int i = 0; i < model_array_count(s->model); i++)
    SBAG_TRY(add_dense_array(saving, model_array(s->model, i), status));
  const sbag_optimizer_options_t *optimizer = &s->assembly.model.dense_optimizer;
  snapshot_group_t group;
  SBAG_TRY(snapshot_group_begin(saving->writer, "dense",
                                "the dense layers by name; under state, their optimizer's state", &group,
                                status));
  SBAG_TRY(snapshot_group_text(&group, "optimizer", sbag_optimizer_name(optimizer->kind), status));
  SBAG_TRY(snapshot_group_real(&group, "lr", "1 (learning rate before the schedule's factor)", optimizer->lr,
                               status));
  return snapshot_group_end(&group, status);
}

static sbag_code_t add_progress(snapshot_group_t *file, const progress_t *progress, sbag_status_t *status) {
  for (int i = 0; i < SNAPSHOT_NUMBERS; i++) {
    int64_t value;
    memcpy(&value, (const char *)progress + snapshot_numbers[i].offset, sizeof value);
    SBAG_TRY(snapshot_group_int(file, snapshot_numbers[i].key, snapshot_numbers[i].unit, value, status));
  }
  SBAG_TRY(snapshot_group_real(file, "best_auc", "1 (of train.patience_metric)", progress->best, status));
  return snapshot_group_real(file, "loss_sum", "nats (over loss_count steps)", progress->loss_sum, status);
}

static sbag_code_t add_metrics(checkpoint_writer_t *writer, const progress_t *progress,
                               sbag_status_t *status) {
  snapshot_group_t group;
  SBAG_TRY(snapshot_group_begin(writer, "metrics", "the run's last numbers; all of them are in metrics.jsonl",
                                &group, status));
  SBAG_TRY(snapshot_group_begin(writer, "metrics/train", "the steps since the last line of metrics", &group,
                                status));
  SBAG_TRY(snapshot_group_int(&group, "steps", "steps", progress->loss_count, status));
  if (progress->loss_count > 0)
    SBAG_TRY(snapshot_group_real(&group, "loss", "nats (mean over samples and steps)",
                                 progress->loss_sum / (double)progress->loss_count, status));
  SBAG_TRY(snapshot_group_end(&group, status));
  if (progress->evaluated_step == 0) return SBAG_OK;
  SBAG_TRY(snapshot_group_begin(writer, snapshot_valid, "the last evaluation on the way", &group, status));
  SBAG_TRY(snapshot_group_int(&group, "step", "steps", progress->evaluated_step, status));
  SBAG_TRY(snapshot_group_int(&group, "samples", "samples", progress->valid.samples, status));
  SBAG_TRY(snapshot_group_int(&group, "positives", "samples", progress->valid.positives, status));
  metrics_value_t named[METRICS_VALUES];
  int count = metrics_values(&progress->valid, named);
  for (int i = 0; i < count; i++)
    SBAG_TRY(snapshot_group_real(&group, named[i].name, named[i].unit, named[i].value, status));
  return snapshot_group_end(&group, status);
}

static sbag_code_t add_order(snapshot_group_t *file, const session_t *session, sbag_status_t *status) {
  snapshot_order_t numbers[SNAPSHOT_ORDER];
  snapshot_order(session, numbers);
  for (int i = 0; i < SNAPSHOT_ORDER; i++)
    SBAG_TRY(snapshot_group_int(file, numbers[i].key, numbers[i].unit, numbers[i].value, status));
  return SBAG_OK;
}

static sbag_code_t add_blobs(saving_t *saving, sbag_status_t *status) {
  const session_t *s = saving->session;
  const reader_t *reader = session_reader(s);
  for (int i = 0; i < reader_blob_count(reader); i++) {
    const reader_blob_t *blob = reader_blob(reader, i);
    char name[SNAPSHOT_NAME_BYTES];
    snprintf(name, sizeof name, "%s%s", snapshot_reader_prefix, blob->name);
    SBAG_TRY(checkpoint_add_blob(saving->writer, name, blob->data, blob->bytes, status));
    SBAG_TRY(snapshot_describe_blob(saving->writer, name, status));
  }
  snapshot_group_t group;
  if (reader_blob_count(reader) > 0)
    SBAG_TRY(snapshot_group_begin(saving->writer, "reader", "what the reader has fitted to the data", &group,
                                  status));
  const char *text = config_tree_text(s->settings->tree);
  SBAG_TRY(checkpoint_add_blob(saving->writer, snapshot_config, text, (int64_t)strlen(text), status));
  return snapshot_describe(saving->writer, snapshot_config, "the run's config, YAML in UTF-8", "bytes",
                           status);
}

/* What the model takes: it can be made without the reader's data. */
static sbag_code_t add_inputs(saving_t *saving, sbag_status_t *status) {
  const session_t *s = saving->session;
  const inputs_t inputs = inputs_of_reader(session_reader(s));
  SBAG_TRY(inputs_write(&inputs, s->mem, &saving->inputs, status));
  SBAG_TRY(checkpoint_add_blob(saving->writer, snapshot_inputs, saving->inputs,
                               (int64_t)strlen(saving->inputs), status));
  return snapshot_describe(
      saving->writer, snapshot_inputs,
      "what the model takes: dense values, and features with their tables; JSON in UTF-8", "bytes", status);
}

static sbag_code_t add_rest(saving_t *saving, const progress_t *progress, sbag_status_t *status) {
  const session_t *s = saving->session;
  snapshot_group_t file;
  SBAG_TRY(add_blobs(saving, status));
  SBAG_TRY(add_inputs(saving, status));
  SBAG_TRY(add_metrics(saving->writer, progress, status));
  SBAG_TRY(snapshot_group_begin(saving->writer, "",
                                "a training run's checkpoint: tables, dense layers, optimizer state, and "
                                "where the run stood",
                                &file, status));
  snapshot_group_unit(&file, "checkpoint_format", "1 (a version)"); /* the writer adds it */
  SBAG_TRY(snapshot_group_int(&file, "format", "1 (a version)", SNAPSHOT_FORMAT, status));
  SBAG_TRY(snapshot_group_text(&file, "version", sbag_version(), status));
  SBAG_TRY(snapshot_group_text(&file, "name", s->settings->name, status));
  SBAG_TRY(snapshot_group_int(&file, "ranks", "ranks (that wrote this file)", comm_size(s->comm), status));
  SBAG_TRY(add_progress(&file, progress, status));
  SBAG_TRY(add_order(&file, s, status));
  return snapshot_group_end(&file, status);
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
  mem_free(session->mem, saving.inputs);
  return code;
}
