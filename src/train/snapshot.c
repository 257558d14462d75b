/* Names, shapes and callbacks between the model and the checkpoint layer. */
#include "train/snapshot.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 512, SNAPSHOT_FORMAT = 1 };

static const char reader_prefix[] = "reader/";

/* One array of a table on its way to or from the file: state -1 is the weight. */
typedef struct table_array {
  sbag_collection_h collection;
  int table, state;
  int64_t width; /* values a row */
} table_array_t;

static table_array_t table_array(const session_t *session, int table, int state) {
  sbag_collection_h collection = model_collection(session->model);
  int64_t width = state < 0 ? session->assembly.tables[table].embedding_dim
                            : sbag_collection_state_width(collection, table, state);
  return (table_array_t){.collection = collection, .table = table, .state = state, .width = width};
}

static sbag_code_t fill_rows(void *user, int64_t first_row, int64_t rows, void *out, sbag_status_t *status) {
  const table_array_t *a = user;
  return sbag_collection_read_range(a->collection, a->table, a->state, first_row, rows, out, status);
}

static sbag_code_t take_rows(void *user, int64_t first_row, int64_t rows, const void *data,
                             sbag_status_t *status) {
  const table_array_t *a = user;
  return sbag_collection_write_range(a->collection, a->table, a->state, first_row, rows, data, status);
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

/* ---- saving ---- */

typedef struct saving {
  session_t *session;
  checkpoint_writer_t *writer;
  table_array_t *arrays;
  int array_count;
} saving_t;

static void array_name(const session_t *session, int table, int state, char name[NAME_BYTES]) {
  const char *of = session->assembly.tables[table].name;
  if (state < 0)
    snprintf(name, NAME_BYTES, "tables/%s/weight", of);
  else
    snprintf(name, NAME_BYTES, "tables/%s/state/%s", of,
             sbag_collection_state_name(model_collection(session->model), table, state));
}

/* A state of one value a row has one dimension. */
static int array_rank(const table_array_t *array) {
  return array->state >= 0 && array->width == 1 ? 1 : 2;
}

static sbag_code_t add_table_array(saving_t *saving, int table, int state, sbag_status_t *status) {
  session_t *s = saving->session;
  char name[NAME_BYTES];
  array_name(s, table, state, name);
  table_array_t *array = &saving->arrays[saving->array_count++];
  *array = table_array(s, table, state);
  int64_t shape[2] = {s->assembly.tables[table].num_embeddings, array->width};
  return checkpoint_add_array(saving->writer, name, CHECKPOINT_F32, array_rank(array), shape, fill_rows,
                              array, status);
}

static sbag_code_t add_table(saving_t *saving, int table, sbag_status_t *status) {
  session_t *s = saving->session;
  const sbag_table_options_t *options = &s->assembly.tables[table];
  sbag_collection_h collection = model_collection(s->model);
  char group[NAME_BYTES];
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
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "dense/%s", array->name);
    SBAG_TRY(checkpoint_add_array(saving->writer, name, CHECKPOINT_F32, array->rank, array->shape, fill_dense,
                                  (void *)(uintptr_t)array, status)); /* only read */
  }
  const sbag_optimizer_options_t *optimizer = &saving->session->assembly.model.dense_optimizer;
  return checkpoint_add_text(saving->writer, "dense", "optimizer", sbag_optimizer_name(optimizer->kind),
                             status);
}

/* The whole numbers of progress and what they are called in the file. */
typedef struct progress_number {
  const char *key;
  size_t offset;
} progress_number_t;

static const progress_number_t progress_numbers[] = {
    {"run", offsetof(progress_t, run)},
    {"step", offsetof(progress_t, step)},
    {"epoch", offsetof(progress_t, epoch)},
    {"epoch_step", offsetof(progress_t, epoch_step)},
    {"evaluated_step", offsetof(progress_t, evaluated_step)},
    {"stale_evaluations", offsetof(progress_t, stale_evaluations)},
    {"loss_count", offsetof(progress_t, loss_count)}};
enum { PROGRESS_NUMBERS = sizeof progress_numbers / sizeof progress_numbers[0] };

static sbag_code_t add_progress(checkpoint_writer_t *writer, const progress_t *progress,
                                sbag_status_t *status) {
  for (int i = 0; i < PROGRESS_NUMBERS; i++) {
    int64_t value;
    memcpy(&value, (const char *)progress + progress_numbers[i].offset, sizeof value);
    SBAG_TRY(checkpoint_add_int(writer, "", progress_numbers[i].key, value, status));
  }
  SBAG_TRY(checkpoint_add_real(writer, "", "best_auc", progress->best_auc, status));
  return checkpoint_add_real(writer, "", "loss_sum", progress->loss_sum, status);
}

/* What the order of the samples follows from, with the config's key. */
typedef struct order_number {
  const char *key, *config_key;
  int64_t value;
} order_number_t;

enum { ORDER_NUMBERS = 7 };

static void order_numbers(const session_t *session, order_number_t numbers[ORDER_NUMBERS]) {
  const settings_t *s = session->settings;
  const settings_data_t *d = &s->data;
  const order_number_t made[ORDER_NUMBERS] = {{"seed", "seed", s->seed},
                                              {"data_seed", "data.seed", settings_data_seed(s)},
                                              {"split_seed", "data.split_seed", d->split_seed},
                                              {"shuffle", "data.shuffle", d->shuffle},
                                              {"shuffle_window", "data.delimited.shuffle_window",
                                               d->kind == READER_DELIMITED ? d->delimited.shuffle_window : 0},
                                              {"global_batch", "train.global_batch", s->train.global_batch},
                                              {"train_samples", "data: the number of training samples",
                                               reader_samples(session->training, READER_TRAIN)}};
  memcpy(numbers, made, sizeof made);
}

static sbag_code_t add_order(saving_t *saving, sbag_status_t *status) {
  order_number_t numbers[ORDER_NUMBERS];
  order_numbers(saving->session, numbers);
  for (int i = 0; i < ORDER_NUMBERS; i++)
    SBAG_TRY(checkpoint_add_int(saving->writer, "", numbers[i].key, numbers[i].value, status));
  return SBAG_OK;
}

static sbag_code_t add_rest(saving_t *saving, const progress_t *progress, sbag_status_t *status) {
  const session_t *s = saving->session;
  const reader_t *reader = session_reader(s);
  for (int i = 0; i < reader_blob_count(reader); i++) {
    const reader_blob_t *blob = reader_blob(reader, i);
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s%s", reader_prefix, blob->name);
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

/* ---- loading ---- */

static sbag_code_t read_head(snapshot_t *snapshot, sbag_status_t *status) {
  int64_t format = 0;
  SBAG_TRY(checkpoint_read_int(snapshot->file, "", "format", &format, status));
  if (format != SNAPSHOT_FORMAT)
    return status_set(status, SBAG_ERR_FORMAT, "%s: is of format %" PRId64 "; this program reads format %d",
                      snapshot->path, format, SNAPSHOT_FORMAT);
  return checkpoint_read_int(snapshot->file, "", "step", &snapshot->step, status);
}

static sbag_code_t read_blobs(snapshot_t *snapshot, sbag_status_t *status) {
  int64_t count = checkpoint_count(snapshot->file);
  void *block = NULL;
  SBAG_TRY(mem_calloc(snapshot->mem, mem_array_bytes(count, sizeof *snapshot->blobs), "checkpoint: blobs",
                      &block, status));
  snapshot->blobs = block;
  for (int64_t i = 0; i < count; i++) {
    const char *name = checkpoint_name(snapshot->file, i);
    if (strncmp(name, reader_prefix, strlen(reader_prefix)) != 0) continue;
    reader_blob_t *blob = &snapshot->blobs[snapshot->blob_count];
    if (strlen(name) - strlen(reader_prefix) >= sizeof blob->name)
      return status_set(status, SBAG_ERR_FORMAT, "%s: the name '%s' is longer than a reader's",
                        snapshot->path, name);
    SBAG_TRY(checkpoint_read_blob(snapshot->file, name, &blob->data, &blob->bytes, status));
    snprintf(blob->name, sizeof blob->name, "%s", name + strlen(reader_prefix));
    snapshot->blob_count++;
  }
  return SBAG_OK;
}

sbag_code_t snapshot_open(comm_t *comm, mem_t *mem, const char *path, snapshot_t *snapshot,
                          sbag_status_t *status) {
  *snapshot = (snapshot_t){.path = path, .mem = mem};
  SBAG_TRY(checkpoint_open(comm, mem, path, &snapshot->file, status));
  sbag_code_t code = read_head(snapshot, status);
  if (code == SBAG_OK) code = read_blobs(snapshot, status);
  code = comm_agree(comm, code, status);
  if (code != SBAG_OK) snapshot_close(snapshot);
  return code;
}

void snapshot_close(snapshot_t *snapshot) {
  checkpoint_close(&snapshot->file);
  for (int i = 0; i < snapshot->blob_count; i++) mem_free(snapshot->mem, snapshot->blobs[i].data);
  if (snapshot->mem != NULL) mem_free(snapshot->mem, snapshot->blobs);
  memset(snapshot, 0, sizeof *snapshot);
}

/* "500 x 16" */
static void shape_text(int rank, const int64_t *shape, char *out, size_t room) {
  if (rank == 2)
    snprintf(out, room, "%" PRId64 " x %" PRId64, shape[0], shape[1]);
  else
    snprintf(out, room, "%" PRId64, shape[0]);
}

/* An array's shape in file and config must be one. what: "table 'user'". */
static sbag_code_t check_array(const snapshot_t *snapshot, const char *name, const char *what, int rank,
                               const int64_t *shape, sbag_status_t *status) {
  if (!checkpoint_exists(snapshot->file, name))
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: has no %s, which the config makes", snapshot->path,
                      what);
  checkpoint_array_t found;
  SBAG_TRY(checkpoint_array_info(snapshot->file, name, &found, status));
  int same = found.type == CHECKPOINT_F32 && found.rank == rank && found.shape[0] == shape[0] &&
             (rank == 1 || found.shape[1] == shape[1]);
  if (same) return SBAG_OK;
  char wanted[64], held[64];
  shape_text(rank, shape, wanted, sizeof wanted);
  shape_text(found.rank, found.shape, held, sizeof held);
  return status_set(status, SBAG_ERR_ARGUMENT, "%s: %s: the config makes it %s f32, the file holds %s %s",
                    snapshot->path, what, wanted, held, checkpoint_type_name(found.type));
}

static sbag_code_t check_table_array(const snapshot_t *snapshot, const session_t *session, int table,
                                     int state, sbag_status_t *status) {
  char name[NAME_BYTES], what[NAME_BYTES];
  const sbag_table_options_t *options = &session->assembly.tables[table];
  table_array_t array = table_array(session, table, state);
  array_name(session, table, state, name);
  if (state < 0)
    snprintf(what, sizeof what, "table '%s'", options->name);
  else
    snprintf(what, sizeof what, "table '%s': state '%s'", options->name, strrchr(name, '/') + 1);
  const int64_t shape[2] = {options->num_embeddings, array.width};
  return check_array(snapshot, name, what, array_rank(&array), shape, status);
}

/* Whether the config makes an array of a table, its states only where they are wanted. */
static int makes(const session_t *session, int with_states, const char *name) {
  sbag_collection_h collection = model_collection(session->model);
  for (int t = 0; t < session->assembly.model.table_count; t++) {
    int states = with_states ? sbag_collection_state_count(collection, t) : 0;
    for (int state = -1; state < states; state++) {
      char made[NAME_BYTES];
      array_name(session, t, state, made);
      if (strcmp(made, name) == 0) return 1;
    }
  }
  return 0;
}

static int has_ends(const char *name, const char *head, const char *tail) {
  size_t bytes = strlen(name);
  return bytes > strlen(head) + strlen(tail) && strncmp(name, head, strlen(head)) == 0 &&
         strcmp(name + bytes - strlen(tail), tail) == 0;
}

/* The file's tables that the config does not make, and where they count their states. */
static sbag_code_t check_spare_arrays(const snapshot_t *snapshot, const session_t *session, int with_states,
                                      sbag_status_t *status) {
  static const char head[] = "tables/", tail[] = "/weight";
  for (int64_t i = 0; i < checkpoint_count(snapshot->file); i++) {
    const char *name = checkpoint_name(snapshot->file, i);
    int weight = has_ends(name, head, tail);
    if (!weight && (!with_states || strncmp(name, head, strlen(head)) != 0)) continue;
    if (makes(session, with_states, name)) continue;
    if (weight)
      return status_set(status, SBAG_ERR_ARGUMENT, "%s: holds table '%.*s', which the config does not make",
                        snapshot->path, (int)(strlen(name) - strlen(head) - strlen(tail)),
                        name + strlen(head));
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: holds '%s', which the config's optimizer does not keep",
                      snapshot->path, name);
  }
  return SBAG_OK;
}

static sbag_code_t check_shapes(const snapshot_t *snapshot, const session_t *session, int with_states,
                                sbag_status_t *status) {
  sbag_collection_h collection = model_collection(session->model);
  for (int t = 0; t < session->assembly.model.table_count; t++) {
    int states = with_states ? sbag_collection_state_count(collection, t) : 0;
    for (int state = -1; state < states; state++)
      SBAG_TRY(check_table_array(snapshot, session, t, state, status));
  }
  return check_spare_arrays(snapshot, session, with_states, status);
}

/* The dense arrays are small and whole on every rank: each reads them itself. The optimizer's state is not
 * needed to predict. */
static sbag_code_t load_dense(const snapshot_t *snapshot, const model_t *model, int with_states,
                              sbag_status_t *status) {
  for (int i = 0; i < model_array_count(model); i++) {
    const model_array_t *array = model_array(model, i);
    if (!with_states && strncmp(array->name, "state/", strlen("state/")) == 0) continue;
    char name[NAME_BYTES], what[NAME_BYTES];
    snprintf(name, sizeof name, "dense/%s", array->name);
    snprintf(what, sizeof what, "dense array '%s'", array->name);
    SBAG_TRY(check_array(snapshot, name, what, array->rank, array->shape, status));
    SBAG_TRY(checkpoint_read_rows(snapshot->file, name, 0, array->shape[0], array->data, status));
  }
  return SBAG_OK;
}

static sbag_code_t load_table(snapshot_t *snapshot, session_t *session, int table, int state,
                              sbag_status_t *status) {
  char name[NAME_BYTES];
  table_array_t array = table_array(session, table, state);
  array_name(session, table, state, name);
  return checkpoint_read_array(snapshot->file, name, take_rows, &array, status);
}

sbag_code_t snapshot_load(snapshot_t *snapshot, session_t *session, sbag_status_t *status) {
  sbag_code_t code = check_shapes(snapshot, session, 0, status);
  if (code == SBAG_OK) code = load_dense(snapshot, session->model, 0, status);
  SBAG_TRY(comm_agree(session->comm, code, status));
  for (int t = 0; t < session->assembly.model.table_count; t++)
    SBAG_TRY(load_table(snapshot, session, t, -1, status));
  return SBAG_OK;
}

/* ---- resuming ---- */

static sbag_code_t read_progress(const snapshot_t *snapshot, progress_t *progress, sbag_status_t *status) {
  for (int i = 0; i < PROGRESS_NUMBERS; i++) {
    int64_t value = 0;
    SBAG_TRY(checkpoint_read_int(snapshot->file, "", progress_numbers[i].key, &value, status));
    if (value < 0)
      return status_set(status, SBAG_ERR_FORMAT, "%s: %s is %" PRId64 ", below 0", snapshot->path,
                        progress_numbers[i].key, value);
    memcpy((char *)progress + progress_numbers[i].offset, &value, sizeof value);
  }
  SBAG_TRY(checkpoint_read_real(snapshot->file, "", "best_auc", &progress->best_auc, status));
  return checkpoint_read_real(snapshot->file, "", "loss_sum", &progress->loss_sum, status);
}

sbag_code_t snapshot_progress(const snapshot_t *snapshot, comm_t *comm, progress_t *progress,
                              sbag_status_t *status) {
  return comm_agree(comm, read_progress(snapshot, progress, status), status);
}

/* The samples that the run has seen must be the first ones of the config's order. */
static sbag_code_t check_order(const snapshot_t *snapshot, const session_t *session, sbag_status_t *status) {
  order_number_t numbers[ORDER_NUMBERS];
  order_numbers(session, numbers);
  for (int i = 0; i < ORDER_NUMBERS; i++) {
    int64_t held = 0;
    SBAG_TRY(checkpoint_read_int(snapshot->file, "", numbers[i].key, &held, status));
    if (held == numbers[i].value) continue;
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "%s: cannot be resumed: %s is %" PRId64 ", the run was begun with %" PRId64,
                      snapshot->path, numbers[i].config_key, numbers[i].value, held);
  }
  return SBAG_OK;
}

static sbag_code_t check_optimizer(const snapshot_t *snapshot, const char *group,
                                   const sbag_optimizer_options_t *options, sbag_status_t *status) {
  char *held = NULL;
  const char *wanted = sbag_optimizer_name(options->kind);
  SBAG_TRY(checkpoint_read_text(snapshot->file, group, "optimizer", &held, status));
  sbag_code_t code = SBAG_OK;
  if (strcmp(held, wanted) != 0)
    code = status_set(status, SBAG_ERR_ARGUMENT,
                      "%s: cannot be resumed: %s: the config's optimizer is %s, the file's %s",
                      snapshot->path, group, wanted, held);
  mem_free(snapshot->mem, held);
  return code;
}

/* The file's dense arrays that the config does not make: another optimizer's state, or layers. */
static sbag_code_t check_spare_dense(const snapshot_t *snapshot, const model_t *model,
                                     sbag_status_t *status) {
  static const char head[] = "dense/";
  for (int64_t i = 0; i < checkpoint_count(snapshot->file); i++) {
    const char *name = checkpoint_name(snapshot->file, i);
    int made = 0;
    if (strncmp(name, head, strlen(head)) != 0) continue;
    for (int a = 0; a < model_array_count(model); a++)
      made |= strcmp(model_array(model, a)->name, name + strlen(head)) == 0;
    if (!made)
      return status_set(status, SBAG_ERR_ARGUMENT, "%s: holds '%s', which the config does not make",
                        snapshot->path, name);
  }
  return SBAG_OK;
}

static sbag_code_t check_fit(const snapshot_t *snapshot, const session_t *session, sbag_status_t *status) {
  const assembly_t *assembly = &session->assembly;
  SBAG_TRY(check_order(snapshot, session, status));
  SBAG_TRY(
      check_shapes(snapshot, session, 0, status)); /* a table that is not there has no optimizer either */
  for (int t = 0; t < assembly->model.table_count; t++) {
    char group[NAME_BYTES];
    snprintf(group, sizeof group, "tables/%s", assembly->tables[t].name);
    SBAG_TRY(check_optimizer(snapshot, group, &assembly->tables[t].optimizer, status));
  }
  SBAG_TRY(check_shapes(snapshot, session, 1, status));
  SBAG_TRY(check_optimizer(snapshot, "dense", &assembly->model.dense_optimizer, status));
  return check_spare_dense(snapshot, session->model, status);
}

static sbag_code_t resume_table(snapshot_t *snapshot, session_t *session, int table, sbag_status_t *status) {
  sbag_collection_h collection = model_collection(session->model);
  char group[NAME_BYTES];
  int64_t steps = 0;
  for (int state = -1; state < sbag_collection_state_count(collection, table); state++)
    SBAG_TRY(load_table(snapshot, session, table, state, status));
  snprintf(group, sizeof group, "tables/%s", session->assembly.tables[table].name);
  sbag_code_t code = checkpoint_read_int(snapshot->file, group, "steps", &steps, status);
  SBAG_TRY(comm_agree(session->comm, code, status));
  return sbag_collection_set_step_count(collection, table, steps, status);
}

sbag_code_t snapshot_resume(snapshot_t *snapshot, session_t *session, sbag_status_t *status) {
  sbag_code_t code = check_fit(snapshot, session, status);
  if (code == SBAG_OK) code = load_dense(snapshot, session->model, 1, status);
  SBAG_TRY(comm_agree(session->comm, code, status));
  for (int t = 0; t < session->assembly.model.table_count; t++)
    SBAG_TRY(resume_table(snapshot, session, t, status));
  return SBAG_OK;
}
