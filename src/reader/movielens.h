/* MovieLens in memory, shared by the file that loads it (reader_movielens_load.c) and the one that serves it.
 */
#ifndef READER_MOVIELENS_H
#define READER_MOVIELENS_H

#include "reader/lines.h"
#include "reader/source.h"
#include "reader/vocabulary.h"

enum { FEATURE_USER, FEATURE_MOVIE, FEATURE_AGE, FEATURE_GENDER, FEATURE_OCCUPATION, FEATURE_GENRES };
enum { FEATURE_HISTORY = FEATURE_GENRES + 1 };
/* Ages in buckets of five years: row 0 unknown, row 1 + age / 5, the last for 95 and older. */
enum { AGE_BUCKET_YEARS = 5, AGE_ROWS = 21 };

typedef enum movielens_words {
  WORDS_USER,
  WORDS_MOVIE,
  WORDS_GENDER,
  WORDS_OCCUPATION,
  WORDS_GENRES,
  WORDS_COUNT
} movielens_words_t;

typedef struct movielens_user {
  int64_t row, age_row, gender_row, occupation_row;
} movielens_user_t;

typedef struct movielens_movie {
  int64_t row, genres_begin, genre_count; /* in genre_rows */
} movielens_movie_t;

typedef struct movielens_rating {
  int64_t user, movie; /* indices into users and movies, in order of appearance in the files */
  double time;
  int64_t liked_begin, liked_end; /* in liked_rows: this user's training likes before this rating */
  reader_split_t split;
  float label;
} movielens_rating_t;

typedef struct movielens {
  vocabulary_t *words[WORDS_COUNT];         /* token to row: fitted or given */
  vocabulary_t *user_tokens, *movie_tokens; /* token to index of users and movies */
  movielens_user_t *users;
  int64_t user_capacity;
  movielens_movie_t *movies;
  int64_t movie_capacity;
  int64_t *genre_rows;
  int64_t genre_row_count, genre_row_capacity, genres_max;
  movielens_rating_t *ratings; /* as in the file */
  int64_t rating_count, rating_capacity;
  int64_t *split_ratings[READER_SPLITS]; /* which ratings a split has, in file order */
  int64_t *liked_rows;                   /* movie rows of training likes by user, oldest first */
  reader_split_t split;                  /* being read: */
  int shuffled;
  uint64_t key;
} movielens_t;

/* Reads NAME.user, NAME.item and NAME.inter. Words that are not given are fitted, in order of appearance. */
sbag_code_t reader_movielens_load(source_t *source, sbag_status_t *status);
/* Fills liked_rows and each rating's place in it. */
sbag_code_t reader_movielens_link_history(source_t *source, sbag_status_t *status);

#endif
