/* Which judge an evaluation has. */
#include "train/judge.h"

metrics_kind_t judge_kind(const session_t *session) {
  switch (session->assembly.model.kind) {
  case MODEL_CLASSIFY:
    return METRICS_CLASSES;
  case MODEL_MATCH:
    return reader_interactions(session->evaluation) != NULL ? METRICS_RANKING : METRICS_MATCH;
  case MODEL_CTR:
  case MODEL_KINDS:
    break;
  }
  return METRICS_BINARY;
}

sbag_code_t judge_create(session_t *session, const reader_t *reader, reader_split_t split, judge_t **judge,
                         sbag_status_t *status) {
  *judge = NULL;
  switch (judge_kind(session)) {
  case METRICS_CLASSES:
    return judge_classes_create(session, judge, status);
  case METRICS_MATCH:
    return judge_match_create(session, judge, status);
  case METRICS_RANKING:
    return judge_ranking_create(session, reader, split, judge, status);
  case METRICS_BINARY:
    break;
  }
  return SBAG_OK;
}

void judge_destroy(judge_t **judge) {
  if (judge == NULL || *judge == NULL) return;
  (*judge)->ops->destroy(*judge);
  *judge = NULL;
}
