/* The best k items of each user of a batch, the user's training items left out. */
#ifndef TRAIN_RECOMMEND_H
#define TRAIN_RECOMMEND_H

#include "model/topk.h"
#include "train/session.h"

typedef struct recommend {
  session_t *session;
  const interactions_t *all;
  topk_t *topk;
  int64_t k;
  int64_t room; /* samples that the lists below have room for */
  const int64_t **excluded;
  int64_t *excluded_counts;
  topk_hit_t *hits; /* [room][k], after recommend_batch: [the batch's samples][k] */
} recommend_t;

/* Of a ranking's reader, one of the session's or another of the same users and items; k is the settings'
 * top_k. Collective. */
sbag_code_t recommend_create(session_t *session, const reader_t *reader, recommend_t *recommend,
                             sbag_status_t *status);
/* A zero-filled one is allowed. */
void recommend_clear(recommend_t *recommend);
/* outputs: what model_predict has made of the batch. Collective. */
sbag_code_t recommend_batch(recommend_t *recommend, const reader_batch_t *batch, const float *outputs,
                            sbag_status_t *status);

#endif
