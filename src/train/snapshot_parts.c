/* Names and numbers. */
#include "train/snapshot_parts.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

const char snapshot_reader_prefix[] = "reader/", snapshot_inputs[] = "inputs", snapshot_config[] = "config";
const char snapshot_valid[] = "metrics/valid";

snapshot_array_t snapshot_array(const session_t *session, int table, int state) {
  sbag_collection_h collection = model_collection(session->model);
  int64_t width = state < 0 ? session->assembly.tables[table].embedding_dim
                            : sbag_collection_state_width(collection, table, state);
  return (snapshot_array_t){.collection = collection, .table = table, .state = state, .width = width};
}

void snapshot_array_name(const session_t *session, int table, int state, char name[SNAPSHOT_NAME_BYTES]) {
  const char *of = session->assembly.tables[table].name;
  if (state < 0)
    snprintf(name, SNAPSHOT_NAME_BYTES, "tables/%s/weight", of);
  else
    snprintf(name, SNAPSHOT_NAME_BYTES, "tables/%s/state/%s", of,
             sbag_collection_state_name(model_collection(session->model), table, state));
}

int snapshot_array_rank(const snapshot_array_t *array) {
  return array->state >= 0 && array->width == 1 ? 1 : 2;
}

const snapshot_number_t snapshot_numbers[SNAPSHOT_NUMBERS] = {
    {"run", "microseconds since 1970-01-01 00:00 UTC", offsetof(progress_t, run)},
    {"step", "steps", offsetof(progress_t, step)},
    {"epoch", "epochs", offsetof(progress_t, epoch)},
    {"epoch_step", "steps", offsetof(progress_t, epoch_step)},
    {"evaluated_step", "steps", offsetof(progress_t, evaluated_step)},
    {"stale_evaluations", "evaluations", offsetof(progress_t, stale_evaluations)},
    {"loss_count", "steps", offsetof(progress_t, loss_count)}};

const snapshot_number_t snapshot_metrics[SNAPSHOT_METRICS] = {
    {"auc", "1", offsetof(metrics_result_t, auc)},
    {"logloss", "nats", offsetof(metrics_result_t, logloss)},
    {"normalized_entropy", "1", offsetof(metrics_result_t, normalized_entropy)},
    {"calibration", "1", offsetof(metrics_result_t, calibration)},
    {"accuracy", "1", offsetof(metrics_result_t, accuracy)}};

void snapshot_order(const session_t *session, snapshot_order_t numbers[SNAPSHOT_ORDER]) {
  const settings_t *s = session->settings;
  const settings_data_t *d = &s->data;
  int64_t window = 0;
  reader_order(session->training, &window);
  const snapshot_order_t made[SNAPSHOT_ORDER] = {
      {"seed", "1", "seed", s->seed},
      {"data_seed", "1", "data.seed", settings_data_seed(s)},
      {"split_seed", "1", "data.split_seed", d->split_seed},
      {"shuffle", "1 (0: no, 1: yes)", "data.shuffle", d->shuffle},
      {"shuffle_window", "samples", "data: shuffle_window", window},
      {"global_batch", "samples", "train.global_batch", s->train.global_batch},
      {"train_samples", "samples", "data: the number of training samples",
       reader_samples(session->training, READER_TRAIN)}};
  memcpy(numbers, made, sizeof made);
}
