/* shardbag bench exchange: the exchange by itself, sent or only counted. */
#include "app/bench.h"
#include "bench/exchange.h"
#include "bench/exchange_virtual.h"
#include "collection/context.h"
#include <shardbag/mpi.h>

#include <stdio.h>

static sbag_code_t check(const job_t *job, const options_t *options, sbag_status_t *status) {
  if (!options->count_only && options->ranks != 0)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "--ranks is for --count-only; without it mpirun -n N says how many");
  if (options->count_only && job->size > 1)
    return status_set(status, SBAG_ERR_ARGUMENT, "--count-only is one process: start it without mpirun");
  if (options->count_only && (options->ranks < 1 || options->ranks > BENCH_VIRTUAL_RANKS_MAX))
    return status_set(status, SBAG_ERR_ARGUMENT, "--count-only wants --ranks N, from 1 to %d",
                      BENCH_VIRTUAL_RANKS_MAX);
  return SBAG_OK;
}

/* The context that hands out the settings' exchanges; it takes the job's place as the one that ends. */
static sbag_code_t create_context(job_t *job, const bench_exchange_settings_t *settings,
                                  sbag_status_t *status) {
  sbag_context_options_t o = sbag_context_options_default();
  o.device = (sbag_device_t)settings->device;
  o.exchange = (sbag_exchange_t)settings->kind;
  o.wire = (sbag_wire_t)settings->wire;
  o.chunk_bytes = settings->chunk;
  o.timeout_s = job->timeout_s;
  return sbag_context_create_mpi(MPI_COMM_WORLD, &o, &job->context, status);
}

static sbag_code_t measure(job_t *job, const options_t *options, void *state, FILE *json,
                           sbag_status_t *status) {
  const bench_exchange_settings_t *settings = state;
  if (options->count_only) {
    const bench_virtual_config_t config = {.settings = settings,
                                           .mem = job->mem,
                                           .ranks = (int)options->ranks,
                                           .cover = options->cover,
                                           .out = stdout,
                                           .json = json,
                                           .json_path = options->json};
    return bench_exchange_virtual(&config, status);
  }
  SBAG_TRY(create_context(job, settings, status));
  return bench_exchange(job->context, settings, options->cover, stdout, json, options->json, status);
}

static sbag_code_t open(job_t *job, const settings_t *unused, const options_t *options, void *state,
                        sbag_status_t *status) {
  (void)unused;
  bench_exchange_settings_t *settings = state;
  sbag_code_t code = check(job, options, status);
  if (code == SBAG_OK)
    code = bench_exchange_settings_load(options->sets, options->set_count, job->mem, settings, status);
  int loaded = code == SBAG_OK;
  if (loaded && options->count_only && settings->device != SBAG_DEVICE_CPU)
    code = status_set(status, SBAG_ERR_ARGUMENT, "--count-only sends nothing: it needs no --device");
  code = sbag_context_agree(job->control, code, status);
  if (code != SBAG_OK && loaded) bench_exchange_settings_clear(settings);
  return code;
}

static void close(void *state) {
  bench_exchange_settings_clear(state);
}

const bench_kind_t bench_kind_exchange = {
    .command =
        {.name = "bench exchange",
         .arguments = "",
         .summary = "what the exchange of bags sends beside what was needed, and how fast it is",
         .argument_count = 0,
         .options = OPTION_HELP_CONFIG | OPTION_SET | OPTION_DEVICE | OPTION_JSON | OPTION_TIMEOUT |
                    OPTION_RANKS | OPTION_COUNT_ONLY | OPTION_COVER,
         .details =
             "One table of 10^6 rows of 64 without a --set; --help-config prints its keys, as\n"
             "--set length=[1,10] --set zipf=[1.05]. With --count-only --ranks N nothing is sent and no "
             "rows\nare kept.\n",
         .run = bench_run},
    .state_bytes = sizeof(bench_exchange_settings_t),
    .help = bench_exchange_settings_help,
    .open = open,
    .measure = measure,
    .close = close};
