/* Synthetic data, and with it what is common to all sources: slices, restarts, the background thread. */
#include "test_reader_common.h"

#include <math.h>

static const int64_t some_rows[] = {1000, 5, (int64_t)1 << 40};
static const int64_t some_lengths[] = {1, 3, 0};

static reader_config_t small_config(void) {
  return (reader_config_t){.kind = READER_SYNTHETIC,
                           .seed = 11,
                           .split_seed = 1,
                           .global_batch = 100,
                           .slice = 1,
                           .shuffle = 1,
                           .prefetch = 2,
                           .rank_count = 1,
                           .source.synthetic = {.samples = {1003, 301, 250},
                                                .dense_count = 5,
                                                .feature_count = 3,
                                                .rows = some_rows,
                                                .bag_length = some_lengths,
                                                .zipf = 1.1}};
}

START_TEST(test_order) {
  static const int64_t slices[] = {1, 7, 64, 1000};
  reader_config_t config = small_config();
  for (int i = 0; i < 4; i++) {
    config.slice = slices[i];
    check_order(&config);
  }
  config.slice = 1;
  config.global_batch = 3; /* fewer samples than ranks */
  check_order(&config);
  config.source.synthetic.zipf = 0.0;
  config.shuffle = 0;
  check_order(&config);
}
END_TEST

/* Sample i does not depend on how many there are, nor on the batch. */
START_TEST(test_values_by_position) {
  reader_config_t config = small_config(), longer = small_config();
  config.shuffle = longer.shuffle = 0;
  longer.global_batch = 77;
  longer.source.synthetic.samples[READER_TRAIN] = 3000;
  samples_t a = read_epoch(&config, 1, READER_TRAIN, 0, 0), b = read_epoch(&longer, 2, READER_TRAIN, 5, 0);
  ck_assert_int_eq(memcmp(a.values, b.values, (size_t)a.value_count * sizeof *a.values), 0);
  config.seed++;
  samples_t other = read_epoch(&config, 1, READER_TRAIN, 0, 0);
  ck_assert_int_ne(memcmp(a.values, other.values, (size_t)a.value_count * sizeof *a.values), 0);
  config.seed--;
  samples_t valid = read_epoch(&config, 1, READER_VALID, 0, 0);
  ck_assert_int_ne(memcmp(a.values, valid.values, (size_t)valid.value_count * sizeof *valid.values), 0);
  free_samples(&a);
  free_samples(&b);
  free_samples(&other);
  free_samples(&valid);
}
END_TEST

/* How far each dense value's mean differs between the labels, in units of its deviation. */
static void label_means(const reader_config_t *config, reader_split_t split, double *difference,
                        double *rate) {
  double sum[2][5] = {{0}}, count[2] = {0};
  reader_t *reader = NULL;
  const reader_batch_t *batch = NULL;
  OK(reader_open(config, NULL, 0, mem, &reader, &status));
  OK(reader_start(reader, split, 0, 0, &status));
  for (;;) {
    OK(reader_next(reader, &batch, &status));
    if (batch == NULL) break;
    for (int64_t i = 0; i < batch->samples; i++) {
      int label = batch->labels[i] == 1.0F;
      count[label] += 1.0;
      for (int d = 0; d < 5; d++) sum[label][d] += (double)batch->dense[5 * i + d];
    }
  }
  for (int d = 0; d < 5; d++) difference[d] = sum[1][d] / count[1] - sum[0][d] / count[0];
  *rate = count[1] / (count[0] + count[1]);
  reader_close(&reader);
}

/* The labels follow the features, and by the same rule in both splits. */
START_TEST(test_there_is_something_to_learn) {
  reader_config_t config = small_config();
  config.global_batch = 4096;
  config.source.synthetic.samples[READER_TRAIN] = config.source.synthetic.samples[READER_TEST] = 40000;
  double train[5], test[5], rate, strongest = 0.0;
  label_means(&config, READER_TRAIN, train, &rate);
  ck_assert(rate > 0.2 && rate < 0.8);
  label_means(&config, READER_TEST, test, &rate);
  for (int d = 0; d < 5; d++) {
    ck_assert(fabs(train[d] - test[d]) < 0.1);
    strongest = fmax(strongest, fabs(train[d]));
  }
  ck_assert(strongest > 0.3); /* no relation would be 0 within 0.01 */
}
END_TEST

START_TEST(test_warm_steps_allocate_nothing) {
  reader_config_t config = small_config();
  check_warm(&config, 0);
}
END_TEST

START_TEST(test_memory_failures) {
  reader_config_t config = small_config();
  check_memory_failures(&config);
}
END_TEST

/* Closing and restarting while the thread is filling or waits for room. */
START_TEST(test_interrupted) {
  reader_config_t config = small_config();
  config.source.synthetic.samples[READER_TRAIN] = 1000000;
  reader_t *reader = NULL;
  const reader_batch_t *batch = NULL;
  for (int i = 0; i < 30; i++) {
    OK(reader_open(&config, NULL, 0, mem, &reader, &status));
    OK(reader_start(reader, READER_TRAIN, 0, 0, &status));
    for (int n = 0; n < i % 5; n++) OK(reader_next(reader, &batch, &status));
    if (i % 2) OK(reader_start(reader, READER_VALID, 0, 1, &status));
    if (i % 3 == 0) {
      OK(reader_next(reader, &batch, &status));
      ck_assert_ptr_nonnull(batch);
      ck_assert_int_eq(batch->step, i % 2 ? 1 : i % 5);
    }
    reader_close(&reader);
    ck_assert_ptr_null(reader);
  }
}
END_TEST

START_TEST(test_states) {
  reader_config_t config = small_config();
  reader_t *reader = NULL;
  const reader_batch_t *batch = NULL;
  reader_close(NULL);
  reader_close(&reader);
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  ck_assert_int_eq(reader_next(reader, &batch, &status), SBAG_ERR_STATE);
  ck_assert_int_eq(reader_start(reader, READER_SPLITS, 0, 0, &status), SBAG_ERR_ARGUMENT);
  ck_assert_int_eq(reader_start(reader, READER_TRAIN, -1, 0, &status), SBAG_ERR_ARGUMENT);
  ck_assert_int_eq(reader_start(reader, READER_TRAIN, 0, 12, &status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(status.message, "11 steps"));
  ck_assert_int_eq(reader_next(reader, &batch, &status), SBAG_ERR_STATE);
  OK(reader_start(reader, READER_TRAIN, 0, 11, &status)); /* exactly at the end: nothing is left */
  for (int i = 0; i < 3; i++) {
    OK(reader_next(reader, &batch, &status));
    ck_assert_ptr_null(batch);
  }
  ck_assert_int_eq(reader_feature_count(reader), 3);
  ck_assert_int_eq(reader_feature(reader, 1)->multi_hot, 1);
  ck_assert_int_eq(reader_feature(reader, 2)->rows, (int64_t)1 << 40);
  ck_assert_int_eq(reader_blob_count(reader), 0);
  reader_close(&reader);
}
END_TEST

START_TEST(test_empty_splits) {
  reader_config_t config = small_config();
  memset(config.source.synthetic.samples, 0, sizeof config.source.synthetic.samples);
  samples_t none = read_epoch(&config, 4, READER_TRAIN, 0, 0);
  ck_assert_int_eq(none.count, 0);
  free_samples(&none);
}
END_TEST

START_TEST(test_refused_configs) {
  static const int64_t zero_rows[] = {1000, 0, 3};
  static const reader_blob_t extra = {.name = "vocabulary/user"};
  reader_config_t config = small_config();
  config.global_batch = 0;
  check_refused(&config, NULL, 0, "global batch");
  config = small_config();
  config.slice = 0;
  check_refused(&config, NULL, 0, "slice");
  config = small_config();
  config.prefetch = 0;
  check_refused(&config, NULL, 0, "prefetch");
  config = small_config();
  config.rank = 1;
  check_refused(&config, NULL, 0, "rank 1 of 1");
  config = small_config();
  config.source.synthetic.zipf = NAN;
  check_refused(&config, NULL, 0, "Zipf");
  config = small_config();
  config.source.synthetic.rows = zero_rows;
  check_refused(&config, NULL, 0, "feature 1 has 0 rows");
  config = small_config();
  config.source.synthetic.rows = NULL;
  check_refused(&config, NULL, 0, "none are given");
  config = small_config();
  check_refused(&config, &extra, 1, "vocabulary/user");
}
END_TEST

Suite *reader_synthetic_suite(void);
Suite *reader_synthetic_suite(void) {
  Suite *suite = suite_create("reader_synthetic");
  TCase *tests = tcase_create("synthetic");
  tcase_set_timeout(tests, 120);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, test_order);
  tcase_add_test(tests, test_values_by_position);
  tcase_add_test(tests, test_there_is_something_to_learn);
  tcase_add_test(tests, test_warm_steps_allocate_nothing);
  tcase_add_test(tests, test_memory_failures);
  tcase_add_test(tests, test_interrupted);
  tcase_add_test(tests, test_states);
  tcase_add_test(tests, test_empty_splits);
  tcase_add_test(tests, test_refused_configs);
  suite_add_tcase(suite, tests);
  return suite;
}
