/* Going on from a checkpoint: where the run stood, whether the config still fits, and every state. */
#include "train/snapshot_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A file of an older program may have none of these: no training depends on them, only later files do. */
static void read_metrics(const snapshot_t *snapshot, metrics_result_t *valid) {
  *valid = (metrics_result_t){0};
  (void)checkpoint_read_int(snapshot->file, snapshot_valid, "samples", &valid->samples, NULL);
  (void)checkpoint_read_int(snapshot->file, snapshot_valid, "positives", &valid->positives, NULL);
  for (int i = 0; i < SNAPSHOT_METRICS; i++) {
    double value = 0;
    (void)checkpoint_read_real(snapshot->file, snapshot_valid, snapshot_metrics[i].key, &value, NULL);
    memcpy((char *)valid + snapshot_metrics[i].offset, &value, sizeof value);
  }
}

static sbag_code_t read_progress(const snapshot_t *snapshot, progress_t *progress, sbag_status_t *status) {
  for (int i = 0; i < SNAPSHOT_NUMBERS; i++) {
    int64_t value = 0;
    SBAG_TRY(checkpoint_read_int(snapshot->file, "", snapshot_numbers[i].key, &value, status));
    if (value < 0)
      return status_set(status, SBAG_ERR_FORMAT, "%s: %s is %" PRId64 ", below 0", snapshot->path,
                        snapshot_numbers[i].key, value);
    memcpy((char *)progress + snapshot_numbers[i].offset, &value, sizeof value);
  }
  read_metrics(snapshot, &progress->valid);
  SBAG_TRY(checkpoint_read_real(snapshot->file, "", "best_auc", &progress->best, status));
  return checkpoint_read_real(snapshot->file, "", "loss_sum", &progress->loss_sum, status);
}

sbag_code_t snapshot_progress(const snapshot_t *snapshot, comm_t *comm, progress_t *progress,
                              sbag_status_t *status) {
  return comm_agree(comm, read_progress(snapshot, progress, status), status);
}

/* The samples that the run has seen must be the first ones of the config's order. */
static sbag_code_t check_order(const snapshot_t *snapshot, const session_t *session, sbag_status_t *status) {
  snapshot_order_t numbers[SNAPSHOT_ORDER];
  snapshot_order(session, numbers);
  for (int i = 0; i < SNAPSHOT_ORDER; i++) {
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
  SBAG_TRY(snapshot_check_shapes(snapshot, session, 0,
                                 status)); /* a table that is not there has no optimizer either */
  for (int t = 0; t < assembly->model.table_count; t++) {
    char group[SNAPSHOT_NAME_BYTES];
    snprintf(group, sizeof group, "tables/%s", assembly->tables[t].name);
    SBAG_TRY(check_optimizer(snapshot, group, &assembly->tables[t].optimizer, status));
  }
  SBAG_TRY(snapshot_check_shapes(snapshot, session, 1, status));
  SBAG_TRY(check_optimizer(snapshot, "dense", &assembly->model.dense_optimizer, status));
  return check_spare_dense(snapshot, session->model, status);
}

static sbag_code_t resume_step_count(snapshot_t *snapshot, session_t *session, int table,
                                     sbag_status_t *status) {
  char group[SNAPSHOT_NAME_BYTES];
  int64_t steps = 0;
  snprintf(group, sizeof group, "tables/%s", session->assembly.tables[table].name);
  sbag_code_t code = checkpoint_read_int(snapshot->file, group, "steps", &steps, status);
  SBAG_TRY(comm_agree(session->comm, code, status));
  return sbag_collection_set_step_count(model_collection(session->model), table, steps, status);
}

sbag_code_t snapshot_resume(snapshot_t *snapshot, session_t *session, sbag_status_t *status) {
  sbag_code_t code = check_fit(snapshot, session, status);
  if (code == SBAG_OK) code = snapshot_load_dense(snapshot, session->model, 1, status);
  SBAG_TRY(comm_agree(session->comm, code, status));
  SBAG_TRY(snapshot_load_tables(snapshot, session, 1, status));
  for (int t = 0; t < session->assembly.model.table_count; t++)
    SBAG_TRY(resume_step_count(snapshot, session, t, status));
  return SBAG_OK;
}
