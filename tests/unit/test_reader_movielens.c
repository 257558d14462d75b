/* MovieLens on a small made-up data set in the same format, held against a plain recomputation. */
#include "base/random.h"
#include "test_reader_common.h"

enum { USERS = 12, MOVIES = 15, RATINGS = 700, UNKNOWN_USER = USERS, UNKNOWN_MOVIE = MOVIES };

typedef struct made {
  int user, movie, stars, time;
} made_t;

static made_t made[RATINGS];
static const char *const ages[] = {"24", "5", "99", "old", "30", "34", "35", "0", "95", "", "-1", "10"};
static const int64_t age_rows[] = {5, 2, 20, 0, 7, 7, 8, 1, 20, 0, 0, 3};
static const char *const genres[] = {"Drama", "Drama Comedy", "", "War  Drama "};
static const int genre_counts[] = {1, 2, 0, 2};
static const int64_t genre_rows[4][2] = {{1}, {1, 2}, {0}, {3, 1}};

/* Writes t.user, t.item and t.inter. Movies and users are numbered from 100 so that no row equals a token;
 * the last user and movie of the ratings have no line of their own; many timestamps are equal. */
static void write_data(void) {
  static char text[40000];
  int at = sprintf(text, "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n");
  for (int u = 0; u < USERS; u++)
    at += sprintf(text + at, "%d\t%s\t%s\tjob%d\t12345\n", 100 + u, ages[u], u % 3 ? "F" : "M", u % 5);
  write_text("t.user", text);
  at = sprintf(text, "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\r\n");
  for (int m = 0; m < MOVIES; m++)
    at += sprintf(text + at, "%d\tThe %d\t1995\t%s\r\n", 100 + m, m, genres[m % 4]);
  write_text("t.item", text);
  at = sprintf(text, "user_id:token\titem_id:token\trating:float\ttimestamp:float\n");
  for (int i = 0; i < RATINGS; i++) {
    made[i] =
        (made_t){(int)random_below(1, (uint64_t)i, USERS + 1), (int)random_below(2, (uint64_t)i, MOVIES + 1),
                 1 + (int)random_below(3, (uint64_t)i, 5), 880000000 + (int)random_below(4, (uint64_t)i, 60)};
    at += sprintf(text + at, "%d\t%d\t%d\t%d\n", 100 + made[i].user, 100 + made[i].movie, made[i].stars,
                  made[i].time);
  }
  write_text("t.inter", text);
}

static reader_config_t small_config(void) {
  return (reader_config_t){
      .kind = READER_MOVIELENS,
      .seed = 5,
      .split_seed = 2,
      .global_batch = 25,
      .slice = 1,
      .shuffle = 1,
      .prefetch = 2,
      .rank_count = 1,
      .source.movielens = {.folder = folder, .name = "t", .like_threshold = 4.0, .history_length = 6}};
}

static int split_of(int line, uint64_t seed) {
  uint64_t tenth = random_u64(random_key(seed, "split"), (uint64_t)line) % 10;
  return tenth < 8 ? READER_TRAIN : tenth == 8 ? READER_VALID : READER_TEST;
}

static int64_t movie_row(int movie) {
  return movie == UNKNOWN_MOVIE ? 0 : movie + 1;
}

/* The history by exhaustion: pick again and again the newest (then latest) like before `before`. */
static void put_history(samples_t *s, int line, int limit, int64_t *longest) {
  int64_t rows[RATINGS], count = 0;
  int last_time = made[line].time, last_line = -1; /* strictly earlier than the rating itself */
  while (count < limit) {
    int best = -1;
    for (int i = 0; i < RATINGS; i++) {
      if (made[i].user != made[line].user || made[i].stars < 4 || split_of(i, 2) != READER_TRAIN) continue;
      int before = made[i].time < last_time || (made[i].time == last_time && i < last_line);
      if (!before) continue;
      if (best < 0 || made[i].time > made[best].time || (made[i].time == made[best].time && i > best))
        best = i;
    }
    if (best < 0) break;
    rows[count++] = movie_row(made[best].movie);
    last_time = made[best].time;
    last_line = best;
  }
  put(s, count);
  for (int64_t i = 0; i < count; i++) put(s, rows[i]);
  if (count > *longest) *longest = count;
}

static samples_t expected_samples(int split, int history, int64_t *longest) {
  samples_t s = {0};
  for (int i = 0; i < RATINGS; i++) {
    if (split_of(i, 2) != split) continue;
    int u = made[i].user, m = made[i].movie, known = u != UNKNOWN_USER;
    int64_t of_user[5] = {known ? u + 1 : 0, movie_row(m), known ? age_rows[u] : 0,
                          known ? (u % 3 ? 2 : 1) : 0, known ? u % 5 + 1 : 0};
    put(&s, float_bits(made[i].stars >= 4 ? 1.0F : 0.0F));
    for (int f = 0; f < 5; f++) {
      put(&s, 1);
      put(&s, of_user[f]);
    }
    int genre_count = m == UNKNOWN_MOVIE ? 0 : genre_counts[m % 4];
    put(&s, genre_count);
    for (int g = 0; g < genre_count; g++) put(&s, genre_rows[m % 4][g]);
    if (history > 0) put_history(&s, i, history, longest);
    put_end(&s);
  }
  return s;
}

START_TEST(test_every_sample) {
  static const int lengths[] = {0, 1, 6, 1000};
  write_data();
  for (int i = 0; i < 4; i++) {
    int64_t longest = 0;
    reader_config_t config = small_config();
    config.shuffle = 0;
    config.source.movielens.history_length = lengths[i];
    for (int split = 0; split < READER_SPLITS; split++) {
      samples_t expected = expected_samples(split, lengths[i], &longest);
      samples_t got = read_epoch(&config, 1, (reader_split_t)split, 0, 0);
      ck_assert_int_gt(got.count, 30);
      ck_assert(same_samples(&expected, &got));
      free_samples(&expected);
      free_samples(&got);
    }
    ck_assert(lengths[i] < 1000 ? longest == lengths[i] : longest > 12);
  }
}
END_TEST

START_TEST(test_order) {
  write_data();
  reader_config_t config = small_config();
  check_order(&config);
  config.slice = 8;
  check_order(&config);
}
END_TEST

START_TEST(test_features) {
  static const char *const names[] = {"user", "movie", "age", "gender", "occupation", "genres", "history"};
  static const int64_t rows[] = {USERS + 1, MOVIES + 1, 21, 3, 6, 4, MOVIES + 1};
  write_data();
  reader_config_t config = small_config();
  reader_t *reader = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  ck_assert_int_eq(reader_feature_count(reader), 7);
  ck_assert_int_eq(reader_dense_count(reader), 0);
  for (int f = 0; f < 7; f++) {
    ck_assert_str_eq(reader_feature(reader, f)->name, names[f]);
    ck_assert_int_eq(reader_feature(reader, f)->rows, rows[f]);
    ck_assert_int_eq(reader_feature(reader, f)->multi_hot, f >= 5);
  }
  int64_t all = 0;
  for (int s = 0; s < READER_SPLITS; s++) all += reader_samples(reader, (reader_split_t)s);
  ck_assert_int_eq(all, RATINGS);
  reader_close(&reader);
}
END_TEST

/* The control keeps the number of likes and nothing else of the labels. */
START_TEST(test_shuffled_labels) {
  write_data();
  reader_config_t config = small_config();
  config.shuffle = 0;
  config.source.movielens.history_length = 0;
  int64_t likes[2] = {0}, changed = 0;
  samples_t runs[2][READER_SPLITS];
  for (int shuffled = 0; shuffled < 2; shuffled++) {
    config.source.movielens.shuffle_labels = shuffled;
    for (int s = 0; s < READER_SPLITS; s++) {
      runs[shuffled][s] = read_epoch(&config, 2, (reader_split_t)s, 0, 0);
      const samples_t *run = &runs[shuffled][s];
      for (int64_t i = 0; i < run->count; i++)
        likes[shuffled] += run->values[i == 0 ? 0 : run->ends[i - 1]] != 0;
    }
  }
  ck_assert_int_eq(likes[0], likes[1]);
  for (int s = 0; s < READER_SPLITS; s++) {
    ck_assert_int_eq(runs[0][s].value_count, runs[1][s].value_count);
    for (int64_t i = 0; i < runs[0][s].count; i++) {
      int64_t at = i == 0 ? 0 : runs[0][s].ends[i - 1], end = runs[0][s].ends[i];
      changed += runs[0][s].values[at] != runs[1][s].values[at];
      ck_assert_int_eq(memcmp(&runs[0][s].values[at + 1], &runs[1][s].values[at + 1],
                              (size_t)(end - at - 1) * sizeof(int64_t)),
                       0);
    }
    free_samples(&runs[0][s]);
    free_samples(&runs[1][s]);
  }
  ck_assert(changed > RATINGS / 3 && changed < 2 * RATINGS / 3); /* about 2 p (1 - p), p = 0.4 */
}
END_TEST

START_TEST(test_blobs) {
  write_data();
  reader_config_t config = small_config();
  reader_t *reader = NULL, *again = NULL;
  OK(reader_open(&config, NULL, 0, mem, &reader, &status));
  blob_copy_t copy = copy_blobs(reader);
  ck_assert_int_eq(copy.count, 5);
  ck_assert_str_eq(copy.items[0].name, "vocabulary/user");
  OK(reader_open(&config, copy.items, copy.count, mem, &again, &status));
  ck_assert_int_eq(reader_blob_count(again), 5);
  for (int i = 0; i < 5; i++) {
    ck_assert_int_eq(reader_blob(again, i)->bytes, copy.items[i].bytes);
    ck_assert_int_eq(memcmp(reader_blob(again, i)->data, copy.items[i].data, (size_t)copy.items[i].bytes), 0);
  }
  reader_close(&again);
  check_refused(&config, copy.items, 4, "no 'vocabulary/genres'");
  copy.items[copy.count] = copy.items[0];
  check_refused(&config, copy.items, copy.count + 1, "twice");
  copy.items[4].bytes--;
  check_refused(&config, copy.items, copy.count, "damaged");
  copy.items[4].bytes++;
  /* The given rows hold although the file's order has changed, and users that they lack are unknown. */
  write_text("t.user", "gender:token\tuser_id:token\toccupation:token\tage:float\nF\t105\tjob9\t24\n");
  OK(reader_open(&config, copy.items, copy.count, mem, &again, &status));
  ck_assert_int_eq(reader_feature(again, 0)->rows, USERS + 1);
  const reader_batch_t *batch = NULL;
  OK(reader_start(again, READER_TRAIN, 0, 0, &status));
  int64_t seen = 0;
  for (;;) {
    OK(reader_next(again, &batch, &status));
    if (batch == NULL) break;
    for (int64_t i = 0; i < batch->samples; i++) {
      int64_t user = batch->features[0].indices[i];
      ck_assert(user == 0 || user == 6);
      if (user != 6) continue;
      seen++;
      ck_assert_int_eq(batch->features[2].indices[i], 5);
      ck_assert_int_eq(batch->features[3].indices[i], 2);
      ck_assert_int_eq(batch->features[4].indices[i], 0); /* job9 is new */
    }
  }
  ck_assert_int_gt(seen, 10);
  reader_close(&again);
  reader_close(&reader);
  free_blobs(&copy);
}
END_TEST

START_TEST(test_errors_name_the_place) {
  reader_config_t config = small_config();
  check_refused(&config, NULL, 0, "t.user: cannot open");
  write_data();
  write_text("t.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n100\t101\tfour\t5\n");
  check_refused(&config, NULL, 0, "t.inter:2: column 2 ('rating'): 'four' is not a number");
  write_text("t.inter",
             "user_id:token\titem_id:token\trating:float\ttimestamp:float\n100\t101\t4\t5\n100\t101\n");
  check_refused(&config, NULL, 0, "t.inter:3: 2 fields");
  write_text("t.inter", "user_id:token\titem_id:token\tstars:float\ttimestamp:float\n");
  check_refused(&config, NULL, 0, "t.inter:1: no column 'rating'");
  write_text("t.inter", "");
  check_refused(&config, NULL, 0, "t.inter: the file is empty");
  write_text("t.user", "user_id:token\tage:token\tgender:token\toccupation:token\n7\t1\tM\tx\n7\t1\tM\tx\n");
  check_refused(&config, NULL, 0, "t.user:3: '7' has a line of its own already");
  config.source.movielens.history_length = -1;
  check_refused(&config, NULL, 0, "history length -1");
  config = small_config();
  config.source.movielens.name = NULL;
  check_refused(&config, NULL, 0, "the name is not given");
}
END_TEST

START_TEST(test_warm_steps_allocate_nothing) {
  write_data();
  reader_config_t config = small_config();
  check_warm(&config, 0);
}
END_TEST

START_TEST(test_memory_failures) {
  write_data();
  reader_config_t config = small_config();
  config.source.movielens.shuffle_labels = 1;
  check_memory_failures(&config);
}
END_TEST

Suite *reader_movielens_suite(void);
Suite *reader_movielens_suite(void) {
  Suite *suite = suite_create("reader_movielens");
  TCase *tests = tcase_create("movielens");
  tcase_set_timeout(tests, 120);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, test_every_sample);
  tcase_add_test(tests, test_order);
  tcase_add_test(tests, test_features);
  tcase_add_test(tests, test_shuffled_labels);
  tcase_add_test(tests, test_blobs);
  tcase_add_test(tests, test_errors_name_the_place);
  tcase_add_test(tests, test_warm_steps_allocate_nothing);
  tcase_add_test(tests, test_memory_failures);
  suite_add_tcase(suite, tests);
  return suite;
}
