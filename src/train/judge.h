/* What an evaluation makes of a model's outputs, where they are not a logit each: classes, items beside
 * negatives, and the best of all items. Every number is exact, or summed exactly: it does not depend on the
 * number of ranks. */
#ifndef TRAIN_JUDGE_H
#define TRAIN_JUDGE_H

#include "train/metrics.h"
#include "train/session.h"

typedef struct judge judge_t;

typedef struct judge_ops {
  /* outputs: [batch's samples][model_output_count]. Collective. */
  sbag_code_t (*add)(judge_t *judge, const reader_batch_t *batch, const float *outputs,
                     sbag_status_t *status);
  /* Collective. */
  sbag_code_t (*finish)(judge_t *judge, metrics_result_t *result, sbag_status_t *status);
  void (*destroy)(judge_t *judge);
} judge_ops_t;

/* An implementation puts it first in its struct. */
struct judge {
  const judge_ops_t *ops;
  session_t *session;
};

/* Of a reader's split, by the session's model; *judge is NULL where outputs are a logit each. Collective. */
sbag_code_t judge_create(session_t *session, const reader_t *reader, reader_split_t split, judge_t **judge,
                         sbag_status_t *status);
/* What numbers an evaluation has. */
metrics_kind_t judge_kind(const session_t *session);
/* Nulls *judge; NULL is allowed. */
void judge_destroy(judge_t **judge);

/* The kinds: see their files. */
sbag_code_t judge_classes_create(session_t *session, judge_t **judge, sbag_status_t *status);
sbag_code_t judge_match_create(session_t *session, judge_t **judge, sbag_status_t *status);
sbag_code_t judge_ranking_create(session_t *session, const reader_t *reader, reader_split_t split,
                                 judge_t **judge, sbag_status_t *status);

#endif
