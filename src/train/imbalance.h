/* How evenly the work lies on the ranks: what each sends, owns and takes for its own part of a step, and the
 * row that most samples look up. One gather a line of the log, nothing a step. */
#ifndef TRAIN_IMBALANCE_H
#define TRAIN_IMBALANCE_H

#include "train/session.h"

/* Means over the steps since the last line or the start. */
typedef struct imbalance_line {
  double sent_bytes_mean, sent_bytes_max;   /* of a rank a step, by the tables' exchanges */
  double owned_rows_median, owned_rows_max; /* distinct rows of a rank's shards that a step looks up */
  double wire_error; /* of a step: what 16 bits on the wire took from vectors, relative, on the worst rank */
  int slowest_rank;
  double slowest_ms, median_ms; /* of a rank a step, waits for others left out */
  const char *hot_table;        /* borrowed; NULL: no lookups */
  int64_t hot_row;
  int64_t hot_lookups; /* in the last batch, over all ranks: an estimate, see imbalance.c */
} imbalance_line_t;

typedef struct imbalance imbalance_t;

/* Not collective. */
sbag_code_t imbalance_create(const session_t *session, imbalance_t **imbalance, sbag_status_t *status);
/* Leaves what a broken comm may still write to. */
void imbalance_destroy(imbalance_t **imbalance);

/* Not collective: this rank's clock at the begin and the end of a step. */
void imbalance_step_begin(imbalance_t *imbalance);
void imbalance_step_end(imbalance_t *imbalance);

/* Collective: the line of what has been since the last one. */
sbag_code_t imbalance_collect(imbalance_t *imbalance, const reader_batch_t *batch, imbalance_line_t *line,
                              sbag_status_t *status);

#endif
