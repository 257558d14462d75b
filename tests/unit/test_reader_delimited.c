/* Delimited files: values, splits, windows, bad rows, saved state. */
#include "base/random.h"
#include "test_reader_common.h"

#include <math.h>

enum { COLUMN_COUNT = 7, ROWS = 1000 };

static const reader_column_t columns[COLUMN_COUNT] = {
    {.name = "clicked", .index = 0, .kind = COLUMN_LABEL},
    {.name = "price", .index = 1, .kind = COLUMN_DENSE, .transform = TRANSFORM_LOG1P_ZSCORE, .missing = 3.0},
    {.name = "id", .index = 2, .kind = COLUMN_ONE_HOT, .mapping = MAPPING_IDENTITY, .rows = ROWS},
    {.name = "user", .index = 3, .kind = COLUMN_ONE_HOT, .mapping = MAPPING_VOCABULARY, .min_count = 2},
    {.name = "tags",
     .index = 4,
     .kind = COLUMN_MULTI_HOT,
     .mapping = MAPPING_VOCABULARY,
     .min_count = 1,
     .rows = 9,
     .separator = '|'},
    {.name = "places",
     .index = 5,
     .kind = COLUMN_MULTI_HOT,
     .mapping = MAPPING_HASH,
     .rows = 50,
     .max_length = 3,
     .separator = ' '},
    {.name = "age", .index = 1, .kind = COLUMN_DENSE, .transform = TRANSFORM_ZSCORE, .missing = -1.0}};

static reader_config_t config_for(const char *path) {
  return (reader_config_t){.kind = READER_DELIMITED,
                           .seed = 5,
                           .split_seed = 2,
                           .global_batch = 40,
                           .slice = 1,
                           .shuffle = 1,
                           .prefetch = 2,
                           .rank_count = 1,
                           .source.delimited = {.paths = one_path(path),
                                                .path_count = 1,
                                                .delimiter = ',',
                                                .columns = columns,
                                                .column_count = COLUMN_COUNT,
                                                .split = {0.8, 0.1, 0.1},
                                                .split_by_order = 1,
                                                .shuffle_window = 128}};
}

/* `rows` rows whose id is their number; the price is empty now and then, tag bags have 0 to 3 tokens. */
static char *make_text(int rows, const char *line_end) {
  char *text = malloc((size_t)rows * 120 + 1);
  ck_assert_ptr_nonnull(text);
  int at = 0;
  text[0] = '\0';
  for (int i = 0; i < rows; i++) {
    uint64_t n = (uint64_t)i;
    char price[32] = "";
    if (i % 11 != 3) snprintf(price, sizeof price, "%lld.25", (long long)random_below(1, n, 1000));
    at += sprintf(text + at, "%d,%s,%d,u%lld,", i % 3 == 0, price, i, (long long)random_below(2, n, 300));
    for (int64_t t = 0; t < random_below(3, n, 4); t++)
      at += sprintf(text + at, "%st%lld", t ? "|" : "", (long long)random_below(4, 8 * n + (uint64_t)t, 12));
    at += sprintf(text + at, ",a%d b%d  c%d d%d%s", i % 7, i % 5, i % 3, i % 2, line_end);
  }
  return text;
}

static const char *write_rows(const char *name, int rows) {
  char *text = make_text(rows, "\n");
  const char *path = write_text(name, text);
  free(text);
  return path;
}

/* The ids of an epoch, in its order: with make_text's columns a sample is label, 2 dense, 1, id, ... */
static int64_t id_of(const samples_t *s, int64_t sample) {
  return s->values[(sample == 0 ? 0 : s->ends[sample - 1]) + 4];
}

START_TEST(test_values) {
  static const reader_column_t some[] = {
      {.name = "bag", .index = 4, .kind = COLUMN_MULTI_HOT, .rows = 10, .max_length = 2, .separator = ' '},
      {.name = "label", .index = 0, .kind = COLUMN_LABEL},
      {.name = "plain", .index = 1, .kind = COLUMN_DENSE, .missing = 7.5},
      {.name = "log", .index = 1, .kind = COLUMN_DENSE, .transform = TRANSFORM_LOG1P, .missing = 1.0},
      {.name = "words", .index = 3, .kind = COLUMN_ONE_HOT, .mapping = MAPPING_VOCABULARY, .min_count = 2},
      {.name = "unused", .index = 99, .kind = COLUMN_SKIP}};
  reader_config_t config = config_for(write_text("v", "label;x;y;w;b\r\n"
                                                      "1;-4;;b;1 2 3\r\n"
                                                      "0;;;a;\r\n"
                                                      "1.0;1e1;;a;9;more\r\n"
                                                      "0;2.5;;b; 4 \r\n"
                                                      "0;0;;a;0\r\n"
                                                      "0;0;;c;0"));
  config.source.delimited.delimiter = ';';
  config.source.delimited.header_lines = 1;
  config.source.delimited.columns = some;
  config.source.delimited.column_count = 6;
  config.source.delimited.split[0] = 1.0;
  config.source.delimited.split[1] = config.source.delimited.split[2] = 0.0;
  config.source.delimited.shuffle_window = 0;
  static const float expected[6][3] = {{1, -4, 0},      {0, 7.5F, 1}, {1, 10, 10},
                                       {0, 2.5F, 2.5F}, {0, 0, 0},    {0}};
  static const int64_t bags[6][3] = {{2, 1, 2}, {0}, {1, 9}, {1, 4}, {1, 0}, {1, 0}};
  static const int64_t words[6] = {2, 1, 1, 2, 1, 0}; /* a three times, b twice, c once */
  samples_t want = {0};
  for (int i = 0; i < 6; i++) {
    put(&want, float_bits(expected[i][0]));
    put(&want, float_bits(expected[i][1]));
    put(&want, float_bits((float)log1p(expected[i][2])));
    for (int64_t j = 0; j <= bags[i][0]; j++) put(&want, bags[i][j]);
    put(&want, 1);
    put(&want, words[i]);
    put_end(&want);
  }
  want.values[2] = float_bits(0.0F); /* log1p of -4 counts as of 0 */
  samples_t got = read_epoch(&config, 1, READER_TRAIN, 0, 0);
  ck_assert(same_samples(&want, &got));
  free_samples(&want);
  free_samples(&got);
}
END_TEST

/* The z-score makes the training values' mean 0 and deviation 1, and knows nothing of the other rows. */
START_TEST(test_zscore) {
  reader_config_t config = config_for(write_rows("a", ROWS));
  samples_t train = read_epoch(&config, 1, READER_TRAIN, 0, 0);
  for (int d = 0; d < 2; d++) {
    double sum = 0.0, squares = 0.0;
    for (int64_t i = 0; i < train.count; i++) {
      uint32_t bits = (uint32_t)train.values[(i == 0 ? 0 : train.ends[i - 1]) + 1 + d];
      float value;
      memcpy(&value, &bits, sizeof value);
      sum += (double)value;
      squares += (double)value * (double)value;
    }
    ck_assert(fabs(sum / (double)train.count) < 1e-5);
    ck_assert(fabs(squares / (double)train.count - 1.0) < 1e-5);
  }
  /* Other values behind the training rows change neither the training samples nor the state. */
  char *text = make_text(ROWS, "\n"), *row = text;
  for (int i = 0; i < 900; i++) row = strchr(row, '\n') + 1;
  for (char *c = row; *c != '\0'; c++)
    if (*c == '.') *c = '9';
  config.source.delimited.paths = one_path(write_text("b", text));
  samples_t again = read_epoch(&config, 1, READER_TRAIN, 0, 0);
  ck_assert(same_samples(&train, &again));
  free(text);
  free_samples(&train);
  free_samples(&again);
}
END_TEST

START_TEST(test_order) {
  static const int64_t windows[] = {7, 128, 100000};
  reader_config_t config = config_for(write_rows("a", ROWS - 3));
  for (int i = 0; i < 3; i++) {
    config.source.delimited.shuffle_window = windows[i];
    check_order(&config);
  }
  config.slice = 16;
  config.source.delimited.split_by_order = 0;
  check_order(&config);
  config.shuffle = 0;
  check_order(&config);
}
END_TEST

START_TEST(test_split_sizes) {
  reader_config_t config = config_for(write_rows("a", 77));
  static const int64_t by_order[] = {61, 8, 8}; /* floor 61.6, floor 69.3 */
  for (int ordered = 0; ordered < 2; ordered++) {
    int64_t seen[77] = {0};
    config.source.delimited.split_by_order = ordered;
    for (int s = 0; s < READER_SPLITS; s++) {
      samples_t part = read_epoch(&config, 2, (reader_split_t)s, 0, 0);
      if (ordered) ck_assert_int_eq(part.count, by_order[s]);
      for (int64_t i = 0; i < part.count; i++) {
        int64_t id = id_of(&part, i);
        seen[id]++;
        if (!ordered) {
          double at = random_unit53(random_key(2, "split"), (uint64_t)id);
          ck_assert_int_eq(s, at < 0.8 ? READER_TRAIN : at < 0.9 ? READER_VALID : READER_TEST);
        }
      }
      free_samples(&part);
    }
    for (int i = 0; i < 77; i++) ck_assert_int_eq(seen[i], 1);
  }
}
END_TEST

/* A shuffled row stays within its window, and most rows move. */
START_TEST(test_windows) {
  reader_config_t config = config_for(write_rows("a", ROWS));
  samples_t train = read_epoch(&config, 3, READER_TRAIN, 0, 0);
  int64_t moved = 0;
  ck_assert_int_eq(train.count, 800);
  for (int64_t i = 0; i < train.count; i++) {
    ck_assert_int_eq(id_of(&train, i) / 128, i / 128);
    moved += id_of(&train, i) != i;
  }
  ck_assert_int_gt(moved, 750);
  free_samples(&train);
}
END_TEST

START_TEST(test_gzip_and_line_ends) {
  char *text = make_text(500, "\n"), *crlf = make_text(500, "\r\n");
  reader_config_t config = config_for(write_text("plain", text));
  samples_t plain = read_epoch(&config, 2, READER_TRAIN, 1, 0);
  const char *others[] = {write_gzip("packed.gz", text), write_text("crlf", crlf), write_gzip("both", crlf)};
  for (int i = 0; i < 3; i++) {
    config.source.delimited.paths = one_path(others[i]);
    samples_t other = read_epoch(&config, 2, READER_TRAIN, 1, 0);
    ck_assert(same_samples(&plain, &other));
    free_samples(&other);
  }
  free_samples(&plain);
  free(text);
  free(crlf);
}
END_TEST

static const struct {
  const char *row;
  size_t length; /* 0: as a string */
  const char *words;
} bad_rows[] = {
    {"2,1,1,u,t,p\n", 0, "bad:2: column 0 ('clicked'): the label is '2'; 0 or 1 would be right"},
    {",1,1,u,t,p\n", 0, "bad:2: column 0 ('clicked'): the label is ''"},
    {"1,x1,1,u,t,p\n", 0, "bad:2: column 1 ('price'): not a number: 'x1'"},
    {"1,nan,1,u,t,p\n", 0, "bad:2: column 1 ('price'): not a number: 'nan'"},
    {"1,1e39,1,u,t,p\n", 0, "bad:2: column 1 ('price'): too large: '1e39'"},
    {"1,1,1000,u,t,p\n", 0,
     "bad:2: column 2 ('id'): row 1000 is out of range; the table has 1000 rows, 0 to 999"},
    {"1,1,-1,u,t,p\n", 0, "bad:2: column 2 ('id'): not a row number: '-1'"},
    {"1,1,,u,t,p\n", 0, "bad:2: column 2 ('id'): not a row number: ''"},
    {"1,1,1,u,t\n", 0, "bad:2: column 5 ('places'): missing, the row has 5 fields; at least 6"},
    {"\n", 0, "bad:2: column 1 ('price'): missing, the row has 1 fields"},
    {"1,1,1,\0u,t,p\n", 13, "bad:2: column 3: the row has a NUL byte"},
};
enum { BAD_ROWS = sizeof bad_rows / sizeof bad_rows[0] };

START_TEST(test_bad_rows_are_named) {
  for (int i = 0; i < BAD_ROWS; i++) {
    char text[400] = "1,2,3,u,t,p\n";
    size_t at = strlen(text), length = bad_rows[i].length > 0 ? bad_rows[i].length : strlen(bad_rows[i].row);
    memcpy(text + at, bad_rows[i].row, length);
    memcpy(text + at + length, "0,2,4,u,t,p\n", 12);
    reader_config_t config = config_for(write_bytes("bad", text, at + length + 12));
    check_refused(&config, NULL, 0, bad_rows[i].words);
    ck_assert_int_eq(status.code, SBAG_ERR_FORMAT);
  }
}
END_TEST

/* A column of weights: told to batches, refused where it is none, and not read where labels are not. */
START_TEST(test_weights) {
  static const struct {
    const char *row, *words;
  } bad[] = {{"1,2,-1,u,t,p\n", "bad:2: column 2 ('id'): the sample's weight is '-1'; a number from 0"},
             {"1,2,,u,t,p\n", "bad:2: column 2 ('id'): the sample's weight is ''"},
             {"1,2,inf,u,t,p\n", "bad:2: column 2 ('id'): the sample's weight is 'inf'"},
             {"1,2,4e38,u,t,p\n", "bad:2: column 2 ('id'): the sample's weight is '4e38'"},
             {"1,2\n", "bad:2: column 2 ('id'): missing"}};
  reader_column_t own[16];
  for (int i = 0; i < 5; i++) {
    char text[200];
    snprintf(text, sizeof text, "1,2,0.25,u,t,p\n%s", bad[i].row);
    reader_config_t config = config_for(write_bytes("bad", text, strlen(text)));
    memcpy(own, config.source.delimited.columns, (size_t)config.source.delimited.column_count * sizeof *own);
    config.source.delimited.columns = own;
    for (int c = 0; c < config.source.delimited.column_count; c++)
      if (own[c].index == 2) own[c].kind = COLUMN_WEIGHT;
    check_refused(&config, NULL, 0, bad[i].words);
    config.source.delimited.unlabelled = 1;
    if (i == 4) continue; /* columns behind it are missing all the same */
    reader_t *reader = NULL;
    ck_assert_msg(reader_open(&config, NULL, 0, mem, &reader, &status) == SBAG_OK, "%s", status.message);
    ck_assert_int_eq(reader_weighted(reader), 0);
    reader_close(&reader);
  }
}
END_TEST

/* With skip_bad_rows the file reads as if the bad rows were not there: same split sizes, same order. */
START_TEST(test_bad_rows_are_left_out) {
  char *good = make_text(200, "\n"), *mixed = malloc(60000);
  ck_assert_ptr_nonnull(mixed);
  size_t at = 0;
  int64_t bad = 0;
  const char *row = good;
  for (int i = 0; i < 200; i++) {
    const char *next = strchr(row, '\n') + 1;
    if (i % 9 == 0) { /* before the first row and, below, after the last one too */
      size_t length = bad_rows[i % BAD_ROWS].length;
      if (length == 0) length = strlen(bad_rows[i % BAD_ROWS].row);
      memcpy(mixed + at, bad_rows[i % BAD_ROWS].row, length);
      at += length;
      bad++;
    }
    memcpy(mixed + at, row, (size_t)(next - row));
    at += (size_t)(next - row);
    row = next;
  }
  memcpy(mixed + at, "what?", 5);
  reader_config_t config = config_for(write_text("good", good));
  config.global_batch = 7;
  samples_t want[READER_SPLITS];
  for (int s = 0; s < READER_SPLITS; s++) want[s] = read_epoch(&config, 1, (reader_split_t)s, 1, 0);
  config.source.delimited.paths = one_path(write_bytes("mixed", mixed, at + 5));
  config.source.delimited.skip_bad_rows = 1;
  check_order(&config);
  for (int s = 0; s < READER_SPLITS; s++) {
    samples_t got = read_epoch(&config, 3, (reader_split_t)s, 1, 0);
    ck_assert(same_samples(&want[s], &got));
    free_samples(&got);
    free_samples(&want[s]);
  }
  reader_t *reader = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  ck_assert_int_eq(reader_bad_rows(reader), bad + 1);
  reader_close(&reader);
  config.source.delimited.split_by_order = 0; /* split by the line's number, bad lines counted */
  check_order(&config);
  free(good);
  free(mixed);
}
END_TEST

START_TEST(test_broken_files) {
  reader_config_t config = config_for(path_of("none"));
  check_refused(&config, NULL, 0, "none: cannot open: No such file or directory");
  config.source.delimited.paths = one_path(folder);
  check_refused(&config, NULL, 0, "reading failed");
  config.source.delimited.paths = one_path(write_text("empty", ""));
  check_refused(&config, NULL, 0, "no usable row");
  config.source.delimited.paths = one_path(write_text("junk", "a\nb\n"));
  config.source.delimited.skip_bad_rows = 1;
  check_refused(&config, NULL, 0, "no usable row after 0 header lines (2 bad ones)");
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

/* What happens to the file after it has been opened comes to light in reader_next, and stays. */
START_TEST(test_file_changes_later) {
  const reader_batch_t *batch = NULL;
  const char *path = write_rows("a", ROWS);
  reader_config_t config = config_for(path);
  reader_t *reader = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  OK(read_to_the_end(reader));
  ck_assert_int_eq(truncate(path, 9000), 0);
  ck_assert_int_eq(read_to_the_end(reader), SBAG_ERR_IO);
  ck_assert_ptr_nonnull(strstr(status.message, "when it was opened; has it been changed?"));
  ck_assert_int_eq(reader_next(reader, &batch, &status), SBAG_ERR_IO);
  char *text = make_text(ROWS, "\n");
  char *row = text;
  for (int i = 0; i < 500; i++) row = strchr(row, '\n') + 1;
  row[0] = '7';
  FILE *file = fopen(path, "r+b"); /* the same file, not a new one in its place */
  ck_assert_ptr_nonnull(file);
  ck_assert_uint_eq(fwrite(text, 1, strlen(text), file), strlen(text));
  fclose(file);
  ck_assert_int_eq(read_to_the_end(reader), SBAG_ERR_FORMAT);
  ck_assert_ptr_nonnull(strstr(status.message, "a:501: column 0 ('clicked'): the label is '7'"));
  reader_close(&reader);
  free(text);
}
END_TEST

START_TEST(test_blobs) {
  reader_config_t config = config_for(write_rows("a", ROWS));
  reader_t *reader = NULL, *again = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  blob_copy_t copy = copy_blobs(reader);
  ck_assert_int_eq(copy.count, 5);
  ck_assert_str_eq(copy.items[0].name, "zscore/price");
  ck_assert_str_eq(copy.items[1].name, "vocabulary/user");
  ck_assert_str_eq(copy.items[3].name, "hash/places");
  /* Another file and another seed, which must not change what tokens and values mean. */
  config.source.delimited.paths = one_path(write_rows("b", 50));
  config.seed++;
  config.shuffle = 0;
  OK(reader_open(&config, copy.items, copy.count, mem, &again, &status));
  ck_assert_int_eq(reader_feature(again, 1)->rows, reader_feature(reader, 1)->rows);
  for (int i = 0; i < copy.count; i++)
    ck_assert_int_eq(memcmp(reader_blob(again, i)->data, copy.items[i].data, (size_t)copy.items[i].bytes), 0);
  samples_t got = {0};
  const reader_batch_t *batch = NULL;
  OK(reader_start(again, READER_TRAIN, 0, 0, &status));
  OK(reader_next(again, &batch, &status));
  put_batch(&got, again, batch);
  reader_close(&again);
  config = config_for(path_of("a"));
  config.shuffle = 0;
  samples_t want = read_epoch(&config, 1, READER_TRAIN, 0, 0);
  config.seed++; /* without the saved state the hash follows the seed */
  samples_t other = read_epoch(&config, 1, READER_TRAIN, 0, 0);
  ck_assert(!same_samples(&want, &other));
  free_samples(&other);
  ck_assert_int_eq(got.count, 40);
  ck_assert_int_eq(memcmp(got.values, want.values, (size_t)got.value_count * sizeof *got.values), 0);
  free_samples(&got);
  free_samples(&want);
  reader_close(&reader);
  free_blobs(&copy);
}
END_TEST

START_TEST(test_blobs_that_do_not_fit) {
  reader_config_t config = config_for(write_rows("a", 100));
  reader_column_t changed[COLUMN_COUNT];
  reader_t *reader = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  blob_copy_t copy = copy_blobs(reader);
  reader_close(&reader);
  check_refused(&config, copy.items + 1, copy.count - 1, "no 'zscore/price'");
  copy.items[copy.count] = (reader_blob_t){.name = "vocabulary/city"};
  check_refused(&config, copy.items, copy.count + 1,
                "'vocabulary/city', which this data source has no use for");
  memset(copy.items[copy.count].name, 'x', sizeof copy.items[copy.count].name);
  check_refused(&config, copy.items, copy.count + 1, "no use for");
  config.source.delimited.columns = changed;
  memcpy(changed, columns, sizeof columns);
  changed[3].min_count = 1;
  check_refused(&config, copy.items, copy.count, "'user' was fitted with min_count 2 and rows 0");
  memcpy(changed, columns, sizeof columns);
  changed[5].rows = 60;
  check_refused(&config, copy.items, copy.count,
                "'hash/places' was made with rows 50, the configuration says 60");
  memcpy(changed, columns, sizeof columns);
  changed[1].transform = TRANSFORM_ZSCORE;
  check_refused(&config, copy.items, copy.count, "'zscore/price' was made with transform 3");
  memcpy(changed, columns, sizeof columns);
  memset((char *)copy.items[0].data + 24, 0xff, 8); /* a deviation that is not a number */
  check_refused(&config, copy.items, copy.count, "'zscore/price' is damaged");
  copy.items[3].bytes = 31;
  memset((char *)copy.items[0].data + 24, 0x3f, 8);
  check_refused(&config, copy.items, copy.count, "'hash/places' is damaged");
  copy.items[3].bytes = -1;
  check_refused(&config, copy.items, copy.count, "'hash/places' is damaged");
  free_blobs(&copy);
}
END_TEST

START_TEST(test_refused_configs) {
  reader_column_t changed[COLUMN_COUNT];
  reader_config_t config = config_for(write_rows("a", 10));
  config.source.delimited.split[0] = 0.5;
  check_refused(&config, NULL, 0, "should add up to 1");
  config = config_for(path_of("a"));
  config.source.delimited.delimiter = '\n';
  check_refused(&config, NULL, 0, "delimiter");
  config = config_for(path_of("a"));
  config.source.delimited.shuffle_window = -1;
  check_refused(&config, NULL, 0, "shuffle window -1");
  config = config_for(path_of("a"));
  config.source.delimited.columns = changed;
  memcpy(changed, columns, sizeof columns);
  changed[0].kind = COLUMN_SKIP;
  check_refused(&config, NULL, 0, "0 label columns");
  memcpy(changed, columns, sizeof columns);
  memcpy(changed[6].name, "user", 5);
  check_refused(&config, NULL, 0, "two columns are named 'user'");
  memcpy(changed, columns, sizeof columns);
  changed[4].separator = ',';
  check_refused(&config, NULL, 0, "column 'tags': its separator");
  memcpy(changed, columns, sizeof columns);
  changed[2].rows = 0;
  check_refused(&config, NULL, 0, "column 'id': 0 rows");
}
END_TEST

START_TEST(test_warm_steps_allocate_nothing) {
  reader_config_t config = config_for(write_rows("a", ROWS));
  check_warm(&config, 2);
  config.rank_count = 3; /* shares that are cut by windows at changing places */
  for (config.rank = 0; config.rank < 3; config.rank++) {
    config.source.delimited.shuffle_window = 50 + 17 * config.rank;
    check_warm(&config, 2);
  }
}
END_TEST

START_TEST(test_memory_failures) {
  reader_config_t config = config_for(write_rows("a", 60));
  config.global_batch = 10;
  check_memory_failures(&config);
}
END_TEST

/* A file much larger than what may be held: the peak follows the window and the batch. */
START_TEST(test_memory_is_bounded) {
  reader_column_t some[2] = {columns[0], columns[2]};
  char *text = make_text(60000, "\n");
  ck_assert_uint_gt(strlen(text), 2000000);
  reader_config_t config = config_for(write_text("large", text));
  free(text);
  some[1].rows = 60000;
  config.source.delimited.columns = some;
  config.source.delimited.column_count = 2;
  samples_t s = read_epoch(&config, 1, READER_TRAIN, 0, 0);
  ck_assert_int_eq(s.count, 48000);
  ck_assert_int_lt(mem_stats(mem).peak_bytes, 600000);
  free_samples(&s);
}
END_TEST

/* The real file: split sizes known beforehand, and two ranks against one. */
START_TEST(test_mathsx) {
  static const reader_column_t real[] = {
      {.name = "label", .index = 0, .kind = COLUMN_LABEL},
      {.name = "threads", .index = 1, .kind = COLUMN_DENSE, .transform = TRANSFORM_LOG1P_ZSCORE},
      {.name = "since", .index = 2, .kind = COLUMN_DENSE, .transform = TRANSFORM_LOG1P_ZSCORE},
      {.name = "hour", .index = 3, .kind = COLUMN_ONE_HOT, .mapping = MAPPING_IDENTITY, .rows = 24},
      {.name = "user", .index = 4, .kind = COLUMN_ONE_HOT, .mapping = MAPPING_VOCABULARY, .min_count = 2},
      {.name = "tags", .index = 5, .kind = COLUMN_MULTI_HOT, .mapping = MAPPING_VOCABULARY, .separator = ' '},
      {.name = "history",
       .index = 6,
       .kind = COLUMN_MULTI_HOT,
       .mapping = MAPPING_HASH,
       .rows = 4096,
       .separator = ' '}};
  const char *root = getenv("SHARDBAG_SOURCE_DIR");
  char path[4096];
  snprintf(path, sizeof path, "%s/../shared/data/mathsx/mathsx_ctr_tail259496.tsv.gz", root ? root : ".");
  if (access(path, R_OK) != 0) {
    printf("skipped: reader on mathsx, there is no %s\n", path);
    return;
  }
  reader_config_t config = config_for(path);
  config.source.delimited.delimiter = '\t';
  config.source.delimited.columns = real;
  config.source.delimited.shuffle_window = 16384;
  config.global_batch = 4000;
  reader_t *reader = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  ck_assert_int_eq(reader_samples(reader, READER_TRAIN), 207596);
  ck_assert_int_eq(reader_samples(reader, READER_VALID), 25950);
  ck_assert_int_eq(reader_samples(reader, READER_TEST), 25950);
  reader_close(&reader);
  samples_t one = read_epoch(&config, 1, READER_VALID, 0, 0),
            two = read_epoch(&config, 2, READER_VALID, 0, 0);
  ck_assert(same_samples(&one, &two));
  free_samples(&one);
  free_samples(&two);
}
END_TEST

Suite *reader_delimited_suite(void);
Suite *reader_delimited_suite(void) {
  Suite *suite = suite_create("reader_delimited");
  TCase *tests = tcase_create("delimited");
  tcase_set_timeout(tests, 240);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, test_values);
  tcase_add_test(tests, test_zscore);
  tcase_add_test(tests, test_order);
  tcase_add_test(tests, test_split_sizes);
  tcase_add_test(tests, test_windows);
  tcase_add_test(tests, test_gzip_and_line_ends);
  tcase_add_test(tests, test_bad_rows_are_named);
  tcase_add_test(tests, test_weights);
  tcase_add_test(tests, test_bad_rows_are_left_out);
  tcase_add_test(tests, test_broken_files);
  tcase_add_test(tests, test_file_changes_later);
  tcase_add_test(tests, test_blobs);
  tcase_add_test(tests, test_blobs_that_do_not_fit);
  tcase_add_test(tests, test_refused_configs);
  tcase_add_test(tests, test_warm_steps_allocate_nothing);
  tcase_add_test(tests, test_memory_failures);
  tcase_add_test(tests, test_memory_is_bounded);
  tcase_add_test(tests, test_mathsx);
  suite_add_tcase(suite, tests);
  return suite;
}
