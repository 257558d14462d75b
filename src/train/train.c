/* A training run, to be read from top to bottom: train_run is at the end. */
#include "train/train.h"

#include "base/clock.h"
#include "collection/context.h"
#include "train/evaluate.h"
#include "train/folder.h"
#include "train/imbalance.h"
#include "train/judge.h"
#include "train/snapshot.h"
#include "train/walk.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* What any rank wants, reduced while a step runs. */
enum { WISH_STOP, WISH_SAVE, WISHES };

typedef struct loop {
  session_t *session;
  journal_t *journal;
  retention_t *retention;
  progress_t *progress;
  const settings_train_t *settings;
  const settings_checkpoint_t *checkpoint;
  schedule_t schedule;
  double lr; /* as told_lr, before the schedule */
  walk_t walk;
  imbalance_t *imbalance;
  phases_t phases;
  int64_t total_steps;
  int32_t *wishes;    /* [WISHES]; a block of its own for the comm */
  double saved_s;     /* rank 0's clock when the last checkpoint was complete */
  int64_t saved_step; /* the newest checkpoint's; -1: none */
  int (*stop_asked)(void);
  const char *reason; /* why the loop ended; NULL while it runs */
  char stale[96];     /* the reason of one that is out of patience */
  int patience_value; /* of metrics_values */
} loop_t;

static int64_t count_steps(const session_t *session) {
  const settings_train_t *train = &session->settings->train;
  int64_t samples = reader_samples(session->training, READER_TRAIN);
  int64_t steps = (samples + train->global_batch - 1) / train->global_batch;
  int64_t most = train->max_steps > 0 ? train->max_steps : INT64_MAX;
  return steps > 0 && train->epochs > most / steps ? most : train->epochs * steps;
}

/* One clock decides: others may run apart. */
static int save_due_by_clock(const loop_t *loop) {
  double every_s = 60 * loop->checkpoint->every_minutes;
  return comm_rank(loop->session->comm) == 0 && every_s > 0 && clock_now() - loop->saved_s >= every_s;
}

static int save_due_by_step(const loop_t *loop) {
  int64_t every = loop->checkpoint->every_steps;
  return every > 0 && loop->progress->step % every == 0;
}

static int save_due(const loop_t *loop) {
  return loop->wishes[WISH_SAVE] || save_due_by_step(loop);
}

/* Of what is no training. */
static void pause_clocks(loop_t *loop) {
  journal_pause(loop->journal);
  phases_pause(&loop->phases);
}

static void resume_clocks(loop_t *loop) {
  phases_resume(&loop->phases);
  journal_resume(loop->journal);
}

/* An error of this rank alone becomes everybody's. */
static sbag_code_t local(loop_t *loop, sbag_code_t code, sbag_status_t *status) {
  return code == SBAG_OK ? SBAG_OK : session_fail(loop->session, status);
}

static int evaluation_due(const loop_t *loop) {
  int64_t every = loop->settings->eval_every, step = loop->progress->step;
  return every > 0 && step > 0 && step % every == 0 && loop->progress->evaluated_step < step;
}

/* The next batch begins within this step unless the model is to be looked at in between: what a checkpoint
 * holds and an evaluation sees must not depend on the pipeline. */
static int goes_ahead(const loop_t *loop) {
  return loop->settings->pipeline && loop->progress->step < loop->total_steps && !save_due_by_step(loop) &&
         !evaluation_due(loop);
}

static sbag_code_t walk_step(loop_t *loop, double factor, double *loss, sbag_status_t *status) {
  int64_t step = loop->progress->step;
  comm_t *comm = loop->session->comm;
  comm_request_t *request = NULL;
  SBAG_TRY(comm->ops->allreduce_begin(comm, loop->wishes, WISHES, COMM_I32, COMM_MAX, &request, status));
  sbag_code_t code = goes_ahead(loop) ? walk_ahead(&loop->walk, step, status) : SBAG_OK;
  if (code == SBAG_OK) code = walk_compute(&loop->walk, step, status);
  sbag_code_t waited = comm_wait(comm, &request, "wishes to stop", code == SBAG_OK ? status : NULL);
  SBAG_TRY(code != SBAG_OK ? code : waited);
  if (loop->wishes[WISH_STOP] || loop->wishes[WISH_SAVE]) walk_turn_back(&loop->walk);
  return walk_finish(&loop->walk, factor, loss, status);
}

/* A step on the batch at hand. The ranks' wishes travel while it runs, so they cost it nothing. */
static sbag_code_t take_step(loop_t *loop, const reader_batch_t *batch, sbag_status_t *status) {
  progress_t *p = loop->progress;
  double factor = schedule_factor(&loop->schedule, ++p->step), loss = 0;
  int64_t samples = batch->global_samples;
  imbalance_line_t line, *told = NULL;
  imbalance_step_begin(loop->imbalance);
  loop->wishes[WISH_STOP] = loop->stop_asked();
  loop->wishes[WISH_SAVE] = save_due_by_clock(loop);
  sbag_code_t code = walk_step(loop, factor, &loss, status);
  if (code != SBAG_OK) {
    status_prefix(status, "step %" PRId64, p->step);
    return code;
  }
  imbalance_step_end(loop->imbalance);
  p->epoch_step++;
  if (loop->wishes[WISH_STOP]) loop->reason = "stopped by a signal";
  if (journal_due(loop->journal, p->step)) {
    SBAG_TRY(imbalance_collect(loop->imbalance, batch, &line, status));
    told = &line;
  }
  return local(loop, journal_step(loop->journal, p, loss, loop->lr * factor, samples, told, status), status);
}

static sbag_code_t evaluate(loop_t *loop, reader_split_t split, metrics_result_t *result,
                            sbag_status_t *status) {
  if (reader_samples(loop->session->evaluation, split) == 0) return SBAG_OK;
  SBAG_TRY(evaluate_split(loop->session, split, result, status));
  return local(loop, journal_eval(loop->journal, evaluate_space(split), loop->progress->step, result, status),
               status);
}

/* Those of `eval`. */
static sbag_code_t evaluate_sets(loop_t *loop, sbag_status_t *status) {
  const settings_t *settings = loop->session->settings;
  const settings_eval_t *sets = settings->eval.items;
  for (int i = 0; i < settings->eval.count; i++) {
    metrics_result_t result;
    SBAG_TRY(evaluate_set(loop->session, &sets[i], &result, status));
    SBAG_TRY(local(loop, journal_eval(loop->journal, sets[i].name, loop->progress->step, &result, status),
                   status));
  }
  return SBAG_OK;
}

static int out_of_patience(const loop_t *loop) {
  int64_t patience = loop->settings->patience;
  return patience > 0 && loop->progress->stale_evaluations >= patience;
}

/* Whether this is the best evaluation so far. */
static int is_best(const loop_t *loop, const metrics_result_t *result) {
  double best = loop->progress->best;
  metrics_value_t values[METRICS_VALUES];
  metrics_values(result, values);
  const metrics_value_t *watched = &values[loop->patience_value];
  if (isnan(best) || isnan(watched->value)) return !isnan(watched->value);
  return watched->rises ? watched->value > best : watched->value < best;
}

static void note_best(loop_t *loop, const metrics_result_t *result) {
  progress_t *p = loop->progress;
  metrics_value_t values[METRICS_VALUES];
  p->stale_evaluations++;
  if (!is_best(loop, result)) return;
  metrics_values(result, values);
  p->best = values[loop->patience_value].value;
  p->stale_evaluations = 0;
}

static sbag_code_t find_patience_metric(loop_t *loop, sbag_status_t *status) {
  metrics_value_t values[METRICS_VALUES];
  const metrics_result_t none = {.kind = judge_kind(loop->session), .k = loop->settings->top_k};
  const char *names[METRICS_VALUES], *wanted = loop->settings->patience_metric;
  int count = metrics_values(&none, values);
  char all[METRICS_VALUES * 64] = "";
  for (int i = 0; i < count; i++) {
    size_t used = strlen(all);
    names[i] = values[i].name;
    snprintf(all + used, sizeof all - used, "%s%.31s",
             i == 0           ? ""
             : i == count - 1 ? " and "
                              : ", ",
             names[i]);
    if (strcmp(values[i].name, wanted) != 0 && wanted[0] != '\0') continue;
    loop->patience_value = i;
    snprintf(loop->stale, sizeof loop->stale, "valid %s grows no %s", names[i],
             values[i].rises ? "more" : "less");
    return SBAG_OK;
  }
  const char *nearest = config_nearest(wanted, names, count);
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "train.patience_metric: there is no metric '%s'; %s are there%s%s%s", wanted, all,
                    nearest != NULL ? ": did you mean '" : "", nearest != NULL ? nearest : "",
                    nearest != NULL ? "'?" : "");
}

/* The evaluation within the run; it may end it. The result is the same on all ranks, so is the decision. */
static sbag_code_t evaluate_on_the_way(loop_t *loop, sbag_status_t *status) {
  progress_t *p = loop->progress;
  metrics_result_t result = {.auc = 0};
  pause_clocks(loop);
  SBAG_TRY(evaluate(loop, READER_VALID, &result, status));
  SBAG_TRY(evaluate_sets(loop, status));
  resume_clocks(loop);
  p->evaluated_step = p->step;
  p->valid = result;
  note_best(loop, &result);
  if (out_of_patience(loop)) loop->reason = loop->stale;
  return SBAG_OK;
}

/* The old ones go when the new one stands. That one cannot be removed is no reason to end a run. */
static sbag_code_t retain(loop_t *loop, sbag_status_t *status) {
  int failed = 0;
  SBAG_TRY(retention_add(loop->retention, loop->progress->step, status));
  SBAG_TRY(retention_apply(loop->retention, &failed, status));
  if (failed != 0)
    context_log(loop->session->context, SBAG_LOG_WARNING, "%s: an old checkpoint cannot be removed: %s",
                loop->checkpoint->dir, strerror(failed));
  return SBAG_OK;
}

static sbag_code_t save(loop_t *loop, sbag_status_t *status) {
  int64_t step = loop->progress->step;
  char path[FOLDER_PATH_BYTES];
  pause_clocks(loop);
  SBAG_TRY(local(loop, folder_checkpoint(loop->checkpoint->dir, step, path, status), status));
  sbag_code_t code = snapshot_save(loop->session, path, loop->progress, status);
  if (code == SBAG_ERR_TIMEOUT || code == SBAG_ERR_COMM) /* these know no file */
    status_prefix(status, "checkpoint of step %" PRId64, step);
  SBAG_TRY(code);
  loop->saved_step = step;
  loop->saved_s = clock_now();
  SBAG_TRY(local(loop, journal_checkpoint(loop->journal, step, path, status), status));
  SBAG_TRY(local(loop, retain(loop, status), status));
  resume_clocks(loop);
  return SBAG_OK;
}

/* What follows a step, or was still to follow the one that a run goes on from. */
static sbag_code_t look_around(loop_t *loop, sbag_status_t *status) {
  if (loop->reason == NULL && loop->progress->step >= loop->total_steps) loop->reason = "done";
  if (loop->reason == NULL && evaluation_due(loop)) SBAG_TRY(evaluate_on_the_way(loop, status));
  return SBAG_OK;
}

static sbag_code_t run_epoch(loop_t *loop, sbag_status_t *status) {
  progress_t *p = loop->progress;
  SBAG_TRY(walk_start(&loop->walk, p->epoch, p->epoch_step, status));
  while (loop->reason == NULL) {
    const reader_batch_t *batch = NULL;
    SBAG_TRY(walk_batch(&loop->walk, &batch, status));
    if (batch == NULL) {
      p->epoch++;
      p->epoch_step = 0;
      return SBAG_OK;
    }
    SBAG_TRY(take_step(loop, batch, status));
    SBAG_TRY(look_around(loop, status));
    if (loop->reason == NULL && save_due(loop)) SBAG_TRY(save(loop, status));
  }
  return SBAG_OK;
}

static sbag_code_t run_loop(loop_t *loop, sbag_status_t *status) {
  session_t *s = loop->session;
  SBAG_TRY(local(loop,
                 journal_start(loop->journal, s->settings->name, comm_size(s->comm), loop->total_steps,
                               s->training, loop->settings->log_every, loop->progress, status),
                 status));
  loop->saved_s = clock_now();
  phases_begin(&s->comm->trace, &loop->phases);
  if (out_of_patience(loop)) loop->reason = loop->stale;
  SBAG_TRY(look_around(loop, status));
  while (loop->reason == NULL) SBAG_TRY(run_epoch(loop, status));
  /* Saved first: an evaluation that fails then costs nothing but its numbers. */
  int wanted = s->settings->run.checkpoint || loop->wishes[WISH_STOP];
  if (wanted && loop->saved_step != loop->progress->step) SBAG_TRY(save(loop, status));
  SBAG_TRY(local(loop, journal_end(loop->journal, loop->progress->step, loop->reason, &loop->phases, status),
                 status));
  if (loop->wishes[WISH_STOP]) return SBAG_OK;
  metrics_result_t result;
  SBAG_TRY(evaluate(loop, READER_VALID, &result, status));
  SBAG_TRY(evaluate(loop, READER_TEST, &result, status));
  return evaluate_sets(loop, status);
}

static sbag_code_t prepare(loop_t *loop, sbag_status_t *status) {
  session_t *s = loop->session;
  if (loop->total_steps == 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "the training split has no samples; check data and split");
  void *block = NULL;
  SBAG_TRY(find_patience_metric(loop, status));
  SBAG_TRY(walk_open(s, &loop->walk, status));
  SBAG_TRY(imbalance_create(s, &loop->imbalance, status));
  SBAG_TRY(mem_calloc(s->mem, WISHES * sizeof *loop->wishes, "training: wishes", &block, status));
  loop->wishes = block;
  return SBAG_OK;
}

/* Of the dense layers; of a model without any the first table's. */
static double told_lr(const model_config_t *model) {
  return model->kind == MODEL_MATCH ? model->tables[0].optimizer.lr : model->dense_optimizer.lr;
}

sbag_code_t train_run(session_t *session, journal_t *journal, retention_t *retention, progress_t *progress,
                      int (*stop_asked)(void), sbag_status_t *status) {
  const settings_t *settings = session->settings;
  loop_t loop = {.session = session,
                 .journal = journal,
                 .retention = retention,
                 .progress = progress,
                 .stop_asked = stop_asked,
                 .settings = &settings->train,
                 .checkpoint = &settings->checkpoint,
                 .lr = told_lr(&session->assembly.model),
                 .total_steps = count_steps(session),
                 .saved_step = progress->step > 0 ? progress->step : -1};
  loop.schedule = settings_schedule(&settings->schedule, loop.total_steps);
  sbag_code_t code = comm_agree(session->comm, prepare(&loop, status), status);
  if (code == SBAG_OK) code = run_loop(&loop, status);
  walk_close(&loop.walk);
  imbalance_destroy(&loop.imbalance);
  /* In a broken comm the transport may still write to the wishes; they then live until the process ends. */
  if (comm_check(session->comm, NULL) == SBAG_OK) mem_free(session->mem, loop.wishes);
  return code;
}
