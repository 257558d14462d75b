/* shardbag serve CHECKPOINT */
#include "app/commands.h"
#include "app/job.h"
#include "app/stop.h"
#include "collection/context.h"
#include "serve/http.h"
#include "serve/serve.h"
#include "train/served.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

/* A rank that is silent for so long ends a server, which is asked for by others: sooner than a training. */
static const double silence_s = 20;

static sbag_code_t check_start(const char *path, struct stat *file, sbag_status_t *status) {
  SBAG_TRY(http_available(status));
  if (stat(path, file) == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "%s: cannot open the checkpoint: %s", path, strerror(errno));
}

static sbag_code_t take_multi_hot(const inputs_t *inputs, mem_t *mem, int **flags, sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_alloc(mem, mem_array_bytes(inputs->feature_count, sizeof **flags), "serving: inputs", &block,
                     status));
  *flags = block;
  for (int f = 0; f < inputs->feature_count; f++) (*flags)[f] = inputs->features[f].multi_hot;
  return SBAG_OK;
}

/* Beside SIGUSR1, which job_run catches. A launcher of several ranks ends them by SIGTERM when one has
 * failed: that has to end them. */
static sbag_code_t catch_signals(const job_t *job, sbag_status_t *status) {
  if (job->size > 1) return SBAG_OK;
  SBAG_TRY(stop_catch(SIGTERM, status));
  return stop_catch(SIGINT, status);
}

static sbag_code_t serve_model(job_t *job, const served_t *served, const char *name, int64_t step,
                               double written_s, const options_t *options, sbag_status_t *status) {
  const session_t *session = &served->session;
  serve_options_t own = options->serve;
  own.access_log = options->json;
  int *multi_hot = NULL;
  sbag_code_t code = take_multi_hot(&served->inputs.view, session->mem, &multi_hot, status);
  if (code == SBAG_OK) code = catch_signals(job, status);
  SBAG_TRY(comm_agree(session->comm, code, status));
  const serve_subject_t subject = {.context = job->context,
                                   .model = session->model,
                                   .config = &session->assembly.model,
                                   .name = own.name != NULL ? own.name : name,
                                   .step = step,
                                   .written_s = written_s,
                                   .multi_hot = multi_hot,
                                   .timeout_s = job->timeout_s,
                                   .stop_asked = stop_asked};
  code = serve_run(&subject, &own, stdout, status);
  mem_free(session->mem, multi_hot);
  return code;
}

/* 1: of all tables, by --dtype. */
static int take_storage(const options_t *options, sbag_storage_t *storage) {
  for (int i = 0; options->dtype != NULL && options_dtypes[i] != NULL; i++)
    if (strcmp(options_dtypes[i], options->dtype) == 0) {
      *storage = (sbag_storage_t)i;
      return 1;
    }
  return 0;
}

static int serve_settings(job_t *job, const settings_t *settings, snapshot_t *snapshot, double written_s,
                          const options_t *options, sbag_status_t *status) {
  served_t served;
  char *name = NULL;
  sbag_storage_t storage;
  int given = take_storage(options, &storage);
  if (job_context(job, settings, status) != SBAG_OK) return EXIT_OTHER;
  sbag_code_t code = served_open(snapshot, settings, job->context, given ? &storage : NULL, &served, status);
  if (code != SBAG_OK) return code == SBAG_ERR_ARGUMENT ? EXIT_USAGE : EXIT_OTHER;
  int64_t step = snapshot->step;
  code = comm_agree(served.session.comm, checkpoint_read_text(snapshot->file, "", "name", &name, status),
                    status);
  snapshot_close(snapshot); /* the file may go: all of it that is needed is here */
  if (code == SBAG_OK) code = serve_model(job, &served, name, step, written_s, options, status);
  mem_free(job->mem, name);
  served_close(&served);
  if (code == SBAG_ERR_ARGUMENT) return EXIT_USAGE;
  return code == SBAG_OK ? EXIT_DONE : EXIT_OTHER;
}

static int serve(job_t *job, const settings_t *none, const options_t *options, sbag_status_t *status) {
  const char *path = options->arguments[0];
  struct stat file;
  snapshot_t snapshot;
  settings_t settings;
  (void)none;
  sbag_code_t code = check_start(path, &file, status);
  int exit_code = code == SBAG_ERR_ARGUMENT ? EXIT_USAGE : EXIT_OTHER;
  if (sbag_context_agree(job->control, code, status) != SBAG_OK) return exit_code;
  if (snapshot_open(context_comm(job->control), job->mem, path, &snapshot, status) != SBAG_OK)
    return EXIT_OTHER;
  code = served_settings(&snapshot, options->sets, options->set_count, &settings, status);
  exit_code = EXIT_USAGE;
  if (sbag_context_agree(job->control, code, status) == SBAG_OK) {
    exit_code = serve_settings(job, &settings, &snapshot, (double)file.st_mtime, options, status);
    settings_clear(&settings);
  }
  snapshot_close(&snapshot);
  return exit_code;
}

static int run(const options_t *options) {
  options_t own = *options;
  if (own.timeout_s < 0) own.timeout_s = silence_s;
  return job_run("serve", &own, NULL, serve);
}

const command_t command_serve = {
    .name = "serve",
    .arguments = "CHECKPOINT",
    .summary = "answer requests over HTTP (KServe v2), the tables cut over the ranks",
    .argument_count = 1,
    .options = OPTION_JSON | OPTION_SET | OPTION_DEVICE | OPTION_TIMEOUT | OPTION_SERVE | OPTION_DTYPE,
    .details =
        "NAME predicts, NAME/embeddings gives the pooled vectors of every feature. --json FILE is the "
        "access\n"
        "log. SIGUSR1 (to mpirun or the process), or SIGTERM and Ctrl-C without mpirun, ends it after the\n"
        "requests that it has taken. --set overrides keys of the config that the checkpoint keeps.\n",
    .run = run};
