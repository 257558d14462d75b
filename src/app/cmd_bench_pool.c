/* shardbag bench pool: pooling and training rows, with nothing else in the step. */
#include "app/bench.h"
#include "bench/pool.h"
#include <shardbag/mpi.h>

static sbag_code_t open(job_t *job, const settings_t *unused, const options_t *options, void *state,
                        sbag_status_t *status) {
  (void)unused;
  bench_pool_settings_t *settings = state;
  sbag_code_t code = bench_pool_settings_load(options->sets, options->set_count, job->mem, settings, status);
  int loaded = code == SBAG_OK;
  code = sbag_context_agree(job->control, code, status);
  if (code != SBAG_OK && loaded) bench_pool_settings_clear(settings);
  return code;
}

static sbag_code_t measure(job_t *job, const options_t *options, void *state, FILE *json,
                           sbag_status_t *status) {
  const bench_pool_settings_t *settings = state;
  sbag_context_options_t o = sbag_context_options_default();
  o.device = (sbag_device_t)settings->device;
  o.threads = (int)settings->threads;
  o.timeout_s = job->timeout_s;
  SBAG_TRY(sbag_context_create_mpi(MPI_COMM_WORLD, &o, &job->context, status));
  return bench_pool(job->context, settings, stdout, json, options->json, status);
}

static void close(void *state) {
  bench_pool_settings_clear(state);
}

const bench_kind_t bench_kind_pool = {
    .command =
        {.name = "bench pool",
         .arguments = "",
         .summary = "how fast rows are pooled and trained, beside what memory gives for the same rows",
         .argument_count = 0,
         .options = OPTION_HELP_CONFIG | OPTION_SET | OPTION_DEVICE | OPTION_JSON | OPTION_TIMEOUT,
         .details =
             "26 tables of 10^6 rows of 64 without a --set: 14 GB with the limit. --help-config prints its\n"
             "keys, as --set mode=sum,max --set optimizer=none,exact_rowwise_adagrad.\n",
         .run = bench_run},
    .state_bytes = sizeof(bench_pool_settings_t),
    .help = bench_pool_settings_help,
    .open = open,
    .measure = measure,
    .close = close};
