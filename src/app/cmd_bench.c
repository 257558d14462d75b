/* shardbag bench: its parts, and what they have in common */
#include "app/bench.h"
#include "app/commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int print_help(job_t *job, const bench_kind_t *kind, sbag_status_t *status) {
  char *text = NULL;
  if (kind->help(job->mem, &text, status) != SBAG_OK) return EXIT_OTHER;
  if (job->rank == 0) printf("%s", text);
  mem_free(job->mem, text);
  return EXIT_DONE;
}

/* Rank 0's file of JSON lines, kept if it is there; path NULL: none. */
static sbag_code_t open_json(const job_t *job, const char *path, FILE **json, sbag_status_t *status) {
  if (path == NULL || job->rank != 0) return SBAG_OK;
  *json = fopen(path, "ae");
  if (*json != NULL) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "%s: cannot open for JSON lines: %s", path, strerror(errno));
}

static sbag_code_t close_json(FILE *json, const char *path, sbag_status_t *status) {
  if (json == NULL || fclose(json) == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
}

static int measure(job_t *job, const bench_kind_t *kind, const options_t *options, void *state,
                   sbag_status_t *status) {
  FILE *json = NULL;
  const char *path = options->json;
  sbag_code_t code = sbag_context_agree(job->control, open_json(job, path, &json, status), status);
  if (code == SBAG_OK) code = kind->measure(job, options, state, json, status);
  sbag_code_t closed = close_json(json, path, code == SBAG_OK ? status : NULL);
  if (code == SBAG_OK) code = sbag_context_agree(job->control, closed, status);
  return code == SBAG_OK ? EXIT_DONE : EXIT_OTHER;
}

static int body(job_t *job, const settings_t *settings, const options_t *options, sbag_status_t *status) {
  /* The command is its kind's first member. */
  const bench_kind_t *kind = (const bench_kind_t *)(const void *)options->command;
  void *state = NULL;
  if (options->help_config) return print_help(job, kind, status);
  sbag_code_t code = mem_calloc(job->mem, kind->state_bytes, "bench: settings", &state, status);
  code = sbag_context_agree(job->control, code, status);
  int exit_code = EXIT_OTHER;
  if (code == SBAG_OK) {
    code = kind->open(job, settings, options, state, status);
    if (code == SBAG_ERR_ARGUMENT) exit_code = EXIT_USAGE;
  }
  if (code == SBAG_OK) {
    exit_code = measure(job, kind, options, state, status);
    kind->close(state);
  }
  mem_free(job->mem, state);
  return exit_code;
}

int bench_run(const options_t *options) {
  const char *config = options->command->argument_count > 0 ? options->arguments[0] : NULL;
  return job_run(options->command->name, options, config, body);
}

static const command_t *const parts[] = {&bench_kind_memory.command,
                                         &bench_kind_pool.command,
                                         &bench_kind_exchange.command,
                                         &bench_kind_checkpoint.command,
                                         &bench_kind_step.command,
                                         &bench_kind_serve.command,
                                         NULL};

const command_t command_bench = {.name = "bench",
                                 .arguments = "PART ...",
                                 .summary = "measure this machine and shardbag on it",
                                 .details = "Under mpirun all ranks take part, but for serve.\n",
                                 .parts = parts};
