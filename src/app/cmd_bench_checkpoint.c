/* shardbag bench checkpoint: saving and loading. */
#include "app/bench.h"
#include "bench/checkpoint.h"

static sbag_code_t open(job_t *job, const settings_t *unused, const options_t *options, void *state,
                        sbag_status_t *status) {
  (void)unused;
  bench_settings_t *settings = state;
  sbag_code_t code = bench_settings_load(options->sets, options->set_count, job->mem, settings, status);
  int loaded = code == SBAG_OK;
  code = sbag_context_agree(job->control, code, status);
  if (code != SBAG_OK && loaded) bench_settings_clear(settings);
  return code;
}

static sbag_code_t measure(job_t *job, const options_t *options, void *state, FILE *json,
                           sbag_status_t *status) {
  const bench_settings_t *settings = state;
  SBAG_TRY(job_device_context(job, settings->device, status));
  return bench_checkpoint(job->context, settings, stdout, json, options->json, status);
}

static void close(void *state) {
  bench_settings_clear(state);
}

const bench_kind_t bench_kind_checkpoint = {
    .command =
        {.name = "bench checkpoint",
         .arguments = "",
         .summary = "how fast checkpoints are saved and loaded, beside plain writes and reads",
         .argument_count = 0,
         .options = OPTION_HELP_CONFIG | OPTION_SET | OPTION_DEVICE | OPTION_JSON | OPTION_TIMEOUT,
         .details =
             "Takes 256 MiB without a --set; --help-config prints its keys, as --set rows=8388608\n"
             "--set folder=/scratch. Needs as much memory and disk as twice the table with its states.\n",
         .run = bench_run},
    .state_bytes = sizeof(bench_settings_t),
    .help = bench_settings_help,
    .open = open,
    .measure = measure,
    .close = close};
