/* The exchange of bags by itself, measured: what it sends beside what was needed, and its time beside plain
 * messages of the same bytes. */
#ifndef BENCH_EXCHANGE_H
#define BENCH_EXCHANGE_H

#include "bench/exchange_settings.h"
#include <stdio.h>

/* Collective. The context is one made for the settings' exchange, wire and chunk. Rank 0 writes tables to
 * `out` and, where json is not NULL, lines to it (json_path is for messages). cover: with the exact minimum.
 */
sbag_code_t bench_exchange(sbag_context_h context, const bench_exchange_settings_t *settings, int cover,
                           FILE *out, FILE *json, const char *json_path, sbag_status_t *status);

#endif
