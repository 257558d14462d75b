/* What a model takes, as the reader of its training data told it: names, rows and tables of the features, how
 * many dense values, how many classes. A checkpoint keeps it, so that the model can be made without the data.
 */
#ifndef TRAIN_INPUTS_H
#define TRAIN_INPUTS_H

#include "reader/reader.h"

typedef struct inputs {
  int dense_count;
  int64_t class_count;
  int feature_count;
  const reader_feature_t *features; /* [feature_count] */
} inputs_t;

/* The reader's own, valid as long as it is open. */
inputs_t inputs_of_reader(const reader_t *reader);

/* As JSON; freed by mem_free. */
sbag_code_t inputs_write(const inputs_t *inputs, mem_t *mem, char **text, sbag_status_t *status);

/* Inputs in memory of their own. */
typedef struct inputs_kept {
  inputs_t view;
  reader_feature_t *features;
  char (*tables)[64]; /* their names */
  mem_t *mem;
} inputs_kept_t;

/* path: the checkpoint, for messages. SBAG_ERR_FORMAT for another text. */
sbag_code_t inputs_read(const char *path, const char *text, mem_t *mem, inputs_kept_t *kept,
                        sbag_status_t *status);
sbag_code_t inputs_copy(const inputs_t *inputs, mem_t *mem, inputs_kept_t *kept, sbag_status_t *status);
void inputs_clear(inputs_kept_t *kept);

#endif
