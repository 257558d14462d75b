/* Classes: accuracy, mean cross entropy, macro F1. */
#include "train/judge.h"

#include "base/exact_sum.h"
#include "dense/softmax.h"
#include <math.h>

typedef struct classes {
  judge_t base;
  int64_t count;
  int64_t *seen; /* [3][count]: samples of the class, predictions of it, and those that are both */
  int64_t samples, infinite_losses, bad; /* bad: samples with a logit that is NaN */
  exact_sum_t losses;
} classes_t;

/* What all ranks add up beside the classes. */
typedef struct totals {
  int64_t samples, infinite_losses, bad;
  exact_sum_t losses;
} totals_t;

static void destroy(judge_t *judge) {
  classes_t *c = (classes_t *)judge;
  mem_t *mem = judge->session->mem;
  mem_free(mem, c->seen);
  mem_free(mem, c);
}

/* Of equal logits the first class is the prediction. */
static int64_t largest(const float *logits, int64_t count) {
  int64_t best = 0;
  for (int64_t k = 1; k < count; k++)
    if (logits[k] > logits[best]) best = k;
  return best;
}

static void add_sample(classes_t *c, float label, const float *logits) {
  double loss;
  int64_t actual = (int64_t)label, predicted = largest(logits, c->count);
  softmax_loss(1, 1, c->count, logits, &label, NULL, 1.0, &loss, NULL);
  c->samples++;
  c->seen[actual]++;
  c->seen[c->count + predicted]++;
  if (actual == predicted) c->seen[2 * c->count + actual]++;
  if (isnan(loss))
    c->bad++;
  else if (isinf(loss))
    c->infinite_losses++;
  else
    exact_sum_add(&c->losses, loss > 0.0 ? loss : 0.0);
}

static sbag_code_t add(judge_t *judge, const reader_batch_t *batch, const float *outputs,
                       sbag_status_t *status) {
  classes_t *c = (classes_t *)judge;
  (void)status;
  for (int64_t i = 0; i < batch->samples; i++) add_sample(c, batch->labels[i], outputs + i * c->count);
  return SBAG_OK;
}

static double macro_f1(const classes_t *c) {
  double sum = 0.0;
  int64_t known = 0;
  for (int64_t k = 0; k < c->count; k++) {
    int64_t both = c->seen[k] + c->seen[c->count + k];
    if (both == 0) continue;
    sum += 2.0 * (double)c->seen[2 * c->count + k] / (double)both;
    known++;
  }
  return known > 0 ? sum / (double)known : NAN;
}

static sbag_code_t finish(judge_t *judge, metrics_result_t *result, sbag_status_t *status) {
  classes_t *c = (classes_t *)judge;
  comm_t *comm = judge->session->comm;
  exact_sum_carry(&c->losses);
  totals_t t = {c->samples, c->infinite_losses, c->bad, c->losses};
  SBAG_TRY(comm_allreduce(comm, &t, (int64_t)(sizeof t / sizeof(int64_t)), COMM_I64, COMM_SUM,
                          "metrics: totals", status));
  SBAG_TRY(comm_allreduce(comm, c->seen, 3 * c->count, COMM_I64, COMM_SUM, "metrics: classes", status));
  if (t.bad > 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "%lld samples have a logit that is no number",
                      (long long)t.bad);
  int64_t correct = 0;
  for (int64_t k = 0; k < c->count; k++) correct += c->seen[2 * c->count + k];
  *result = (metrics_result_t){.kind = METRICS_CLASSES, .samples = t.samples};
  result->accuracy = t.samples > 0 ? (double)correct / (double)t.samples : NAN;
  result->logloss = t.infinite_losses > 0 ? INFINITY
                    : t.samples > 0       ? exact_sum_value(&t.losses) / (double)t.samples
                                          : NAN;
  result->macro_f1 = macro_f1(c);
  return SBAG_OK;
}

sbag_code_t judge_classes_create(session_t *session, judge_t **judge, sbag_status_t *status) {
  static const judge_ops_t ops = {add, finish, destroy};
  mem_t *mem = session->mem;
  void *block = NULL, *seen = NULL;
  int64_t count = session->assembly.model.classes;
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(3 * count, sizeof(int64_t)), "metrics: classes", &seen, status));
  sbag_code_t code = mem_calloc(mem, sizeof(classes_t), "metrics: classes", &block, status);
  if (code != SBAG_OK) {
    mem_free(mem, seen);
    return code;
  }
  classes_t *made = block;
  made->base = (judge_t){.ops = &ops, .session = session};
  made->count = count;
  made->seen = seen;
  exact_sum_clear(&made->losses);
  *judge = &made->base;
  return SBAG_OK;
}
