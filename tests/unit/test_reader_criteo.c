/* Criteo's click logs: what each field becomes, several files as one, what is malformed, MLPerf's multi-hot
 * expansion, and files that change while they are read. */
#include "base/random.h"
#include "reader/criteo.h"
#include "test_reader_common.h"

#include <math.h>

enum { ROWS = 400 };
static const int64_t no_limit[] = {0}, hash_rows[] = {97}, single[] = {1};
static reader_column_t columns[CRITEO_COLUMNS];

static criteo_options_t vocabularies(int64_t min_count) {
  return (criteo_options_t){.transform = TRANSFORM_LOG1P,
                            .mapping = MAPPING_VOCABULARY,
                            .min_count = min_count,
                            .rows = no_limit,
                            .row_count = 1,
                            .expand = single,
                            .expand_count = 1};
}

static criteo_options_t hashed(void) {
  criteo_options_t options = vocabularies(1);
  options.mapping = MAPPING_HASH;
  options.rows = hash_rows;
  return options;
}

static reader_config_t config_for(const char *const *paths, int count, criteo_options_t options) {
  reader_criteo_columns(&options, columns);
  return (reader_config_t){.kind = READER_DELIMITED,
                           .seed = 3,
                           .global_batch = 7,
                           .slice = 1,
                           .shuffle = 1,
                           .prefetch = 2,
                           .rank_count = 1,
                           .source.delimited = {.paths = paths,
                                                .path_count = count,
                                                .delimiter = '\t',
                                                .field_count = CRITEO_COLUMNS,
                                                .columns = columns,
                                                .column_count = CRITEO_COLUMNS,
                                                .split = {0.8, 0.1, 0.1},
                                                .split_by_order = 1,
                                                .shuffle_window = 64}};
}

/* Row i: label i % 3 == 0, integers i + column (some missing, some negative), categories of i and the column.
 */
static int write_row(char *out, int i) {
  int at = sprintf(out, "%d", i % 3 == 0);
  for (int c = 1; c <= CRITEO_INTEGERS; c++) {
    if ((i + c) % 7 == 0)
      at += sprintf(out + at, "\t");
    else
      at += sprintf(out + at, "\t%d", (i + c) % 5 == 0 ? -1 : i + c);
  }
  for (int c = 1; c <= CRITEO_CATEGORIES; c++) {
    if ((i + c) % 11 == 0)
      at += sprintf(out + at, "\t");
    else
      at += sprintf(out + at, "\t%08x", (unsigned)(i * c % 37) * 0x01000193u);
  }
  return at;
}

/* Rows [begin, end), with `line_end` behind each. */
static char *make_text(int begin, int end, const char *line_end) {
  char *text = malloc((size_t)(end - begin) * 400 + 1);
  ck_assert_ptr_nonnull(text);
  int at = 0;
  text[0] = '\0';
  for (int i = begin; i < end; i++) {
    at += write_row(text + at, i);
    at += sprintf(text + at, "%s", line_end);
  }
  return text;
}

static const char *write_rows(const char *name, int begin, int end, const char *line_end, int packed) {
  char *text = make_text(begin, end, line_end);
  const char *path = packed ? write_gzip(name, text) : write_text(name, text);
  free(text);
  return path;
}

START_TEST(test_fields) {
  char text[2000];
  int at = sprintf(text, "1\t5\t-3\t\t0");
  for (int c = 5; c <= CRITEO_INTEGERS; c++) at += sprintf(text + at, "\t1");
  for (int c = 1; c <= CRITEO_CATEGORIES; c++) at += sprintf(text + at, c == 2 ? "\t" : "\t0a%02x", c);
  sprintf(text + at, "\n");
  char twice[4000];
  snprintf(twice, sizeof twice, "%s%s", text, text);
  const char *path = write_text("a", twice);
  reader_config_t config = config_for(&path, 1, vocabularies(2));
  config.source.delimited.split[0] = 1;
  config.source.delimited.split[1] = config.source.delimited.split[2] = 0;
  config.shuffle = 0;
  reader_t *reader = NULL;
  const reader_batch_t *batch = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  ck_assert_int_eq(reader_dense_count(reader), CRITEO_INTEGERS);
  ck_assert_int_eq(reader_feature_count(reader), CRITEO_CATEGORIES);
  ck_assert_str_eq(reader_feature(reader, 0)->name, "C1");
  ck_assert_str_eq(reader_feature(reader, 25)->name, "C26");
  OK(reader_start(reader, READER_TRAIN, 0, 0, &status));
  OK(reader_next(reader, &batch, &status));
  ck_assert_int_eq(batch->samples, 2);
  ck_assert(batch->labels[0] == 1.0F);
  ck_assert(batch->dense[0] == (float)log(6.0)); /* log(1 + 5) */
  ck_assert(batch->dense[1] == 0.0F);            /* negative */
  ck_assert(batch->dense[2] == 0.0F);            /* missing */
  ck_assert(batch->dense[3] == 0.0F);
  ck_assert(batch->dense[4] == (float)log(2.0));
  for (int f = 0; f < CRITEO_CATEGORIES;
       f++) { /* row 0 is for unknown ones, row 1 the only category; "" is one */
    ck_assert_int_eq(reader_feature(reader, f)->rows, 2);
    ck_assert_int_eq(batch->features[f].nnz, 2);
    ck_assert_int_eq(batch->features[f].indices[0], 1);
  }
  reader_close(&reader);
}
END_TEST

/* Files in order are one data set, whatever each is and wherever it is cut. */
START_TEST(test_several_files) {
  const char *whole[] = {write_rows("whole", 0, ROWS, "\n", 0)};
  const char *parts[] = {write_rows("a", 0, 130, "\n", 0), write_rows("b.gz", 130, 131, "\r\n", 1),
                         write_text("empty", ""), write_rows("c", 131, 399, "\r\n", 0),
                         write_rows("d.gz", 399, ROWS, "", 1)};
  for (int by_order = 0; by_order < 2; by_order++) {
    reader_config_t one = config_for(whole, 1, vocabularies(3)), many = config_for(parts, 5, vocabularies(3));
    one.source.delimited.split_by_order = many.source.delimited.split_by_order = by_order;
    for (int s = 0; s < READER_SPLITS; s++) {
      samples_t want = read_epoch(&one, 2, (reader_split_t)s, 1, 0);
      samples_t got = read_epoch(&many, 3, (reader_split_t)s, 1, 0);
      ck_assert(same_samples(&want, &got));
      free_samples(&want);
      free_samples(&got);
    }
  }
  reader_config_t many = config_for(parts, 5, hashed());
  check_order(&many);
}
END_TEST

/* A row of the good text with field `column` put in place of its own. */
static void put_field(char *out, int row, int column, const char *field) {
  char good[500];
  write_row(good, row);
  char *at = good;
  for (int c = 0; c < column; c++) at = strchr(at, '\t') + 1;
  char *end = strchrnul(at, '\t');
  sprintf(out, "%.*s%s%s", (int)(at - good), good, field, end);
}

START_TEST(test_malformed_fields) {
  static const struct {
    int column;
    const char *field, *words;
  } cases[] = {
      {0, "2", "column 0 ('label'): the label is '2'; 0 or 1 would be right"},
      {0, "", "column 0 ('label'): the label is ''"},
      {1, "x", "column 1 ('I1'): not a number: 'x'; a decimal number would be right"},
      {13, "0x10", "column 13 ('I13'): not a number: '0x10'"},
      {4, "123456789012345678901234567890123456789012345678901234567890", "column 4 ('I4'): too large"},
      {14, "0xff", "column 14 ('C1'): not a category: '0xff'; an empty field or up to 16 hexadecimal digits"},
      {39, "ff\r00", "column 39 ('C26'): not a category: 'ff 00'"},
      {20, "12345678901234567", "column 20 ('C7'): not a category: '12345678901234567'"},
      {39, "ff\tff", "column 40: the row goes on behind its last field with ' ff'; exactly 40 fields"},
      {39, "ff\t", "column 40: the row goes on behind its last field with ' '; exactly 40 fields"},
  };
  const char *good = write_rows("good", 0, 60, "\n", 0);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char row[800], text[2000], words[200];
    int at = write_row(text, 0);
    put_field(row, 1, cases[i].column, cases[i].field);
    sprintf(text + at, "\r\n%s\n", row); /* mixed line ends */
    const char *paths[] = {good, write_text("bad", text)};
    reader_config_t config = config_for(paths, 2, hashed());
    snprintf(words, sizeof words, "bad:2: %s", cases[i].words);
    check_refused(&config, NULL, 0, words);
  }
}
END_TEST

START_TEST(test_malformed_rows) {
  char row[800], text[2000];
  put_field(row, 1, 20, "ff");
  *strrchr(row, '\t') = '\0'; /* 39 fields */
  sprintf(text, "%s\n", row);
  const char *path = write_text("short", text);
  reader_config_t config = config_for(&path, 1, hashed());
  check_refused(&config, NULL, 0,
                "short:1: column 39 ('C26'): missing, the row has 39 fields; exactly 40 would be right");
  path = write_text("blank", "\n");
  config = config_for(&path, 1, hashed());
  check_refused(&config, NULL, 0, "blank:1: column 1 ('I1'): missing, the row has 1 fields");
  int at = write_row(text, 1);
  char *field = text;
  for (int c = 0; c < 5; c++) field = strchr(field, '\t') + 1;
  *field = '\0';
  path = write_bytes("nul", text, (size_t)at);
  config = config_for(&path, 1, hashed());
  check_refused(&config, NULL, 0, "nul:1: column 5: the row has a NUL byte");
  const char *missing[] = {write_rows("good", 0, 60, "\n", 0), path_of("none")};
  config = config_for(missing, 2, hashed());
  check_refused(&config, NULL, 0, "none: cannot open: No such file or directory");
}
END_TEST

START_TEST(test_huge_field) {
  size_t bytes = (size_t)(64 << 20) + 100;
  char *text = malloc(bytes);
  ck_assert_ptr_nonnull(text);
  memset(text, '7', bytes);
  const char *path = write_bytes("huge", text, bytes);
  free(text);
  reader_config_t config = config_for(&path, 1, hashed());
  check_refused(&config, NULL, 0, "huge:1: the line is longer than");
}
END_TEST

START_TEST(test_cut_gzip) {
  const char *path = write_rows("cut.gz", 0, ROWS, "\n", 1);
  FILE *file = fopen(path, "rb");
  ck_assert_ptr_nonnull(file);
  ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
  long bytes = ftell(file);
  fclose(file);
  ck_assert_int_eq(truncate(path, bytes / 2), 0);
  reader_config_t config = config_for(&path, 1, hashed());
  config.source.delimited.skip_bad_rows = 1; /* no row is bad: the file is */
  check_refused(&config, NULL, 0, "cut.gz: reading failed after line ");
  check_refused(&config, NULL, 0, "the compressed file is cut short");
}
END_TEST

/* Bad rows are left out and counted over all files, and the first is named with its own file and line. */
START_TEST(test_bad_rows_are_left_out) {
  char *a = make_text(0, 100, "\n"), *b = make_text(100, ROWS, "\n");
  char *with_bad = malloc(strlen(b) + 100);
  ck_assert_ptr_nonnull(with_bad);
  char *third = b;
  for (int i = 0; i < 2; i++) third = strchr(third, '\n') + 1;
  sprintf(with_bad, "%.*s1\twhat\n%s0\t1\n", (int)(third - b), b, third);
  const char *good[] = {write_text("a", a), write_text("b", b)};
  const char *mixed[] = {good[0], write_text("bad", with_bad)};
  reader_config_t config = config_for(good, 2, vocabularies(2));
  samples_t want = read_epoch(&config, 1, READER_TRAIN, 0, 0);
  config = config_for(mixed, 2, vocabularies(2));
  check_refused(&config, NULL, 0, "bad:3: column 2 ('I2'): missing");
  config.source.delimited.skip_bad_rows = 1;
  samples_t got = read_epoch(&config, 2, READER_TRAIN, 0, 0);
  ck_assert(same_samples(&want, &got));
  reader_t *reader = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  ck_assert_int_eq(reader_bad_rows(reader), 2);
  ck_assert_ptr_nonnull(strstr(reader_first_bad(reader), "bad:3: column 2 ('I2'): missing, the row has 2"));
  reader_close(&reader);
  free_samples(&want);
  free_samples(&got);
  free(with_bad);
  free(a);
  free(b);
}
END_TEST

static sbag_code_t read_to_the_end(reader_t *reader) {
  const reader_batch_t *batch = NULL;
  OK(reader_start(reader, READER_TRAIN, 0, 0, &status));
  for (;;) {
    sbag_code_t code = reader_next(reader, &batch, &status);
    if (code != SBAG_OK || batch == NULL) return code;
  }
}

/* Files with bytes put in at random. Whatever they are, every line is a sample or is counted as bad, and what
 * is refused is refused with its line and column. */
START_TEST(test_random_bytes) {
  static const char bytes[] = "\t\n\r\0 0f-.x\xff";
  char *good = make_text(0, 60, "\n"), place[64];
  size_t length = strlen(good);
  char *text = malloc(length);
  ck_assert_ptr_nonnull(text);
  int refused = 0;
  for (uint64_t n = 0; n < 60; n++) {
    memcpy(text, good, length);
    for (uint64_t i = 0; i <= n / 4; i++)
      text[random_below(1, 64 * n + i, (int64_t)length)] =
          bytes[random_below(2, 64 * n + i, sizeof bytes - 1)];
    int64_t lines = text[length - 1] != '\n';
    for (size_t i = 0; i < length; i++) lines += text[i] == '\n';
    const char *path = write_bytes("random", text, length);
    reader_config_t config = config_for(&path, 1, hashed());
    reader_t *reader = NULL;
    config.source.delimited.skip_bad_rows = 1;
    OK(reader_open(&config, NULL, 0, mem, &reader, &status));
    OK(read_to_the_end(reader));
    int64_t all = reader_bad_rows(reader);
    for (int s = 0; s < READER_SPLITS; s++) all += reader_samples(reader, (reader_split_t)s);
    ck_assert_int_eq(all, lines);
    int64_t bad = reader_bad_rows(reader);
    reader_close(&reader);
    config.source.delimited.skip_bad_rows = 0;
    sbag_code_t code = reader_open(&config, NULL, 0, mem, &reader, &status);
    ck_assert_int_eq(code, bad > 0 ? SBAG_ERR_FORMAT : SBAG_OK);
    reader_close(&reader);
    if (bad == 0) continue;
    long long line = 0;
    const char *at = strstr(status.message, "/random:");
    ck_assert_ptr_nonnull(at);
    ck_assert_int_eq(sscanf(at, "/random:%lld: column", &line), 1);
    ck_assert(line >= 1 && line <= lines);
    snprintf(place, sizeof place, "/random:%lld: column ", line);
    ck_assert_ptr_nonnull(strstr(status.message, place));
    refused++;
  }
  ck_assert_int_gt(refused, 30);
  free(text);
  free(good);
}
END_TEST

/* The first of two files shrinks, or grows, after it was opened: its rows are missed at its end, not only at
 * that of the last file, where all rows between would have moved. */
START_TEST(test_file_changes_later) {
  const char *paths[] = {write_rows("a", 0, 100, "\n", 0), write_rows("b", 100, ROWS, "\n", 0)};
  reader_config_t config = config_for(paths, 2, hashed());
  reader_t *reader = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  OK(read_to_the_end(reader));
  write_rows("a", 0, 90, "\n", 0);
  ck_assert_int_eq(read_to_the_end(reader), SBAG_ERR_IO);
  ck_assert_ptr_nonnull(strstr(status.message, "a: ends after 90 rows, but it had 100 when it was opened"));
  write_rows("a", 0, 110, "\n", 0);
  ck_assert_int_eq(read_to_the_end(reader), SBAG_ERR_IO);
  ck_assert_ptr_nonnull(strstr(status.message, "a: ends after 110 rows, but it had 100"));
  write_rows("a", 0, 100, "\n", 0);
  OK(read_to_the_end(reader));
  unlink(paths[1]);
  ck_assert_int_eq(read_to_the_end(reader), SBAG_ERR_IO);
  ck_assert_ptr_nonnull(strstr(status.message, "b: cannot open"));
  reader_close(&reader);
}
END_TEST

/* Every row of a table stands for a bag of itself and of rows that are drawn once: the bag follows from the
 * row alone, and from the saved key, not from the seed. */
START_TEST(test_expansion) {
  int64_t sizes[CRITEO_CATEGORIES];
  for (int f = 0; f < CRITEO_CATEGORIES; f++) sizes[f] = f % 5 + 1;
  const char *path = write_rows("a", 0, ROWS, "\n", 0);
  criteo_options_t options = hashed();
  reader_config_t config = config_for(&path, 1, options);
  config.shuffle = 0;
  samples_t rows = read_epoch(&config, 1, READER_TRAIN, 0, 0);
  options.expand = sizes;
  options.expand_count = CRITEO_CATEGORIES;
  config = config_for(&path, 1, options);
  config.shuffle = 0;
  samples_t bags = read_epoch(&config, 2, READER_TRAIN, 0, 0);
  int64_t seen[CRITEO_CATEGORIES][97][5], same = 0, distinct = 0;
  memset(seen, 0xff, sizeof seen);
  const int64_t *row = rows.values, *bag = bags.values;
  for (int64_t i = 0; i < rows.count; i++) {
    row += 1 + CRITEO_INTEGERS;
    bag += 1 + CRITEO_INTEGERS;
    for (int f = 0; f < CRITEO_CATEGORIES; f++, row += 2, bag += 1 + sizes[f - 1]) {
      ck_assert_int_eq(bag[0], sizes[f]);
      ck_assert_int_eq(bag[1], row[1]);
      int64_t *known = seen[f][row[1]];
      if (known[0] >= 0) ck_assert_int_eq(memcmp(known, bag + 1, (size_t)sizes[f] * sizeof *known), 0);
      same += known[0] >= 0;
      distinct += sizes[f] > 1 && bag[2] != bag[1];
      memcpy(known, bag + 1, (size_t)sizes[f] * sizeof *known);
    }
  }
  ck_assert_int_gt(same, 1000);
  ck_assert_int_gt(distinct, 1000);
  reader_t *reader = NULL, *again = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  ck_assert_int_eq(reader_feature(reader, 1)->multi_hot, 1);
  ck_assert_int_eq(reader_feature(reader, 0)->multi_hot, 0);
  reader_blob_t blobs[2 * CRITEO_CATEGORIES];
  int count = reader_blob_count(reader);
  ck_assert_int_le(count, 2 * CRITEO_CATEGORIES);
  for (int i = 0; i < count; i++) blobs[i] = *reader_blob(reader, i);
  config.seed++;
  OK(reader_open(&config, blobs, count, mem, &again, &status));
  for (int i = 0; i < count; i++)
    ck_assert_int_eq(memcmp(reader_blob(again, i)->data, blobs[i].data, (size_t)blobs[i].bytes), 0);
  reader_close(&again);
  sizes[1] = 7;
  config = config_for(&path, 1, options);
  ck_assert_int_eq(reader_open(&config, blobs, count, mem, &again, &status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(
      strstr(status.message, "'expand/C2' was made with bags of 2, the configuration says 7"));
  reader_close(&reader);
  free_samples(&rows);
  free_samples(&bags);
}
END_TEST

Suite *reader_criteo_suite(void);
Suite *reader_criteo_suite(void) {
  Suite *suite = suite_create("reader_criteo");
  TCase *tests = tcase_create("all");
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_set_timeout(tests, 60);
  tcase_add_test(tests, test_fields);
  tcase_add_test(tests, test_several_files);
  tcase_add_test(tests, test_malformed_fields);
  tcase_add_test(tests, test_malformed_rows);
  tcase_add_test(tests, test_huge_field);
  tcase_add_test(tests, test_cut_gzip);
  tcase_add_test(tests, test_bad_rows_are_left_out);
  tcase_add_test(tests, test_random_bytes);
  tcase_add_test(tests, test_file_changes_later);
  tcase_add_test(tests, test_expansion);
  suite_add_tcase(suite, tests);
  return suite;
}
