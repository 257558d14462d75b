/* The binary form of data that are not plain samples: classes, a ranking, a text. What is read from the file
 * is what the source gives, to the bit; files that are damaged, and files that are intact but say what no
 * conversion writes, are refused. */
#include "checkpoint/checkpoint.h"
#include "comm/comm.h"
#include "reader/binary.h"
#include "reader/convert.h"
#include "reader/interactions.h"
#include "reader/vocabulary.h"
#include "test_reader_binary.h"

static reader_config_t plain_config(reader_kind_t kind) {
  return (reader_config_t){.kind = kind,
                           .seed = 5,
                           .split_seed = 1,
                           .global_batch = 9,
                           .slice = 1,
                           .shuffle = 1,
                           .prefetch = 2,
                           .rank_count = 1};
}

static const reader_column_t text_columns[] = {{.name = "label", .index = 0, .kind = COLUMN_CLASS},
                                               {.name = "text",
                                                .index = 1,
                                                .kind = COLUMN_MULTI_HOT,
                                                .mapping = MAPPING_HASH,
                                                .rows = 512,
                                                .separator = ' ',
                                                .ngrams = 2,
                                                .lowercase = 1}};

/* Labels and texts; files: train, valid, test. */
static reader_config_t text_config(void) {
  static const char *paths[3];
  static const char *const names[3] = {"train.tsv", "valid.tsv", "test.tsv"};
  reader_config_t config = plain_config(READER_DELIMITED);
  for (int f = 0; f < 3; f++) {
    char text[8192];
    int at = 0;
    for (int i = 0; i < (f == 0 ? 90 : 40); i++)
      at += snprintf(text + at, sizeof text - (size_t)at, "kind %d\tWord%d of %d\n", i % 3, i % 7, i % 4);
    paths[f] = write_text(names[f], text);
  }
  config.source.delimited = (reader_delimited_config_t){.paths = paths,
                                                        .path_count = 3,
                                                        .split_paths = {1, 1, 1},
                                                        .delimiter = '\t',
                                                        .field_count = 2,
                                                        .columns = text_columns,
                                                        .column_count = 2,
                                                        .split = {1, 0, 0},
                                                        .shuffle_window = 32};
  return config;
}

START_TEST(test_classes) {
  reader_config_t config = text_config();
  check_same(&config);
  reader_config_t binary = binary_config(&config, path_of("samples.h5"));
  reader_t *reader = NULL;
  OK(reader_open(&binary, NULL, 0, mem, &reader, &status));
  ck_assert_int_eq(reader_class_count(reader), 3);
  reader_close(&reader);
}
END_TEST

/* Users' items; test: other items of most of them. */
static reader_config_t lists_config(void) {
  static const char *paths[2];
  reader_config_t config = plain_config(READER_RANKING);
  char text[16384], test[16384];
  int at = 0, end = 0;
  for (int u = 0; u < 40; u++) {
    at += snprintf(text + at, sizeof text - (size_t)at, "%d", 1000 - u);
    for (int i = 0; i < u % 9; i++)
      at += snprintf(text + at, sizeof text - (size_t)at, " %d", (u * 5 + i) % 60);
    at += snprintf(text + at, sizeof text - (size_t)at, "\n");
    if (u % 4 > 0)
      end += snprintf(test + end, sizeof test - (size_t)end, "%d %d %d\n", 1000 - u, (u * 5 + 20) % 60,
                      (u * 5 + 21) % 60);
  }
  paths[0] = write_text("train.txt", text);
  paths[1] = write_text("test.txt", test);
  config.source.ranking = (reader_ranking_config_t){
      .paths = paths, .path_count = 2, .split_paths = {1, 0, 1}, .negatives = 3, .history_length = 4};
  return config;
}

/* The same with times, the newest held out. */
static reader_config_t inter_config(void) {
  reader_config_t config = plain_config(READER_RANKING);
  char text[32768];
  int at = snprintf(text, sizeof text, "user_id\titem_id\ttimestamp\n");
  for (int i = 0; i < 500; i++)
    at += snprintf(text + at, sizeof text - (size_t)at, "u%d\ti%d\t%d\n", i % 23, i * i % 31, i * 37 % 101);
  config.source.ranking = (reader_ranking_config_t){.paths = one_path(write_text("a.inter", text)),
                                                    .path_count = 1,
                                                    .split_paths = {1, 0, 0},
                                                    .held_out = 1,
                                                    .holdout = {0.1, 0.2},
                                                    .negatives = 2,
                                                    .history_length = 5};
  return config;
}

/* What an evaluation asks beside samples. */
static void check_interactions(const reader_config_t *source) {
  reader_config_t binary = binary_config(source, path_of("samples.h5"));
  reader_t *a = NULL, *b = NULL;
  OK(reader_open(source, NULL, 0, mem, &a, &status));
  OK(reader_open(&binary, NULL, 0, mem, &b, &status));
  const interactions_t *x = reader_interactions(a), *y = reader_interactions(b);
  ck_assert(x->user_rows == y->user_rows && x->item_rows == y->item_rows);
  for (int s = 0; s < READER_SPLITS; s++) {
    ck_assert_int_eq(x->count[s], y->count[s]);
    ck_assert_mem_eq(x->begin[s], y->begin[s], (size_t)(x->user_rows + 1) * sizeof(int64_t));
    if (x->count[s] > 0) ck_assert_mem_eq(x->items[s], y->items[s], (size_t)x->count[s] * sizeof(int64_t));
  }
  ck_assert_int_eq(x->place != NULL, y->place != NULL);
  if (x->place != NULL)
    ck_assert_mem_eq(x->place, y->place, (size_t)x->count[READER_TRAIN] * sizeof(int64_t));
  for (int64_t i = 0; i < x->item_rows - 1; i++) {
    text_t token = reader_vocabulary_token(x->item_tokens, i),
           other = reader_vocabulary_token(y->item_tokens, i);
    ck_assert_int_eq(token.length, other.length);
    ck_assert_mem_eq(token.bytes, other.bytes, (size_t)token.length);
  }
  reader_close(&a);
  reader_close(&b);
}

START_TEST(test_ranking) {
  reader_config_t config = lists_config();
  check_samples(&config);
  check_interactions(&config);
  config = inter_config();
  check_samples(&config);
  check_interactions(&config);
  config.source.ranking.history_length = 0;
  config.source.ranking.holdout[0] = config.source.ranking.holdout[1] = 0; /* splits without users */
  check_samples(&config);
}
END_TEST

static reader_config_t corpus_config(void) {
  reader_config_t config = plain_config(READER_CORPUS);
  char text[16384];
  int at = 0;
  for (int i = 0; i < 900; i++)
    at += snprintf(text + at, sizeof text - (size_t)at, "W%d%c", i * i % 37, i % 11 == 0 ? '\n' : ' ');
  config.source.corpus = (reader_corpus_config_t){.paths = one_path(write_text("text", text)),
                                                  .path_count = 1,
                                                  .lowercase = 1,
                                                  .min_count = 3,
                                                  .window = 4,
                                                  .negatives = 3,
                                                  .subsample = 0.05,
                                                  .split = {0.7, 0.1, 0.2}};
  return config;
}

START_TEST(test_corpus) {
  reader_config_t config = corpus_config();
  check_samples(&config);
  config.source.corpus.split[0] = 1;
  config.source.corpus.split[1] = config.source.corpus.split[2] = 0;
  check_samples(&config);
}
END_TEST

/* A model's saved state must be the one that the data were converted with; and no allocation that fails
 * leaves anything. */
START_TEST(test_state) {
  const reader_config_t configs[] = {text_config(), inter_config(), corpus_config()};
  for (int i = 0; i < 3; i++) {
    convert_result_t result;
    OK(convert(&configs[i], path_of("samples.h5"), 7, &result));
    reader_config_t binary = binary_config(&configs[i], path_of("samples.h5"));
    reader_t *reader = NULL;
    OK(reader_open(&configs[i], NULL, 0, mem, &reader, &status));
    blob_copy_t copy = copy_blobs(reader);
    reader_close(&reader);
    OK(reader_open(&binary, copy.items, copy.count, mem, &reader, &status));
    reader_close(&reader);
    ((char *)copy.items[0].data)[copy.items[0].bytes - 1] ^= 1;
    check_refused(&binary, copy.items, copy.count, "is not the one that the samples of");
    free_blobs(&copy);
    check_memory_failures(&binary);
  }
}
END_TEST

START_TEST(test_chosen_splits) {
  const reader_config_t configs[] = {lists_config(), corpus_config()};
  convert_result_t result;
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(convert(&configs[i], path_of("samples.h5"), 1 << READER_TEST, &result),
                     SBAG_ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(status.message, "are converted whole"));
    OK(convert(&configs[i], path_of("samples.h5"), 7, &result));
    reader_config_t binary = binary_config(&configs[i], path_of("samples.h5"));
    binary.source.binary.shuffle_window = 64;
    check_refused(&binary, NULL, 0, "samples are shuffled together; leave it out");
  }
}
END_TEST

/* ---- damage ---- */

static char *read_file(const char *path, long *bytes) {
  FILE *file = fopen(path, "rb");
  ck_assert_ptr_nonnull(file);
  ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
  *bytes = ftell(file);
  rewind(file);
  char *data = malloc((size_t)*bytes);
  ck_assert_ptr_nonnull(data);
  ck_assert_uint_eq(fread(data, 1, (size_t)*bytes, file), (size_t)*bytes);
  fclose(file);
  return data;
}

/* Opens the file and reads all of an epoch. */
static sbag_code_t read_through(const reader_config_t *config) {
  reader_t *reader = NULL;
  const reader_batch_t *batch = NULL;
  sbag_code_t code = reader_open(config, NULL, 0, mem, &reader, &status);
  for (int s = 0; s < READER_SPLITS && code == SBAG_OK; s++) {
    code = reader_start(reader, (reader_split_t)s, 0, 0, &status);
    while (code == SBAG_OK) {
      code = reader_next(reader, &batch, &status);
      if (batch == NULL) break;
    }
  }
  reader_close(&reader);
  return code;
}

/* No flipped bit and no cut goes by unseen, and none is told without the file's name. */
START_TEST(test_damage) {
  const reader_config_t configs[] = {text_config(), lists_config(), corpus_config()};
  for (int i = 0; i < 3; i++) {
    convert_result_t result;
    OK(convert(&configs[i], path_of("samples.h5"), 7, &result));
    reader_config_t binary = binary_config(&configs[i], path_of("bad.h5"));
    long bytes, step;
    char *data = read_file(path_of("samples.h5"), &bytes);
    step = bytes / 97;
    for (long at = i; at < bytes; at += step) {
      data[at] = (char)(data[at] ^ 1 << at % 8);
      write_bytes("bad.h5", data, (size_t)bytes);
      data[at] = (char)(data[at] ^ 1 << at % 8);
      ck_assert_msg(read_through(&binary) != SBAG_OK, "byte %ld of %ld", at, bytes);
      ck_assert_msg(strstr(status.message, "bad.h5") != NULL, "byte %ld: %s", at, status.message);
      write_bytes("bad.h5", data, (size_t)at);
      ck_assert_msg(read_through(&binary) != SBAG_OK, "%ld of %ld bytes", at, bytes);
      ck_assert_msg(strstr(status.message, "bad.h5") != NULL, "%ld bytes: %s", at, status.message);
    }
    free(data);
  }
}
END_TEST

/* ---- intact files that say what no conversion writes ---- */

typedef struct fake {
  comm_t *comm;
  checkpoint_writer_t *writer;
  blobs_t blobs;
} fake_t;

static sbag_code_t fill_numbers(void *user, int64_t first, int64_t rows, void *out, sbag_status_t *unused) {
  const int64_t *from = user;
  (void)unused;
  if (rows > 0) memcpy(out, from + first, (size_t)rows * sizeof *from);
  return SBAG_OK;
}

static sbag_code_t fill_words(void *user, int64_t first, int64_t rows, void *out, sbag_status_t *unused) {
  const int64_t *from = user;
  int32_t *to = out;
  (void)unused;
  for (int64_t i = 0; i < rows; i++) to[i] = (int32_t)from[first + i];
  return SBAG_OK;
}

static void add_numbers(fake_t *f, const char *name, const int64_t *values, int64_t count) {
  OK(checkpoint_add_array(f->writer, name, CHECKPOINT_I64, 1, &count, fill_numbers, (void *)(uintptr_t)values,
                          &status));
}

static void add_words(fake_t *f, const char *name, const char *const *words, int count) {
  vocabulary_t *made = NULL;
  int64_t index;
  char blob[96];
  OK(reader_vocabulary_create(mem, &made, &status));
  for (int i = 0; i < count; i++)
    OK(reader_vocabulary_add(made, (text_t){words[i], (int64_t)strlen(words[i])}, &index, &status));
  OK(reader_vocabulary_save(made, name, 1, 0, &f->blobs, mem, &status));
  reader_vocabulary_destroy(&made);
  const reader_blob_t *last = &f->blobs.items[f->blobs.count - 1];
  snprintf(blob, sizeof blob, BINARY_BLOBS "vocabulary/%s", name);
  OK(checkpoint_add_blob(f->writer, blob, last->data, last->bytes, &status));
}

static void fake_begin(fake_t *f, const char *form) {
  *f = (fake_t){0};
  OK(comm_self_create(mem, NULL, &f->comm, &status));
  OK(checkpoint_writer_create(f->comm, mem, path_of("fake.h5"), &f->writer, &status));
  OK(checkpoint_add_int(f->writer, "", BINARY_MARK, BINARY_FORMAT, &status));
  OK(checkpoint_add_text(f->writer, "", "form", form, &status));
}

static void fake_end(fake_t *f) {
  OK(checkpoint_commit(&f->writer, &status));
  reader_blobs_free(&f->blobs, mem);
  comm_destroy(&f->comm);
}

/* Two users, of whom the first has two items, the second one; three items. */
typedef struct lists {
  int64_t begin[4], items[3], timeline[3], negatives, history;
} lists_t;

static const lists_t good_lists = {{0, 0, 2, 3}, {1, 3, 2}, {3, 1, 2}, 1, 2};

static void write_lists(const lists_t *lists) {
  static const char *const users[] = {"u", "v"}, *const items[] = {"a", "b", "c"};
  static const int64_t none[4] = {0};
  fake_t f;
  fake_begin(&f, "ranking");
  add_words(&f, "user", users, 2);
  add_words(&f, "item", items, 3);
  add_numbers(&f, "ranking/begin/train", lists->begin, 4);
  add_numbers(&f, "ranking/items/train", lists->items, 3);
  add_numbers(&f, "ranking/timeline", lists->timeline, 3);
  add_numbers(&f, "ranking/begin/valid", none, 4);
  add_numbers(&f, "ranking/items/valid", none, 0);
  add_numbers(&f, "ranking/begin/test", none, 4);
  add_numbers(&f, "ranking/items/test", none, 0);
  OK(checkpoint_add_int(f.writer, "ranking", "negatives", lists->negatives, &status));
  OK(checkpoint_add_int(f.writer, "ranking", "history_length", lists->history, &status));
  fake_end(&f);
}

static void refuse_lists(lists_t lists, const char *words) {
  reader_config_t config = plain_config(READER_RANKING), binary = binary_config(&config, path_of("fake.h5"));
  write_lists(&lists);
  check_refused(&binary, NULL, 0, words);
}

START_TEST(test_fake_lists) {
  reader_config_t config = plain_config(READER_RANKING), binary = binary_config(&config, path_of("fake.h5"));
  write_lists(&good_lists);
  OK(read_through(&binary));
  static const char ascend[] =
      "fake.h5: users' items that do not ascend; make it anew by shardbag data convert";
  static const char times[] = "a user's items by time are not the user's items";
  lists_t bad = good_lists;
  bad.begin[2] = 4;
  refuse_lists(bad, ascend);
  bad.begin[2] = -1;
  refuse_lists(bad, ascend);
  bad = good_lists;
  bad.begin[3] = 2;
  refuse_lists(bad, ascend);
  bad = good_lists;
  bad.begin[1] = 1; /* of nobody */
  refuse_lists(bad, ascend);
  bad = good_lists;
  bad.items[1] = 1; /* twice */
  refuse_lists(bad, ascend);
  bad.items[1] = 4; /* beyond the items */
  refuse_lists(bad, ascend);
  bad = good_lists;
  bad.items[2] = 0;
  refuse_lists(bad, ascend);
  bad = good_lists;
  bad.timeline[1] = 3; /* twice */
  refuse_lists(bad, times);
  bad.timeline[1] = 2; /* the other user's */
  refuse_lists(bad, times);
  bad = good_lists;
  bad.negatives = 0;
  refuse_lists(bad, "0 negatives");
  bad = good_lists;
  bad.history = -1;
  refuse_lists(bad, "history length -1");
}
END_TEST

typedef struct text_case {
  int64_t words[5], splits[3], window, negatives;
  int words_count;
} text_case_t;

static const text_case_t good_text = {{-1, 2, 1, -2, 1}, {3, 0, 2}, 2, 1, 2};

static void write_corpus(const text_case_t *c) {
  static const char *const words[] = {"one", "two"};
  const int64_t length = 5;
  unsigned char counts[32] = "SBCOUNT1";
  fake_t f;
  fake_begin(&f, "corpus");
  add_words(&f, "word", words, c->words_count);
  reader_blob_put_u64(counts + 8, 1);
  for (int i = 0; i < c->words_count; i++) reader_blob_put_u64(counts + 16 + 8 * i, 3);
  OK(checkpoint_add_blob(f.writer, BINARY_BLOBS "counts/word", counts, 16 + 8 * c->words_count, &status));
  OK(checkpoint_add_array(f.writer, "corpus/words", CHECKPOINT_I32, 1, &length, fill_words,
                          (void *)(uintptr_t)c->words, &status));
  for (int s = 0; s < READER_SPLITS; s++)
    OK(checkpoint_add_int(f.writer, "corpus", reader_split_name((reader_split_t)s), c->splits[s], &status));
  OK(checkpoint_add_int(f.writer, "corpus", "min_count", 1, &status));
  OK(checkpoint_add_int(f.writer, "corpus", "window", c->window, &status));
  OK(checkpoint_add_int(f.writer, "corpus", "negatives", c->negatives, &status));
  fake_end(&f);
}

static void refuse_corpus(text_case_t c, const char *words) {
  reader_config_t config = plain_config(READER_CORPUS), binary = binary_config(&config, path_of("fake.h5"));
  write_corpus(&c);
  check_refused(&binary, NULL, 0, words);
}

START_TEST(test_fake_corpus) {
  reader_config_t config = plain_config(READER_CORPUS), binary = binary_config(&config, path_of("fake.h5"));
  write_corpus(&good_text);
  OK(read_through(&binary));
  text_case_t bad = good_text;
  bad.words[1] = 3;
  refuse_corpus(bad, "fake.h5: words that are none");
  bad.words[1] = 0;
  refuse_corpus(bad, "words that are none");
  bad.words[1] = INT32_MIN;
  refuse_corpus(bad, "words that are none");
  bad = good_text;
  bad.splits[0] = 6;
  refuse_corpus(bad, "splits beyond its words");
  bad.splits[0] = -1;
  refuse_corpus(bad, "splits beyond its words");
  bad.splits[0] = 2;
  refuse_corpus(bad, "splits that are not its words");
  bad = good_text;
  bad.splits[0] = 0;
  bad.splits[1] = 3;
  refuse_corpus(bad, "splits that are not its words");
  bad = good_text;
  bad.window = 0;
  refuse_corpus(bad, "window 0");
  bad = good_text;
  bad.words_count = 1;
  refuse_corpus(bad, "fewer than 2 different words");
}
END_TEST

/* Labels of a converted file must be classes. */
START_TEST(test_fake_classes) {
  for (int wrong = 0; wrong < 3; wrong++) {
    static const float labels[] = {2.0F, -1.0F, 0.5F};
    reader_config_t config = plain_config(READER_BINARY);
    const int64_t none = 0, one = 1;
    int64_t bits = 0;
    fake_t f;
    memcpy(&bits, &labels[wrong], sizeof labels[wrong]);
    fake_begin(&f, BINARY_SAMPLES);
    static const char *const keys[] = {"dense_count", "feature_count", "shuffle_window"};
    for (int k = 0; k < 3; k++) OK(checkpoint_add_int(f.writer, "", keys[k], 0, &status));
    OK(checkpoint_add_int(f.writer, "", "class_count", 2, &status));
    OK(checkpoint_add_text(f.writer, "", "order", "windows", &status));
    for (int s = 0; s < READER_SPLITS; s++) {
      char name[BINARY_NAME_BYTES];
      reader_binary_plain_name("labels", (reader_split_t)s, name);
      OK(checkpoint_add_array(f.writer, name, CHECKPOINT_F32, 1, s == 0 ? &one : &none, fill_words, &bits,
                              &status));
    }
    fake_end(&f);
    config.source.binary = (reader_binary_config_t){.path = path_of("fake.h5"), .shuffle_window = -1};
    ck_assert_int_eq(read_through(&config), SBAG_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(status.message, "fake.h5: labels that are no classes"));
  }
}
END_TEST

Suite *reader_forms_suite(void);
Suite *reader_forms_suite(void) {
  Suite *suite = suite_create("reader_forms");
  TCase *tests = tcase_create("all");
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_set_timeout(tests, 60);
  tcase_add_test(tests, test_classes);
  tcase_add_test(tests, test_ranking);
  tcase_add_test(tests, test_corpus);
  tcase_add_test(tests, test_state);
  tcase_add_test(tests, test_chosen_splits);
  tcase_add_test(tests, test_damage);
  tcase_add_test(tests, test_fake_lists);
  tcase_add_test(tests, test_fake_corpus);
  tcase_add_test(tests, test_fake_classes);
  suite_add_tcase(suite, tests);
  return suite;
}
