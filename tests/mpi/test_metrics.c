/* Metrics over ranks: however the samples are dealt, every bit of the result is that of one process. */
#include "mpi_test.h"

#include "base/random.h"
#include "comm/comm_mpi.h"
#include "train/metrics.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

Suite *metrics_suite(void);

static mem_t *mem;
static comm_t *comm, *self;
static sbag_status_t status;

static void setup(void) {
  ck_assert_int_eq(mem_create(&mem, &status), SBAG_OK);
  ck_assert_int_eq(comm_mpi_create(MPI_COMM_WORLD, mem, NULL, &comm, &status), SBAG_OK);
  ck_assert_int_eq(comm_self_create(mem, NULL, &self, &status), SBAG_OK);
}

static void teardown(void) {
  comm_destroy(&self);
  comm_destroy(&comm);
  ck_assert_int_eq(mem_stats(mem).live_bytes, 0);
  mem_destroy(&mem);
}

enum { N = 3000 };

typedef enum shape {
  NORMAL,
  ALL_EQUAL,
  ALL_BUT_FEW_EQUAL,
  TWO_VALUES,
  SORTED,
  CLOSE,
  HUGE_RANGE,
  SHAPES
} shape_t;
typedef enum deal { ROUND_ROBIN, BLOCKS, ALL_ON_LAST, RANDOM, DEALS } deal_t;

static float draw(shape_t shape, uint64_t key, int i) {
  uint64_t at = 2 * (uint64_t)i;
  double unit = random_unit53(key, at);
  double normal[4];
  switch (shape) {
  case ALL_EQUAL:
    return 0.25f;
  case ALL_BUT_FEW_EQUAL:
    return i % 500 == 7 ? (float)unit : 0.25f;
  case TWO_VALUES:
    return unit < 0.9 ? -1.0f : 1.0f;
  case SORTED:
    return (float)i;
  case CLOSE: /* neighbouring floats: only the last bits of the keys differ */
    return 1.0f + (float)(i % 700) * 0x1p-23f;
  case HUGE_RANGE:
    return (float)ldexp(unit - 0.5, (int)random_below(key, at + 1, 250) - 125);
  default:
    random_normal4(random_block(key, 0, at), normal);
    return (float)normal[0];
  }
}

static int owner(deal_t deal, uint64_t key, int i) {
  int size = comm_size(comm);
  switch (deal) {
  case ROUND_ROBIN:
    return i % size;
  case BLOCKS:
    return i * size / N;
  case ALL_ON_LAST:
    return size - 1;
  default:
    return (int)random_below(key, (uint64_t)i, size);
  }
}

static int weighted; /* of the test that runs */

static sbag_code_t add(metrics_t *metrics, const float *labels, const float *logits, const float *weights,
                       int64_t n) {
  return metrics_add_weighted(metrics, labels, logits, weighted ? weights : NULL, n, &status);
}

/* All samples for which mine(i) holds, in batches of different sizes. */
static metrics_result_t compute(comm_t *over, shape_t shape, int deal) {
  uint64_t key = random_key(11, "metrics"), label_key = random_key(12, "labels"), to = random_key(13, "deal");
  metrics_t *metrics = NULL;
  metrics_result_t result;
  ck_assert_int_eq(metrics_create(over, mem, &metrics, &status), SBAG_OK);
  float labels[64], logits[64], weights[64];
  int64_t n = 0;
  for (int i = 0; i < N; i++) {
    if (deal < DEALS && owner((deal_t)deal, to, i) != comm_rank(comm)) continue;
    logits[n] = draw(shape, key, i);
    labels[n] = random_below(label_key, (uint64_t)i, 100) < (logits[n] > 0 ? 40 : 20) ? 1.0f : 0.0f;
    weights[n] = (float)random_below(label_key, (uint64_t)(N + i), 7) * 0.3f;
    n++;
    if (n == 1 + i % 64 || n == 64) {
      ck_assert_int_eq(add(metrics, labels, logits, weights, n), SBAG_OK);
      n = 0;
    }
  }
  ck_assert_int_eq(add(metrics, labels, logits, weights, n), SBAG_OK);
  ck_assert_msg(metrics_compute(metrics, &result, &status) == SBAG_OK, "%s", status.message);
  metrics_destroy(&metrics);
  return result;
}

START_TEST(test_same_bits_as_one_rank) {
  weighted = _i;
  for (int shape = 0; shape < SHAPES; shape++) {
    metrics_result_t expected = compute(self, (shape_t)shape, DEALS);
    ck_assert_int_eq(expected.samples, N);
    ck_assert_int_gt(expected.positives, 100);
    ck_assert(shape == ALL_EQUAL ? expected.auc == 0.5 : expected.auc != 0.5);
    for (int deal = 0; deal < DEALS; deal++) {
      metrics_result_t got = compute(comm, (shape_t)shape, deal);
      ck_assert_msg(memcmp(&got, &expected, sizeof got) == 0, "shape %d deal %d: auc %.17g, expected %.17g",
                    shape, deal, got.auc, expected.auc);
    }
  }
}
END_TEST

START_TEST(test_fewer_samples_than_ranks) {
  metrics_t *metrics = NULL;
  metrics_result_t r;
  float labels[] = {1, 0}, logits[] = {1, -1};
  int rank = comm_rank(comm), size = comm_size(comm);
  ck_assert_int_eq(metrics_create(comm, mem, &metrics, &status), SBAG_OK);
  ck_assert_int_eq(metrics_compute(metrics, &r, &status), SBAG_OK);
  ck_assert(r.samples == 0 && isnan(r.auc) && isnan(r.logloss));
  if (rank == 0) ck_assert_int_eq(metrics_add(metrics, labels, logits, 1, &status), SBAG_OK);
  ck_assert_int_eq(metrics_compute(metrics, &r, &status), SBAG_OK);
  ck_assert(r.samples == 1 && r.positives == 1 && isnan(r.auc));
  if (rank == size - 1) ck_assert_int_eq(metrics_add(metrics, labels + 1, logits + 1, 1, &status), SBAG_OK);
  ck_assert_int_eq(metrics_compute(metrics, &r, &status), SBAG_OK);
  ck_assert(r.samples == 2 && r.auc == 1.0);
  metrics_destroy(&metrics);
}
END_TEST

START_TEST(test_error_of_one_rank) {
  metrics_t *metrics = NULL;
  metrics_result_t r;
  float label = 1, logit = comm_rank(comm) == comm_size(comm) - 1 ? NAN : 0.0f;
  ck_assert_int_eq(metrics_create(comm, mem, &metrics, &status), SBAG_OK);
  metrics_add(metrics, &label, &logit, 1, &status);
  ck_assert_int_eq(metrics_compute(metrics, &r, &status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(status.message, "is NaN"));
  ck_assert_int_eq(status.rank, comm_size(comm) - 1);
  metrics_reset(metrics);
  ck_assert_int_eq(metrics_compute(metrics, &r, &status), SBAG_OK);
  metrics_destroy(&metrics);
}
END_TEST

/* All samples lie on rank 0 and have logits of their own: the other ranks' memory follows their share. */
START_TEST(test_memory_is_a_share) {
  int size = comm_size(comm), n = 40000;
  mem_t *own = NULL;
  metrics_t *metrics = NULL;
  metrics_result_t r;
  ck_assert_int_eq(mem_create(&own, &status), SBAG_OK);
  ck_assert_int_eq(metrics_create(comm, own, &metrics, &status), SBAG_OK);
  for (int i = 0; i < n && comm_rank(comm) == 0; i++) {
    float label = (float)(i % 3 == 0), logit = 1.0f + (float)i * 0x1p-23f;
    ck_assert_int_eq(metrics_add(metrics, &label, &logit, 1, &status), SBAG_OK);
  }
  ck_assert_int_eq(metrics_compute(metrics, &r, &status), SBAG_OK);
  ck_assert_int_eq(r.samples, n);
  int64_t tables = 8192 + (int64_t)size * 4096;
  if (comm_rank(comm) > 0) ck_assert_int_le(mem_stats(own).peak_bytes, (n / size + size) * 24 + tables);
  metrics_destroy(&metrics);
  mem_destroy(&own);
}
END_TEST

Suite *metrics_suite(void) {
  Suite *suite = suite_create("metrics");
  TCase *tcase = tcase_create("metrics");
  tcase_add_checked_fixture(tcase, setup, teardown);
  tcase_add_loop_test(tcase, test_same_bits_as_one_rank, 0, 2);
  tcase_add_test(tcase, test_fewer_samples_than_ranks);
  tcase_add_test(tcase, test_error_of_one_rank);
  tcase_add_test(tcase, test_memory_is_a_share);
  suite_add_tcase(suite, tcase);
  return suite;
}
