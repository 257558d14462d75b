/* The parts of `shardbag bench`: each is one file with a bench_kind_t, and a row of the list in cmd_bench.c.
 */
#ifndef APP_BENCH_H
#define APP_BENCH_H

#include "app/job.h"
#include <stdio.h>

/* A part with an argument reads that as a training's config; one without has keys of its own, for --set. */
typedef struct bench_kind {
  command_t command;  /* run: bench_run */
  size_t state_bytes; /* of what open makes: settings, or a session */
  /* The keys with their meaning, for --help-config: the caller frees *text by mem_free. NULL: none. */
  sbag_code_t (*help)(mem_t *mem, char **text, sbag_status_t *status);
  /* What needs no measuring, collectively: `settings` are those of the config, or NULL. SBAG_ERR_ARGUMENT is
   * a wrong usage. On failure there is nothing to close. */
  sbag_code_t (*open)(job_t *job, const settings_t *settings, const options_t *options, void *state,
                      sbag_status_t *status);
  /* Prints on rank 0, and writes lines to `json` where that is not NULL; collective. */
  sbag_code_t (*measure)(job_t *job, const options_t *options, void *state, FILE *json,
                         sbag_status_t *status);
  void (*close)(void *state);
} bench_kind_t;

/* The run of every part: `options->command` must be that of a bench_kind_t. */
int bench_run(const options_t *options);

extern const bench_kind_t bench_kind_checkpoint, bench_kind_exchange, bench_kind_memory, bench_kind_pool,
    bench_kind_serve, bench_kind_step;

#endif
