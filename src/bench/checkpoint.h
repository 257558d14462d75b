/* How fast checkpoints are saved and loaded, held against what the same processes reach with plain writes and
 * reads of as many bytes, in the same rounds. */
#ifndef BENCH_CHECKPOINT_H
#define BENCH_CHECKPOINT_H

#include "bench/settings.h"
#include <shardbag/context.h>
#include <stdio.h>

/* Collective. Rank 0 writes a table to `out` and, where json is not NULL, lines to it (json_path is for
 * messages). The files that it makes are gone at the end, but for a checkpoint that is to stay. Rows that
 * were not read as they were written are SBAG_ERR_STATE. */
sbag_code_t bench_checkpoint(sbag_context_h context, const bench_settings_t *settings, FILE *out, FILE *json,
                             const char *json_path, sbag_status_t *status);

#endif
