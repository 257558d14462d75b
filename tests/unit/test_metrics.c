/* Metrics of one process against plain recomputation, and the exact sum and the order of keys below them. */
#include "base/random.h"
#include "base/exact_sum.h"
#include "train/metrics.h"
#include "train/ranking.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Suite *metrics_suite(void);

static mem_t *mem;
static comm_t *comm;
static metrics_t *metrics;
static sbag_status_t status;

static void setup(void) {
  ck_assert_int_eq(mem_create(&mem, &status), SBAG_OK);
  ck_assert_int_eq(comm_self_create(mem, NULL, &comm, &status), SBAG_OK);
  ck_assert_int_eq(metrics_create(comm, mem, &metrics, &status), SBAG_OK);
}

static void teardown(void) {
  metrics_destroy(&metrics);
  ck_assert_ptr_null(metrics);
  comm_destroy(&comm);
  ck_assert_int_eq(mem_stats(mem).live_bytes, 0);
  mem_destroy(&mem);
}

static metrics_result_t compute(const float *labels, const float *logits, int64_t n) {
  metrics_result_t result;
  metrics_reset(metrics);
  ck_assert_int_eq(metrics_add(metrics, labels, logits, n, &status), SBAG_OK);
  ck_assert_int_eq(metrics_compute(metrics, &result, &status), SBAG_OK);
  ck_assert_int_eq(result.samples, n);
  return result;
}

enum { N = 400 };

/* Every pair, one by one. */
static double auc_by_pairs(const float *labels, const float *logits, int n) {
  int64_t twice = 0, pairs = 0;
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++)
      if (labels[i] > labels[j]) {
        twice += logits[i] > logits[j] ? 2 : logits[i] == logits[j] ? 1 : 0;
        pairs++;
      }
  return (double)twice / (double)(2 * pairs);
}

/* Weighted metrics against plain sums over all pairs; and a weight of 2 is the sample twice. */
START_TEST(test_weighted) {
  enum { M = 200 };
  float labels[M], logits[M], weights[M];
  for (int c = 0; c < 20; c++) {
    uint64_t key = random_key((uint64_t)c, "weighted");
    double above = 0, positive = 0, all = 0, loss = 0, right = 0, predicted = 0;
    for (int i = 0; i < M; i++) {
      labels[i] = (float)random_below(key, (uint64_t)i, 2);
      logits[i] = (float)random_below(key, 1000 + (uint64_t)i, 30) * 0.25f - 3.0f;
      weights[i] = c == 0 ? 0.3f : (float)random_below(key, 2000 + (uint64_t)i, 1000) * 0.001f;
      double p = 1.0 / (1.0 + exp(-(double)logits[i])), w = weights[i];
      all += w;
      positive += w * labels[i];
      loss -= w * log(labels[i] > 0 ? p : 1.0 - p);
      right += w * ((p >= 0.5) == (labels[i] > 0));
      predicted += w * p;
    }
    for (int i = 0; i < M; i++)
      for (int j = 0; j < M; j++)
        if (labels[i] > labels[j])
          above += (double)weights[i] * weights[j] *
                   (logits[i] > logits[j]    ? 1.0
                    : logits[i] == logits[j] ? 0.5
                                             : 0.0);
    metrics_result_t r;
    metrics_reset(metrics);
    ck_assert_int_eq(metrics_add_weighted(metrics, labels, logits, weights, M, &status), SBAG_OK);
    ck_assert_int_eq(metrics_compute(metrics, &r, &status), SBAG_OK);
    ck_assert_double_eq_tol(r.auc, above / (positive * (all - positive)), 1e-8);
    ck_assert_double_eq_tol(r.logloss, loss / all, 1e-10);
    ck_assert_double_eq_tol(r.accuracy, right / all, 1e-12);
    ck_assert_double_eq_tol(r.calibration, predicted / positive, 1e-10);
    double base = positive / all;
    ck_assert_double_eq_tol(r.normalized_entropy,
                            loss / all / -(base * log(base) + (1 - base) * log(1 - base)), 1e-10);
    ck_assert_int_eq(r.samples, M);
    if (c == 0) ck_assert_double_eq_tol(r.auc, compute(labels, logits, M).auc, 1e-14);
  }
}
END_TEST

START_TEST(test_weights_refused) {
  const float labels[2] = {0, 1}, logits[2] = {1, 2};
  const float bad[] = {-1.0f, NAN, INFINITY};
  metrics_result_t r;
  for (int i = 0; i < 3; i++) {
    const float weights[2] = {1, bad[i]};
    metrics_reset(metrics);
    ck_assert_int_eq(metrics_add_weighted(metrics, labels, logits, weights, 2, &status), SBAG_ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(status.message, "weight"));
  }
  const float none[2] = {0, 0};
  metrics_reset(metrics);
  ck_assert_int_eq(metrics_add_weighted(metrics, labels, logits, none, 2, &status), SBAG_OK);
  ck_assert_int_eq(metrics_compute(metrics, &r, &status), SBAG_OK);
  ck_assert(isnan(r.auc) && isnan(r.logloss) && isnan(r.accuracy));
}
END_TEST

START_TEST(test_auc_by_pairs) {
  static const int distinct[] = {1, 2, 3, 10, 1000, 1 << 30};
  for (int c = 0; c < 60; c++) {
    uint64_t key = random_key((uint64_t)c, "auc");
    float labels[N], logits[N];
    int n = 2 + (int)random_below(key, 0, N - 2);
    for (int i = 0; i < n; i++) {
      uint64_t at = 1 + 2 * (uint64_t)i;
      labels[i] = i < 2 ? (float)i : (float)random_below(key, at, 2);
      int64_t value = random_below(key, at + 1, distinct[c % 6]);
      logits[i] = ((float)value - (float)distinct[c % 6] / 2.0f) * 1e-3f;
    }
    ck_assert_double_eq(compute(labels, logits, n).auc, auc_by_pairs(labels, logits, n));
  }
}
END_TEST

START_TEST(test_auc_known) {
  float labels[] = {0, 0, 1, 1}, scores[] = {0.1f, 0.4f, 0.35f, 0.8f};
  ck_assert_double_eq(compute(labels, scores, 4).auc, 0.75); /* scikit-learn's documented example */
  float up[] = {-INFINITY, -1, 0, INFINITY}, down[] = {3, 2, 1, 0}, flat[] = {2, 2, 2, 2};
  float zeros[] = {0.0f, -0.0f, -0.0f, 0.0f};
  ck_assert_double_eq(compute(labels, up, 4).auc, 1.0);
  ck_assert_double_eq(compute(labels, down, 4).auc, 0.0);
  ck_assert_double_eq(compute(labels, flat, 4).auc, 0.5);
  ck_assert_double_eq(compute(labels, zeros, 4).auc, 0.5);
}
END_TEST

START_TEST(test_undefined_is_nan) {
  float ones[] = {1, 1}, zeros[] = {0, 0}, logits[] = {0.5f, -1.0f};
  metrics_result_t r = compute(ones, logits, 2);
  ck_assert(isnan(r.auc) && isnan(r.normalized_entropy));
  ck_assert(isfinite(r.logloss) && isfinite(r.calibration));
  ck_assert_int_eq(r.positives, 2);
  r = compute(zeros, logits, 2);
  ck_assert(isnan(r.auc) && isnan(r.normalized_entropy) && isnan(r.calibration));
  ck_assert(isfinite(r.logloss));
  r = compute(NULL, NULL, 0);
  ck_assert(isnan(r.auc) && isnan(r.logloss) && isnan(r.normalized_entropy) && isnan(r.calibration) &&
            isnan(r.accuracy));
}
END_TEST

START_TEST(test_losses) {
  float labels[N], logits[N];
  long double loss = 0.0L, predicted = 0.0L;
  int64_t positives = 0, correct = 0;
  uint64_t key = random_key(7, "losses");
  for (int i = 0; i < N; i++) {
    labels[i] = (float)random_below(key, 2 * (uint64_t)i, 2);
    logits[i] = (float)(random_unit53(key, 2 * (uint64_t)i + 1) - 0.5) * 60.0f;
    long double p = 1.0L / (1.0L + expl(-(long double)logits[i]));
    loss += labels[i] > 0 ? -logl(p) : log1pl(expl((long double)logits[i]));
    predicted += p;
    positives += labels[i] > 0;
    correct += (logits[i] >= 0) == (labels[i] > 0);
  }
  metrics_result_t r = compute(labels, logits, N);
  double base = (double)positives / N;
  double entropy = -(base * log(base) + (1 - base) * log(1 - base));
  ck_assert_int_eq(r.positives, positives);
  ck_assert_double_eq_tol(r.logloss, (double)(loss / N), 1e-14);
  ck_assert_double_eq_tol(r.normalized_entropy, (double)(loss / N) / entropy, 1e-13);
  ck_assert_double_eq_tol(r.calibration, (double)(predicted / positives), 1e-14);
  ck_assert_double_eq(r.accuracy, (double)correct / N);
}
END_TEST

START_TEST(test_base_rate_predictor) {
  float labels[8] = {1, 1, 0, 0, 0, 0, 0, 0}, logits[8];
  for (int i = 0; i < 8; i++) logits[i] = (float)log(0.25 / 0.75);
  metrics_result_t r = compute(labels, logits, 8);
  ck_assert_double_eq_tol(r.normalized_entropy, 1.0, 1e-7);
  ck_assert_double_eq_tol(r.calibration, 1.0, 1e-7);
  ck_assert_double_eq(r.auc, 0.5);
  ck_assert_double_eq(r.accuracy, 0.75);
}
END_TEST

START_TEST(test_extreme_logits) {
  float labels[] = {0, 1}, right[] = {-INFINITY, INFINITY}, wrong[] = {INFINITY, 1}, far[] = {FLT_MAX, 1};
  ck_assert_double_eq(compute(labels, right, 2).logloss, 0.0);
  ck_assert_double_eq(compute(labels, wrong, 2).logloss, INFINITY);
  ck_assert_double_eq_tol(compute(labels, far, 2).logloss / ((double)FLT_MAX / 2.0), 1.0, 1e-15);
}
END_TEST

START_TEST(test_refused_and_remembered) {
  float good[] = {1, 0}, half[] = {1, 0.5f}, logits[] = {1, 2}, broken[] = {1, NAN};
  metrics_result_t result = {.samples = -1};
  ck_assert_int_eq(metrics_add(metrics, half, logits, 2, &status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(status.message, "label 0.5 of sample 1"));
  ck_assert_int_eq(metrics_add(metrics, good, broken, 2, &status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(status.message, "the logit of sample 1 is NaN"));
  ck_assert_int_eq(metrics_add(metrics, good, logits, 2, &status), SBAG_OK);
  ck_assert_int_eq(metrics_compute(metrics, &result, &status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(status.message, "label 0.5 of sample 1")); /* the first */
  ck_assert_int_eq(result.samples, -1);
  ck_assert_double_eq(compute(good, logits, 2).auc, 0.0); /* after a reset */
}
END_TEST

START_TEST(test_memory_fails) {
  float labels[] = {1, 0, 0}, logits[] = {3, 2, 5};
  metrics_result_t result;
  int64_t n = 1;
  for (;; n++) {
    metrics_reset(metrics);
    mem_fail_at(mem, n);
    sbag_code_t code = metrics_add(metrics, labels, logits, 3, &status);
    if (code == SBAG_OK) code = metrics_compute(metrics, &result, &status);
    mem_fail_at(mem, 0);
    if (code == SBAG_OK) break;
    ck_assert_int_eq(code, SBAG_ERR_MEMORY);
  }
  ck_assert_int_gt(n, 5);
  ck_assert_double_eq(result.auc, 0.5);
}
END_TEST

/* Batches, compute in between, and any order: the same bits. */
START_TEST(test_order_does_not_matter) {
  float labels[N], logits[N];
  uint64_t key = random_key(3, "order");
  for (int i = 0; i < N; i++) {
    labels[i] = (float)random_below(key, 2 * (uint64_t)i, 2);
    logits[i] = (float)(random_unit53(key, 2 * (uint64_t)i + 1) * 8.0 - 4.0);
  }
  metrics_result_t whole = compute(labels, logits, N), part, mixed;
  metrics_reset(metrics);
  for (int i = 0; i < N; i++) {
    int64_t from = random_permute(key, N, i);
    ck_assert_int_eq(metrics_add(metrics, labels + from, logits + from, 1, &status), SBAG_OK);
    if (i == N / 2) ck_assert_int_eq(metrics_compute(metrics, &part, &status), SBAG_OK);
  }
  ck_assert_int_eq(metrics_compute(metrics, &mixed, &status), SBAG_OK);
  ck_assert_int_eq(part.samples, N / 2 + 1);
  ck_assert_int_eq(memcmp(&whole, &mixed, sizeof whole), 0);
}
END_TEST

static double sum_of(const double *values, int n) {
  exact_sum_t sum;
  exact_sum_clear(&sum);
  for (int i = 0; i < n; i++) exact_sum_add(&sum, values[i]);
  return exact_sum_value(&sum);
}

START_TEST(test_exact_sum) {
  double two53 = 9007199254740992.0;
  double small[] = {two53, 1.0, 1.0}, tie[] = {two53, 1.0}, above[] = {two53, 1.0, DBL_TRUE_MIN};
  double odd[] = {two53 + 2.0, 1.0};
  ck_assert_double_eq(sum_of(small, 3), two53 + 2.0); /* one by one it would stay at 2^53 */
  ck_assert_double_eq(sum_of(tie, 2), two53);         /* to even */
  ck_assert_double_eq(sum_of(above, 3), two53 + 2.0); /* 2^-1074 breaks the tie */
  ck_assert_double_eq(sum_of(odd, 2), two53 + 4.0);
  double extremes[] = {DBL_MAX, 1.0, DBL_MIN}, tiny[] = {DBL_TRUE_MIN, DBL_TRUE_MIN, DBL_MIN};
  ck_assert_double_eq(sum_of(extremes, 3), DBL_MAX);
  ck_assert_double_eq(sum_of(tiny, 3), DBL_MIN + 2.0 * DBL_TRUE_MIN);
  ck_assert_double_eq(sum_of(NULL, 0), 0.0);
  for (uint64_t i = 0; i < 2000; i++) { /* one value survives whatever its exponent */
    double value = ldexp(random_unit53(1, i) + 0.5, (int)random_below(2, i, 2090) - 1070);
    if (isfinite(value)) ck_assert_double_eq(sum_of(&value, 1), value);
  }
}
END_TEST

START_TEST(test_exact_sum_of_many) {
  exact_sum_t sum;
  exact_sum_clear(&sum);
  int n = 3000000;
  for (int i = 0; i < n; i++) exact_sum_add(&sum, 0.1);
  ck_assert_double_eq(exact_sum_value(&sum), (double)((long double)0.1 * n)); /* the product is exact */
}
END_TEST

START_TEST(test_keys_keep_the_order) {
  static const float ascending[] = {-INFINITY,    -FLT_MAX, -1.0f, -FLT_MIN, -FLT_TRUE_MIN, 0.0f,
                                    FLT_TRUE_MIN, FLT_MIN,  1e-3f, 1.0f,     FLT_MAX,       INFINITY};
  int n = sizeof ascending / sizeof ascending[0];
  for (int i = 0; i + 1 < n; i++) ck_assert_uint_lt(ranking_key(ascending[i]), ranking_key(ascending[i + 1]));
  ck_assert_uint_eq(ranking_key(0.0f), ranking_key(-0.0f));
}
END_TEST

Suite *metrics_suite(void) {
  Suite *suite = suite_create("metrics");
  TCase *tcase = tcase_create("metrics");
  tcase_add_checked_fixture(tcase, setup, teardown);
  tcase_set_timeout(tcase, 60);
  tcase_add_test(tcase, test_auc_by_pairs);
  tcase_add_test(tcase, test_weighted);
  tcase_add_test(tcase, test_weights_refused);
  tcase_add_test(tcase, test_auc_known);
  tcase_add_test(tcase, test_undefined_is_nan);
  tcase_add_test(tcase, test_losses);
  tcase_add_test(tcase, test_base_rate_predictor);
  tcase_add_test(tcase, test_extreme_logits);
  tcase_add_test(tcase, test_refused_and_remembered);
  tcase_add_test(tcase, test_memory_fails);
  tcase_add_test(tcase, test_order_does_not_matter);
  tcase_add_test(tcase, test_exact_sum);
  tcase_add_test(tcase, test_exact_sum_of_many);
  tcase_add_test(tcase, test_keys_keep_the_order);
  suite_add_tcase(suite, tcase);
  return suite;
}
