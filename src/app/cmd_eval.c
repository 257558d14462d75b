/* shardbag eval CHECKPOINT CONFIG */
#include "app/commands.h"
#include "app/job.h"
#include "collection/context.h"
#include "train/evaluate.h"
#include "train/snapshot.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static sbag_code_t evaluate(session_t *session, int64_t step, journal_t *journal, sbag_status_t *status) {
  for (int split = READER_VALID; split <= READER_TEST; split++) {
    metrics_result_t result;
    if (reader_samples(session->evaluation, (reader_split_t)split) == 0) continue;
    SBAG_TRY(evaluate_split(session, (reader_split_t)split, &result, status));
    sbag_code_t code = journal_eval(journal, evaluate_space((reader_split_t)split), step, &result, status);
    if (code != SBAG_OK) return session_fail(session, status);
  }
  const settings_eval_t *sets = session->settings->eval.items;
  for (int i = 0; i < session->settings->eval.count; i++) {
    metrics_result_t result;
    SBAG_TRY(evaluate_set(session, &sets[i], &result, status));
    sbag_code_t code = journal_eval(journal, sets[i].name, step, &result, status);
    if (code != SBAG_OK) return session_fail(session, status);
  }
  return SBAG_OK;
}

/* The vocabularies and transforms are the checkpoint's, never fitted anew. */
static int evaluate_file(job_t *job, const settings_t *settings, snapshot_t *snapshot, journal_t *journal,
                         sbag_status_t *status) {
  session_t session;
  sbag_code_t code = session_open(settings, job->context, snapshot->blobs, snapshot->blob_count,
                                  SESSION_MODEL, &session, status);
  if (code != SBAG_OK) return code == SBAG_ERR_ARGUMENT ? EXIT_USAGE : EXIT_OTHER;
  int exit_code = EXIT_OTHER;
  code = snapshot_load(snapshot, &session, status);
  if (code == SBAG_ERR_ARGUMENT) exit_code = EXIT_USAGE; /* config and checkpoint do not fit */
  if (code == SBAG_OK) code = evaluate(&session, snapshot->step, journal, status);
  session_close(&session);
  return code == SBAG_OK ? EXIT_DONE : exit_code;
}

static sbag_code_t check_there(const char *path, sbag_status_t *status) {
  if (access(path, R_OK) == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "%s: cannot open the checkpoint: %s", path, strerror(errno));
}

static int eval(job_t *job, const settings_t *settings, const options_t *options, sbag_status_t *status) {
  if (job_context(job, settings, status) != SBAG_OK) return EXIT_OTHER;
  const char *path = options->arguments[0];
  if (sbag_context_agree(job->context, check_there(path, status), status) != SBAG_OK) return EXIT_USAGE;
  journal_t journal;
  journal_init(job->rank, JOURNAL_NONE, &journal);
  sbag_code_t code = options->json != NULL ? journal_add_file(&journal, options->json, status) : SBAG_OK;
  if (sbag_context_agree(job->context, code, status) != SBAG_OK) return EXIT_OTHER;
  snapshot_t snapshot;
  int exit_code = EXIT_OTHER;
  if (snapshot_open(context_comm(job->context), context_mem(job->context), path, &snapshot, status) ==
      SBAG_OK) {
    exit_code = evaluate_file(job, settings, &snapshot, &journal, status);
    snapshot_close(&snapshot);
  }
  sbag_status_t closing;
  if (journal_close(&journal, &closing) != SBAG_OK && exit_code == EXIT_DONE) {
    *status = closing;
    exit_code = EXIT_OTHER;
  }
  return exit_code;
}

static int run(const options_t *options) {
  return job_run("eval", options, options->arguments[1], eval);
}

const command_t command_eval = {
    .name = "eval",
    .arguments = "CHECKPOINT CONFIG",
    .summary = "evaluate a checkpoint on the config's valid and test data, and its further sets",
    .argument_count = 2,
    .options = OPTION_JSON | OPTION_SET | OPTION_DEVICE | OPTION_TIMEOUT,
    .details = "Prints what the training run printed at its end, on any number of ranks: lines as 'test auc\n"
               "0.7913'. Vocabularies and transforms come from the checkpoint.\n",
    .run = run};
