/* shardbag bench: its parts, and the one of checkpoints */
#include "app/bench.h"
#include "app/commands.h"
#include "app/job.h"
#include "bench/checkpoint.h"
#include "collection/context.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int print_help(job_t *job, sbag_status_t *status) {
  char *text = NULL;
  if (bench_settings_help(job->mem, &text, status) != SBAG_OK) return EXIT_OTHER;
  if (job->rank == 0) printf("%s", text);
  mem_free(job->mem, text);
  return EXIT_DONE;
}

sbag_code_t bench_open_json(const job_t *job, const char *path, FILE **json, sbag_status_t *status) {
  if (path == NULL || job->rank != 0) return SBAG_OK;
  *json = fopen(path, "ae");
  if (*json != NULL) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "%s: cannot open for JSON lines: %s", path, strerror(errno));
}

sbag_code_t bench_close_json(FILE *json, const char *path, sbag_status_t *status) {
  if (json == NULL || fclose(json) == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
}

static int measure(job_t *job, const bench_settings_t *settings, const char *path, sbag_status_t *status) {
  FILE *json = NULL;
  sbag_code_t code = sbag_context_agree(job->control, bench_open_json(job, path, &json, status), status);
  if (code == SBAG_OK) code = bench_checkpoint(job->control, settings, stdout, json, path, status);
  sbag_code_t closed = bench_close_json(json, path, code == SBAG_OK ? status : NULL);
  if (code == SBAG_OK) code = sbag_context_agree(job->control, closed, status);
  return code == SBAG_OK ? EXIT_DONE : EXIT_OTHER;
}

static int checkpoint(job_t *job, const settings_t *unused, const options_t *options, sbag_status_t *status) {
  (void)unused;
  bench_settings_t settings;
  if (options->help_config) return print_help(job, status);
  sbag_code_t code = bench_settings_load(options->sets, options->set_count, job->mem, &settings, status);
  int loaded = code == SBAG_OK;
  int exit_code = EXIT_USAGE;
  if (sbag_context_agree(job->control, code, status) == SBAG_OK)
    exit_code = measure(job, &settings, options->json, status);
  if (loaded) bench_settings_clear(&settings);
  return exit_code;
}

static int run(const options_t *options) {
  return job_run("bench checkpoint", options, NULL, checkpoint);
}

static const command_t command_checkpoint = {
    .name = "bench checkpoint",
    .arguments = "",
    .summary = "how fast checkpoints are saved and loaded, beside plain writes and reads",
    .argument_count = 0,
    .options = OPTION_HELP_CONFIG | OPTION_SET | OPTION_JSON | OPTION_TIMEOUT,
    .details = "Takes 256 MiB without a --set; --help-config prints its keys, as --set rows=8388608\n"
               "--set folder=/scratch. Needs as much memory and disk as twice the table with its states.\n",
    .run = run};

static const command_t *const parts[] = {&command_checkpoint, &command_bench_exchange, &command_bench_step,
                                         NULL};

const command_t command_bench = {.name = "bench",
                                 .arguments = "PART ...",
                                 .summary = "measure this machine and shardbag on it",
                                 .details = "Under mpirun all ranks take part.\n",
                                 .parts = parts};
