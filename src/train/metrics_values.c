/* A result's numbers by name. */
#include "train/metrics.h"

#include <stdio.h>

static void name(metrics_value_t *named, const char *text, const char *unit, double value, int rises) {
  *named = (metrics_value_t){.unit = unit, .value = value, .rises = rises};
  snprintf(named->name, sizeof named->name, "%s", text);
}

static void name_at(metrics_value_t *named, const char *text, int64_t k, double value) {
  *named = (metrics_value_t){.unit = "1", .value = value, .rises = 1};
  snprintf(named->name, sizeof named->name, "%s@%lld", text, (long long)k);
}

int metrics_values(const metrics_result_t *result, metrics_value_t named[METRICS_VALUES]) {
  const metrics_result_t *r = result;
  switch ((metrics_kind_t)r->kind) {
  case METRICS_CLASSES:
    name(&named[0], "accuracy", "1", r->accuracy, 1);
    name(&named[1], "logloss", "nats", r->logloss, 0);
    name(&named[2], "macro_f1", "1", r->macro_f1, 1);
    return 3;
  case METRICS_MATCH:
    name(&named[0], "loss", "nats", r->logloss, 0);
    name(&named[1], "accuracy", "1", r->accuracy, 1);
    return 2;
  case METRICS_RANKING:
    name_at(&named[0], "recall", r->k, r->recall);
    name_at(&named[1], "ndcg", r->k, r->ndcg);
    name_at(&named[2], "popularity_recall", r->k, r->popular_recall);
    name_at(&named[3], "popularity_ndcg", r->k, r->popular_ndcg);
    return 4;
  case METRICS_BINARY:
    break;
  }
  name(&named[0], "auc", "1", r->auc, 1);
  name(&named[1], "logloss", "nats", r->logloss, 0);
  name(&named[2], "normalized_entropy", "1", r->normalized_entropy, 0);
  name(&named[3], "calibration", "1", r->calibration, 0);
  name(&named[4], "accuracy", "1", r->accuracy, 1);
  return 5;
}
