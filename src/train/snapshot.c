/* Names, shapes and callbacks between the model and the checkpoint layer. */
#include "train/snapshot.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 512, SNAPSHOT_FORMAT = 1 };

static const char reader_prefix[] = "reader/";

/* One array of a table on its way to or from the file: state -1 is the weight. */
typedef struct table_array {
  sbag_collection_h collection;
  mem_t *mem;
  int table, state;
} table_array_t;

/* The numbers of consecutive rows, as the collection's calls want them. A rank without memory still takes
 * part in the collective call, with no rows. */
static sbag_code_t row_numbers(const table_array_t *a, int64_t first, int64_t *count, int64_t **rows,
                               sbag_status_t *status) {
  void *block = NULL;
  sbag_code_t code =
      mem_alloc(a->mem, mem_array_bytes(*count, sizeof(int64_t)), "checkpoint: rows", &block, status);
  *rows = block;
  if (code != SBAG_OK) *count = 0;
  for (int64_t i = 0; i < *count; i++) (*rows)[i] = first + i;
  return code;
}

static sbag_code_t fill_rows(void *user, int64_t first_row, int64_t rows, void *out, sbag_status_t *status) {
  const table_array_t *a = user;
  int64_t *numbers = NULL;
  sbag_status_t *said = status;
  sbag_code_t local = row_numbers(a, first_row, &rows, &numbers, status);
  if (local != SBAG_OK) said = NULL; /* keeps this rank's own cause */
  sbag_code_t code =
      a->state < 0 ? sbag_collection_read_rows(a->collection, a->table, numbers, rows, out, said)
                   : sbag_collection_read_state(a->collection, a->table, a->state, numbers, rows, out, said);
  mem_free(a->mem, numbers);
  return local != SBAG_OK ? local : code;
}

static sbag_code_t take_rows(void *user, int64_t first_row, int64_t rows, const void *data,
                             sbag_status_t *status) {
  const table_array_t *a = user;
  int64_t *numbers = NULL;
  sbag_status_t *said = status;
  sbag_code_t local = row_numbers(a, first_row, &rows, &numbers, status);
  if (local != SBAG_OK) said = NULL;
  sbag_code_t code =
      a->state < 0
          ? sbag_collection_write_rows(a->collection, a->table, numbers, rows, data, said)
          : sbag_collection_write_state(a->collection, a->table, a->state, numbers, rows, data, said);
  mem_free(a->mem, numbers);
  return local != SBAG_OK ? local : code;
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

static sbag_code_t add_table_array(saving_t *saving, int table, int state, sbag_status_t *status) {
  session_t *s = saving->session;
  const sbag_table_options_t *options = &s->assembly.tables[table];
  sbag_collection_h collection = model_collection(s->model);
  char name[NAME_BYTES];
  int64_t width = options->embedding_dim;
  if (state < 0) {
    snprintf(name, sizeof name, "tables/%s/weight", options->name);
  } else {
    width = sbag_collection_state_width(collection, table, state);
    snprintf(name, sizeof name, "tables/%s/state/%s", options->name,
             sbag_collection_state_name(collection, table, state));
  }
  table_array_t *array = &saving->arrays[saving->array_count++];
  *array = (table_array_t){.collection = collection, .mem = s->mem, .table = table, .state = state};
  int64_t shape[2] = {options->num_embeddings, width};
  int rank = state >= 0 && width == 1 ? 1 : 2;
  return checkpoint_add_array(saving->writer, name, CHECKPOINT_F32, rank, shape, fill_rows, array, status);
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
  for (int t = 0; t < s->assembly.model.table_count; t++)
    for (int state = -1; state < sbag_collection_state_count(collection, t); state++)
      SBAG_TRY(add_table_array(saving, t, state, status));
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
  return SBAG_OK;
}

static sbag_code_t add_rest(saving_t *saving, int64_t step, int64_t epoch, sbag_status_t *status) {
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
  SBAG_TRY(checkpoint_add_int(saving->writer, "", "step", step, status));
  return checkpoint_add_int(saving->writer, "", "epoch", epoch, status);
}

static sbag_code_t declare(saving_t *saving, const char *path, int64_t step, int64_t epoch,
                           sbag_status_t *status) {
  session_t *s = saving->session;
  SBAG_TRY(checkpoint_writer_create(s->comm, s->mem, path, &saving->writer, status));
  SBAG_TRY(add_tables(saving, status));
  SBAG_TRY(add_dense(saving, status));
  return add_rest(saving, step, epoch, status);
}

sbag_code_t snapshot_save(session_t *session, const char *path, int64_t step, int64_t epoch,
                          sbag_status_t *status) {
  saving_t saving = {.session = session};
  sbag_code_t code = declare(&saving, path, step, epoch, status);
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

static sbag_code_t check_table(const snapshot_t *snapshot, const sbag_table_options_t *table,
                               sbag_status_t *status) {
  char name[NAME_BYTES], what[NAME_BYTES];
  snprintf(name, sizeof name, "tables/%s/weight", table->name);
  snprintf(what, sizeof what, "table '%s'", table->name);
  const int64_t shape[2] = {table->num_embeddings, table->embedding_dim};
  return check_array(snapshot, name, what, 2, shape, status);
}

/* The file's tables that the config does not make. */
static sbag_code_t check_spare_tables(const snapshot_t *snapshot, const assembly_t *assembly,
                                      sbag_status_t *status) {
  static const char suffix[] = "/weight", prefix[] = "tables/";
  for (int64_t i = 0; i < checkpoint_count(snapshot->file); i++) {
    const char *name = checkpoint_name(snapshot->file, i);
    size_t bytes = strlen(name), head = strlen(prefix), tail = strlen(suffix);
    if (bytes <= head + tail || strncmp(name, prefix, head) != 0 || strcmp(name + bytes - tail, suffix) != 0)
      continue;
    size_t length = bytes - head - tail;
    int known = 0;
    for (int t = 0; t < assembly->model.table_count; t++) {
      const char *table = assembly->tables[t].name;
      known |= strlen(table) == length && memcmp(table, name + head, length) == 0;
    }
    if (!known)
      return status_set(status, SBAG_ERR_ARGUMENT, "%s: holds table '%.*s', which the config does not make",
                        snapshot->path, (int)length, name + head);
  }
  return SBAG_OK;
}

static sbag_code_t check_shapes(const snapshot_t *snapshot, const session_t *session, sbag_status_t *status) {
  for (int t = 0; t < session->assembly.model.table_count; t++)
    SBAG_TRY(check_table(snapshot, &session->assembly.tables[t], status));
  return check_spare_tables(snapshot, &session->assembly, status);
}

/* The dense arrays are small and whole on every rank: each reads them itself. The optimizer's state is not
 * needed to predict. */
static sbag_code_t load_dense(const snapshot_t *snapshot, const model_t *model, sbag_status_t *status) {
  for (int i = 0; i < model_array_count(model); i++) {
    const model_array_t *array = model_array(model, i);
    if (strncmp(array->name, "state/", strlen("state/")) == 0) continue;
    char name[NAME_BYTES], what[NAME_BYTES];
    snprintf(name, sizeof name, "dense/%s", array->name);
    snprintf(what, sizeof what, "dense array '%s'", array->name);
    SBAG_TRY(check_array(snapshot, name, what, array->rank, array->shape, status));
    SBAG_TRY(checkpoint_read_rows(snapshot->file, name, 0, array->shape[0], array->data, status));
  }
  return SBAG_OK;
}

sbag_code_t snapshot_load(snapshot_t *snapshot, session_t *session, sbag_status_t *status) {
  sbag_code_t code = check_shapes(snapshot, session, status);
  if (code == SBAG_OK) code = load_dense(snapshot, session->model, status);
  SBAG_TRY(comm_agree(session->comm, code, status));
  for (int t = 0; t < session->assembly.model.table_count; t++) {
    table_array_t array = {
        .collection = model_collection(session->model), .mem = session->mem, .table = t, .state = -1};
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "tables/%s/weight", session->assembly.tables[t].name);
    SBAG_TRY(checkpoint_read_array(snapshot->file, name, take_rows, &array, status));
  }
  return SBAG_OK;
}
