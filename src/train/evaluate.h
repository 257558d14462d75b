/* One pass over a split without learning: the metrics of the model as it is. */
#ifndef TRAIN_EVALUATE_H
#define TRAIN_EVALUATE_H

#include "train/metrics.h"
#include "train/session.h"

/* Collective; the result is the same on all ranks. */
sbag_code_t evaluate_split(session_t *session, reader_split_t split, metrics_result_t *result,
                           sbag_status_t *status);

/* The same of one of the config's further sets (`eval`). */
sbag_code_t evaluate_set(session_t *session, const settings_eval_t *set, metrics_result_t *result,
                         sbag_status_t *status);

/* "train", "valid" or "test". */
const char *evaluate_space(reader_split_t split);

#endif
