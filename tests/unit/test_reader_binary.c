/* The binary form: what is read from a converted file is what the source gives, to the bit and in its order,
 * for every kind of source; what is refused; and that a conversion that fails leaves nothing. */
#include "checkpoint/checkpoint.h"
#include "comm/comm.h"
#include "reader/binary.h"
#include "reader/convert.h"
#include "test_reader_binary.h"

static const int64_t some_rows[] = {1000, 5, (int64_t)1 << 40, 50};
static const int64_t some_lengths[] = {1, 3, 2, 0};

static reader_config_t synthetic_config(void) {
  return (reader_config_t){.kind = READER_SYNTHETIC,
                           .seed = 11,
                           .split_seed = 1,
                           .global_batch = 12,
                           .slice = 1,
                           .shuffle = 1,
                           .prefetch = 2,
                           .rank_count = 1,
                           .source.synthetic = {.samples = {503, 101, 250},
                                                .dense_count = 5,
                                                .feature_count = 4,
                                                .rows = some_rows,
                                                .bag_length = some_lengths,
                                                .zipf = 1.1}};
}

static const reader_column_t columns[] = {
    {.name = "clicked", .index = 0, .kind = COLUMN_LABEL},
    {.name = "price", .index = 1, .kind = COLUMN_DENSE, .transform = TRANSFORM_LOG1P_ZSCORE},
    {.name = "user", .index = 2, .kind = COLUMN_ONE_HOT, .mapping = MAPPING_VOCABULARY, .min_count = 2},
    {.name = "tags",
     .index = 3,
     .kind = COLUMN_MULTI_HOT,
     .mapping = MAPPING_HASH,
     .rows = 50,
     .separator = ' '},
    {.name = "pair", .index = 2, .kind = COLUMN_ONE_HOT, .mapping = MAPPING_HASH, .rows = 30, .expand = 2}};

static reader_config_t delimited_config(const char *path) {
  reader_config_t config = synthetic_config();
  config.kind = READER_DELIMITED;
  config.source.delimited = (reader_delimited_config_t){.paths = one_path(path),
                                                        .path_count = 1,
                                                        .delimiter = ',',
                                                        .columns = columns,
                                                        .column_count = 5,
                                                        .split = {0.7, 0.1, 0.2},
                                                        .shuffle_window = 64};
  return config;
}

static const char *write_rows(const char *name, int count) {
  char *text = malloc((size_t)count * 80);
  ck_assert_ptr_nonnull(text);
  int at = 0;
  for (int i = 0; i < count; i++) {
    at += sprintf(text + at, "%d,%d.5,u%d,", i % 3 == 0, i, i * i % 41);
    for (int t = 0; t < i % 5; t++) at += sprintf(text + at, "%st%d", t ? " " : "", i * t % 7);
    at += sprintf(text + at, "\n");
  }
  const char *path = write_text(name, text);
  free(text);
  return path;
}

START_TEST(test_synthetic) {
  reader_config_t config = synthetic_config();
  check_same(&config);
  config.slice = 64;
  config.source.synthetic.dense_count = 0;
  check_same(&config);
}
END_TEST

START_TEST(test_delimited) {
  reader_config_t config = delimited_config(write_rows("rows", 700));
  check_same(&config);
  config.source.delimited.shuffle_window = 1000; /* more than there are */
  check_same(&config);
  config.source.delimited.shuffle_window = 64;
  reader_config_t binary = binary_config(&config, path_of("samples.h5"));
  binary.source.binary.shuffle_window = 0;
  config.shuffle = 0;
  samples_t want = read_epoch(&config, 1, READER_TRAIN, 0, 0),
            got = read_epoch(&binary, 1, READER_TRAIN, 0, 0);
  ck_assert(same_samples(&want, &got));
  free_samples(&want);
  free_samples(&got);
}
END_TEST

START_TEST(test_chosen_splits) {
  reader_config_t config = synthetic_config();
  convert_result_t result;
  OK(convert(&config, path_of("samples.h5"), 1 << READER_VALID, &result));
  ck_assert_int_eq(result.samples[READER_TRAIN], 0);
  ck_assert_int_eq(result.samples[READER_VALID], 101);
  reader_config_t binary = binary_config(&config, path_of("samples.h5"));
  samples_t want = read_epoch(&config, 1, READER_VALID, 0, 0),
            got = read_epoch(&binary, 2, READER_VALID, 0, 0);
  ck_assert(same_samples(&want, &got));
  free_samples(&want);
  free_samples(&got);
  got = read_epoch(&binary, 2, READER_TEST, 0, 0);
  ck_assert_int_eq(got.count, 0);
  free_samples(&got);
}
END_TEST

/* A model's saved state must be the one that the samples were made with. */
START_TEST(test_blobs) {
  reader_config_t config = delimited_config(write_rows("rows", 700));
  convert_result_t result;
  OK(convert(&config, path_of("samples.h5"), 7, &result));
  reader_t *reader = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  blob_copy_t copy = copy_blobs(reader);
  reader_close(&reader);
  reader_config_t binary = binary_config(&config, path_of("samples.h5"));
  OK(reader_open(&binary, copy.items, copy.count, mem, &reader, &status));
  reader_close(&reader);
  check_refused(&binary, copy.items, copy.count - 1, "has no '");
  ((char *)copy.items[0].data)[20] ^= 1;
  check_refused(&binary, copy.items, copy.count, "is not the one that the samples of");
  free_blobs(&copy);
}
END_TEST

START_TEST(test_broken_files) {
  reader_config_t config = synthetic_config();
  const char *path = path_of("samples.h5");
  reader_config_t binary = binary_config(&config, path_of("none"));
  convert_result_t result;
  check_refused(&binary, NULL, 0, "none");
  OK(convert(&config, path, 7, &result));
  binary = binary_config(&config, path);
  reader_t *reader = NULL;
  const reader_batch_t *batch = NULL;
  OK(reader_open(&binary, NULL, 0, mem, &reader, &status));
  ck_assert_int_eq(truncate(path, 3000), 0); /* it shrinks while it is open */
  OK(reader_start(reader, READER_TEST, 0, 0, &status));
  ck_assert_int_eq(reader_next(reader, &batch, &status), SBAG_ERR_FORMAT);
  ck_assert_ptr_nonnull(strstr(status.message, "samples.h5"));
  reader_close(&reader);
  check_refused(&binary, NULL, 0, "samples.h5");
  comm_t *comm = NULL;
  checkpoint_writer_t *writer = NULL;
  OK(comm_self_create(mem, NULL, &comm, &status));
  OK(checkpoint_writer_create(comm, mem, path, &writer, &status));
  OK(checkpoint_commit(&writer, &status));
  check_refused(&binary, NULL, 0, "holds no samples");
  OK(checkpoint_writer_create(comm, mem, path, &writer, &status));
  OK(checkpoint_add_int(writer, "", BINARY_MARK, 3, &status));
  OK(checkpoint_commit(&writer, &status));
  check_refused(&binary, NULL, 0, "samples of format 3; this program reads up to 2");
  OK(checkpoint_writer_create(comm, mem, path, &writer, &status));
  OK(checkpoint_add_int(writer, "", BINARY_MARK, 2, &status));
  OK(checkpoint_add_text(writer, "", "form", "poem", &status));
  OK(checkpoint_commit(&writer, &status));
  check_refused(&binary, NULL, 0, "a form that no source has");
  comm_destroy(&comm);
}
END_TEST

/* The source shrinks between its scan and the conversion; the teardown finds nothing left in the folder, and
 * an older file stays as it is. */
START_TEST(test_failed_conversion) {
  const char *rows = write_rows("rows", 700), *path = path_of("samples.h5");
  reader_config_t config = delimited_config(rows);
  convert_result_t result;
  OK(convert(&config, path, 7, &result));
  reader_t *reader = NULL;
  comm_t *comm = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  OK(comm_self_create(mem, NULL, &comm, &status));
  ck_assert_int_eq(truncate(rows, 5000), 0);
  const convert_options_t options = {.output = path, .source = "test", .splits = 7};
  ck_assert_int_eq(reader_convert(reader, comm, &options, mem, &result, &status), SBAG_ERR_IO);
  ck_assert_ptr_nonnull(strstr(status.message, "has it been changed?"));
  reader_config_t binary = binary_config(&config, path);
  samples_t got = read_epoch(&binary, 1, READER_TRAIN, 0, 0);
  ck_assert_int_gt(got.count, 400);
  free_samples(&got);
  const convert_options_t nowhere = {.output = "/nowhere/samples.h5", .source = "test", .splits = 7};
  ck_assert_int_eq(reader_convert(reader, comm, &nowhere, mem, &result, &status), SBAG_ERR_IO);
  ck_assert_ptr_nonnull(strstr(status.message, "/nowhere/samples.h5: a temporary file"));
  comm_destroy(&comm);
  reader_close(&reader);
}
END_TEST

START_TEST(test_no_allocation) {
  reader_config_t config = synthetic_config();
  convert_result_t result;
  config.source.synthetic.samples[READER_TRAIN] = 1000;
  OK(convert(&config, path_of("samples.h5"), 7, &result));
  reader_config_t binary = binary_config(&config, path_of("samples.h5"));
  binary.source.binary.shuffle_window = 128;
  check_warm(&binary, 12);
}
END_TEST

Suite *reader_binary_suite(void);
Suite *reader_binary_suite(void) {
  Suite *suite = suite_create("reader_binary");
  TCase *tests = tcase_create("all");
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_set_timeout(tests, 60);
  tcase_add_test(tests, test_synthetic);
  tcase_add_test(tests, test_delimited);
  tcase_add_test(tests, test_chosen_splits);
  tcase_add_test(tests, test_blobs);
  tcase_add_test(tests, test_broken_files);
  tcase_add_test(tests, test_failed_conversion);
  tcase_add_test(tests, test_no_allocation);
  suite_add_tcase(suite, tests);
  return suite;
}
