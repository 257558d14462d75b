/* Opening and closing what a run needs, in the order in which one thing needs the other. */
#include "train/session.h"

#include "collection/context.h"

#include <string.h>

/* A file that cannot be opened is more often a wrong path than a broken disk: names the key to mend. */
static sbag_code_t name_path_key(const settings_t *settings, sbag_status_t *status) {
  const char *key = settings->data.kind == SETTINGS_MOVIELENS ? "data.movielens.folder"
                    : settings->data.kind == SETTINGS_TEXT    ? "data.text"
                    : settings->data.kind == SETTINGS_RANKING ? "data.ranking"
                    : settings->data.kind == SETTINGS_CORPUS  ? "data.corpus.path"
                    : settings->data.kind == SETTINGS_CRITEO  ? "data.criteo.path"
                    : settings->data.kind == SETTINGS_BINARY  ? "data.binary.path"
                                                              : "data.delimited.path";
  return status_set(status, SBAG_ERR_IO, "%s; the config's %s says where the data are", status->message, key);
}

sbag_code_t session_open_reader(const settings_t *settings, int64_t global_batch, comm_t *comm,
                                const reader_blob_t *blobs, int blob_count, mem_t *mem, reader_t **reader,
                                sbag_status_t *status) {
  assembly_source_t source;
  SBAG_TRY(assembly_source(settings, global_batch, comm_rank(comm), comm_size(comm), mem, &source, status));
  sbag_code_t code = reader_open(&source.config, blobs, blob_count, mem, reader, status);
  assembly_source_clear(&source);
  return code == SBAG_ERR_IO && status != NULL ? name_path_key(settings, status) : code;
}

static sbag_code_t open_reader(session_t *session, int64_t global_batch, const reader_blob_t *blobs,
                               int blob_count, reader_t **reader, sbag_status_t *status) {
  return session_open_reader(session->settings, global_batch, session->comm, blobs, blob_count, session->mem,
                             reader, status);
}

/* The readers' blobs are one array each behind an accessor; reader_open wants them side by side. */
static sbag_code_t copy_blobs(session_t *session, reader_blob_t **blobs, sbag_status_t *status) {
  const reader_t *from = session_reader(session);
  int count = reader_blob_count(from);
  void *block = NULL;
  SBAG_TRY(
      mem_alloc(session->mem, mem_array_bytes(count, sizeof(reader_blob_t)), "reader blobs", &block, status));
  *blobs = block;
  for (int i = 0; i < count; i++) (*blobs)[i] = *reader_blob(from, i);
  return SBAG_OK;
}

static sbag_code_t open_readers(session_t *session, const reader_blob_t *blobs, int blob_count, int parts,
                                sbag_status_t *status) {
  const settings_train_t *train = &session->settings->train;
  if ((parts & SESSION_TRAINING) == 0)
    return open_reader(session, train->eval_batch, blobs, blob_count, &session->evaluation, status);
  SBAG_TRY(open_reader(session, train->global_batch, blobs, blob_count, &session->training, status));
  reader_blob_t *fitted = NULL;
  SBAG_TRY(copy_blobs(session, &fitted, status));
  sbag_code_t code = open_reader(session, train->eval_batch, fitted, reader_blob_count(session->training),
                                 &session->evaluation, status);
  mem_free(session->mem, fitted);
  return code;
}

sbag_code_t session_open_files(session_t *session, const config_texts_t *paths, int unlabelled,
                               reader_t **reader, sbag_status_t *status) {
  assembly_source_t source;
  reader_blob_t *blobs = NULL;
  comm_t *comm = session->comm;
  mem_t *mem = session->mem;
  SBAG_TRY(assembly_source(session->settings, session->settings->train.eval_batch, comm_rank(comm),
                           comm_size(comm), mem, &source, status));
  sbag_code_t code = assembly_source_files(&source, paths, unlabelled, status);
  if (code == SBAG_OK) code = copy_blobs(session, &blobs, status);
  if (code == SBAG_OK)
    code =
        reader_open(&source.config, blobs, reader_blob_count(session_reader(session)), mem, reader, status);
  mem_free(mem, blobs);
  assembly_source_clear(&source);
  return code;
}

/* Who sets the tables' storage; fn may be NULL. */
typedef struct storage_by {
  session_storage_t fn;
  void *user;
} storage_by_t;

static sbag_code_t open_all(session_t *session, const reader_blob_t *blobs, int blob_count, int parts,
                            storage_by_t storage, sbag_status_t *status) {
  sbag_code_t code = open_readers(session, blobs, blob_count, parts, status);
  if (code == SBAG_OK) {
    const inputs_t inputs = inputs_of_reader(session_reader(session));
    code = assembly_create(session->settings, &inputs, session->mem, &session->assembly, status);
  }
  SBAG_TRY(comm_agree(session->comm, code, status));
  if ((parts & SESSION_MODEL) == 0) return SBAG_OK;
  int loaded = (parts & SESSION_LOADED) != 0 || session->training == NULL;
  for (int t = 0; loaded && t < session->assembly.model.table_count; t++)
    session->assembly.tables[t].init_file = session->assembly.tables[t].init_dataset = NULL;
  for (int t = 0; storage.fn != NULL && t < session->assembly.model.table_count; t++)
    storage.fn(storage.user, &session->assembly.tables[t]);
  session->assembly.model.inference = session->training == NULL;
  return model_create(session->context, &session->assembly.model, session->mem, &session->model, status);
}

static sbag_code_t open_session(const settings_t *settings, sbag_context_h context,
                                const reader_blob_t *blobs, int blob_count, int parts, storage_by_t storage,
                                session_t *session, sbag_status_t *status) {
  *session = (session_t){
      .settings = settings, .context = context, .comm = context_comm(context), .mem = context_mem(context)};
  sbag_code_t code = open_all(session, blobs, blob_count, parts, storage, status);
  if (code != SBAG_OK) session_close(session);
  return code;
}

sbag_code_t session_open(const settings_t *settings, sbag_context_h context, const reader_blob_t *blobs,
                         int blob_count, int parts, session_t *session, sbag_status_t *status) {
  return open_session(settings, context, blobs, blob_count, parts, (storage_by_t){NULL, NULL}, session,
                      status);
}

sbag_code_t session_open_model(const settings_t *settings, sbag_context_h context, const reader_blob_t *blobs,
                               int blob_count, session_storage_t storage, void *user, session_t *session,
                               sbag_status_t *status) {
  return open_session(settings, context, blobs, blob_count, SESSION_MODEL, (storage_by_t){storage, user},
                      session, status);
}

void session_close(session_t *session) {
  model_destroy(&session->model);
  assembly_clear(&session->assembly);
  reader_close(&session->training);
  reader_close(&session->evaluation);
  memset(session, 0, sizeof *session);
}

const reader_t *session_reader(const session_t *session) {
  return session->training != NULL ? session->training : session->evaluation;
}

sbag_code_t session_fail(session_t *session, sbag_status_t *status) {
  comm_fail(session->comm, status);
  return comm_check(session->comm, status); /* the same message, now with this rank's name */
}

model_batch_t session_batch(const session_t *session, const reader_batch_t *batch, sbag_bags_t *bags) {
  for (int i = 0; i < session->assembly.model.feature_count; i++) {
    const reader_bags_t *from = &batch->features[assembly_read_feature(&session->assembly, i)];
    bags[i] = sbag_bags_1d(from->indices, from->nnz, from->offsets, batch->samples + 1);
    bags[i].include_last_offset = 1;
  }
  return (model_batch_t){.samples = batch->samples,
                         .first_sample = batch->first_sample,
                         .global_samples = batch->global_samples,
                         .labels = batch->labels,
                         .weights = batch->weights,
                         .dense = batch->dense,
                         .features = bags};
}
