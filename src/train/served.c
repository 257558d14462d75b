/* From a checkpoint to a model that answers. */
#include "train/served.h"

#include "collection/context.h"
#include "plan/plan.h"
#include "train/room.h"
#include "train/snapshot_parts.h"

#include <stdio.h>
#include <string.h>

sbag_code_t served_settings(const snapshot_t *snapshot, const char *const *sets, int set_count,
                            settings_t *settings, sbag_status_t *status) {
  void *text = NULL;
  int64_t bytes = 0;
  SBAG_TRY(checkpoint_read_blob(snapshot->file, snapshot_config, &text, &bytes, status));
  sbag_code_t code =
      settings_load_kept(snapshot->path, text, sets, set_count, snapshot->mem, settings, status);
  mem_free(snapshot->mem, text);
  return code;
}

/* By the data: their files are opened, and their vocabularies are the checkpoint's. */
static sbag_code_t inputs_of_data(const snapshot_t *snapshot, session_t *session, inputs_kept_t *kept,
                                  sbag_status_t *status) {
  reader_t *reader = NULL;
  sbag_code_t code =
      session_open_reader(session->settings, session->settings->train.eval_batch, session->comm,
                          snapshot->blobs, snapshot->blob_count, session->mem, &reader, status);
  if (code != SBAG_OK && status != NULL) {
    const sbag_status_t cause = *status;
    return status_set(
        status, cause.code,
        "%s: is of before serving and does not tell the model's inputs, so the data must: %.300s",
        snapshot->path, cause.message);
  }
  const inputs_t inputs = inputs_of_reader(reader);
  code = inputs_copy(&inputs, session->mem, kept, status);
  reader_close(&reader);
  return code;
}

static sbag_code_t take_inputs(const snapshot_t *snapshot, session_t *session, inputs_kept_t *kept,
                               sbag_status_t *status) {
  void *text = NULL;
  int64_t bytes = 0;
  if (!checkpoint_exists(snapshot->file, snapshot_inputs))
    return inputs_of_data(snapshot, session, kept, status);
  SBAG_TRY(checkpoint_read_blob(snapshot->file, snapshot_inputs, &text, &bytes, status));
  sbag_code_t code = inputs_read(snapshot->path, text, session->mem, kept, status);
  mem_free(snapshot->mem, text);
  return code;
}

/* A plan's ranks that are not there are taken as all. One rank that has all rows has them in the file's
 * order, in which they are read straight to their places, or mapped. */
static void place(sbag_table_options_t *table, int ranks) {
  for (int i = 0; i < table->rank_count; i++)
    if (table->ranks[i] >= ranks) {
      table->ranks = NULL;
      table->rank_count = 0;
    }
  if ((table->ranks != NULL ? table->rank_count : ranks) == 1) table->layout = SBAG_LAYOUT_BLOCK;
}

/* The rows come from the file, and nothing is updated: what that takes is left out. */
static void leave_out_training(assembly_t *assembly, int ranks, const sbag_storage_t *storage) {
  for (int t = 0; t < assembly->model.table_count; t++) {
    sbag_table_options_t *table = &assembly->tables[t];
    table->init_file = table->init_dataset = NULL;
    table->init = SBAG_INIT_CONSTANT;
    table->init_a = 0;
    if (storage != NULL) table->storage = *storage;
    table->optimizer = sbag_optimizer_options_default(SBAG_OPT_SGD);
    place(table, ranks);
  }
  for (int f = 0; f < assembly->model.feature_count; f++) assembly->features[f].scale_grad_by_freq = 0;
  assembly->model.inference = 1;
  assembly->model.dense_optimizer = sbag_optimizer_options_default(SBAG_OPT_SGD);
  assembly->model.clip_norm = assembly->model.clip_value = 0;
  assembly->model.class_count = 0;
}

/* Of this rank's tables in memory. Dense layers and buffers are small beside them. */
static int64_t table_bytes(const session_t *s, const plan_t *plan) {
  int64_t bytes = 0;
  for (int t = 0; t < plan->table_count; t++) {
    const sbag_table_options_t *table = &s->assembly.tables[t];
    int64_t rows = plan_rank_rows(plan, comm_rank(s->comm), t);
    if (table->replicated) rows += table->num_embeddings;
    bytes += rows * (int64_t)kernel_row_bytes(SBAG_F32, table->storage, table->embedding_dim);
  }
  return bytes;
}

/* A device's memory is asked for when it is taken. */
static sbag_code_t check_room(const session_t *s, sbag_status_t *status) {
  plan_t *plan = NULL;
  sbag_code_t code = plan_create(s->mem, comm_size(s->comm), s->assembly.tables,
                                 s->assembly.model.table_count, &plan, status);
  SBAG_TRY(comm_agree(s->comm, code, status));
  const int64_t bytes = s->context->options.device == SBAG_DEVICE_CPU ? table_bytes(s, plan) : 0;
  plan_destroy(&plan);
  return room_check(s->comm, s->mem, bytes, status);
}

/* The file is the model's then. */
static sbag_code_t map(snapshot_t *snapshot, served_t *served, sbag_status_t *status) {
  session_t *s = &served->session;
  void *block = NULL;
  sbag_code_t code = mem_calloc(s->mem, mem_array_bytes(s->assembly.model.table_count, sizeof(int64_t)),
                                "serving: pieces", &block, status);
  served->piece_rows = block;
  SBAG_TRY(comm_agree(s->comm, code, status));
  served->file = snapshot->file;
  code = snapshot_map(snapshot, s, served->piece_rows, status);
  snapshot->file = NULL;
  return code;
}

static sbag_code_t load(snapshot_t *snapshot, served_t *served, const served_how_t *how,
                        sbag_status_t *status) {
  session_t *s = &served->session;
  leave_out_training(&s->assembly, comm_size(s->comm), how->storage);
  if (how->beside && !how->mapped && check_room(s, status) != SBAG_OK)
    return status_prefix(status, "%s", snapshot->path);
  SBAG_TRY(model_create(s->context, &s->assembly.model, s->mem, &s->model, status));
  if (how->mapped) return map(snapshot, served, status);
  checkpoint_reader_set_pause(snapshot->file, how->pause, how->pauser);
  return snapshot_load(snapshot, s, status);
}

sbag_code_t served_open(snapshot_t *snapshot, const settings_t *settings, sbag_context_h context,
                        const served_how_t *how, served_t *served, sbag_status_t *status) {
  *served = (served_t){.session = {.settings = settings,
                                   .context = context,
                                   .comm = context_comm(context),
                                   .mem = context_mem(context)}};
  session_t *s = &served->session;
  sbag_code_t code = take_inputs(snapshot, s, &served->inputs, status);
  if (code == SBAG_OK) code = assembly_create(settings, &served->inputs.view, s->mem, &s->assembly, status);
  code = comm_agree(s->comm, code, status);
  if (code == SBAG_OK) code = load(snapshot, served, how, status);
  if (code != SBAG_OK) served_close(served);
  return code;
}

sbag_code_t served_check(const served_t *served, int table, int64_t piece, sbag_status_t *status) {
  char name[SNAPSHOT_NAME_BYTES];
  snapshot_array_name(&served->session, table, -1, name);
  return checkpoint_check_piece(served->file, name, piece, status);
}

/* The file behind the model that reads it. */
void served_close(served_t *served) {
  mem_t *mem = served->session.mem;
  session_close(&served->session);
  inputs_clear(&served->inputs);
  checkpoint_close(&served->file);
  if (mem != NULL) mem_free(mem, served->piece_rows);
  served->piece_rows = NULL;
}
