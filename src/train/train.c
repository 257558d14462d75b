/* A training run, to be read from top to bottom: train_run is at the end. */
#include "train/train.h"

#include "train/evaluate.h"
#include "train/snapshot.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

enum { PATH_BYTES = 4096 };

typedef struct loop {
  session_t *session;
  journal_t *journal;
  const settings_train_t *settings;
  schedule_t schedule;
  double lr; /* of the dense layers, before the schedule */
  sbag_bags_t *bags;
  int64_t step, epoch, total_steps;
  int32_t *stop; /* any rank's wish to stop, reduced while a step runs; a block of its own for the comm */
  double best_auc;
  int64_t evaluations_without_gain;
  const char *reason; /* why the loop ended; NULL while it runs */
} loop_t;

static int64_t count_steps(const session_t *session) {
  const settings_train_t *train = &session->settings->train;
  int64_t samples = reader_samples(session->training, READER_TRAIN);
  int64_t steps = (samples + train->global_batch - 1) / train->global_batch;
  int64_t most = train->max_steps > 0 ? train->max_steps : INT64_MAX;
  return steps > 0 && train->epochs > most / steps ? most : train->epochs * steps;
}

/* Whether this process was asked to stop since the last call. */
static int stop_asked(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  const struct timespec at_once = {0, 0};
  return sigtimedwait(&set, NULL, &at_once) == SIGUSR1;
}

/* An error of this rank alone becomes everybody's. */
static sbag_code_t local(loop_t *loop, sbag_code_t code, sbag_status_t *status) {
  return code == SBAG_OK ? SBAG_OK : session_fail(loop->session, status);
}

/* One step. The ranks' wishes to stop travel while it runs, so they cost it nothing. */
static sbag_code_t take_step(loop_t *loop, const reader_batch_t *batch, sbag_status_t *status) {
  session_t *s = loop->session;
  double factor = schedule_factor(&loop->schedule, ++loop->step), loss = 0;
  *loop->stop = stop_asked();
  comm_request_t *request = NULL;
  SBAG_TRY(s->comm->ops->allreduce_begin(s->comm, loop->stop, 1, COMM_I32, COMM_MAX, &request, status));
  model_batch_t input = session_batch(s, batch, loop->bags);
  sbag_code_t code = model_train_step(s->model, &input, loop->step, factor, &loss, status);
  sbag_code_t waited = comm_wait(s->comm, &request, "stop flag", code == SBAG_OK ? status : NULL);
  if (code != SBAG_OK) {
    status_prefix(status, "step %" PRId64, loop->step);
    return code;
  }
  SBAG_TRY(waited);
  if (*loop->stop) loop->reason = "stopped by a signal";
  return local(loop,
               journal_step(loop->journal, loop->step, loop->epoch + 1, loss, loop->lr * factor,
                            batch->global_samples, status),
               status);
}

static sbag_code_t evaluate(loop_t *loop, reader_split_t split, metrics_result_t *result,
                            sbag_status_t *status) {
  if (reader_samples(loop->session->evaluation, split) == 0) return SBAG_OK;
  SBAG_TRY(evaluate_split(loop->session, split, result, status));
  return local(loop, journal_eval(loop->journal, evaluate_space(split), loop->step, result, status), status);
}

/* The evaluation within the run; it may end it. The result is the same on all ranks, so is the decision. */
static sbag_code_t evaluate_on_the_way(loop_t *loop, sbag_status_t *status) {
  metrics_result_t result = {.auc = 0};
  journal_pause(loop->journal);
  SBAG_TRY(evaluate(loop, READER_VALID, &result, status));
  journal_resume(loop->journal);
  loop->evaluations_without_gain = result.auc > loop->best_auc ? 0 : loop->evaluations_without_gain + 1;
  if (result.auc > loop->best_auc) loop->best_auc = result.auc;
  if (loop->settings->patience > 0 && loop->evaluations_without_gain >= loop->settings->patience)
    loop->reason = "valid auc grows no more";
  return SBAG_OK;
}

static sbag_code_t run_epoch(loop_t *loop, sbag_status_t *status) {
  reader_t *reader = loop->session->training;
  SBAG_TRY(local(loop, reader_start(reader, READER_TRAIN, loop->epoch, 0, status), status));
  while (loop->reason == NULL) {
    const reader_batch_t *batch = NULL;
    SBAG_TRY(local(loop, reader_next(reader, &batch, status), status));
    if (batch == NULL) break;
    SBAG_TRY(take_step(loop, batch, status));
    if (loop->reason == NULL && loop->step == loop->total_steps) loop->reason = "done";
    int64_t every = loop->settings->eval_every;
    if (loop->reason == NULL && every > 0 && loop->step % every == 0)
      SBAG_TRY(evaluate_on_the_way(loop, status));
  }
  return SBAG_OK;
}

static sbag_code_t save(loop_t *loop, sbag_status_t *status) {
  const settings_run_t *run = &loop->session->settings->run;
  char path[PATH_BYTES];
  snprintf(path, sizeof path, "%s/ckpt-%" PRId64 ".h5", run->dir, loop->step);
  SBAG_TRY(snapshot_save(loop->session, path, loop->step, loop->epoch, status));
  return local(loop, journal_checkpoint(loop->journal, loop->step, path, status), status);
}

static sbag_code_t run_loop(loop_t *loop, sbag_status_t *status) {
  session_t *s = loop->session;
  SBAG_TRY(local(loop,
                 journal_start(loop->journal, s->settings->name, comm_size(s->comm), loop->total_steps,
                               reader_samples(s->training, READER_TRAIN), loop->settings->log_every, status),
                 status));
  for (; loop->reason == NULL; loop->epoch++) SBAG_TRY(run_epoch(loop, status));
  SBAG_TRY(local(loop, journal_end(loop->journal, loop->step, loop->reason, status), status));
  /* Saved first: an evaluation that fails then costs nothing but its numbers. */
  if (s->settings->run.checkpoint || *loop->stop) SBAG_TRY(save(loop, status));
  if (*loop->stop) return SBAG_OK;
  metrics_result_t result;
  SBAG_TRY(evaluate(loop, READER_VALID, &result, status));
  return evaluate(loop, READER_TEST, &result, status);
}

static sbag_code_t prepare(loop_t *loop, sbag_status_t *status) {
  session_t *s = loop->session;
  if (loop->total_steps == 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "the training split has no samples; check data and split");
  void *block = NULL;
  SBAG_TRY(mem_alloc(s->mem, mem_array_bytes(s->assembly.model.feature_count, sizeof *loop->bags),
                     "training: bags", &block, status));
  loop->bags = block;
  SBAG_TRY(mem_calloc(s->mem, sizeof *loop->stop, "training: stop flag", &block, status));
  loop->stop = block;
  return SBAG_OK;
}

sbag_code_t train_run(session_t *session, journal_t *journal, sbag_status_t *status) {
  const settings_t *settings = session->settings;
  loop_t loop = {.session = session,
                 .journal = journal,
                 .settings = &settings->train,
                 .lr = session->assembly.model.dense_optimizer.lr,
                 .total_steps = count_steps(session)};
  loop.schedule = settings_schedule(&settings->schedule, loop.total_steps);
  sbag_code_t code = comm_agree(session->comm, prepare(&loop, status), status);
  if (code == SBAG_OK) code = run_loop(&loop, status);
  mem_free(session->mem, loop.bags);
  /* In a broken comm the transport may still write to the flag; it then lives until the process ends. */
  if (comm_check(session->comm, NULL) == SBAG_OK) mem_free(session->mem, loop.stop);
  return code;
}
