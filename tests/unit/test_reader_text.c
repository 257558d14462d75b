/* Labelled text: classes, n-grams of words as rows, a split a file, and what is malformed. */
#include "base/random.h"
#include "reader/text.h"
#include "test_reader_common.h"

Suite *reader_text_suite(void);

enum { BUCKETS = 1000 };

static reader_column_t columns[2];

static reader_config_t config_for(const char *const *paths, int train, int valid, int test, int ngrams,
                                  int lowercase) {
  columns[0] = (reader_column_t){.name = "label", .kind = COLUMN_CLASS};
  columns[1] = (reader_column_t){.name = "text",
                                 .index = 1,
                                 .kind = COLUMN_MULTI_HOT,
                                 .mapping = MAPPING_HASH,
                                 .rows = BUCKETS,
                                 .separator = ' ',
                                 .ngrams = ngrams,
                                 .lowercase = lowercase};
  return (reader_config_t){.kind = READER_DELIMITED,
                           .seed = 3,
                           .global_batch = 7,
                           .slice = 1,
                           .shuffle = 1,
                           .prefetch = 2,
                           .rank_count = 1,
                           .source.delimited = {.paths = paths,
                                                .path_count = train + valid + test,
                                                .delimiter = '\t',
                                                .field_count = 2,
                                                .columns = columns,
                                                .column_count = 2,
                                                .split_paths = {train, valid, test},
                                                .split = {1, 0, 0},
                                                .shuffle_window = 16}};
}

static int64_t row_of(const char *word) {
  return (
      int64_t)(reader_text_hash(random_key(3, "hash of column text"), (text_t){word, (int64_t)strlen(word)}) %
               BUCKETS);
}

/* The only batch of a split, in the file's order. */
static const reader_batch_t *first_batch(reader_config_t *config, reader_t **reader, reader_split_t split) {
  const reader_batch_t *batch = NULL;
  config->shuffle = 0;
  OK(reader_open(config, NULL, 0, mem, reader, &status));
  OK(reader_start(*reader, split, 0, 0, &status));
  OK(reader_next(*reader, &batch, &status));
  return batch;
}

START_TEST(test_ngrams) {
  const char *path = write_text("a", "x\tThe cat the\ny\t\nx\tcat  sat\r\n");
  reader_config_t config = config_for(&path, 1, 0, 0, 3, 1);
  reader_t *reader = NULL;
  const reader_batch_t *batch = first_batch(&config, &reader, READER_TRAIN);
  const int64_t *rows = batch->features[0].indices, *offsets = batch->features[0].offsets;
  ck_assert_int_eq(reader_class_count(reader), 2);
  ck_assert_int_eq(offsets[1], 6); /* the, cat, the cat, the, cat the, the cat the */
  ck_assert_int_eq(offsets[2], 6);
  ck_assert_int_eq(offsets[3], 9);
  ck_assert_int_eq(rows[0], row_of("the"));
  ck_assert_int_eq(rows[1], row_of("cat"));
  ck_assert_int_eq(rows[3], row_of("the"));
  ck_assert_int_ne(rows[2], rows[4]); /* "the cat" is not "cat the" */
  ck_assert_int_eq(rows[6], row_of("cat"));
  ck_assert_int_eq(rows[7], row_of("sat"));
  ck_assert(batch->labels[0] == 0.0F && batch->labels[1] == 1.0F && batch->labels[2] == 0.0F);
  reader_close(&reader);
  config = config_for(&path, 1, 0, 0, 1, 0);
  batch = first_batch(&config, &reader, READER_TRAIN);
  ck_assert_int_eq(batch->features[0].offsets[1], 3);
  ck_assert_int_eq(batch->features[0].indices[0], row_of("The"));
  reader_close(&reader);
  config = config_for(&path, 1, 0, 0, 2, 0);
  columns[1].max_length = 2;
  batch = first_batch(&config, &reader, READER_TRAIN);
  ck_assert_int_eq(batch->features[0].offsets[1], 3); /* two words and their pair */
  reader_close(&reader);
}
END_TEST

/* Rows [begin, end) of three classes. */
static const char *write_rows(const char *name, int begin, int end) {
  char text[8192];
  int at = 0;
  for (int i = begin; i < end; i++)
    at += snprintf(text + at, sizeof text - (size_t)at, "class%d\tword%d and word%d\n", i % 3, i, i / 2);
  return write_text(name, text);
}

START_TEST(test_splits_by_file) {
  const char *paths[] = {write_rows("a", 0, 40), write_rows("b", 40, 70), write_rows("c", 70, 90),
                         write_rows("d", 90, 120)};
  reader_config_t config = config_for(paths, 2, 1, 1, 2, 1);
  reader_t *reader = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  ck_assert_int_eq(reader_samples(reader, READER_TRAIN), 70);
  ck_assert_int_eq(reader_samples(reader, READER_VALID), 20);
  ck_assert_int_eq(reader_samples(reader, READER_TEST), 30);
  ck_assert_int_eq(reader_class_count(reader), 3);
  reader_close(&reader);
  const reader_batch_t *batch = first_batch(&config, &reader, READER_TEST);
  ck_assert(batch->labels[0] == 0.0F && batch->labels[1] == 1.0F && batch->labels[2] == 2.0F);
  reader_close(&reader);
  config.shuffle = 1;
  check_order(&config);
  check_memory_failures(&config);
  config = config_for(paths, 1, 0, 0, 2, 1); /* one file: the next one's opening would allocate */
  check_warm(&config, 5);
}
END_TEST

START_TEST(test_given_classes) {
  const char *path = write_text("a", "b\tx\na\ty\nc\tz\n"), *other = write_text("b", "c\tz\na\tx\n");
  const char *unknown = write_text("u", "a\tx\nd\tz\nb\tx\n");
  reader_config_t config = config_for(&path, 1, 0, 0, 1, 0);
  reader_t *reader = NULL;
  const reader_batch_t *batch = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  blob_copy_t blobs = copy_blobs(reader);
  reader_close(&reader);
  config = config_for(&other, 1, 0, 0, 1, 0);
  config.shuffle = 0;
  OK(reader_open(&config, blobs.items, blobs.count, mem, &reader, &status));
  ck_assert_int_eq(reader_class_count(reader), 3);
  OK(reader_start(reader, READER_TRAIN, 0, 0, &status));
  OK(reader_next(reader, &batch, &status));
  ck_assert(batch->labels[0] == 2.0F && batch->labels[1] == 1.0F);
  reader_close(&reader);
  config = config_for(&unknown, 1, 0, 0, 1, 0);
  check_refused(&config, blobs.items, blobs.count, "u:2: column 0 ('label'): an unknown label: 'd'");
  config.source.delimited.skip_bad_rows = 1;
  OK(reader_open(&config, blobs.items, blobs.count, mem, &reader, &status));
  ck_assert_int_eq(reader_samples(reader, READER_TRAIN), 2);
  reader_close(&reader);
  free_blobs(&blobs);
}
END_TEST

START_TEST(test_malformed) {
  const struct {
    const char *text, *words;
  } cases[] = {{"a\tx\nno tab\n", ":2: column 1 ('text'): missing, the row has 1 fields"},
               {"a\tx\nb\ty\tz\n", ":2: column 2: the row goes on"},
               {"a\tx\n\ty\n", ":2: column 0 ('label'): no label"},
               {"a\tx\r\na\ty\n", "1 different labels"},
               {"\n", ":1: column 1 ('text'): missing"},
               {"", "no usable row"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const char *path = write_text("bad", cases[i].text);
    reader_config_t config = config_for(&path, 1, 0, 0, 2, 1);
    check_refused(&config, NULL, 0, cases[i].words);
  }
  const char *nul = write_bytes("nul", "a\tx\nb\ty\0z\n", 10);
  reader_config_t config = config_for(&nul, 1, 0, 0, 2, 1);
  check_refused(&config, NULL, 0, "nul:2: column 1: the row has a NUL byte");
  char huge[2000];
  memset(huge, 'l', sizeof huge);
  memcpy(huge + 1990, "\tx\nb\ty\n", 8);
  const char *path = write_text("huge", huge);
  config = config_for(&path, 1, 0, 0, 2, 1);
  check_refused(&config, NULL, 0, "huge:1: column 0 ('label'): the label is long");
  config = config_for(&path, 1, 0, 0, 9, 1);
  check_refused(&config, NULL, 0, "ngrams 9");
  config = config_for(&path, 1, 1, 0, 1, 1);
  config.source.delimited.path_count = 1;
  check_refused(&config, NULL, 0, "files are of a split");
}
END_TEST

Suite *reader_text_suite(void) {
  Suite *suite = suite_create("reader_text");
  TCase *tc = tcase_create("text");
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_set_timeout(tc, 60);
  tcase_add_test(tc, test_ngrams);
  tcase_add_test(tc, test_splits_by_file);
  tcase_add_test(tc, test_given_classes);
  tcase_add_test(tc, test_malformed);
  suite_add_tcase(suite, tc);
  return suite;
}
