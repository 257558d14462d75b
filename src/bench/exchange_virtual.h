/* `shardbag bench exchange --count-only`: what the exchanges of up to 1,024 ranks would take, in one process
 * and without sending. */
#ifndef BENCH_EXCHANGE_VIRTUAL_H
#define BENCH_EXCHANGE_VIRTUAL_H

#include "bench/exchange_settings.h"
#include <stdio.h>

enum { BENCH_VIRTUAL_RANKS_MAX = 1024 };

typedef struct bench_virtual_config {
  const bench_exchange_settings_t *settings;
  mem_t *mem;
  int ranks, cover;
  FILE *out, *json; /* json: NULL, or a file of lines; json_path is for messages */
  const char *json_path;
} bench_virtual_config_t;

/* Not collective. */
sbag_code_t bench_exchange_virtual(const bench_virtual_config_t *config, sbag_status_t *status);

#endif
