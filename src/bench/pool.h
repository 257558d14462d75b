/* Pooling and training rows through the library, with nothing else in the step: forward alone by mode, or
 * forward, backward and update by optimizer, held against what this machine's memory gives for the same rows.
 */
#ifndef BENCH_POOL_H
#define BENCH_POOL_H

#include "bench/pool_settings.h"
#include <shardbag/context.h>
#include <stdio.h>

/* Collective. Rank 0 writes a table to `out` and, where json is not NULL, lines to it (json_path is for
 * messages). Bags or rows that are not what a plain computation gives are SBAG_ERR_STATE. */
sbag_code_t bench_pool(sbag_context_h context, const bench_pool_settings_t *settings, FILE *out, FILE *json,
                       const char *json_path, sbag_status_t *status);

#endif
