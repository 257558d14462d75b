/* A server from its start to its end, on all ranks: rank 0 takes requests over HTTP, all ranks look up. */
#ifndef SERVE_SERVE_H
#define SERVE_SERVE_H

#include "serve/options.h"
#include "serve/signature.h"
#include <stdio.h>

/* What is served. */
typedef struct serve_subject {
  sbag_context_h context;
  model_t *model;
  const model_config_t *config;
  const char *name; /* of the model */
  int64_t step;
  double written_s;     /* when the checkpoint was, since 1970 */
  const int *multi_hot; /* of its inputs: see signature.h */
  double timeout_s;
  int (*stop_asked)(void); /* rank 0's: whether it was asked to end since the last call */
} serve_subject_t;

/* Collective. Returns when rank 0 was asked to end, and what it had taken in is answered; or with an error.
 * Rank 0 writes a line to `out` when it takes requests, and one at the end. */
sbag_code_t serve_run(const serve_subject_t *subject, const serve_options_t *options, FILE *out,
                      sbag_status_t *status);

#endif
