/* Opening a checkpoint, holding it against the config, and loading what a prediction needs. */
#include "collection/load.h"
#include "train/snapshot_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

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
    if (strncmp(name, snapshot_reader_prefix, strlen(snapshot_reader_prefix)) != 0) continue;
    reader_blob_t *blob = &snapshot->blobs[snapshot->blob_count];
    if (strlen(name) - strlen(snapshot_reader_prefix) >= sizeof blob->name)
      return status_set(status, SBAG_ERR_FORMAT, "%s: the name '%s' is longer than a reader's",
                        snapshot->path, name);
    SBAG_TRY(checkpoint_read_blob(snapshot->file, name, &blob->data, &blob->bytes, status));
    snprintf(blob->name, sizeof blob->name, "%s", name + strlen(snapshot_reader_prefix));
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

checkpoint_type_t snapshot_table_type(const snapshot_t *snapshot, const char *table) {
  char name[SNAPSHOT_NAME_BYTES];
  checkpoint_array_t found;
  snprintf(name, sizeof name, "tables/%s/weight", table);
  if (!checkpoint_exists(snapshot->file, name)) return CHECKPOINT_OTHER;
  if (checkpoint_array_info(snapshot->file, name, &found, NULL) != SBAG_OK) return CHECKPOINT_OTHER;
  return found.type;
}

/* "500 x 16" */
static void shape_text(int rank, const int64_t *shape, char *out, size_t room) {
  if (rank == 2)
    snprintf(out, room, "%" PRId64 " x %" PRId64, shape[0], shape[1]);
  else
    snprintf(out, room, "%" PRId64, shape[0]);
}

/* An array's shape in file and config must be one. what: "table 'user'". any_float: f16 and bf16 are as good
 * as f32, whichever the config says. */
static sbag_code_t check_array(const snapshot_t *snapshot, const char *name, const char *what, int any_float,
                               int rank, const int64_t *shape, sbag_status_t *status) {
  if (!checkpoint_exists(snapshot->file, name))
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: has no %s, which the config makes", snapshot->path,
                      what);
  checkpoint_array_t found;
  SBAG_TRY(checkpoint_array_info(snapshot->file, name, &found, status));
  int type = found.type == CHECKPOINT_F32 ||
             (any_float && (found.type == CHECKPOINT_F16 || found.type == CHECKPOINT_BF16));
  int same =
      type && found.rank == rank && found.shape[0] == shape[0] && (rank == 1 || found.shape[1] == shape[1]);
  if (same) return SBAG_OK;
  char wanted[64], held[64];
  shape_text(rank, shape, wanted, sizeof wanted);
  shape_text(found.rank, found.shape, held, sizeof held);
  return status_set(status, SBAG_ERR_ARGUMENT, "%s: %s: the config makes it %s f32, the file holds %s %s",
                    snapshot->path, what, wanted, held, checkpoint_type_name(found.type));
}

static sbag_code_t check_table_array(const snapshot_t *snapshot, const session_t *session, int table,
                                     int state, sbag_status_t *status) {
  char name[SNAPSHOT_NAME_BYTES], what[SNAPSHOT_NAME_BYTES];
  const sbag_table_options_t *options = &session->assembly.tables[table];
  snapshot_array_t array = snapshot_array(session, table, state);
  snapshot_array_name(session, table, state, name);
  if (state < 0)
    snprintf(what, sizeof what, "table '%s'", options->name);
  else
    snprintf(what, sizeof what, "table '%s': state '%s'", options->name, strrchr(name, '/') + 1);
  const int64_t shape[2] = {options->num_embeddings, array.width};
  return check_array(snapshot, name, what, state < 0, snapshot_array_rank(&array), shape, status);
}

/* Whether the config makes an array of a table, its states only where they are wanted. */
static int makes(const session_t *session, int with_states, const char *name) {
  sbag_collection_h collection = model_collection(session->model);
  for (int t = 0; t < session->assembly.model.table_count; t++) {
    int states = with_states ? sbag_collection_state_count(collection, t) : 0;
    for (int state = -1; state < states; state++) {
      char made[SNAPSHOT_NAME_BYTES];
      snapshot_array_name(session, t, state, made);
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

sbag_code_t snapshot_check_shapes(const snapshot_t *snapshot, const session_t *session, int with_states,
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
sbag_code_t snapshot_load_dense(const snapshot_t *snapshot, const model_t *model, int with_states,
                                sbag_status_t *status) {
  SBAG_TRY(model_arrays_fetch(model, status)); /* what is not loaded stays */
  for (int i = 0; i < model_array_count(model); i++) {
    const model_array_t *array = model_array(model, i);
    if (!with_states && strncmp(array->name, "state/", strlen("state/")) == 0) continue;
    char name[SNAPSHOT_NAME_BYTES], what[SNAPSHOT_NAME_BYTES];
    snprintf(name, sizeof name, "dense/%s", array->name);
    snprintf(what, sizeof what, "dense array '%s'", array->name);
    SBAG_TRY(check_array(snapshot, name, what, 0, array->rank, array->shape, status));
    SBAG_TRY(checkpoint_read_rows(snapshot->file, name, 0, array->shape[0], array->data, status));
  }
  return model_arrays_send(model, status);
}

static int count_loads(const session_t *session, int with_states) {
  sbag_collection_h collection = model_collection(session->model);
  int tables = session->assembly.model.table_count, count = tables;
  for (int t = 0; t < tables && with_states; t++) count += sbag_collection_state_count(collection, t);
  return count;
}

/* loads: [count_loads], names likewise. */
static void list_loads(const session_t *session, int with_states, collection_load_t *loads,
                       char (*names)[SNAPSHOT_NAME_BYTES]) {
  sbag_collection_h collection = model_collection(session->model);
  int next = 0;
  for (int t = 0; t < session->assembly.model.table_count; t++) {
    int states = with_states ? sbag_collection_state_count(collection, t) : 0;
    for (int state = -1; state < states; state++, next++) {
      snapshot_array_name(session, t, state, names[next]);
      loads[next] = (collection_load_t){.table = t, .state = state, .name = names[next]};
    }
  }
}

sbag_code_t snapshot_load_tables(snapshot_t *snapshot, session_t *session, int with_states,
                                 sbag_status_t *status) {
  int count = count_loads(session, with_states);
  void *loads = NULL, *names = NULL;
  sbag_code_t code = mem_alloc(session->mem, mem_array_bytes(count, sizeof(collection_load_t)),
                               "checkpoint: tables", &loads, status);
  if (code == SBAG_OK)
    code = mem_alloc(session->mem, mem_array_bytes(count, SNAPSHOT_NAME_BYTES), "checkpoint: names", &names,
                     status);
  code = comm_agree(session->comm, code, status);
  if (code == SBAG_OK) {
    list_loads(session, with_states, loads, names);
    code = collection_load(model_collection(session->model), snapshot->file, loads, count, status);
  }
  mem_free(session->mem, names);
  mem_free(session->mem, loads);
  return code;
}

static sbag_code_t load_layers(snapshot_t *snapshot, session_t *session, sbag_status_t *status) {
  sbag_code_t code = snapshot_check_shapes(snapshot, session, 0, status);
  if (code == SBAG_OK) code = snapshot_load_dense(snapshot, session->model, 0, status);
  return comm_agree(session->comm, code, status);
}

sbag_code_t snapshot_load(snapshot_t *snapshot, session_t *session, sbag_status_t *status) {
  SBAG_TRY(load_layers(snapshot, session, status));
  return snapshot_load_tables(snapshot, session, 0, status);
}

sbag_code_t snapshot_map(snapshot_t *snapshot, session_t *session, int64_t *piece_rows,
                         sbag_status_t *status) {
  char name[SNAPSHOT_NAME_BYTES];
  SBAG_TRY(load_layers(snapshot, session, status));
  for (int t = 0; t < session->assembly.model.table_count; t++) {
    const collection_load_t load = {.table = t, .state = -1, .name = name};
    snapshot_array_name(session, t, -1, name);
    SBAG_TRY(collection_map(model_collection(session->model), snapshot->file, &load, &piece_rows[t], status));
  }
  return SBAG_OK;
}
