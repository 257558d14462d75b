/* Evaluation: predict every batch of a split, and collect (label, logit) pairs, or give the outputs to a
 * judge.
 */
#include "train/evaluate.h"

#include "train/judge.h"

const char *evaluate_space(reader_split_t split) {
  static const char *const names[] = {"train", "valid", "test"};
  return names[split];
}

/* The buffers of one pass. */
typedef struct pass {
  session_t *session;
  reader_t *reader;
  judge_t *judge; /* NULL: (label, logit) pairs go to the metrics */
  metrics_t *metrics;
  sbag_bags_t *bags;
  float *logits;
  int64_t logit_room;
} pass_t;

static sbag_code_t pass_prepare(pass_t *pass, sbag_status_t *status) {
  session_t *s = pass->session;
  SBAG_TRY(metrics_create(s->comm, s->mem, &pass->metrics, status));
  void *block = NULL;
  SBAG_TRY(mem_alloc(s->mem, mem_array_bytes(s->assembly.model.feature_count, sizeof *pass->bags),
                     "evaluation: bags", &block, status));
  pass->bags = block;
  return SBAG_OK;
}

static void pass_clear(pass_t *pass) {
  judge_destroy(&pass->judge);
  metrics_destroy(&pass->metrics);
  mem_free(pass->session->mem, pass->bags);
  mem_free(pass->session->mem, pass->logits);
}

static sbag_code_t fit_logits(pass_t *pass, int64_t samples, sbag_status_t *status) {
  if (samples <= pass->logit_room) return SBAG_OK;
  void *block = pass->logits;
  SBAG_TRY(mem_realloc(pass->session->mem,
                       mem_array_bytes(samples * model_output_count(pass->session->model), sizeof(float)),
                       "evaluation: outputs", &block, status));
  pass->logits = block;
  pass->logit_room = samples;
  return SBAG_OK;
}

static sbag_code_t pass_run(pass_t *pass, reader_split_t split, metrics_result_t *result,
                            sbag_status_t *status) {
  session_t *s = pass->session;
  if (reader_start(pass->reader, split, 0, 0, status) != SBAG_OK) return session_fail(s, status);
  for (;;) {
    const reader_batch_t *batch = NULL;
    if (reader_next(pass->reader, &batch, status) != SBAG_OK) return session_fail(s, status);
    if (batch == NULL) break;
    if (fit_logits(pass, batch->samples, status) != SBAG_OK) return session_fail(s, status);
    model_batch_t input = session_batch(s, batch, pass->bags);
    SBAG_TRY(model_predict(s->model, &input, pass->logits, status));
    if (pass->judge != NULL) {
      SBAG_TRY(pass->judge->ops->add(pass->judge, batch, pass->logits, status));
      continue;
    }
    /* A refused pair is remembered and comes out of metrics_compute on all ranks. */
    metrics_add_weighted(pass->metrics, batch->labels, pass->logits, batch->weights, batch->samples, NULL);
  }
  if (pass->judge != NULL) return pass->judge->ops->finish(pass->judge, result, status);
  return metrics_compute(pass->metrics, result, status);
}

static sbag_code_t evaluate(session_t *session, reader_t *reader, reader_split_t split, const char *space,
                            metrics_result_t *result, sbag_status_t *status) {
  pass_t pass = {.session = session, .reader = reader};
  sbag_code_t code = comm_agree(session->comm, pass_prepare(&pass, status), status);
  if (code == SBAG_OK)
    code = comm_agree(session->comm, judge_create(session, reader, split, &pass.judge, status), status);
  if (code == SBAG_OK) code = pass_run(&pass, split, result, status);
  pass_clear(&pass);
  if (code != SBAG_OK) status_prefix(status, "evaluation on %s", space);
  return code;
}

sbag_code_t evaluate_split(session_t *session, reader_split_t split, metrics_result_t *result,
                           sbag_status_t *status) {
  return evaluate(session, session->evaluation, split, evaluate_space(split), result, status);
}

sbag_code_t evaluate_set(session_t *session, const settings_eval_t *set, metrics_result_t *result,
                         sbag_status_t *status) {
  reader_t *reader = NULL;
  sbag_code_t code = session_open_files(session, &set->path, 0, &reader, status);
  code = comm_agree(session->comm, code, status);
  if (code == SBAG_OK) code = evaluate(session, reader, READER_TEST, set->name, result, status);
  reader_close(&reader);
  return code;
}
