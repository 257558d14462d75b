/* Evaluation metrics of a binary classifier over all ranks, exact: the printed digits depend on the set of
 * (label, logit) pairs alone, not on the number of ranks or the order of samples.
 *
 * What comes in: each rank's pairs, batch by batch. What goes out: one struct, the same on all ranks. */
#ifndef TRAIN_METRICS_H
#define TRAIN_METRICS_H

#include "base/mem.h"
#include "base/status.h"
#include "comm/comm.h"
#include <stdint.h>

typedef struct metrics metrics_t;

/* Of which kind of model: it tells which of a result's numbers there are. */
typedef enum metrics_kind { METRICS_BINARY, METRICS_CLASSES, METRICS_MATCH, METRICS_RANKING } metrics_kind_t;

/* A value that is not defined (no positives, say) is NaN. All but the two counts are weighted where samples
 * have weights. */
typedef struct metrics_result {
  int64_t samples, positives; /* ranking: samples are users */
  double auc;                 /* Mann-Whitney, ties count half; NaN without positives or without negatives */
  double logloss;             /* mean of -log p(label), natural logarithm */
  double normalized_entropy;  /* logloss / entropy of the base rate (He et al. 2014) */
  double calibration;         /* sum of predictions / positives */
  double accuracy;            /* share of samples with (logit >= 0) == label; classes: with the label's logit
                                 the largest; match: with the item's score above all negatives' */
  int64_t kind;        /* metrics_kind_t; as wide as the rest, so that results can be compared byte by byte */
  double macro_f1;     /* classes: mean of their F1, over those that are a label or a prediction */
  int64_t k;           /* ranking: of the best k items, means over users: */
  double recall, ndcg; /* found of a user's items; the same, by place */
  double popular_recall, popular_ndcg; /* of the k most popular ones, the same for all */
} metrics_result_t;

/* A metric by name. */
typedef struct metrics_value {
  char name[32];
  const char *unit;
  double value;
  int rises; /* 1: more is better */
} metrics_value_t;
enum { METRICS_VALUES = 5 };
/* A result's numbers, of its kind; returns how many. */
int metrics_values(const metrics_result_t *result, metrics_value_t values[METRICS_VALUES]);

/* Not collective. comm and mem must outlive it. */
sbag_code_t metrics_create(comm_t *comm, mem_t *mem, metrics_t **metrics, sbag_status_t *status);
/* NULL is allowed; nulls *metrics. */
void metrics_destroy(metrics_t **metrics);
/* Forgets all pairs (keeps the memory) and a remembered error. Not collective. */
void metrics_reset(metrics_t *metrics);

/* Adds this rank's pairs: labels [n] of 0 or 1, logits [n] (before the sigmoid), weights [n], 0 or more, or
 * NULL: 1 each. Any other label, a NaN logit and any other weight are refused; the error is also remembered,
 * so that a rank may go on to metrics_compute, which then returns it on all ranks. Not collective. */
sbag_code_t metrics_add_weighted(metrics_t *metrics, const float *labels, const float *logits,
                                 const float *weights, int64_t n, sbag_status_t *status);
static inline sbag_code_t metrics_add(metrics_t *metrics, const float *labels, const float *logits, int64_t n,
                                      sbag_status_t *status) {
  return metrics_add_weighted(metrics, labels, logits, NULL, n, status);
}

/* Collective. Pairs stay: more may be added. Memory: the pairs (8 bytes each), once more while they are
 * sorted; then 24 bytes for each distinct logit of this rank's pairs, and of its equal share of all ranks'.
 */
sbag_code_t metrics_compute(metrics_t *metrics, metrics_result_t *result, sbag_status_t *status);

#endif
