/* Steps over batches, two of them under way at a time: see walk.h. */
#include "train/walk.h"

sbag_code_t walk_open(session_t *session, walk_t *walk, sbag_status_t *status) {
  *walk = (walk_t){.session = session};
  for (int i = 0; i < WALK_BATCHES; i++) {
    void *block = NULL;
    SBAG_TRY(mem_alloc(session->mem,
                       mem_array_bytes(session->assembly.model.feature_count, sizeof(sbag_bags_t)),
                       "training: bags", &block, status));
    walk->bags[i] = block;
  }
  return SBAG_OK;
}

void walk_close(walk_t *walk) {
  for (int i = 0; i < WALK_BATCHES; i++)
    if (walk->session != NULL) mem_free(walk->session->mem, walk->bags[i]);
  *walk = (walk_t){.session = NULL};
}

sbag_code_t walk_start(walk_t *walk, int64_t epoch, int64_t step, sbag_status_t *status) {
  walk->batch = walk->next = NULL;
  walk->begun = walk->next_begun = 0;
  if (reader_start(walk->session->training, READER_TRAIN, epoch, step, status) == SBAG_OK) return SBAG_OK;
  return session_fail(walk->session, status);
}

void walk_replay(walk_t *walk, const reader_batch_t *batches, int64_t count) {
  walk->kept = batches;
  walk->kept_count = count;
  walk->kept_next = 0;
}

static sbag_code_t read_batch(walk_t *walk, const reader_batch_t **batch, sbag_status_t *status) {
  if (walk->kept != NULL) {
    *batch = &walk->kept[walk->kept_next++ % walk->kept_count];
    return SBAG_OK;
  }
  comm_trace_t *trace = &walk->session->comm->trace;
  const char *phase = comm_trace_phase(trace, "reader");
  sbag_code_t code = reader_next(walk->session->training, batch, status);
  comm_trace_phase(trace, phase);
  return code == SBAG_OK ? SBAG_OK : session_fail(walk->session, status);
}

sbag_code_t walk_batch(walk_t *walk, const reader_batch_t **batch, sbag_status_t *status) {
  if (walk->batch == NULL) SBAG_TRY(read_batch(walk, &walk->batch, status));
  *batch = walk->batch;
  return SBAG_OK;
}

static sbag_code_t begin(walk_t *walk, const reader_batch_t *batch, int64_t step, sbag_status_t *status) {
  walk->turn = (walk->turn + 1) % WALK_BATCHES;
  model_batch_t input = session_batch(walk->session, batch, walk->bags[walk->turn]);
  return model_train_begin(walk->session->model, &input, step, status);
}

static sbag_code_t begin_batch(walk_t *walk, int64_t step, sbag_status_t *status) {
  if (walk->begun) return SBAG_OK;
  SBAG_TRY(begin(walk, walk->batch, step, status));
  walk->begun = 1;
  return SBAG_OK;
}

sbag_code_t walk_ahead(walk_t *walk, int64_t step, sbag_status_t *status) {
  SBAG_TRY(begin_batch(walk, step, status));
  SBAG_TRY(read_batch(walk, &walk->next, status));
  if (walk->next == NULL) return SBAG_OK;
  SBAG_TRY(begin(walk, walk->next, step + 1, status));
  walk->next_begun = 1;
  return SBAG_OK;
}

void walk_turn_back(walk_t *walk) {
  if (walk->next_begun) model_train_cancel(walk->session->model);
  walk->next_begun = 0;
}

sbag_code_t walk_compute(walk_t *walk, int64_t step, sbag_status_t *status) {
  SBAG_TRY(begin_batch(walk, step, status));
  return model_train_compute(walk->session->model, status);
}

sbag_code_t walk_finish(walk_t *walk, double lr_factor, double *loss, sbag_status_t *status) {
  SBAG_TRY(model_train_finish(walk->session->model, lr_factor, loss, status));
  walk->batch = walk->next;
  walk->begun = walk->next_begun;
  walk->next = NULL;
  walk->next_begun = 0;
  return SBAG_OK;
}
