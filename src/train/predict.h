/* Predictions as lines of text: a row of the input each, in the input's order, on any number of ranks. */
#ifndef TRAIN_PREDICT_H
#define TRAIN_PREDICT_H

#include "train/session.h"
#include <stdio.h>

typedef enum predict_format { PREDICT_TSV, PREDICT_JSON } predict_format_t;

/* Where lines go. Rank 0's alone is used. */
typedef struct predict_sink {
  FILE *file;
  const char *name; /* for messages */
  predict_format_t format;
} predict_sink_t;

/* Every sample of the split of the session's evaluation reader. Collective. *rows: how many lines. */
sbag_code_t predict_split(session_t *session, reader_split_t split, const predict_sink_t *sink, int64_t *rows,
                          sbag_status_t *status);

#endif
