/* shardbag bench memory: what this machine gives. */
#include "app/bench.h"
#include "bench/memory.h"

static sbag_code_t open(job_t *job, const settings_t *unused, const options_t *options, void *state,
                        sbag_status_t *status) {
  (void)unused;
  bench_memory_settings_t *settings = state;
  sbag_code_t code =
      bench_memory_settings_load(options->sets, options->set_count, job->mem, settings, status);
  int loaded = code == SBAG_OK;
  code = sbag_context_agree(job->control, code, status);
  if (code != SBAG_OK && loaded) bench_memory_settings_clear(settings);
  return code;
}

static sbag_code_t measure(job_t *job, const options_t *options, void *state, FILE *json,
                           sbag_status_t *status) {
  const bench_memory_settings_t *settings = state;
  SBAG_TRY(job_device_context(job, settings->device, status));
  return bench_memory(job->context, settings, stdout, json, options->json, status);
}

static void close(void *state) {
  bench_memory_settings_clear(state);
}

const bench_kind_t bench_kind_memory = {
    .command = {.name = "bench memory",
                .arguments = "",
                .summary = "what this machine's memory gives: random rows, and blocks in order",
                .argument_count = 0,
                .options = OPTION_HELP_CONFIG | OPTION_SET | OPTION_DEVICE | OPTION_JSON | OPTION_TIMEOUT,
                .details = "Takes 4 GiB and a minute without a --set; --help-config prints its keys, as\n"
                           "--set mib=256 --set dim=[64] --set threads=[1,2].\n",
                .run = bench_run},
    .state_bytes = sizeof(bench_memory_settings_t),
    .help = bench_memory_settings_help,
    .open = open,
    .measure = measure,
    .close = close};
