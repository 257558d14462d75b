/* What a prediction's line says, by kind of model: the probability of label 1, the likeliest class, a user's
 * best items. */
#ifndef TRAIN_PREDICT_LINE_H
#define TRAIN_PREDICT_LINE_H

#include "train/predict.h"

typedef struct predict_line predict_line_t;

struct predict_line {
  session_t *session;
  int width; /* floats of a record, which is all that rank 0 needs to write a line */
  /* records: [the batch's samples][width], from the model's outputs. Collective. */
  sbag_code_t (*convert)(predict_line_t *line, const reader_batch_t *batch, const float *outputs,
                         float *records, sbag_status_t *status);
  /* Row `row`, counted from 0. Returns a negative number where it could not be written. */
  int (*write)(const predict_line_t *line, FILE *file, predict_format_t format, int64_t row,
               const float *record);
  void (*destroy)(predict_line_t *line);
};

/* Refuses kinds that have no predictions. Collective. */
sbag_code_t predict_line_create(session_t *session, predict_line_t **line, sbag_status_t *status);
/* Nulls *line; NULL is allowed. */
void predict_line_destroy(predict_line_t **line);

#endif
