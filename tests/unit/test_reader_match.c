/* Users and items, and a text's words: samples, what is drawn, orders, held-out items, and what is malformed.
 */
#include "reader/interactions.h"
#include "reader/lines.h"
#include "test_reader_common.h"

Suite *reader_match_suite(void);

/* ---- ranking ---- */

static reader_config_t ranking_config(const char *const *paths, int train, int test) {
  return (reader_config_t){
      .kind = READER_RANKING,
      .seed = 3,
      .global_batch = 7,
      .slice = 1,
      .shuffle = 1,
      .prefetch = 2,
      .rank_count = 1,
      .source.ranking = {
          .paths = paths, .path_count = train + test, .split_paths = {train, 0, test}, .negatives = 3}};
}

static reader_config_t inter_config(const char *const *paths) {
  reader_config_t config = ranking_config(paths, 1, 0);
  config.source.ranking.held_out = 1;
  config.source.ranking.holdout[1] = 0.4;
  return config;
}

START_TEST(test_lists) {
  const char *paths[] = {write_text("train", "10 7 100 7\r\n2 7 \n30\n2 9\n"),
                         write_text("test", "2 100\n10\n")};
  reader_config_t config = ranking_config(paths, 1, 1);
  reader_t *reader = NULL;
  const int64_t *items;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  const interactions_t *all = reader_interactions(reader);
  ck_assert_int_eq(all->user_rows, 4); /* none, 2, 10, 30 */
  ck_assert_int_eq(all->item_rows, 4); /* none, 7, 9, 100 */
  ck_assert_int_eq(reader_interactions_of(all, READER_TRAIN, 1, &items), 2);
  ck_assert(items[0] == 1 && items[1] == 2);
  ck_assert_int_eq(reader_interactions_of(all, READER_TRAIN, 2, &items), 2); /* 7 counts once */
  ck_assert(items[0] == 1 && items[1] == 3);
  ck_assert_int_eq(reader_interactions_of(all, READER_TRAIN, 3, &items), 0);
  ck_assert_int_eq(reader_interactions_of(all, READER_TEST, 1, &items), 1);
  ck_assert_int_eq(items[0], 3);
  ck_assert_int_eq(reader_samples(reader, READER_TRAIN), 4);
  ck_assert_int_eq(reader_samples(reader, READER_TEST), 1); /* users with items */
  ck_assert_int_eq(reader_feature_count(reader), 5);
  ck_assert_str_eq(reader_feature(reader, 2)->name, "negative_0");
  ck_assert_str_eq(reader_feature(reader, 2)->table, "item");
  ck_assert_int_eq((int)reader_feature(reader, 1)->role, ROLE_POSITIVE);
  reader_close(&reader);
}
END_TEST

/* The newest 40 % of each user, rounded down; ids that are no integers are in the order of their bytes. */
START_TEST(test_held_out) {
  const char *path = write_text("a.inter", "item_id:token\tuser_id:token\trating:float\ttimestamp:float\n"
                                           "c\tu\t3\t50\nb\tu\t3\t10\na\tu\t5\t40\nd\tu\t1\t30\ne\tu\t2\t20\n"
                                           "a\tv\t3\t9\nb\tv\t3\t8\n");
  reader_config_t config = inter_config(&path);
  reader_t *reader = NULL;
  const int64_t *items;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  const interactions_t *all = reader_interactions(reader);
  ck_assert_int_eq(reader_interactions_of(all, READER_TEST, 1, &items), 2);
  ck_assert(items[0] == 1 && items[1] == 3); /* a and c */
  ck_assert_int_eq(reader_interactions_of(all, READER_TRAIN, 1, &items), 3);
  ck_assert_int_eq(reader_interactions_of(all, READER_TEST, 2, &items), 0);
  ck_assert_int_eq(reader_interactions_of(all, READER_TRAIN, 2, &items), 2);
  reader_close(&reader);
  config.source.ranking.min_rating = 3;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  ck_assert_int_eq(reader_interactions_of(reader_interactions(reader), READER_TRAIN, 1, &items), 2);
  reader_close(&reader);
}
END_TEST

/* With times, what came before the target, the newest first; of an evaluation, what came last. */
START_TEST(test_newest_history) {
  const char *path =
      write_text("a.inter", "user_id\titem_id\ttimestamp\n1\t5\t40\n1\t3\t10\n1\t4\t30\n1\t3\t20\n"
                            "1\t9\t50\n1\t8\t60\n2\t3\t9\n");
  reader_config_t config = inter_config(&path);
  config.source.ranking.history_length = 2;
  config.shuffle = 0;
  reader_t *reader = NULL;
  const reader_batch_t *batch = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  /* rows: 3, 4, 5, 8, 9 are 1 to 5; user 1 trains on 3 (10, again 20), 4 (30), 5 (40), and the test is 9, 8
   */
  OK(reader_start(reader, READER_TRAIN, 0, 0, &status));
  OK(reader_next(reader, &batch, &status));
  const reader_bags_t *bags = &batch->features[1];
  const int64_t want[] = {1, 2, 1}; /* of 3: none, of 4: 3, of 5: 4 and 3; of user 2's 3: none */
  ck_assert_int_eq(batch->samples, 4);
  ck_assert_int_eq(bags->nnz, 3);
  for (int i = 0; i < 3; i++) ck_assert_int_eq(bags->indices[i], want[i]);
  ck_assert_int_eq(bags->offsets[1], 0);
  ck_assert_int_eq(bags->offsets[2], 1);
  ck_assert_int_eq(bags->offsets[3], 3);
  OK(reader_start(reader, READER_TEST, 0, 0, &status));
  OK(reader_next(reader, &batch, &status));
  ck_assert_int_eq(batch->samples, 1);
  ck_assert_int_eq(batch->features[1].nnz, 2);
  ck_assert_int_eq(batch->features[1].indices[0], 3);
  ck_assert_int_eq(batch->features[1].indices[1], 2);
  reader_close(&reader);
}
END_TEST

/* User u has items u + 1 to u + 12, of 40. */
static const char *write_users(const char *name, int users) {
  char text[8192];
  int at = 0;
  for (int u = 0; u < users; u++) {
    at += snprintf(text + at, sizeof text - (size_t)at, "%d", u);
    for (int i = 1; i <= 12; i++) at += snprintf(text + at, sizeof text - (size_t)at, " %d", (u + i) % 40);
    at += snprintf(text + at, sizeof text - (size_t)at, "\n");
  }
  return write_text(name, text);
}

START_TEST(test_negatives) {
  const char *path = write_users("train", 40);
  reader_config_t config = ranking_config(&path, 1, 0);
  reader_t *reader = NULL;
  const reader_batch_t *batch = NULL;
  int64_t drawn[41] = {0}, total = 0;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  const interactions_t *all = reader_interactions(reader);
  for (int64_t epoch = 0; epoch < 30; epoch++) {
    OK(reader_start(reader, READER_TRAIN, epoch, 0, &status));
    for (;;) {
      OK(reader_next(reader, &batch, &status));
      if (batch == NULL) break;
      for (int64_t i = 0; i < batch->samples; i++) {
        const int64_t *items;
        int64_t user = batch->features[0].indices[i];
        int64_t count = reader_interactions_of(all, READER_TRAIN, user, &items);
        ck_assert(reader_interactions_have(items, count, batch->features[1].indices[i]));
        for (int f = 2; f < 5; f++, total++) {
          ck_assert(!reader_interactions_have(items, count, batch->features[f].indices[i]));
          drawn[batch->features[f].indices[i]]++;
        }
      }
    }
  }
  for (int i = 1; i <= 40; i++)
    ck_assert_int_lt(llabs(drawn[i] - total / 40), total / 400); /* 6 sigma: 190 */
  reader_close(&reader);
}
END_TEST

/* Rows that a list lacks, in order. */
START_TEST(test_others) {
  const int64_t items[] = {1, 2, 5, 9};
  const int64_t others[] = {3, 4, 6, 7, 8, 10, 11};
  for (int64_t r = 0; r < 7; r++) ck_assert_int_eq(reader_interactions_other(items, 4, r), others[r]);
  ck_assert_int_eq(reader_interactions_other(items, 0, 4), 5);
}
END_TEST

/* All epochs see the same users and items; what is drawn follows from the sample, not from ranks. */
static void check_ranks(const reader_config_t *config, reader_split_t split) {
  samples_t one = read_epoch(config, 1, split, 2, 0), other = read_epoch(config, 1, split, 3, 0);
  for (int ranks = 2; ranks <= 8; ranks++) {
    samples_t many = read_epoch(config, ranks, split, 2, 0);
    ck_assert_msg(same_samples(&one, &many), "%d ranks", ranks);
    free_samples(&many);
  }
  samples_t rest = read_epoch(config, 2, split, 2, 2);
  ck_assert_int_eq(memcmp(rest.values, one.values + one.value_count - rest.value_count,
                          (size_t)rest.value_count * sizeof *rest.values),
                   0);
  ck_assert_int_eq(same_samples(&one, &other), split != READER_TRAIN);
  free_samples(&rest);
  free_samples(&other);
  free_samples(&one);
}

START_TEST(test_ranking_order) {
  const char *paths[] = {write_users("train", 30),
                         write_text("test", "0 20\n3 1\n7 1\n8 1\n9 1\n11 1\n12 1\n"
                                            "13 1\n14 1\n15 1\n16 2\n17 3\n18 3\n19 3\n20 1\n")};
  reader_config_t config = ranking_config(paths, 1, 1);
  config.source.ranking.history_length = 5;
  check_ranks(&config, READER_TRAIN);
  check_ranks(&config, READER_TEST);
  check_warm(&config, 20);
  check_memory_failures(&config);
}
END_TEST

/* Users by name in place of the test, as often and in the order as they stand there. */
START_TEST(test_users) {
  const char *path = write_users("train", 20);
  reader_config_t config = ranking_config(&path, 1, 0);
  config.source.ranking.users_path = write_text("users", "7\n19 1 2\r\n7\t3\n0");
  reader_t *reader = NULL;
  const reader_batch_t *batch = NULL;
  const int64_t want[] = {8, 20, 8, 1};
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  ck_assert_int_eq(reader_samples(reader, READER_TEST), 4);
  OK(reader_start(reader, READER_TEST, 0, 0, &status));
  OK(reader_next(reader, &batch, &status));
  for (int i = 0; i < 4; i++) ck_assert_int_eq(batch->features[0].indices[i], want[i]);
  reader_close(&reader);
  check_memory_failures(&config);
  config.source.ranking.users_path = write_text("strangers", "7\n\n");
  check_refused(&config, NULL, 0, "strangers:2: column 0: not a user: ''");
  config.source.ranking.users_path = path_of("nowhere");
  check_refused(&config, NULL, 0, "nowhere: cannot open");
}
END_TEST

/* Other items of the user than the target, and no others. */
START_TEST(test_history) {
  const char *path = write_users("train", 20);
  reader_config_t config = ranking_config(&path, 1, 0);
  config.source.ranking.history_length = 11;
  reader_t *reader = NULL;
  const reader_batch_t *batch = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  ck_assert_str_eq(reader_feature(reader, 1)->name, "history");
  OK(reader_start(reader, READER_TRAIN, 0, 0, &status));
  OK(reader_next(reader, &batch, &status));
  for (int64_t i = 0; i < batch->samples; i++) {
    const reader_bags_t *bags = &batch->features[1];
    ck_assert_int_eq(bags->offsets[i + 1] - bags->offsets[i], 11);
    for (int64_t j = bags->offsets[i]; j < bags->offsets[i + 1]; j++)
      ck_assert_int_ne(bags->indices[j], batch->features[2].indices[i]);
  }
  reader_close(&reader);
}
END_TEST

START_TEST(test_malformed_lists) {
  const struct {
    const char *text, *words;
  } cases[] = {{"1 2 3\n\n", "bad:2: column 0: the line is empty"},
               {"1 2\nx 3\n", "bad:2: column 0: not a user: 'x'"},
               {"1 2\r\n2 3 y4 5\n", "bad:2: column 2: not an item: 'y4'"},
               {"1 2\n2 -3\n", "bad:2: column 1: not an item: '-3'"},
               {"1 99999999999999999999\n", "bad:1: column 1: not an item"},
               {"1\n2\n", "no user has an item to train on"},
               {"", "no user has an item to train on"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const char *path = write_text("bad", cases[i].text);
    reader_config_t config = ranking_config(&path, 1, 0);
    check_refused(&config, NULL, 0, cases[i].words);
  }
  const char *nul = write_bytes("nul", "1 2\n3 4\0 5\n", 11),
             *mixed = write_text("mixed", "1 2 3\nx\n2 3\n4 y\n");
  reader_config_t config = ranking_config(&nul, 1, 0);
  check_refused(&config, NULL, 0, "nul:2: column 1: the row has a NUL byte");
  config = ranking_config(&mixed, 1, 0);
  config.source.ranking.skip_bad_rows = 1;
  reader_t *reader = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  ck_assert_int_eq(reader_bad_rows(reader), 2);
  ck_assert_ptr_nonnull(strstr(reader_first_bad(reader), "mixed:2: column 0"));
  ck_assert_int_eq(reader_samples(reader, READER_TRAIN), 3);
  blob_copy_t blobs = copy_blobs(reader);
  reader_close(&reader);
  const char *stranger = write_text("stranger", "1 2\n1 8\n");
  config = ranking_config(&stranger, 1, 0);
  check_refused(&config, blobs.items, blobs.count, "stranger:2: column 1: not an item: '8'; it is unknown");
  free_blobs(&blobs);
  const char *none = path_of("none");
  config = ranking_config(&none, 1, 0);
  check_refused(&config, NULL, 0, "none: cannot open: No such file or directory");
}
END_TEST

START_TEST(test_malformed_inter) {
  const char head[] = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n";
  const struct {
    const char *row, *words;
  } cases[] = {{"u\ti\t3\n", "bad:2: column 3: missing"},
               {"u\ti\tx\t5\n", "bad:2: column 2: not a rating: 'x'"},
               {"u\ti\t3\tlater\n", "bad:2: column 3: not a time: 'later'"},
               {"\ti\t3\t5\n", "bad:2: column 0: not a user: ''"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char text[400];
    snprintf(text, sizeof text, "%s%s", head, cases[i].row);
    const char *path = write_text("bad", text);
    reader_config_t config = inter_config(&path);
    check_refused(&config, NULL, 0, cases[i].words);
  }
  const char *path = write_text("headless", "1\t2\t3\n");
  reader_config_t config = inter_config(&path);
  check_refused(&config, NULL, 0, "headless:1: no column 'user_id'");
}
END_TEST

/* A file that is cut off between its opening and its end. */
START_TEST(test_shrinking_file) {
  size_t bytes = 1 << 20;
  char *text = malloc(bytes);
  for (size_t i = 0; i < bytes; i++) text[i] = i % 8 == 7 ? '\n' : '1';
  const char *path = write_bytes("long", text, bytes);
  free(text);
  lines_t *lines = NULL;
  text_t line;
  OK(reader_lines_open(path, mem, &lines, &status));
  OK(reader_lines_next(lines, &line, &status));
  ck_assert_int_eq(truncate(path, 600000), 0);
  sbag_code_t code = SBAG_OK;
  while (code == SBAG_OK && line.bytes != NULL) code = reader_lines_next(lines, &line, &status);
  ck_assert_int_eq(code, SBAG_ERR_IO);
  ck_assert_ptr_nonnull(strstr(status.message, "the file ends after 600000 bytes, but it had 1048576"));
  reader_lines_close(&lines);
}
END_TEST

/* ---- corpus ---- */

static reader_config_t corpus_config(const char *const *paths, int count) {
  return (reader_config_t){.kind = READER_CORPUS,
                           .seed = 3,
                           .global_batch = 7,
                           .slice = 1,
                           .shuffle = 1,
                           .prefetch = 2,
                           .rank_count = 1,
                           .source.corpus = {.paths = paths,
                                             .path_count = count,
                                             .lowercase = 1,
                                             .min_count = 1,
                                             .window = 2,
                                             .negatives = 2,
                                             .split = {1, 0, 0}}};
}

START_TEST(test_corpus) {
  const char *paths[] = {write_text("a", "\xef\xbb\xbf"
                                         "A b\tc\r\nd a b\n"),
                         write_gzip("b.gz", "a b rare e")};
  reader_config_t config = corpus_config(paths, 2);
  reader_t *reader = NULL;
  const reader_batch_t *batch = NULL;
  config.shuffle = 0;
  config.global_batch = 100;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  ck_assert_int_eq(reader_samples(reader, READER_TRAIN), 10);
  ck_assert_int_eq(reader_feature_count(reader), 4);
  ck_assert_int_eq(reader_feature(reader, 0)->rows, 7); /* a, b, c, d, rare, e, and row 0 */
  OK(reader_start(reader, READER_TRAIN, 0, 0, &status));
  OK(reader_next(reader, &batch, &status));
  const int64_t targets[] = {1, 2, 3, 4, 1, 2, 1, 2, 5, 6}; /* the most frequent first */
  static const int line_of[] = {0, 0, 0, 1, 1, 1, 2, 2, 2, 2};
  const reader_bags_t *context = &batch->features[0];
  for (int i = 0; i < 10; i++) {
    ck_assert_int_eq(batch->features[1].indices[i], targets[i]);
    for (int64_t j = context->offsets[i]; j < context->offsets[i + 1]; j++) {
      int found = 0; /* a neighbour on the same line */
      for (int n = i - 2; n <= i + 2; n++)
        found |= n >= 0 && n < 10 && n != i && line_of[n] == line_of[i] && targets[n] == context->indices[j];
      ck_assert(found);
    }
    ck_assert_int_gt(context->offsets[i + 1], context->offsets[i]);
    for (int f = 2; f < 4; f++) ck_assert_int_ne(batch->features[f].indices[i], targets[i]);
  }
  reader_close(&reader);
  config.source.corpus.min_count = 3;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  ck_assert_int_eq(reader_samples(reader, READER_TRAIN), 6); /* a and b */
  reader_close(&reader);
}
END_TEST

static const char *write_words(const char *name, int words) {
  static char text[60000];
  int at = 0;
  for (int i = 0; i < words; i++)
    at += snprintf(text + at, sizeof text - (size_t)at, "%s%c",
                   i % 3 == 0 ? "often" : (const char *[]){"w1", "w2", "w3", "w4", "w5"}[i * 7 % 5],
                   i % 11 == 10 ? '\n' : ' ');
  return write_text(name, text);
}

START_TEST(test_corpus_order) {
  const char *path = write_words("a", 600);
  reader_config_t config = corpus_config(&path, 1);
  config.source.corpus.split[0] = 0.5;
  config.source.corpus.split[1] = config.source.corpus.split[2] = 0.25;
  check_ranks(&config, READER_TRAIN);
  check_ranks(&config, READER_VALID);
  check_ranks(&config, READER_TEST);
  check_warm(&config, 20);
  check_memory_failures(&config);
}
END_TEST

/* A third of the words is one: thinned out it is rarer than it was, and others stay. */
START_TEST(test_subsampling) {
  const char *path = write_words("a", 6000);
  reader_config_t config = corpus_config(&path, 1);
  reader_t *reader = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  int64_t all = reader_samples(reader, READER_TRAIN);
  reader_close(&reader);
  config.source.corpus.subsample = 0.14; /* the others have 0.133 each */
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  int64_t kept = reader_samples(reader, READER_TRAIN);
  reader_close(&reader);
  ck_assert_int_eq(all, 6000);
  /* sqrt(0.14 / 0.333) + 0.14 / 0.333 is 1.07: nothing goes */
  ck_assert_int_eq(kept, 6000);
  config.source.corpus.subsample = 0.03; /* 0.39 of `often`, 0.70 of the others */
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  kept = reader_samples(reader, READER_TRAIN);
  reader_close(&reader);
  ck_assert_int_gt(kept, 3400);
  ck_assert_int_lt(kept, 3760);
}
END_TEST

START_TEST(test_malformed_corpus) {
  const char *path = write_bytes("nul", "a b\nc d\0e f\n", 12);
  reader_config_t config = corpus_config(&path, 1);
  check_refused(&config, NULL, 0, "nul:2: column 4: a NUL byte");
  config.source.corpus.skip_bad_rows = 1;
  reader_t *reader = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  ck_assert_int_eq(reader_bad_rows(reader), 1);
  ck_assert_int_eq(reader_samples(reader, READER_TRAIN), 4);
  reader_close(&reader);
  char huge[1200];
  memset(huge, 'w', sizeof huge);
  memcpy(huge, "a b ", 4);
  path = write_bytes("huge", huge, sizeof huge);
  config = corpus_config(&path, 1);
  check_refused(&config, NULL, 0, "huge:1: column 1005: a word goes on and on");
  path = write_text("poor", "a a a a\n");
  config = corpus_config(&path, 1);
  check_refused(&config, NULL, 0, "poor: 1 different words");
  path = path_of("none");
  config = corpus_config(&path, 1);
  check_refused(&config, NULL, 0, "none: cannot open: No such file or directory");
  char good[] = "a b c a b c";
  path = write_gzip("cut.gz", good);
  ck_assert_int_eq(truncate(path, 15), 0);
  config = corpus_config(&path, 1);
  check_refused(&config, NULL, 0, "cut.gz:1: column");
}
END_TEST

Suite *reader_match_suite(void) {
  Suite *suite = suite_create("reader_match");
  TCase *tc = tcase_create("ranking");
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_set_timeout(tc, 60);
  tcase_add_test(tc, test_lists);
  tcase_add_test(tc, test_held_out);
  tcase_add_test(tc, test_negatives);
  tcase_add_test(tc, test_others);
  tcase_add_test(tc, test_ranking_order);
  tcase_add_test(tc, test_users);
  tcase_add_test(tc, test_history);
  tcase_add_test(tc, test_newest_history);
  tcase_add_test(tc, test_malformed_lists);
  tcase_add_test(tc, test_malformed_inter);
  tcase_add_test(tc, test_shrinking_file);
  suite_add_tcase(suite, tc);
  tc = tcase_create("corpus");
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_set_timeout(tc, 60);
  tcase_add_test(tc, test_corpus);
  tcase_add_test(tc, test_corpus_order);
  tcase_add_test(tc, test_subsampling);
  tcase_add_test(tc, test_malformed_corpus);
  suite_add_tcase(suite, tc);
  return suite;
}
