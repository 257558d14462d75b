/* shardbag bench exchange: the exchange by itself, sent or only counted. */
#include "app/bench.h"
#include "bench/exchange.h"
#include "bench/exchange_virtual.h"
#include "collection/context.h"
#include <shardbag/mpi.h>

#include <stdio.h>

static int print_help(job_t *job, sbag_status_t *status) {
  char *text = NULL;
  if (bench_exchange_settings_help(job->mem, &text, status) != SBAG_OK) return EXIT_OTHER;
  if (job->rank == 0) printf("%s", text);
  mem_free(job->mem, text);
  return EXIT_DONE;
}

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
  o.exchange = (sbag_exchange_t)settings->kind;
  o.wire = (sbag_wire_t)settings->wire;
  o.chunk_bytes = settings->chunk;
  o.timeout_s = job->timeout_s;
  return sbag_context_create_mpi(MPI_COMM_WORLD, &o, &job->context, status);
}

static sbag_code_t measure(job_t *job, const bench_exchange_settings_t *settings, const options_t *options,
                           FILE *json, sbag_status_t *status) {
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

static int open_and_measure(job_t *job, const bench_exchange_settings_t *settings, const options_t *options,
                            sbag_status_t *status) {
  FILE *json = NULL;
  sbag_code_t code =
      sbag_context_agree(job->control, bench_open_json(job, options->json, &json, status), status);
  if (code == SBAG_OK) code = measure(job, settings, options, json, status);
  sbag_code_t closed = bench_close_json(json, options->json, code == SBAG_OK ? status : NULL);
  if (code == SBAG_OK) code = sbag_context_agree(job->control, closed, status);
  return code == SBAG_OK ? EXIT_DONE : EXIT_OTHER;
}

static int exchange(job_t *job, const settings_t *unused, const options_t *options, sbag_status_t *status) {
  (void)unused;
  bench_exchange_settings_t settings;
  if (options->help_config) return print_help(job, status);
  sbag_code_t code = check(job, options, status);
  if (code == SBAG_OK)
    code = bench_exchange_settings_load(options->sets, options->set_count, job->mem, &settings, status);
  int loaded = code == SBAG_OK, exit_code = EXIT_USAGE;
  if (sbag_context_agree(job->control, code, status) == SBAG_OK)
    exit_code = open_and_measure(job, &settings, options, status);
  if (loaded) bench_exchange_settings_clear(&settings);
  return exit_code;
}

static int run(const options_t *options) {
  return job_run("bench exchange", options, NULL, exchange);
}

const command_t command_bench_exchange = {
    .name = "bench exchange",
    .arguments = "",
    .summary = "what the exchange of bags sends beside what was needed, and how fast it is",
    .argument_count = 0,
    .options = OPTION_HELP_CONFIG | OPTION_SET | OPTION_JSON | OPTION_TIMEOUT | OPTION_RANKS |
               OPTION_COUNT_ONLY | OPTION_COVER,
    .details =
        "One table of 10^6 rows of 64 without a --set; --help-config prints its keys, as\n"
        "--set length=[1,10] --set zipf=[1.05]. With --count-only --ranks N nothing is sent and no rows\n"
        "are kept.\n",
    .run = run};
