/* shardbag serve CHECKPOINT */
#include "app/commands.h"
#include "app/job.h"
#include "app/serve_source.h"
#include "app/stop.h"
#include "collection/context.h"
#include "serve/http.h"

#include <signal.h>

/* A rank that is silent for so long ends a server, which is asked for by others: sooner than a training. */
static const double silence_s = 20;

/* Beside SIGUSR1, which job_run catches. A launcher of several ranks ends them by SIGTERM when one has
 * failed: that has to end them. It forwards SIGUSR2 to all ranks, and takes SIGHUP as its own end. */
static sbag_code_t catch_signals(const job_t *job, sbag_status_t *status) {
  SBAG_TRY(refresh_catch(SIGHUP, status));
  SBAG_TRY(refresh_catch(SIGUSR2, status));
  if (job->size > 1) return SBAG_OK;
  SBAG_TRY(stop_catch(SIGTERM, status));
  return stop_catch(SIGINT, status);
}

static sbag_code_t serve_files(job_t *job, serve_files_t *files, const serve_loaded_t *first,
                               const char *name, sbag_status_t *status) {
  serve_options_t own = files->options->serve;
  own.log = files->options->json;
  const serve_subject_t subject = {.context = job->context,
                                   .name = own.name != NULL ? own.name : name,
                                   .first = *first,
                                   .source = serve_files_source(files),
                                   .timeout_s = job->timeout_s,
                                   .stop_asked = stop_asked,
                                   .refresh_asked = refresh_asked};
  return serve_run(&subject, &own, stdout, stderr, status);
}

static int serve(job_t *job, const settings_t *none, const options_t *options, sbag_status_t *status) {
  char path[SERVE_PATH_BYTES], *name = NULL;
  serve_files_t files;
  serve_loaded_t first;
  (void)none;
  sbag_code_t code = http_available(status);
  if (code == SBAG_OK && options->serve.mapped && options->dtype != NULL)
    code = status_set(status, SBAG_ERR_ARGUMENT,
                      "--mmap reads rows as the file has them: --dtype cannot change them");
  if (code == SBAG_OK) code = catch_signals(job, status);
  code = sbag_context_agree(job->control, code, status);
  if (code == SBAG_OK) code = serve_files_open(job, options, &files, path, status);
  if (code == SBAG_OK) code = serve_files_load(&files, path, 0, NULL, NULL, &first, &name, status);
  if (code == SBAG_OK) code = serve_files(job, &files, &first, name, status);
  mem_free(job->mem, name);
  if (code == SBAG_ERR_ARGUMENT) return EXIT_USAGE;
  return code == SBAG_OK ? EXIT_DONE : EXIT_OTHER;
}

static int run(const options_t *options) {
  options_t own = *options;
  if (own.timeout_s < 0) own.timeout_s = silence_s;
  return job_run("serve", &own, NULL, serve);
}

const command_t command_serve = {
    .name = "serve",
    .arguments = "CHECKPOINT|FOLDER",
    .summary = "answer requests over HTTP (KServe v2), the tables cut over the ranks",
    .argument_count = 1,
    .options = OPTION_JSON | OPTION_SET | OPTION_DEVICE | OPTION_TIMEOUT | OPTION_SERVE | OPTION_DTYPE,
    .details =
        "Of a folder the newest checkpoint is served. NAME predicts, NAME/embeddings gives the pooled\n"
        "vectors of every feature. --json FILE is the log, a line of JSON a request or event. SIGUSR1 (to\n"
        "mpirun or the process), or SIGTERM and Ctrl-C without mpirun, ends it after the requests that it\n"
        "has taken; SIGUSR2 (to mpirun or the process) or SIGHUP (to the process of rank 0) loads a newer\n"
        "checkpoint of the same folder, as --watch does by itself. --set overrides keys of the config that\n"
        "the checkpoint keeps.\n",
    .run = run};
