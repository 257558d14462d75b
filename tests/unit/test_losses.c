/* The losses of classifiers and of queries with items: values by the formulas in double, gradients by central
 * differences of those, the edges, and the same bits for any number of threads. */
#include "dense/match.h"
#include "dense/softmax.h"
#include "oracle/draw.h"
#include <check.h>
#include <math.h>
#include <string.h>

Suite *losses_suite(void);

static double value(draw_t *draw, double most) {
  return most * (2.0 * (double)draw_below(draw, 1000001) / 1e6 - 1.0);
}

static void check_near(const char *what, double got, double wanted, double tolerance) {
  ck_assert_msg(fabs(got - wanted) <= tolerance * (1.0 + fabs(wanted)), "%s: %.9g, wanted %.9g", what, got,
                wanted);
}

/* ---- classes ---- */

enum { ROWS = 37, CLASSES = 9 }; /* enough for several threads */

static double plain_softmax(const double *x, int label) {
  double sum = 0.0;
  for (int k = 0; k < CLASSES; k++) sum += exp(x[k]);
  return log(sum) - x[label];
}

START_TEST(softmax_is_its_formula) {
  draw_t draw = draw_start(1, 0);
  float logits[ROWS * CLASSES], labels[ROWS], weights[ROWS], grads[ROWS * CLASSES], again[ROWS * CLASSES];
  double losses[ROWS], same[ROWS];
  for (int i = 0; i < ROWS * CLASSES; i++) logits[i] = (float)value(&draw, 5);
  for (int r = 0; r < ROWS; r++) {
    labels[r] = (float)draw_below(&draw, CLASSES);
    weights[r] = (float)draw_below(&draw, 4);
  }
  softmax_loss(1, ROWS, CLASSES, logits, labels, weights, 0.25, losses, grads);
  softmax_loss(3, ROWS, CLASSES, logits, labels, weights, 0.25, same, again);
  ck_assert(memcmp(losses, same, sizeof losses) == 0 && memcmp(grads, again, sizeof grads) == 0);
  for (int r = 0; r < ROWS; r++) {
    double x[CLASSES], step = 1e-5;
    for (int k = 0; k < CLASSES; k++) x[k] = logits[r * CLASSES + k];
    check_near("loss", losses[r], weights[r] * plain_softmax(x, (int)labels[r]), 1e-12);
    for (int k = 0; k < CLASSES; k++) {
      double at = x[k], up, down;
      x[k] = at + step, up = plain_softmax(x, (int)labels[r]);
      x[k] = at - step, down = plain_softmax(x, (int)labels[r]);
      x[k] = at;
      check_near("gradient", grads[r * CLASSES + k], 0.25 * weights[r] * (up - down) / (2 * step), 1e-6);
    }
  }
}
END_TEST

/* Logits that exp() cannot take, none that is a number, a label that is no class. */
START_TEST(softmax_at_its_edges) {
  float far[3] = {1e4f, -1e4f, 0.0f}, none[3] = {0.0f, NAN, 1.0f}, grads[3];
  float first = 0.0f, second = 1.0f, outside = 3.0f, negative = -1.0f;
  double loss;
  softmax_loss(1, 1, 3, far, &first, NULL, 1.0, &loss, grads);
  ck_assert_double_eq(loss, 0.0);
  ck_assert(grads[0] == 0.0f && grads[1] == 0.0f && grads[2] == 0.0f);
  softmax_loss(1, 1, 3, far, &second, NULL, 1.0, &loss, grads);
  ck_assert_double_eq(loss, 2e4);
  ck_assert(grads[0] == 1.0f && grads[1] == -1.0f && grads[2] == 0.0f);
  softmax_loss(1, 1, 3, none, &first, NULL, 1.0, &loss, NULL);
  ck_assert(isnan(loss));
  softmax_loss(1, 1, 3, far, &outside, NULL, 1.0, &loss, NULL);
  ck_assert(isnan(loss));
  softmax_loss(1, 1, 3, far, &negative, NULL, 1.0, &loss, NULL);
  ck_assert(isnan(loss));
}
END_TEST

/* ---- queries and items ---- */

enum { DIM = 5, QUERIES = 2, ITEMS = 4, POOLED = (QUERIES + ITEMS) * DIM };

/* Vectors stand in an order of their own. */
static const int64_t queries[QUERIES] = {2 * DIM, 0}, items[ITEMS] = {DIM, 5 * DIM, 3 * DIM, 4 * DIM};

static double plain_match(const match_targets_t *targets, const double *pooled) {
  double score[ITEMS], sum = 0.0, square = 0.0, loss = 0.0;
  for (int i = 0; i < ITEMS; i++) {
    score[i] = 0.0;
    for (int k = 0; k < DIM; k++)
      score[i] +=
          (pooled[queries[0] + k] + pooled[queries[1] + k]) * pooled[items[i] + k] / targets->temperature;
  }
  for (int k = 0; k < POOLED; k++) square += pooled[k] * pooled[k];
  for (int i = 0; i < ITEMS; i++) sum += exp(score[i]);
  if (targets->kind == MATCH_SOFTMAX) loss = log(sum) - score[0];
  if (targets->kind == MATCH_LOGISTIC) loss = log1p(exp(-score[0]));
  for (int i = 1; i < ITEMS; i++) {
    if (targets->kind == MATCH_BPR) loss += log1p(exp(score[i] - score[0])) / (ITEMS - 1);
    if (targets->kind == MATCH_LOGISTIC) loss += log1p(exp(score[i]));
  }
  return loss + 0.5 * targets->l2 * square;
}

static void check_match_row(const match_targets_t *targets, const float *pooled, float weight, double loss,
                            const float *grads) {
  double x[POOLED], step = 1e-5;
  for (int k = 0; k < POOLED; k++) x[k] = pooled[k];
  check_near("loss", loss, weight * plain_match(targets, x), 1e-5);
  for (int k = 0; k < POOLED; k++) {
    double at = x[k], up, down;
    x[k] = at + step, up = plain_match(targets, x);
    x[k] = at - step, down = plain_match(targets, x);
    x[k] = at;
    check_near("gradient", grads[k], targets->grad_scale * weight * (up - down) / (2 * step), 1e-5);
  }
}

START_TEST(matches_are_their_formulas) {
  draw_t draw = draw_start(2, (uint64_t)_i);
  static float pooled[ROWS * POOLED], weights[ROWS], out[2][ROWS * (DIM + ITEMS)];
  static float score_grads[2][ROWS * ITEMS], grads[2][ROWS * POOLED];
  static double losses[2][ROWS];
  for (int k = 0; k < ROWS * POOLED; k++) pooled[k] = (float)value(&draw, 1);
  for (int r = 0; r < ROWS; r++) weights[r] = (float)draw_below(&draw, 4);
  match_targets_t targets = {
      .kind = (match_loss_t)_i, .temperature = 0.5, .l2 = 0.125, .grad_scale = 0.25, .weights = weights};
  for (int t = 0; t < 2; t++) {
    match_shape_t shape = {.dim = DIM,
                           .pooled_dim = POOLED,
                           .query_count = QUERIES,
                           .item_count = ITEMS,
                           .queries = queries,
                           .items = items};
    int threads = 1 + 2 * t;
    match_forward(threads, &shape, ROWS, pooled, out[t]);
    match_loss(threads, &shape, &targets, ROWS, pooled, out[t], losses[t], score_grads[t]);
    match_backward(threads, &shape, &targets, ROWS, pooled, out[t], score_grads[t], grads[t]);
  }
  ck_assert(memcmp(losses[0], losses[1], sizeof losses[0]) == 0);
  ck_assert(memcmp(grads[0], grads[1], sizeof grads[0]) == 0);
  for (int r = 0; r < ROWS; r++)
    check_match_row(&targets, pooled + r * POOLED, weights[r], losses[0][r], grads[0] + r * POOLED);
}
END_TEST

/* Scores that exp() cannot take cost what they are apart. */
START_TEST(matches_at_their_edges) {
  const float scores[3] = {-1e4f, 1e4f, 0.0f}, none[2] = {0.0f, NAN};
  const double wanted[MATCH_LOSSES] = {
      [MATCH_BPR] = 1.5e4, [MATCH_SOFTMAX] = 2e4, [MATCH_LOGISTIC] = 2e4 + log(2)};
  match_targets_t targets = {.kind = (match_loss_t)_i, .temperature = 1.0};
  check_near("loss", match_loss_of(&targets, 3, scores), wanted[_i], 1e-12);
  ck_assert(isnan(match_loss_of(&targets, 2, none)));
}
END_TEST

Suite *losses_suite(void) {
  Suite *suite = suite_create("losses");
  TCase *classes = tcase_create("classes"), *matches = tcase_create("matches");
  tcase_add_test(classes, softmax_is_its_formula);
  tcase_add_test(classes, softmax_at_its_edges);
  tcase_add_loop_test(matches, matches_are_their_formulas, 0, MATCH_LOSSES);
  tcase_add_loop_test(matches, matches_at_their_edges, 0, MATCH_LOSSES);
  suite_add_tcase(suite, classes);
  suite_add_tcase(suite, matches);
  return suite;
}
