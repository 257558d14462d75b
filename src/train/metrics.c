/* Exact metrics over all ranks: the AUC from an integer count (ranking.h), losses and predictions from exact
 * sums (exact_sum.h) that round once, at the end. */
#include "train/metrics.h"

#include "base/exact_sum.h"
#include "train/ranking.h"
#include <math.h>
#include <string.h>

/* Sums over samples of their weight times: 1, the label, whether the prediction is right, loss, prediction.
 */
enum { SUM_ALL, SUM_POSITIVE, SUM_CORRECT, SUM_LOSS, SUM_PREDICTION, SUMS };

struct metrics {
  ranking_t ranking;
  int64_t positives;
  int64_t infinite_losses; /* an infinite logit of the wrong sign */
  exact_sum_t sums[SUMS];
  sbag_status_t refused; /* the first error of metrics_add */
};

sbag_code_t metrics_create(comm_t *comm, mem_t *mem, metrics_t **metrics, sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof(metrics_t), "metrics", &block, status));
  metrics_t *made = block;
  made->ranking.comm = comm;
  made->ranking.mem = mem;
  metrics_reset(made);
  *metrics = made;
  return SBAG_OK;
}

void metrics_destroy(metrics_t **metrics) {
  if (metrics == NULL || *metrics == NULL) return;
  mem_t *mem = (*metrics)->ranking.mem;
  mem_free(mem, (*metrics)->ranking.pairs);
  mem_free(mem, *metrics);
  *metrics = NULL;
}

void metrics_reset(metrics_t *metrics) {
  metrics->ranking.count = metrics->positives = metrics->infinite_losses = 0;
  metrics->ranking.weighted = 0;
  for (int i = 0; i < SUMS; i++) exact_sum_clear(&metrics->sums[i]);
  status_clear(&metrics->refused);
}

static sbag_code_t check_pairs(const float *labels, const float *logits, const float *weights, int64_t n,
                               sbag_status_t *status) {
  if (n < 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "metrics: %lld samples; it must be 0 or more", (long long)n);
  for (int64_t i = 0; i < n; i++) {
    if (labels[i] != 0.0f && labels[i] != 1.0f)
      return status_set(status, SBAG_ERR_ARGUMENT, "metrics: label %g of sample %lld; it must be 0 or 1",
                        (double)labels[i], (long long)i);
    if (isnan(logits[i]))
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "metrics: the logit of sample %lld is NaN; it must be a number", (long long)i);
    if (weights != NULL && !(weights[i] >= 0.0f && isfinite(weights[i])))
      return status_set(status, SBAG_ERR_ARGUMENT, "metrics: weight %g of sample %lld; it must be 0 or more",
                        (double)weights[i], (long long)i);
  }
  return SBAG_OK;
}

static void add_pair(metrics_t *m, float label, float logit, float weight) {
  int positive = label > 0.0f;
  double x = (double)logit, w = (double)weight;
  m->ranking.pairs[m->ranking.count++] = ranking_pair(logit, positive, weight);
  m->ranking.weighted |= weight != 1.0f;
  m->positives += positive;
  exact_sum_add(&m->sums[SUM_ALL], w);
  if (positive) exact_sum_add(&m->sums[SUM_POSITIVE], w);
  if ((logit >= 0.0f) == positive) exact_sum_add(&m->sums[SUM_CORRECT], w);
  exact_sum_add(&m->sums[SUM_PREDICTION], w * (1.0 / (1.0 + exp(-x))));
  double wrong_way = positive ? -x : x; /* loss: log(1 + e^wrong_way), written so that it cannot overflow */
  if (isinf(wrong_way) && wrong_way > 0.0)
    m->infinite_losses += w > 0.0;
  else
    exact_sum_add(&m->sums[SUM_LOSS],
                  w * (log1p(exp(-fabs(wrong_way))) + (wrong_way > 0.0 ? wrong_way : 0.0)));
}

sbag_code_t metrics_add_weighted(metrics_t *metrics, const float *labels, const float *logits,
                                 const float *weights, int64_t n, sbag_status_t *status) {
  sbag_status_t cause;
  status_clear(&cause);
  sbag_code_t code = check_pairs(labels, logits, weights, n, &cause);
  if (code == SBAG_OK) code = ranking_reserve(&metrics->ranking, n, &cause);
  if (code != SBAG_OK) {
    if (metrics->refused.code == SBAG_OK) metrics->refused = cause;
    if (status != NULL) *status = cause;
    return code;
  }
  for (int64_t i = 0; i < n; i++)
    add_pair(metrics, labels[i], logits[i], weights != NULL ? weights[i] : 1.0f);
  return SBAG_OK;
}

/* What all ranks add up: one message. */
typedef struct totals {
  int64_t samples, positives, infinite_losses;
  exact_sum_t sums[SUMS];
} totals_t;

static double entropy(double p) {
  return -(p * log(p) + (1.0 - p) * log1p(-p));
}

static metrics_result_t result_of(totals_t *t, const ranking_counts_t *counts) {
  double sum[SUMS];
  for (int i = 0; i < SUMS; i++) sum[i] = exact_sum_value(&t->sums[i]);
  int both = counts->positives > 0 && counts->negatives > 0;
  metrics_result_t made = {.samples = t->samples,
                           .positives = t->positives,
                           .auc = NAN,
                           .logloss = NAN,
                           .normalized_entropy = NAN,
                           .calibration = NAN,
                           .accuracy = NAN};
  if (both)
    made.auc = (double)counts->twice /
               (double)(2 * (ranking_wide_t)counts->positives * (ranking_wide_t)counts->negatives);
  if (sum[SUM_ALL] > 0.0) {
    made.logloss = t->infinite_losses > 0 ? INFINITY : sum[SUM_LOSS] / sum[SUM_ALL];
    made.accuracy = sum[SUM_CORRECT] / sum[SUM_ALL];
  }
  if (both) made.normalized_entropy = made.logloss / entropy(sum[SUM_POSITIVE] / sum[SUM_ALL]);
  if (sum[SUM_POSITIVE] > 0.0) made.calibration = sum[SUM_PREDICTION] / sum[SUM_POSITIVE];
  return made;
}

sbag_code_t metrics_compute(metrics_t *metrics, metrics_result_t *result, sbag_status_t *status) {
  metrics_t *m = metrics;
  comm_t *comm = m->ranking.comm;
  ranking_counts_t counts = {0};
  if (m->refused.code != SBAG_OK && status != NULL) *status = m->refused;
  SBAG_TRY(comm_agree(comm, m->refused.code, status));
  SBAG_TRY(ranking_count(&m->ranking, &counts, status));
  for (int i = 0; i < SUMS; i++) exact_sum_carry(&m->sums[i]);
  totals_t t = {m->ranking.count, m->positives, m->infinite_losses, {{{0}, 0}}};
  memcpy(t.sums, m->sums, sizeof t.sums);
  SBAG_TRY(comm_allreduce(comm, &t, (int64_t)(sizeof t / sizeof(int64_t)), COMM_I64, COMM_SUM,
                          "metrics: totals", status));
  *result = result_of(&t, &counts);
  return SBAG_OK;
}
