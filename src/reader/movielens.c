/* MovieLens: ratings as samples, held in memory (it is small), served in any order.
 *
 * Label: rating >= like_threshold. Features: user, movie, age, gender, occupation, genres (a bag) and, if
 * history_length > 0, history (a bag of rows of "movie", newest first). Row 0 of each is "unknown". No dense
 * values: the files have none that a rating's own time would not give away. */
#include "reader/movielens.h"
#include "base/random.h"

#include <stdio.h>
#include <string.h>

static const char *const word_names[WORDS_COUNT] = {"user", "movie", "gender", "occupation", "genres"};

static sbag_code_t get_words(source_t *source, sbag_status_t *status) {
  movielens_t *m = source->state;
  for (int i = 0; i < WORDS_COUNT; i++) {
    if (source->given == NULL)
      SBAG_TRY(reader_vocabulary_create(source->mem, &m->words[i], status));
    else
      SBAG_TRY(reader_vocabulary_load(source->given, word_names[i], 1, 0, source->mem, &m->words[i], status));
  }
  SBAG_TRY(reader_vocabulary_create(source->mem, &m->user_tokens, status));
  return reader_vocabulary_create(source->mem, &m->movie_tokens, status);
}

static sbag_code_t save_words(source_t *source, sbag_status_t *status) {
  const movielens_t *m = source->state;
  for (int i = 0; i < WORDS_COUNT; i++)
    SBAG_TRY(reader_vocabulary_save(m->words[i], word_names[i], 1, 0, &source->blobs, source->mem, status));
  return SBAG_OK;
}

static int64_t rows_of(const movielens_t *m, movielens_words_t which) {
  return reader_vocabulary_count(m->words[which]) + 1;
}

static void set_feature(source_t *source, int feature, const char *name, int64_t rows, int multi_hot,
                        int64_t bag_room) {
  reader_feature_t *f = &source->features[feature];
  snprintf(f->name, sizeof f->name, "%s", name);
  f->rows = rows;
  f->multi_hot = multi_hot;
  source->bag_room[feature] = bag_room;
}

static sbag_code_t describe(source_t *source, sbag_status_t *status) {
  const movielens_t *m = source->state;
  int64_t length = source->config->source.movielens.history_length;
  SBAG_TRY(reader_source_set_features(source, FEATURE_GENRES + 1 + (length > 0), status));
  set_feature(source, FEATURE_USER, "user", rows_of(m, WORDS_USER), 0, 1);
  set_feature(source, FEATURE_MOVIE, "movie", rows_of(m, WORDS_MOVIE), 0, 1);
  set_feature(source, FEATURE_AGE, "age", AGE_ROWS, 0, 1);
  set_feature(source, FEATURE_GENDER, "gender", rows_of(m, WORDS_GENDER), 0, 1);
  set_feature(source, FEATURE_OCCUPATION, "occupation", rows_of(m, WORDS_OCCUPATION), 0, 1);
  set_feature(source, FEATURE_GENRES, "genres", rows_of(m, WORDS_GENRES), 1, m->genres_max);
  if (length == 0) return SBAG_OK;
  int64_t longest = 0;
  for (int64_t i = 0; i < m->rating_count; i++) {
    int64_t liked = m->ratings[i].liked_end - m->ratings[i].liked_begin;
    if (liked > longest) longest = liked;
  }
  set_feature(source, FEATURE_HISTORY, "history", rows_of(m, WORDS_MOVIE), 1, longest);
  return SBAG_OK;
}

/* The control: every label goes to another rating, whatever its split. */
static sbag_code_t shuffle_labels(source_t *source, sbag_status_t *status) {
  movielens_t *m = source->state;
  float *labels = NULL;
  SBAG_TRY(mem_alloc(source->mem, mem_array_bytes(m->rating_count, sizeof *labels), "MovieLens: labels",
                     (void **)&labels, status));
  uint64_t key = random_key(source->config->seed, "shuffle labels");
  for (int64_t i = 0; i < m->rating_count; i++) labels[i] = m->ratings[i].label;
  for (int64_t i = 0; i < m->rating_count; i++)
    m->ratings[i].label = labels[random_permute(key, m->rating_count, i)];
  mem_free(source->mem, labels);
  return SBAG_OK;
}

static sbag_code_t list_splits(source_t *source, sbag_status_t *status) {
  movielens_t *m = source->state;
  int64_t filled[READER_SPLITS] = {0};
  for (int s = 0; s < READER_SPLITS; s++)
    SBAG_TRY(mem_alloc(source->mem, mem_array_bytes(source->samples[s], sizeof(int64_t)), "MovieLens: splits",
                       (void **)&m->split_ratings[s], status));
  for (int64_t i = 0; i < m->rating_count; i++) {
    reader_split_t split = m->ratings[i].split;
    m->split_ratings[split][filled[split]++] = i;
  }
  return SBAG_OK;
}

static sbag_code_t movielens_open(source_t *source, sbag_status_t *status) {
  const reader_movielens_config_t *config = &source->config->source.movielens;
  if (config->history_length < 0 || config->history_length > 1 << 20)
    return status_set(status, SBAG_ERR_ARGUMENT, "MovieLens: history length %lld; it must be 0 to 2^20",
                      (long long)config->history_length);
  SBAG_TRY(mem_calloc(source->mem, sizeof(movielens_t), "MovieLens", &source->state, status));
  SBAG_TRY(get_words(source, status));
  SBAG_TRY(reader_movielens_load(source, status));
  if (config->shuffle_labels) SBAG_TRY(shuffle_labels(source, status));
  SBAG_TRY(list_splits(source, status));
  if (config->history_length > 0) SBAG_TRY(reader_movielens_link_history(source, status));
  SBAG_TRY(save_words(source, status));
  return describe(source, status);
}

static void movielens_close(source_t *source) {
  movielens_t *m = source->state;
  if (m == NULL) return;
  for (int i = 0; i < WORDS_COUNT; i++) reader_vocabulary_destroy(&m->words[i]);
  reader_vocabulary_destroy(&m->user_tokens);
  reader_vocabulary_destroy(&m->movie_tokens);
  for (int s = 0; s < READER_SPLITS; s++) mem_free(source->mem, m->split_ratings[s]);
  mem_free(source->mem, m->users);
  mem_free(source->mem, m->movies);
  mem_free(source->mem, m->genre_rows);
  mem_free(source->mem, m->ratings);
  mem_free(source->mem, m->liked_rows);
  mem_free(source->mem, m);
  source->state = NULL;
}

/* Any place is as near as any other. */
static sbag_code_t movielens_seek(source_t *source, reader_split_t split, int64_t epoch, int64_t position,
                                  sbag_status_t *status) {
  movielens_t *m = source->state;
  (void)position;
  (void)status;
  m->split = split;
  m->shuffled = source->config->shuffle && split == READER_TRAIN;
  m->key = reader_source_epoch_key(source, epoch);
  return SBAG_OK;
}

static sbag_code_t write_sample(const movielens_t *m, const movielens_rating_t *rating, int with_history,
                                slot_t *slot, sbag_status_t *status) {
  const movielens_user_t *user = &m->users[rating->user];
  const movielens_movie_t *movie = &m->movies[rating->movie];
  *reader_slot_label(slot) = rating->label;
  SBAG_TRY(reader_slot_push(slot, FEATURE_USER, user->row, status));
  SBAG_TRY(reader_slot_push(slot, FEATURE_MOVIE, movie->row, status));
  SBAG_TRY(reader_slot_push(slot, FEATURE_AGE, user->age_row, status));
  SBAG_TRY(reader_slot_push(slot, FEATURE_GENDER, user->gender_row, status));
  SBAG_TRY(reader_slot_push(slot, FEATURE_OCCUPATION, user->occupation_row, status));
  for (int64_t i = 0; i < movie->genre_count; i++)
    SBAG_TRY(reader_slot_push(slot, FEATURE_GENRES, m->genre_rows[movie->genres_begin + i], status));
  for (int64_t i = rating->liked_end; with_history && i-- > rating->liked_begin;)
    SBAG_TRY(reader_slot_push(slot, FEATURE_HISTORY, m->liked_rows[i], status));
  reader_slot_end_sample(slot);
  return SBAG_OK;
}

static sbag_code_t movielens_fill(source_t *source, int64_t begin, int64_t end, slot_t *slot,
                                  sbag_status_t *status) {
  const movielens_t *m = source->state;
  int with_history = source->config->source.movielens.history_length > 0;
  for (int64_t position = begin; position < end; position++) {
    int64_t at = m->shuffled ? random_permute(m->key, source->samples[m->split], position) : position;
    const movielens_rating_t *rating = &m->ratings[m->split_ratings[m->split][at]];
    SBAG_TRY(write_sample(m, rating, with_history, slot, status));
  }
  return SBAG_OK;
}

const source_ops_t reader_source_movielens = {.form = BINARY_SAMPLES,
                                              .open = movielens_open,
                                              .close = movielens_close,
                                              .seek = movielens_seek,
                                              .fill = movielens_fill};
