/* shardbag train CONFIG */
#include "app/commands.h"
#include "app/job.h"
#include "app/stop.h"
#include "collection/context.h"
#include "train/folder.h"
#include "train/history.h"
#include "train/resume.h"
#include "train/train.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* What a training job holds while it lasts. */
typedef struct training {
  job_t *job;
  const settings_t *settings;
  const options_t *options;
  folder_t run, checkpoints; /* rank 0 holds them; checkpoints only where it is another folder than run */
  journal_t journal;
  char metrics[FOLDER_PATH_BYTES]; /* the path of metrics.jsonl */
  retention_t retention;
  session_t session;
  progress_t progress;
} training_t;

/* What a crash left half written: nobody else can be at it, as we hold the folder. */
static sbag_code_t clear_leftovers(const training_t *t, sbag_status_t *status) {
  char last[FOLDER_PATH_BYTES];
  int removed = 0;
  SBAG_TRY(folder_clear(t->settings->checkpoint.dir, &removed, last, status));
  if (removed > 0)
    context_log(t->job->context, SBAG_LOG_WARNING, "%s%s: removed, an earlier run ended while it was written",
                last, removed > 1 ? " and others" : "");
  return SBAG_OK;
}

/* Rank 0 makes and takes the folders and opens the files. */
static sbag_code_t open_files(training_t *t, sbag_status_t *status) {
  const char *dir = t->settings->run.dir, *checkpoints = t->settings->checkpoint.dir;
  if (t->job->rank != 0) return SBAG_OK;
  SBAG_TRY(folder_hold(dir, &t->run, status));
  if (!folder_same(dir, checkpoints)) SBAG_TRY(folder_hold(checkpoints, &t->checkpoints, status));
  SBAG_TRY(clear_leftovers(t, status));
  int length = snprintf(t->metrics, sizeof t->metrics, "%s/metrics.jsonl", dir);
  if (length >= (int)sizeof t->metrics)
    return status_set(status, SBAG_ERR_ARGUMENT, "run.dir: is longer than %d characters",
                      FOLDER_PATH_BYTES - 15);
  SBAG_TRY(journal_add_file(&t->journal, t->metrics, status));
  return t->options->json != NULL ? journal_add_file(&t->journal, t->options->json, status) : SBAG_OK;
}

/* A new run is named by the microsecond in which rank 0 begins it. */
static sbag_code_t name_run(training_t *t, sbag_status_t *status) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  t->progress = (progress_t){.run = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000, .best = NAN};
  comm_t *comm = context_comm(t->job->context);
  return comm_broadcast(comm, &t->progress.run, (int64_t)sizeof t->progress.run, 0, "run's name", status);
}

/* The run in whose folder we are, as its lock file names it. */
static sbag_code_t recall_run(training_t *t, sbag_status_t *status) {
  t->progress = (progress_t){.run = t->run.run, .best = NAN};
  comm_t *comm = context_comm(t->job->context);
  return comm_broadcast(comm, &t->progress.run, (int64_t)sizeof t->progress.run, 0, "run's name", status);
}

static sbag_code_t open_session(training_t *t, sbag_status_t *status) {
  int found = 0;
  if (t->options->resume) {
    SBAG_TRY(recall_run(t, status));
    SBAG_TRY(resume_open(t->settings, t->job->context, &t->journal, &t->retention, &t->session, &t->progress,
                         &found, status));
    if (found) return SBAG_OK;
    journal_say(&t->journal, "resume: no checkpoint in %s to go on from: begins at the beginning",
                t->settings->checkpoint.dir);
  }
  if (t->progress.run == 0) SBAG_TRY(name_run(t, status));
  return session_open(t->settings, t->job->context, NULL, 0, SESSION_TRAINING | SESSION_MODEL, &t->session,
                      status);
}

/* Only now that the session stands is the past touched: a refused start leaves it as it was. */
static sbag_code_t begin(training_t *t, sbag_status_t *status) {
  sbag_code_t code = SBAG_OK;
  if (t->job->rank == 0) {
    code = history_cut(t->metrics, t->options->resume ? &t->progress : NULL, status);
    if (code == SBAG_OK) code = folder_begin_run(&t->run, t->progress.run, status);
  }
  return sbag_context_agree(t->job->context, code, status);
}

static sbag_code_t close_files(training_t *t, sbag_code_t code, sbag_status_t *status) {
  sbag_status_t closing;
  if (journal_close(&t->journal, &closing) != SBAG_OK && code == SBAG_OK) {
    *status = closing;
    code = closing.code;
  }
  retention_clear(&t->retention);
  folder_release(&t->checkpoints);
  folder_release(&t->run);
  return code;
}

static int train(job_t *job, const settings_t *settings, const options_t *options, sbag_status_t *status) {
  if (job_context(job, settings, status) != SBAG_OK) return EXIT_OTHER;
  training_t t = {
      .job = job, .settings = settings, .options = options, .run = {.lock = -1}, .checkpoints = {.lock = -1}};
  journal_init(job->rank, options->progress, &t.journal);
  retention_init(settings->checkpoint.dir, settings->checkpoint.keep, job->rank, context_mem(job->context),
                 &t.retention);
  sbag_code_t code = sbag_context_agree(job->context, open_files(&t, status), status);
  if (code == SBAG_OK) code = open_session(&t, status);
  int opened = code == SBAG_OK;
  /* Up to here a wrong argument is one of the config's. */
  int exit_code = code == SBAG_ERR_ARGUMENT ? EXIT_USAGE : EXIT_OTHER;
  if (opened) {
    exit_code = EXIT_OTHER;
    code = begin(&t, status);
    if (code == SBAG_OK)
      code = train_run(&t.session, &t.journal, &t.retention, &t.progress, stop_asked, status);
    session_close(&t.session);
  }
  code = close_files(&t, code, status);
  return code == SBAG_OK ? EXIT_DONE : exit_code;
}

static int print_keys(void) {
  sbag_status_t status;
  mem_t *mem = NULL;
  char *text = NULL;
  sbag_code_t code = mem_create(&mem, &status);
  if (code == SBAG_OK) code = settings_help(mem, &text, &status);
  if (code == SBAG_OK)
    fputs(text, stdout);
  else
    fprintf(stderr, "shardbag train: %s\n", status.message);
  if (mem != NULL) mem_free(mem, text);
  mem_destroy(&mem);
  return code == SBAG_OK ? EXIT_DONE : EXIT_OTHER;
}

static int run(const options_t *options) {
  if (options->help_config) return job_speaks_early() ? print_keys() : EXIT_DONE;
  return job_run("train", options, options->arguments[0], train);
}

const command_t command_train = {.name = "train",
                                 .arguments = "CONFIG",
                                 .summary = "train a model as a YAML config describes it",
                                 .argument_count = 1,
                                 .options = OPTION_JSON | OPTION_SET | OPTION_DEVICE | OPTION_TIMEOUT |
                                            OPTION_PROGRESS | OPTION_RESUME | OPTION_HELP_CONFIG,
                                 .details =
                                     "Writes run.dir/metrics.jsonl (lines are appended) and "
                                     "checkpoint.dir/ckpt-STEP.h5 (replaced in one go\n"
                                     "where it exists): every checkpoint.every_steps steps or every_minutes "
                                     "minutes, and at the end. At the\n"
                                     "end the metrics on valid and test are printed as 'test auc 0.7913'.\n"
                                     "SIGUSR1 asks for a checkpoint and a stop after the current step.\n"
                                     "--resume goes on from the newest complete checkpoint of the run, on "
                                     "any number of ranks; on the same\n"
                                     "number the weights end as if the run had never stopped.\n",
                                 .run = run};
