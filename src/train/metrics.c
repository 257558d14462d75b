/* Exact metrics over all ranks: the AUC from an integer count (ranking.h), losses and predictions from exact
 * sums (exact_sum.h) that round once, at the end. */
#include "train/metrics.h"

#include "base/exact_sum.h"
#include "train/ranking.h"
#include <math.h>

struct metrics {
  ranking_t ranking;
  int64_t positives, correct;
  int64_t infinite_losses; /* an infinite logit of the wrong sign */
  exact_sum_t losses, predictions;
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
  metrics->ranking.count = metrics->positives = metrics->correct = metrics->infinite_losses = 0;
  exact_sum_clear(&metrics->losses);
  exact_sum_clear(&metrics->predictions);
  status_clear(&metrics->refused);
}

static sbag_code_t check_pairs(const float *labels, const float *logits, int64_t n, sbag_status_t *status) {
  if (n < 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "metrics: %lld samples; it must be 0 or more", (long long)n);
  for (int64_t i = 0; i < n; i++) {
    if (labels[i] != 0.0f && labels[i] != 1.0f)
      return status_set(status, SBAG_ERR_ARGUMENT, "metrics: label %g of sample %lld; it must be 0 or 1",
                        (double)labels[i], (long long)i);
    if (isnan(logits[i]))
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "metrics: the logit of sample %lld is NaN; it must be a number", (long long)i);
  }
  return SBAG_OK;
}

static void add_pair(metrics_t *m, float label, float logit) {
  int positive = label > 0.0f;
  double x = (double)logit;
  m->ranking.pairs[m->ranking.count++] = (uint64_t)ranking_key(logit) << 1 | (uint64_t)positive;
  m->positives += positive;
  m->correct += (logit >= 0.0f) == positive;
  exact_sum_add(&m->predictions, 1.0 / (1.0 + exp(-x)));
  double wrong_way = positive ? -x : x; /* loss: log(1 + e^wrong_way), written so that it cannot overflow */
  if (isinf(wrong_way) && wrong_way > 0.0)
    m->infinite_losses++;
  else
    exact_sum_add(&m->losses, log1p(exp(-fabs(wrong_way))) + (wrong_way > 0.0 ? wrong_way : 0.0));
}

sbag_code_t metrics_add(metrics_t *metrics, const float *labels, const float *logits, int64_t n,
                        sbag_status_t *status) {
  sbag_status_t cause;
  status_clear(&cause);
  sbag_code_t code = check_pairs(labels, logits, n, &cause);
  if (code == SBAG_OK) code = ranking_reserve(&metrics->ranking, n, &cause);
  if (code != SBAG_OK) {
    if (metrics->refused.code == SBAG_OK) metrics->refused = cause;
    if (status != NULL) *status = cause;
    return code;
  }
  for (int64_t i = 0; i < n; i++) add_pair(metrics, labels[i], logits[i]);
  return SBAG_OK;
}

/* What all ranks add up: one message. */
typedef struct totals {
  int64_t samples, positives, correct, infinite_losses;
  exact_sum_t losses, predictions;
} totals_t;

static double entropy(double p) {
  return -(p * log(p) + (1.0 - p) * log1p(-p));
}

sbag_code_t metrics_compute(metrics_t *metrics, metrics_result_t *result, sbag_status_t *status) {
  metrics_t *m = metrics;
  comm_t *comm = m->ranking.comm;
  ranking_wide_t twice = 0;
  if (m->refused.code != SBAG_OK && status != NULL) *status = m->refused;
  SBAG_TRY(comm_agree(comm, m->refused.code, status));
  SBAG_TRY(ranking_count(&m->ranking, &twice, status));
  exact_sum_carry(&m->losses);
  exact_sum_carry(&m->predictions);
  totals_t t = {m->ranking.count, m->positives, m->correct, m->infinite_losses, m->losses, m->predictions};
  SBAG_TRY(comm_allreduce(comm, &t, (int64_t)(sizeof t / sizeof(int64_t)), COMM_I64, COMM_SUM,
                          "metrics: totals", status));
  double samples = (double)t.samples, positives = (double)t.positives;
  int64_t negatives = t.samples - t.positives;
  metrics_result_t made = {t.samples, t.positives, NAN, NAN, NAN, NAN, NAN};
  if (t.positives > 0 && negatives > 0)
    made.auc = (double)twice / (double)(2 * (ranking_wide_t)t.positives * (ranking_wide_t)negatives);
  if (t.samples > 0) {
    made.logloss = t.infinite_losses > 0 ? INFINITY : exact_sum_value(&t.losses) / samples;
    made.accuracy = (double)t.correct / samples;
  }
  if (t.positives > 0 && negatives > 0) made.normalized_entropy = made.logloss / entropy(positives / samples);
  if (t.positives > 0) made.calibration = exact_sum_value(&t.predictions) / positives;
  *result = made;
  return SBAG_OK;
}
