/* A server from its start to its end, on all ranks: rank 0 takes requests over HTTP, all ranks look up. */
#ifndef SERVE_SERVE_H
#define SERVE_SERVE_H

#include "serve/options.h"
#include "serve/signature.h"
#include <stdio.h>

/* A checkpoint in memory. */
typedef struct serve_loaded {
  model_t *model;
  const model_config_t *config;
  const int *multi_hot; /* of its inputs: see signature.h */
  int64_t step;
  double written_s; /* when its file was, since 1970 */
  const int64_t
      *piece_rows; /* NULL: its rows are as they should be; [tables] of those that are not known to be,
                      a piece has so many and is checked before one of them is looked up; 0: they are */
  void *own;       /* the source's */
} serve_loaded_t;

/* Called by all ranks at the same places of a load: other work is done meanwhile. An error ends the load. */
typedef sbag_code_t (*serve_pause_t)(void *user, sbag_status_t *status);

/* Where checkpoints come from. */
enum { SERVE_PATH_BYTES = 4096 };
typedef struct serve_source {
  /* Rank 0 alone: the checkpoint that should be served now, if that is another one than is: else *found is 0.
   * asked: somebody wants it; else one that was refused is not offered again at once. */
  sbag_code_t (*find)(void *user, int asked, char path[SERVE_PATH_BYTES], int *found, sbag_status_t *status);
  /* Rank 0 alone: what became of the one that was found last. */
  void (*outcome)(void *user, sbag_code_t code);
  /* Collective; all ranks return the same. Without memory for it beside what is served it is refused. */
  sbag_code_t (*load)(void *user, const char *path, serve_pause_t pause, void *pauser, serve_loaded_t *loaded,
                      sbag_status_t *status);
  /* Not collective: SBAG_ERR_FORMAT for a piece that is damaged. */
  sbag_code_t (*check)(const serve_loaded_t *loaded, int table, int64_t piece, sbag_status_t *status);
  /* Not collective. Of one that was never loaded: nothing. */
  void (*drop)(void *user, serve_loaded_t *loaded);
  void *user;
} serve_source_t;

/* What is served. */
typedef struct serve_subject {
  sbag_context_h context;
  const char *name;     /* of the model, whichever checkpoint it is */
  serve_loaded_t first; /* the source's drop ends it */
  serve_source_t source;
  double timeout_s;
  int (*stop_asked)(void);    /* rank 0's: whether it was asked to end since the last call */
  int (*refresh_asked)(void); /* likewise: to look for a newer checkpoint */
} serve_subject_t;

/* Collective. Returns when rank 0 was asked to end, and what it had taken in is answered; or with an error.
 * Rank 0 writes a line to `out` when it takes requests, one when another checkpoint is served, and one at the
 * end; and to `errors` one for each checkpoint that is refused. */
sbag_code_t serve_run(const serve_subject_t *subject, const serve_options_t *options, FILE *out, FILE *errors,
                      sbag_status_t *status);

#endif
