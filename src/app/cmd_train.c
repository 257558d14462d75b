/* shardbag train CONFIG */
#include "app/commands.h"
#include "app/job.h"
#include "collection/context.h"
#include "train/train.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_BYTES = 4096 };

static sbag_code_t make_folder(const char *path, sbag_status_t *status) {
  char part[PATH_BYTES];
  if (strlen(path) >= sizeof part)
    return status_set(status, SBAG_ERR_ARGUMENT, "run.dir: is longer than %d characters", PATH_BYTES - 1);
  snprintf(part, sizeof part, "%s", path);
  for (char *at = part + 1;; at++) {
    if (*at != '/' && *at != '\0') continue;
    char kept = *at;
    *at = '\0';
    if (mkdir(part, 0777) != 0 && errno != EEXIST)
      return status_set(status, SBAG_ERR_IO, "%s: cannot make the run's folder: %s", part, strerror(errno));
    if (kept == '\0') return SBAG_OK;
    *at = kept;
  }
}

/* Rank 0 makes the folder and opens the files; `metrics` receives the path of metrics.jsonl. */
static sbag_code_t open_journal(const job_t *job, const settings_t *settings, const options_t *options,
                                char *metrics, journal_t *journal, sbag_status_t *status) {
  journal_init(job->rank, options->progress, journal);
  if (job->rank != 0) return SBAG_OK;
  SBAG_TRY(make_folder(settings->run.dir, status));
  int length = snprintf(metrics, PATH_BYTES, "%s/metrics.jsonl", settings->run.dir);
  if (length >= PATH_BYTES)
    return status_set(status, SBAG_ERR_ARGUMENT, "run.dir: is longer than %d characters", PATH_BYTES - 15);
  SBAG_TRY(journal_add_file(journal, metrics, status));
  return options->json != NULL ? journal_add_file(journal, options->json, status) : SBAG_OK;
}

static int train(job_t *job, const settings_t *settings, const options_t *options, sbag_status_t *status) {
  if (job_context(job, settings, status) != SBAG_OK) return EXIT_OTHER;
  journal_t journal;
  char metrics[PATH_BYTES];
  session_t session;
  sbag_code_t code = open_journal(job, settings, options, metrics, &journal, status);
  code = sbag_context_agree(job->context, code, status);
  int opened = 0;
  if (code == SBAG_OK) {
    code = session_open(settings, job->context, NULL, 0, SESSION_TRAINING | SESSION_MODEL, &session, status);
    opened = code == SBAG_OK;
  }
  /* Up to here a wrong argument is one of the config's. */
  int exit_code = code == SBAG_ERR_ARGUMENT ? EXIT_USAGE : EXIT_OTHER;
  if (opened) {
    code = train_run(&session, &journal, status);
    exit_code = EXIT_OTHER;
    session_close(&session);
  }
  sbag_status_t closing;
  if (journal_close(&journal, &closing) != SBAG_OK && code == SBAG_OK) {
    *status = closing;
    code = closing.code;
  }
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

const command_t command_train = {
    .name = "train",
    .arguments = "CONFIG",
    .summary = "train a DLRM as a YAML config describes it",
    .argument_count = 1,
    .options = OPTION_JSON | OPTION_SET | OPTION_TIMEOUT | OPTION_PROGRESS | OPTION_HELP_CONFIG,
    .details =
        "Writes run.dir/metrics.jsonl (lines are appended) and run.dir/ckpt-STEP.h5 (replaced in one go\n"
        "where it exists). At the end the metrics on valid and test are printed as 'test auc 0.7913'.\n"
        "SIGUSR1 asks for a checkpoint and a stop after the current step.\n",
    .run = run};
